//! Which language a visitor reads. Two are spoken here, so negotiation is a
//! comparison of two weights and no list of locales is needed.

/// A language in which every page exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// Korean, for any `ko` or `ko-*`.
    Korean,
    /// English, also for those who read neither.
    #[default]
    English,
}

/// Ranges looked at in one header; real browsers send fewer than ten.
const RANGES_READ: usize = 32;

/// What the header says of one of our languages.
#[derive(Clone, Copy)]
struct Wish {
    /// In thousandths; 0 is a refusal.
    weight: u16,
    /// How early it stood, which decides between equal weights.
    order: usize,
}

impl Language {
    /// Chooses by `Accept-Language` (RFC 9110 §12.5.4): the higher weight wins,
    /// among equals the one named first. `*` speaks for what is not named.
    /// A range whose weight cannot be read is passed over.
    #[must_use]
    pub fn negotiate(accept_language: Option<&str>) -> Self {
        let (mut korean, mut english, mut any) = (None, None, None);
        let ranges = accept_language.unwrap_or_default().split(',');
        for (order, range) in ranges.take(RANGES_READ).enumerate() {
            let Some((tag, weight)) = read_range(range) else {
                continue;
            };
            let primary = tag.split('-').next().unwrap_or_default();
            let slot = if primary.eq_ignore_ascii_case("ko") {
                &mut korean
            } else if primary.eq_ignore_ascii_case("en") {
                &mut english
            } else if tag == "*" {
                &mut any
            } else {
                continue;
            };
            if slot.is_none_or(|known: Wish| known.weight < weight) {
                *slot = Some(Wish { weight, order });
            }
        }
        let Some(korean) = korean.or(any).filter(|wish| wish.weight > 0) else {
            return Self::English;
        };
        match english.or(any).filter(|wish| wish.weight > 0) {
            None => Self::Korean,
            Some(english) if korean.weight != english.weight => {
                if korean.weight > english.weight {
                    Self::Korean
                } else {
                    Self::English
                }
            }
            Some(english) if korean.order < english.order => Self::Korean,
            Some(_) => Self::English,
        }
    }

    /// The BCP 47 tag, for `lang` and `Content-Language`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }
}

/// `ko-KR;q=0.9` → its tag and weight in thousandths.
fn read_range(range: &str) -> Option<(&str, u16)> {
    let mut parts = range.split(';');
    let tag = parts.next()?.trim();
    let Some(parameter) = parts.next() else {
        return Some((tag, 1000));
    };
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    Some((tag, read_weight(value.trim())?))
}

/// A qvalue (RFC 9110 §12.4.2): 0 to 1 with at most three decimals.
fn read_weight(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let readable = decimals.len() <= 3 && decimals.bytes().all(|digit| digit.is_ascii_digit());
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" if readable => Some(thousandths),
        "1" if readable && thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_follows_the_header_of_rfc_9110() {
        use Language::{English, Korean};
        let table = [
            (None, English),
            (Some(""), English),
            (Some("ko"), Korean),
            (Some("KO-kr"), Korean),
            (Some("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"), Korean),
            (Some("en-US,en;q=0.9,ko;q=0.8"), English),
            (Some("en;q=0.5, ko;q=0.501"), Korean),
            (Some("en ; q=0.2 ,\tko ; Q=0.3"), Korean),
            (Some("ko,en"), Korean),
            (Some("en,ko"), English),
            (Some("ja,ko;q=0.1"), Korean),
            (Some("ja,zh;q=0.9"), English),
            (Some("fr;q=1,*;q=0.1"), English),
            (Some("*"), English),
            (Some("*;q=0.9,en;q=0.1"), Korean),
            (Some("ko;q=0.1,*;q=0.5"), English),
            (Some("en;q=0,*"), Korean),
            (Some("ko;q=0"), English),
            (Some("ko;q=0,en;q=0"), English),
            (Some("ko;q=0.3,ko-KR;q=0.9,en;q=0.5"), Korean),
            (Some("kok,korean"), English),
            (Some("ko;q=2,en;q=0.1"), English),
            (Some("ko;q=0.1234,en;q=0.1"), English),
            (Some("ko;q=+1"), English),
            (Some("ko;q=,en"), English),
            (Some("ko;level=1"), English),
            (Some(";;;,,,=;q"), English),
            (Some("ko;q=1."), Korean),
        ];
        for (header, expected) in table {
            assert_eq!(Language::negotiate(header), expected, "{header:?}");
        }
    }

    #[test]
    fn a_header_without_end_is_read_only_so_far() {
        let header = "ja,".repeat(10_000) + "ko";
        assert_eq!(Language::negotiate(Some(&header)), Language::English);
    }
}
