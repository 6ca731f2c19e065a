//! One entry of a list: whom it means.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

/// Longest pattern of a User-Agent, in bytes.
pub const PATTERN_MAX: usize = 200;

/// Fewer letters in a row would mean half of the world.
const LETTERS_MIN: usize = 3;

/// What to write.
const REMEDY: &str = "write an address, a network like \"203.0.113.0/24\", \"as:4766\", \
                      \"country:KR\" or \"agent:*python*\"";

/// Whom an entry means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Addresses.
    Network(IpNet),
    /// An autonomous system.
    Asn(u32),
    /// A country (ISO 3166-1, alpha-2).
    Country([u8; 2]),
    /// User-Agents, in small letters; `*` stands for anything.
    Agent(String),
}

impl Entry {
    /// Reads one.
    ///
    /// # Errors
    /// The remedy.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("as", number)) => {
                let plain = number.bytes().all(|byte| byte.is_ascii_digit());
                let number = number.parse().ok().filter(|number| plain && *number > 0);
                let remedy = "write the number of an autonomous system, like \"as:4766\"";
                number.map(Self::Asn).ok_or(remedy)
            }
            Some(("country", code)) => match code.as_bytes() {
                [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                    Ok(Self::Country([a, b].map(u8::to_ascii_uppercase)))
                }
                _ => Err("write the two letters of a country (ISO 3166-1), like \"country:KR\""),
            },
            Some(("agent", pattern)) => agent(pattern),
            _ => network(text),
        }
    }
}

fn agent(pattern: &str) -> Result<Entry, &'static str> {
    let is_text = pattern.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let longest = pattern.split('*').map(str::len).max().unwrap_or_default();
    if !is_text || pattern.len() > PATTERN_MAX || longest < LETTERS_MIN {
        return Err(
            "write a pattern of a User-Agent like \"agent:*python*\": printable letters, \
             at most 200, at least three in a row; * stands for anything",
        );
    }
    Ok(Entry::Agent(pattern.to_ascii_lowercase()))
}

fn network(text: &str) -> Result<Entry, &'static str> {
    let address = text.parse::<IpAddr>();
    let address = address.map(|address| IpNet::from(address.to_canonical()));
    let network = address.or_else(|_| text.parse::<IpNet>());
    let network = network.map_err(|_| REMEDY)?.trunc();
    if network.prefix_len() == 0 {
        return Err("this means everybody: write a smaller network");
    }
    Ok(Entry::Network(network))
}

/// In its normal form: read again it is the same.
impl fmt::Display for Entry {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(to, "{}", network.addr())
            }
            Self::Network(network) => write!(to, "{network}"),
            Self::Asn(number) => write!(to, "as:{number}"),
            Self::Country([a, b]) => write!(to, "country:{}{}", char::from(*a), char::from(*b)),
            Self::Agent(pattern) => write!(to, "agent:{pattern}"),
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Whether a text in small letters is what a pattern in small letters means.
#[must_use]
pub fn is_meant(pattern: &str, text: &[u8]) -> bool {
    let mut pieces = pattern.split('*').map(str::as_bytes);
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some(at) = memchr::memmem::find(rest, piece) else {
            return false;
        };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_in_every_form_and_written_in_one() {
        for (text, written) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.9/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("as:4766", "as:4766"),
            ("country:kr", "country:KR"),
            ("agent:*Python*", "agent:*python*"),
            ("agent:curl/*", "agent:curl/*"),
        ] {
            let entry = Entry::parse(text).unwrap();
            assert_eq!(entry.to_string(), written, "{text}");
            assert_eq!(Entry::parse(written), Ok(entry), "{text}");
        }
    }

    #[test]
    fn what_means_nobody_or_everybody_is_refused() {
        let long = format!("agent:{}", "a".repeat(PATTERN_MAX + 1));
        for bad in [
            "",
            "home",
            "203.0.113.0/33",
            "0.0.0.0/0",
            "::/0",
            "as:",
            "as:x",
            "as:+1",
            "as:0",
            "as:4294967296",
            "country:",
            "country:KOR",
            "country:1a",
            "agent:",
            "agent:*",
            "agent:**ab*",
            "agent:a\u{7f}bcd",
            "agent:가나다라",
            "AS:4766",
            &long,
        ] {
            assert!(Entry::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, is) in [
            ("*python*", "my python-requests/2", true),
            ("*python*", "pyth0n", false),
            ("curl/*", "curl/8.5", true),
            ("curl/*", "libcurl/8.5", false),
            ("curl", "curl", true),
            ("curl", "curl/8", false),
            ("*bot", "a bot", true),
            ("*bot", "a bot 2", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("abc*abc", "abc", false),
            ("abc*", "", false),
        ] {
            assert_eq!(is_meant(pattern, text.as_bytes()), is, "{pattern} {text}");
        }
    }
}
