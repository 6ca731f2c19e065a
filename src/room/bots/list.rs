//! A list of those who are meant, compiled once so that ten thousand entries
//! take no longer to look through than ten: a trie of networks, sets of numbers
//! and countries, and one automaton for all patterns of User-Agents.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::AHashSet;
use aho_corasick::{AhoCorasick, MatchKind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;
use serde::{Serialize, Serializer};

use super::entry::{Entry, is_meant};

/// A longer User-Agent is not read to its end, in bytes.
pub const AGENT_READ: usize = 512;

/// Who is looked for in a list.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// The address.
    pub address: IpAddr,
    /// Its autonomous system, where one is known.
    pub asn: Option<u32>,
    /// Its country, where one is known.
    pub country: Option<&'a str>,
    /// The User-Agent, in whatever letters.
    pub agent: &'a [u8],
}

/// A list. Cheap to clone; compared and written by its entries.
#[derive(Clone, Debug, Default)]
pub struct List(Arc<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    entries: Vec<Entry>,
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
    asns: AHashSet<u32>,
    countries: AHashSet<[u8; 2]>,
    agents: Agents,
}

/// Patterns of User-Agents, found by the longest piece of each.
#[derive(Debug, Default)]
struct Agents {
    pieces: Option<AhoCorasick>,
    /// The patterns that have a piece, in the order of the pieces.
    patterns: Vec<Vec<String>>,
}

impl List {
    /// Compiles one.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut compiled = Compiled::default();
        let mut patterns = Vec::new();
        for entry in &entries {
            match entry {
                Entry::Network(IpNet::V4(network)) => {
                    compiled.v4.insert(*network);
                }
                Entry::Network(IpNet::V6(network)) => {
                    compiled.v6.insert(*network);
                }
                Entry::Asn(number) => {
                    compiled.asns.insert(*number);
                }
                Entry::Country(code) => {
                    compiled.countries.insert(*code);
                }
                Entry::Agent(pattern) => patterns.push(pattern.clone()),
            }
        }
        compiled.agents = Agents::new(patterns);
        compiled.entries = entries;
        Self(Arc::new(compiled))
    }

    /// What stands in it, in the order written.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    /// Whether it means nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// Whether it goes by autonomous systems.
    #[must_use]
    pub fn has_asns(&self) -> bool {
        !self.0.asns.is_empty()
    }

    /// Whether it goes by countries.
    #[must_use]
    pub fn has_countries(&self) -> bool {
        !self.0.countries.is_empty()
    }

    /// The entry that means somebody, if one does; the narrowest network first.
    #[must_use]
    pub fn find(&self, sought: &Sought<'_>) -> Option<Entry> {
        let Compiled {
            v4,
            v6,
            asns,
            countries,
            agents,
            entries,
        } = &*self.0;
        if entries.is_empty() {
            return None;
        }
        let network = match sought.address.to_canonical() {
            IpAddr::V4(address) => v4.get_lpm(&Ipv4Net::from(address)).map(IpNet::from),
            IpAddr::V6(address) => v6.get_lpm(&Ipv6Net::from(address)).map(IpNet::from),
        };
        if let Some(network) = network {
            return Some(Entry::Network(network));
        }
        if let Some(asn) = sought.asn.filter(|asn| asns.contains(asn)) {
            return Some(Entry::Asn(asn));
        }
        let code = sought
            .country
            .and_then(|code| code.as_bytes().try_into().ok());
        if let Some(code) = code.filter(|code: &[u8; 2]| countries.contains(code)) {
            return Some(Entry::Country(code));
        }
        agents.find(sought.agent).map(Entry::Agent)
    }
}

impl Agents {
    fn new(patterns: Vec<String>) -> Self {
        let mut by_piece: HashMap<String, Vec<String>> = HashMap::new();
        for pattern in patterns {
            let longest = pattern.split('*').max_by_key(|piece| piece.len());
            let piece = longest.unwrap_or_default().to_owned();
            by_piece.entry(piece).or_default().push(pattern);
        }
        if by_piece.is_empty() {
            return Self::default();
        }
        let (pieces, patterns): (Vec<String>, Vec<Vec<String>>) = by_piece.into_iter().unzip();
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::Standard);
        Self {
            pieces: builder.build(pieces).ok(),
            patterns,
        }
    }

    fn find(&self, agent: &[u8]) -> Option<String> {
        let pieces = self.pieces.as_ref()?;
        let agent = agent
            .get(..AGENT_READ)
            .unwrap_or(agent)
            .to_ascii_lowercase();
        pieces.find_overlapping_iter(&agent).find_map(|found| {
            let patterns = self.patterns.get(found.pattern().as_usize())?;
            let meant = patterns.iter().find(|pattern| is_meant(pattern, &agent));
            meant.cloned()
        })
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.entries())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> List {
        let entries = entries.iter().map(|text| Entry::parse(text).unwrap());
        List::new(entries.collect())
    }

    fn sought<'a>(address: &str, agent: &'a str) -> Sought<'a> {
        Sought {
            address: address.parse().unwrap(),
            asn: Some(4766),
            country: Some("KR"),
            agent: agent.as_bytes(),
        }
    }

    #[test]
    fn each_sort_of_entry_means_whom_it_says() {
        let found = |entry: &str, address: &str, agent: &str| {
            let found = list(&[entry]).find(&sought(address, agent));
            found.map(|entry| entry.to_string())
        };
        for (entry, address, agent, is) in [
            ("203.0.113.0/24", "203.0.113.200", "", true),
            ("203.0.113.0/24", "203.0.114.1", "", false),
            ("203.0.113.0/24", "::ffff:203.0.113.200", "", true),
            ("203.0.113.7", "203.0.113.7", "", true),
            ("2001:db8::/32", "2001:db8:1::5", "", true),
            ("2001:db8::/32", "203.0.113.7", "", false),
            ("as:4766", "192.0.2.1", "", true),
            ("as:4767", "192.0.2.1", "", false),
            ("country:KR", "192.0.2.1", "", true),
            ("country:CN", "192.0.2.1", "", false),
            ("agent:*python*", "192.0.2.1", "My Python/3", true),
            ("agent:python*", "192.0.2.1", "My Python/3", false),
        ] {
            let expected = is.then(|| entry.to_owned());
            assert_eq!(found(entry, address, agent), expected, "{entry} {address}");
        }
    }

    #[test]
    fn patterns_that_share_a_piece_and_pieces_in_each_other_are_all_found() {
        let many = list(&[
            "agent:curl/7*",
            "agent:curl/7*evil",
            "agent:*lib*curl/*",
            "agent:*rl/8*",
        ]);
        let find = |agent| many.find(&sought("192.0.2.1", agent)).is_some();
        assert!(find("curl/7.1"));
        assert!(find("libcurl/7"));
        assert!(find("mycurl/8.1"));
        assert!(!find("mycurl/7.1"));
        // What is read ends somewhere, whatever follows.
        let late = format!("{}libcurl/7", "x".repeat(8_192));
        assert!(!find(&late));
    }

    #[test]
    fn ten_thousand_entries_are_all_there() {
        let entries = (0..10_000_u32).map(|at| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + at * 256);
            Entry::Network(Ipv4Net::new(address, 24).unwrap().into())
        });
        let many = List::new(entries.collect());
        for at in (0..10_000_u32).step_by(97) {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + at * 256 + 9).to_string();
            assert!(many.find(&sought(&address, "")).is_some(), "{address}");
        }
        assert!(many.find(&sought("11.0.0.1", "")).is_none());
    }
}
