//! The countries: a closed set, so that no file puts words into a metric.

/// Where the file knows of no country, or of none that is in the list.
const UNKNOWN: &str = "unknown";

/// The codes of ISO 3166-1 (alpha-2), and XK for Kosovo, which the files use; in
/// alphabetical order, then [`UNKNOWN`].
#[rustfmt::skip]
const CODES: &[&str] = &[
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT",
    "AU", "AW", "AX", "AZ", "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI",
    "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS", "BT", "BV", "BW", "BY",
    "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN",
    "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM",
    "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK",
    "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL",
    "GM", "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM",
    "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR",
    "IS", "IT", "JE", "JM", "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN",
    "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC", "LI", "LK", "LR", "LS",
    "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK",
    "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU", "MV", "MW",
    "MX", "MY", "MZ", "NA", "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP",
    "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM",
    "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW",
    "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM",
    "SN", "SO", "SR", "SS", "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF",
    "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO", "TR", "TT", "TV", "TW",
    "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE", "VG", "VI",
    "VN", "VU", "WF", "WS", "XK", "YE", "YT", "ZA", "ZM", "ZW",
    UNKNOWN,
];

/// A country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(u8);

impl Country {
    /// All of them, in the order of their numbers.
    pub const WORDS: &'static [&'static str] = CODES;

    /// The country of a code; one that is in no list is unknown.
    #[must_use]
    pub fn of(code: Option<&str>) -> Self {
        let known = CODES.get(..CODES.len() - 1).unwrap_or_default();
        let at = code.and_then(|code| known.binary_search(&code).ok());
        let at = at.unwrap_or(CODES.len() - 1);
        Self(u8::try_from(at).unwrap_or(u8::MAX))
    }

    /// Its place among them.
    #[must_use]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// Its code.
    #[must_use]
    pub fn word(self) -> &'static str {
        CODES.get(self.number()).copied().unwrap_or(UNKNOWN)
    }

    /// Its code; `None` where it is not known.
    #[must_use]
    pub fn code(self) -> Option<&'static str> {
        Some(self.word()).filter(|word| *word != UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_the_list_is_a_country_and_nothing_else_is() {
        assert_eq!(CODES.len(), 251);
        assert!(CODES.windows(2).take(249).all(|two| two[0] < two[1]));
        for code in &CODES[..250] {
            assert_eq!(Country::of(Some(code)).word(), *code);
        }
        for none in ["kr", "KOR", "", "ZZ", "unknown", "<b>"] {
            assert_eq!(Country::of(Some(none)).code(), None, "{none}");
            assert_eq!(Country::of(Some(none)).word(), "unknown");
        }
    }
}
