//! The lists of one event that the API keeps, in the store, for all gateways: each
//! entry until its time. Read each time somebody asks, exchanged when they change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::room::bots::entry::Entry;
use crate::room::bots::list::List;

/// Most entries of one event that the API keeps.
pub const ENTRIES_MAX: usize = 10_000;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Never taken for a bot.
    Allow,
    /// Turned away.
    Block,
}

impl Side {
    /// The word of the file and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }

    /// The list of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Allow, Self::Block]
            .into_iter()
            .find(|side| side.word() == word)
    }
}

/// An entry's place: its list, and whom it means.
pub type Place = (Side, Entry);

/// What the API keeps, compiled.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    kept: BTreeMap<Place, u64>,
    allow: List,
    block: List,
    /// When the next entry is over, in Unix seconds.
    next_over: u64,
}

impl Lists {
    /// Those of `kept` (until when, in Unix seconds) that are not over at `now`.
    #[must_use]
    pub fn new(kept: BTreeMap<Place, u64>, now: u64) -> Self {
        let mut kept = kept;
        kept.retain(|_, until| *until > now);
        let of = |side: Side| {
            let own = kept.keys().filter(|(of, _)| *of == side);
            List::new(own.map(|(_, entry)| entry.clone()).collect())
        };
        Self {
            allow: of(Side::Allow),
            block: of(Side::Block),
            next_over: kept.values().min().copied().unwrap_or(u64::MAX),
            kept,
        }
    }

    /// Who is never taken for a bot.
    #[must_use]
    pub fn allow(&self) -> &List {
        &self.allow
    }

    /// Who is turned away.
    #[must_use]
    pub fn block(&self) -> &List {
        &self.block
    }

    /// Each entry, and until when, in Unix seconds.
    #[must_use]
    pub fn kept(&self) -> &BTreeMap<Place, u64> {
        &self.kept
    }

    /// Whether an entry is over at `now`.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.next_over <= now
    }

    /// Whether somebody's autonomous system has to be known.
    #[must_use]
    pub fn has_asns(&self) -> bool {
        self.allow.has_asns() || self.block.has_asns()
    }

    /// Whether somebody's country has to be known.
    #[must_use]
    pub fn has_countries(&self) -> bool {
        self.allow.has_countries() || self.block.has_countries()
    }
}
