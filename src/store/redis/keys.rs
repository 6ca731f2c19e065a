//! Every key that the shared store uses, each spelt once.
//!
//! The keys of one event share the hash tag `{id}`, so that a cluster keeps
//! them together and one script may touch them all.

use crate::room::event::EventId;
use crate::store::IdHash;

/// The fixed keys of an event, in the order in which the scripts take them
/// (`FIXED` in `prelude.lua`).
pub(super) const FIXED: [&str; 16] = [
    "meta",
    "pages",
    "fresh_pages",
    "spent_pages",
    "active",
    "offers",
    "offers_due",
    "asked",
    "ended",
    "unproven",
    "density",
    "gateways",
    "tally",
    "trash",
    "scratch",
    "mask",
];

/// The five bitmaps of a page, in the order in which the scripts take them.
pub(super) const BITMAPS: [(&str, &str); 5] = [
    ("live", ":0"),
    ("live", ":1"),
    ("fresh", ":0"),
    ("fresh", ":1"),
    ("spent", ""),
];

/// Spells the keys of one event.
pub(super) struct Keys {
    tagged: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, event: &EventId) -> Self {
        Self {
            tagged: format!("{prefix}:{{{event}}}"),
        }
    }

    /// A fixed key, or whatever stands under this name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.tagged)
    }

    /// The fixed keys, in order.
    pub(super) fn fixed(&self) -> impl Iterator<Item = String> + '_ {
        FIXED.iter().map(|name| self.key(name))
    }

    /// The bitmaps of a page, in order.
    pub(super) fn page(&self, page: u64) -> impl Iterator<Item = String> + '_ {
        BITMAPS
            .iter()
            .map(move |(kind, parity)| format!("{}:{kind}:{page}{parity}", self.tagged))
    }

    /// A bucket of ids.
    pub(super) fn ids(&self, bucket: u16) -> String {
        format!("{}:ids:{bucket}", self.tagged)
    }
}

/// The hash of events made or overridden through the API.
pub(super) fn events(prefix: &str) -> String {
    format!("{prefix}:events")
}

/// A test's clock in milliseconds and its name of the server's run.
pub(super) fn test_clock(prefix: &str) -> [String; 2] {
    [format!("{prefix}:clock"), format!("{prefix}:run")]
}

/// How many buckets of ids there are.
pub(super) const BUCKETS: u16 = 1024;

/// The bucket that an id belongs to: the first ten bits of its hash.
pub(super) fn bucket(id: &IdHash) -> u16 {
    let [first, second, ..] = *id;
    (u16::from(first) << 8 | u16::from(second)) >> 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_keys_share_one_hash_tag() {
        let keys = Keys::new("sumun", &EventId::new("main").unwrap());
        assert_eq!(keys.key("meta"), "sumun:{main}:meta");
        assert_eq!(
            keys.page(7).collect::<Vec<_>>(),
            [
                "sumun:{main}:live:7:0",
                "sumun:{main}:live:7:1",
                "sumun:{main}:fresh:7:0",
                "sumun:{main}:fresh:7:1",
                "sumun:{main}:spent:7"
            ]
        );
    }

    #[test]
    fn a_bucket_is_the_first_ten_bits_of_the_hash() {
        let mut id = [0; 16];
        id[0] = 0xff;
        id[1] = 0xff;
        assert_eq!(bucket(&id), BUCKETS - 1);
        assert_eq!(bucket(&[0; 16]), 0);
    }
}
