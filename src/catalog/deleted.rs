//! What becomes of deleted events: their state is removed from the store,
//! and their tombstones in time.
//!
//! Every gateway asks for it, one event at each look: the store refuses while
//! any of them still works on the event, and it may be asked again.

use std::collections::{BTreeMap, HashMap};

use tracing::{info, warn};

use super::{Catalog, EVENTS_MAX, State, is_tombstone};
use crate::room::event::EventId;
use crate::store::{Forgotten, Put, StoreError, StoredEvent};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Nobody asks for an event to be forgotten sooner after its deletion.
const REST_MS: u64 = MINUTE_MS;

/// A gateway that was away may have brought a forgotten event back: it is
/// asked for again after this.
const AGAIN_MS: u64 = 60 * MINUTE_MS;

/// A tombstone that the store has lost is put back by those who remember it,
/// while it is younger than this.
pub(super) const PUT_BACK_MS: u64 = DAY_MS;

/// A tombstone stands for so long. A gateway that comes back later puts back
/// nothing that it remembers (`recalled`).
pub(super) const KEPT_MS: u64 = 7 * DAY_MS;

/// Of more tombstones than these the oldest are dropped before their time,
/// though not while anybody would put them back.
const TOMBSTONES_MAX: usize = EVENTS_MAX;

/// How far the clocks of two gateways may be apart.
const APART_MS: u64 = 60 * MINUTE_MS;

/// What this gateway has asked for.
#[derive(Default)]
pub(super) struct Asked {
    /// By event: the version of its tombstone, when it was asked, and whether
    /// nothing was left.
    forgotten: HashMap<EventId, (u64, u64, bool)>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Forget(EventId, u64),
    Drop(EventId, u64),
}

impl Catalog {
    /// Removes what is left of one deleted event, or one tombstone that has
    /// served its time, if there is any.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn bury(&self) -> Result<(), StoreError> {
        let now = self.clock.unix_ms();
        let next = {
            let mut state = self.lock();
            let State { stored, asked, .. } = &mut *state;
            asked.forgotten.retain(|id, _| stored.contains_key(id));
            next(&state, now)
        };
        match next {
            None => Ok(()),
            Some(Next::Forget(id, version)) => {
                let forgotten = self.bench.store.forget(&id).await;
                let gone = forgotten == Ok(Forgotten::Gone);
                // Whatever hindered it is not to be met at every look.
                let asked = (version, now, gone);
                let before = self.lock().asked.forgotten.insert(id.clone(), asked);
                let is_news = before.is_none_or(|(of, ..)| of != version);
                if forgotten? == Forgotten::InUse && is_news {
                    warn!(event = %id, "a deleted event is still at work at another gateway: it is not removed from the store");
                }
                Ok(())
            }
            Some(Next::Drop(id, version)) => {
                let put = self.bench.store.put_event(&id, version, None).await?;
                if matches!(put, Put::Done | Put::Conflict(None)) {
                    info!(event = %id, "the last trace of a deleted event is gone");
                    self.lock().stored.remove(&id);
                }
                Ok(())
            }
        }
    }
}

/// Whether an entry is worth remembering against a store that has it not.
pub(super) fn is_worth_putting_back(stored: &StoredEvent, now_ms: u64) -> bool {
    !is_tombstone(stored) || age(stored, now_ms) < PUT_BACK_MS
}

fn age(stored: &StoredEvent, now_ms: u64) -> u64 {
    now_ms.saturating_sub(stored.updated_at)
}

