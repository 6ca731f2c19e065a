//! What of the catalog outlives the process, and what an old memory of it is
//! still worth.
//!
//! An entry's version only grows, and what was deleted leaves one of a higher
//! version behind: what the store lists counts, unless the one known here is
//! newer in both version and time. What the store does not list was lost, not
//! deleted, for as long as a deletion leaves its trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::deleted::{KEPT_MS, PUT_BACK_MS};
use super::{Catalog, State, is_tombstone};
use crate::ledger::{Ledger, Remembered};
use crate::room::event::EventId;
use crate::store::StoredEvent;

/// What a gateway on a shared store keeps in `state_dir`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// When it was written, by this machine's clock, in Unix milliseconds.
    pub saved_at: u64,
    /// When the store's entries were last read, likewise.
    pub stored_at: u64,
    /// What is remembered of each event.
    pub events: BTreeMap<EventId, Remembered>,
    /// What the API changed, tombstones included.
    pub stored: BTreeMap<EventId, StoredEvent>,
}

impl Catalog {
    /// What a later process of this gateway is to know.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let (mut memory, ledgers) = {
            let state = self.lock();
            let running = state.running.values();
            let ledgers: Vec<_> = running.map(|r| Arc::clone(&r.ledger)).collect();
            let memory = Memory {
                saved_at: self.clock.unix_ms(),
                stored_at: state.stored_at,
                stored: state.stored.clone(),
                ..Memory::default()
            };
            (memory, ledgers)
        };
        // Not under the lock: there may be a hundred thousand sessions.
        for ledger in ledgers {
            memory.events.insert(ledger.id.clone(), ledger.remembered());
        }
        memory
    }

    /// Takes in what an earlier process wrote. Only before the first look.
    pub fn recall(&self, memory: Memory) {
        let mut state = self.lock();
        state.stored.clone_from(&memory.stored);
        state.stored_at = memory.stored_at;
        state.recalled = Some(memory);
    }
}

impl State {
    /// Tells a ledger that begins what an earlier process remembered of its
    /// event, if it is the same event.
    pub(super) fn remind(&mut self, ledger: &Ledger, now_ms: u64) {
        if let Some(memory) = &mut self.recalled
            && let Some(remembered) = memory.events.remove(&ledger.id)
            && made_at(&memory.stored, &ledger.id) == made_at(&self.stored, &ledger.id)
        {
            let age = now_ms.saturating_sub(memory.saved_at);
            ledger.recall(remembered, Duration::from_millis(age));
        }
    }

    /// The store's entries were read. What it has not, but this gateway
    /// remembers, is lost and will be put back, unless it may have been deleted
    /// so long ago that no trace of that is left.
    pub(super) fn judge(&mut self, listed: &BTreeMap<EventId, StoredEvent>, now_ms: u64) {
        let age = now_ms.saturating_sub(self.stored_at);
        self.stored_at = now_ms;
        // A store that lists nothing at all has not even a week's deletions.
        if age < PUT_BACK_MS || listed.is_empty() && age < KEPT_MS {
            return;
        }
        self.stored.retain(|id, entry| {
            let kept = listed.contains_key(id);
            if !kept && !is_tombstone(entry) {
                warn!(event = %id, "the store does not know an event of the API that is remembered from too long ago to be put back");
            }
            kept
        });
    }
}

/// When the API made an event: one of the same name that was made again has
/// nothing to do with what is remembered of the other.
fn made_at(stored: &BTreeMap<EventId, StoredEvent>, id: &EventId) -> Option<u64> {
    let entry = stored.get(id)?;
    (entry.created && !is_tombstone(entry)).then_some(entry.created_at)
}

/// Whether the store has an older entry than the one known here, or none: a
/// gateway with an old memory may have been the first to put its own back.
pub(super) fn knows_less(listed: Option<&StoredEvent>, known: &StoredEvent) -> bool {
    listed
        .is_none_or(|listed| listed.version < known.version && listed.updated_at < known.updated_at)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn entry(version: u64, updated_at: u64, overrides: Value) -> StoredEvent {
        StoredEvent {
            version,
            overrides,
            created: true,
            created_at: 7,
            updated_at,
        }
    }

    #[test]
    fn what_is_put_back_is_newer_in_version_and_in_time() {
        let known = entry(3, 30, Value::Null);
        assert!(knows_less(None, &known));
        assert!(knows_less(Some(&entry(2, 20, Value::Null)), &known));
        assert!(!knows_less(Some(&known), &known));
        assert!(!knows_less(Some(&entry(4, 40, Value::Null)), &known));
        // Counted anew since, after all of this was forgotten.
        assert!(!knows_less(Some(&entry(1, 40, Value::Null)), &known));
    }

    #[test]
    fn an_event_made_again_is_another_one() {
        let id = EventId::new("sale").unwrap();
        let of = |entry| made_at(&BTreeMap::from([(id.clone(), entry)]), &id);
        let made = entry(1, 10, serde_json::json!({ "limitCnt": 7 }));
        let changed = StoredEvent {
            version: 2,
            updated_at: 20,
            ..made.clone()
        };
        let again = StoredEvent {
            created_at: 30,
            ..made.clone()
        };
        assert_eq!(of(made.clone()), of(changed));
        assert_ne!(of(made.clone()), of(again));
        assert_ne!(of(made), of(entry(2, 20, Value::Null)));
    }

    #[test]
    fn an_entry_that_may_have_been_deleted_without_a_trace_is_not_put_back() {
        let id = EventId::new("sale").unwrap();
        let other = EventId::new("other").unwrap();
        let made = || entry(1, 10, serde_json::json!({ "limitCnt": 7 }));
        let is_kept = |age_ms: u64, listed: &BTreeMap<EventId, StoredEvent>| {
            let mut state = State {
                stored: BTreeMap::from([(id.clone(), made())]),
                stored_at: 1_000,
                ..State::default()
            };
            state.judge(listed, 1_000 + age_ms);
            assert_eq!(state.stored_at, 1_000 + age_ms);
            state.stored.contains_key(&id)
        };
        let (nothing, others) = (BTreeMap::new(), BTreeMap::from([(other, made())]));
        assert!(is_kept(PUT_BACK_MS - 1, &others));
        assert!(!is_kept(PUT_BACK_MS, &others));
        assert!(is_kept(PUT_BACK_MS, &nothing));
        assert!(!is_kept(KEPT_MS, &nothing));
        assert!(is_kept(KEPT_MS, &BTreeMap::from([(id.clone(), made())])));
    }
}
