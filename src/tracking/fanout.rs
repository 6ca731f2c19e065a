//! Parents of too many children: a site whose addresses look like words, such
//! as `/user/<name>`, would have a route for each of them.
//!
//! Only what the site has (an answer below 400) is a child: who tries a
//! thousand addresses that do not exist changes nothing. Asked when a route is
//! new, never for one that is known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::{AHashMap, RandomState};
use arc_swap::ArcSwap;

use crate::room::event::EventId;

/// More distinct children within a minute are all called `{*}`.
const CHILDREN_MAX: usize = 64;

/// Parents that are counted within a minute.
const PARENTS_MAX: usize = 1_024;

/// Parents of too many that are remembered...
const GUARDED_MAX: usize = 1_024;

/// ...for so long.
const GUARDED_MS: u64 = 24 * 3_600_000;

const MINUTE_MS: u64 = 60_000;

type Guarded = AHashMap<u64, u64>;

/// The parents of one gateway, seen from all its threads.
pub(super) struct Fanout {
    hasher: RandomState,
    guarded: ArcSwap<Guarded>,
    version: AtomicU64,
    minute: Mutex<Minute>,
}

#[derive(Default)]
struct Minute {
    number: u64,
    parents: AHashMap<u64, Vec<u64>>,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            guarded: ArcSwap::default(),
            version: AtomicU64::new(0),
            minute: Mutex::default(),
        }
    }
}

impl Fanout {
    fn key(&self, event: &EventId, parent: &str) -> u64 {
        self.hasher.hash_one((event.as_str(), parent))
    }

    /// Whether all children of this parent are called the same.
    pub(super) fn is_guarded(&self, event: &EventId, parent: &str) -> bool {
        let guarded = self.guarded.load();
        !guarded.is_empty() && guarded.contains_key(&self.key(event, parent))
    }

    /// Changes whenever a parent comes or goes.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A child was seen; tells whether it may have a name of its own.
    pub(super) fn note(&self, event: &EventId, parent: &str, child: &str, now_ms: u64) -> bool {
        let key = self.key(event, parent);
        if self.guarded.load().contains_key(&key) {
            return false;
        }
        let child = self.hasher.hash_one(child);
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now_ms / MINUTE_MS;
        if minute.number != number {
            minute.number = number;
            minute.parents.clear();
            self.release(now_ms);
        }
        let is_full = minute.parents.len() >= PARENTS_MAX;
        if is_full && !minute.parents.contains_key(&key) {
            return true;
        }
        let children = minute.parents.entry(key).or_default();
        if children.contains(&child) {
            return true;
        }
        if children.len() < CHILDREN_MAX {
            children.push(child);
            return true;
        }
        minute.parents.remove(&key);
        let mut guarded = Guarded::clone(&self.guarded.load());
        if guarded.len() < GUARDED_MAX {
            guarded.insert(key, now_ms + GUARDED_MS);
            self.change(guarded);
        }
        false
    }

    fn change(&self, guarded: Guarded) {
        self.guarded.store(Arc::new(guarded));
        self.version.fetch_add(1, Ordering::Release);
    }

    fn release(&self, now_ms: u64) {
        let guarded = self.guarded.load();
        if guarded.values().any(|until| *until <= now_ms) {
            let mut left = Guarded::clone(&guarded);
            left.retain(|_, until| *until > now_ms);
            self.change(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventId {
        EventId::new("main").unwrap()
    }

    #[test]
    fn the_child_beyond_the_most_makes_all_of_them_one() {
        let (fanout, event) = (Fanout::default(), event());
        for child in 0..CHILDREN_MAX {
            assert!(fanout.note(&event, "/user", &format!("n{child}"), 5));
            assert!(fanout.note(&event, "/user", "n0", 5));
        }
        assert!(!fanout.is_guarded(&event, "/user"));
        assert!(!fanout.note(&event, "/user", "one more", 5));
        assert!(fanout.is_guarded(&event, "/user") && !fanout.is_guarded(&event, "/shop"));
        let other = EventId::new("other").unwrap();
        assert!(!fanout.is_guarded(&other, "/user"));
        assert!(fanout.note(&event, "/shop", "a", GUARDED_MS + MINUTE_MS));
        assert!(!fanout.is_guarded(&event, "/user"));
    }

    #[test]
    fn children_of_different_minutes_are_not_too_many() {
        let (fanout, event) = (Fanout::default(), event());
        for child in 0..1_000_u64 {
            let now_ms = child / 50 * MINUTE_MS;
            assert!(fanout.note(&event, "/", &format!("n{child}"), now_ms));
        }
    }

    #[test]
    fn a_flood_of_parents_is_bounded() {
        let (fanout, event) = (Fanout::default(), event());
        for parent in 0..3 * PARENTS_MAX {
            fanout.note(&event, &format!("/{parent}"), "child", 0);
        }
        assert_eq!(fanout.minute.lock().unwrap().parents.len(), PARENTS_MAX);
    }
}