fn next(state: &State, now_ms: u64) -> Option<Next> {
    let tombstones: BTreeMap<&EventId, &StoredEvent> = state
        .stored
        .iter()
        .filter(|(_, stored)| is_tombstone(stored))
        .collect();
    let asked = |id: &EventId, version: u64| {
        let asked = state.asked.forgotten.get(id).copied();
        asked.filter(|(of, ..)| *of == version)
    };
    // One that stands in the file, or in the file of whoever deleted it, only
    // lost its overrides.
    let was_made = |id: &EventId, stored: &StoredEvent| {
        stored.created && super::written(&state.base, id).is_none()
    };
    let forget = tombstones.iter().find(|(id, stored)| {
        was_made(id, stored)
            && !state.running.contains_key(**id)
            && age(stored, now_ms) >= REST_MS
            && asked(id, stored.version).is_none_or(|(_, at, gone)| {
                now_ms.saturating_sub(at) >= if gone { AGAIN_MS } else { REST_MS }
            })
    });
    if let Some((id, stored)) = forget {
        return Some(Next::Forget((*id).clone(), stored.version));
    }
    let mut by_age: Vec<_> = tombstones.iter().collect();
    by_age.sort_by_key(|(_, stored)| stored.updated_at);
    let beyond = by_age.len().saturating_sub(TOMBSTONES_MAX);
    let over = by_age.iter().enumerate().find(|(at, (id, stored))| {
        let least = if *at < beyond {
            PUT_BACK_MS + APART_MS
        } else {
            KEPT_MS
        };
        let is_forgotten =
            !was_made(id, stored) || asked(id, stored.version).is_some_and(|(.., gone)| gone);
        is_forgotten && age(stored, now_ms) >= least
    });
    over.map(|(_, (id, stored))| Next::Drop((**id).clone(), stored.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn id(of: usize) -> EventId {
        EventId::new(&format!("event-{of}")).unwrap()
    }

    /// A tombstone of this age; `made`: of an event that the API had made.
    fn tombstone(made: bool, age_ms: u64) -> StoredEvent {
        StoredEvent {
            version: 2,
            overrides: serde_json::Value::Null,
            created: made,
            created_at: NOW - age_ms,
            updated_at: NOW - age_ms,
        }
    }

    fn state(stored: impl IntoIterator<Item = StoredEvent>) -> State {
        let stored = stored.into_iter().enumerate();
        State {
            stored: stored.map(|(at, stored)| (id(at), stored)).collect(),
            ..State::default()
        }
    }

    fn asked(state: &mut State, of: usize, at: u64, gone: bool) {
        state.asked.forgotten.insert(id(of), (2, at, gone));
    }

    #[test]
    fn an_event_is_forgotten_a_minute_after_its_deletion_and_asked_for_again() {
        assert_eq!(next(&state([tombstone(true, MINUTE_MS - 1)]), NOW), None);
        let mut state = state([tombstone(true, MINUTE_MS)]);
        let forget = Some(Next::Forget(id(0), 2));
        assert_eq!(next(&state, NOW), forget);
        asked(&mut state, 0, NOW, false);
        assert_eq!(next(&state, NOW + MINUTE_MS - 1), None);
        assert_eq!(next(&state, NOW + MINUTE_MS), forget);
        asked(&mut state, 0, NOW, true);
        assert_eq!(next(&state, NOW + AGAIN_MS - 1), None);
        assert_eq!(next(&state, NOW + AGAIN_MS), forget);
    }

    #[test]
    fn what_only_lost_its_overrides_is_never_forgotten_and_lives_are_not_touched() {
        let mut alive = tombstone(true, 30 * DAY_MS);
        alive.overrides = serde_json::json!({ "limitCnt": 5 });
        assert_eq!(next(&state([alive, tombstone(false, DAY_MS)]), NOW), None);
    }

    #[test]
    fn a_tombstone_goes_after_a_week_once_its_event_is_forgotten() {
        let mut old = state([tombstone(true, KEPT_MS)]);
        assert_eq!(next(&old, NOW), Some(Next::Forget(id(0), 2)));
        asked(&mut old, 0, NOW, false);
        assert_eq!(next(&old, NOW), None, "somebody still works on it");
        asked(&mut old, 0, NOW, true);
        assert_eq!(next(&old, NOW), Some(Next::Drop(id(0), 2)));
        let files = state([tombstone(false, KEPT_MS), tombstone(false, KEPT_MS - 1)]);
        assert_eq!(next(&files, NOW), Some(Next::Drop(id(0), 2)));
        assert_eq!(next(&state([tombstone(false, KEPT_MS - 1)]), NOW), None);
    }

    #[test]
    fn of_too_many_tombstones_the_oldest_goes_when_nobody_would_put_it_back() {
        let ages = |first: u64| (0..=TOMBSTONES_MAX as u64).map(move |at| first - at);
        let crowd = |first| state(ages(first).map(|age| tombstone(false, age)));
        let young = PUT_BACK_MS + APART_MS - 1;
        assert_eq!(next(&crowd(young), NOW), None);
        assert_eq!(next(&crowd(young + 1), NOW), Some(Next::Drop(id(0), 2)));
        assert!(!is_worth_putting_back(&tombstone(true, young), NOW));
        assert!(is_worth_putting_back(
            &tombstone(true, PUT_BACK_MS - 1),
            NOW
        ));
    }
}
