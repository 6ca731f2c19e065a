//! The embedded store: the whole state in this process, behind one lock.
//!
//! A real backend, not a stand-in: a single gateway needs no other. Its state
//! file (`state_dir`) makes a restart an ordinary recovery.

mod dump;
mod file;
pub(crate) mod state;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::{Arrival, EventState, arrived};

use super::{
    Ask, Batch, Claim, Claimed, Entered, Found, IdHash, Leave, Put, Reply, Restored, Shadow, Step,
    Stepped, StoredEvent, Touch, UNKNOWN,
};
use crate::clock::Clock;
use crate::room::event::EventId;
use crate::room::pages::Bits;
use crate::room::snapshot::{Rules, Snapshot};
use crate::room::ticket::{Generation, SessionKey};
use crate::room::time::Timestamp;

#[derive(Default)]
struct Inner {
    events: HashMap<EventId, EventState>,
    stored: BTreeMap<EventId, StoredEvent>,
}

/// The embedded store. Clones share one state.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Clock,
    run: Arc<str>,
    inner: Arc<Mutex<Inner>>,
}

impl MemoryStore {
    /// An empty store. `run` names this life of the process and must differ
    /// from every other life's.
    #[must_use]
    pub fn new(clock: Clock, run: &str) -> Self {
        Self {
            clock,
            run: run.into(),
            inner: Arc::default(),
        }
    }

    /// A store with what `save` wrote in an earlier life; empty when the file
    /// does not exist.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(clock: Clock, run: &str, path: &Path) -> std::io::Result<Self> {
        let store = Self::new(clock, run);
        if let Some((events, stored)) = file::read(path)? {
            let mut inner = store.lock();
            inner.events = events;
            inner.stored = stored;
            drop(inner);
        }
        Ok(store)
    }

    /// Goes on with a state that the process before this one wrote itself, a
    /// second ago at most: a recovery that needs nobody else's memory.
    pub fn resume(&self) {
        let arrival = Arrival {
            raw: self.clock.unix_ms(),
            run: &self.run,
        };
        for state in self.lock().events.values_mut() {
            state.resume(&arrival);
        }
    }

    /// Writes the whole state to a file, atomically (a new file, renamed).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let text = {
            let inner = self.lock();
            file::render(&inner.events, &inner.stored)?
        };
        file::write(path, &text)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock would have to come from arithmetic on plain
        // values; the state is still the best there is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at<T>(
        &self,
        event: &EventId,
        operation: impl FnOnce(&mut EventState, u64) -> T,
    ) -> Reply<T> {
        let raw = self.clock.unix_ms();
        let arrival = Arrival {
            raw,
            run: &self.run,
        };
        let mut inner = self.lock();
        arrived(inner.events.get_mut(event), &arrival, |state| {
            operation(state, raw)
        })
    }

    pub(super) fn enter(&self, event: &EventId, batch: &Batch) -> Reply<Vec<Entered>> {
        self.at(event, |state, _| state.enter(batch))
    }

    pub(super) fn claim(&self, event: &EventId, claims: &[Claim]) -> Reply<Vec<Claimed>> {
        self.at(event, |state, _| state.claim(claims))
    }

    pub(super) fn beat(&self, event: &EventId, pages: &[(u64, Bits)]) -> Reply<()> {
        self.at(event, |state, raw| state.beat(pages, raw))
    }

    pub(super) fn touch(
        &self,
        event: &EventId,
        touches: &[Touch],
    ) -> Reply<Vec<Option<Timestamp>>> {
        self.at(event, |state, _| state.touch(touches))
    }

    pub(super) fn end(&self, event: &EventId, sessions: &[SessionKey]) -> Reply<Vec<bool>> {
        self.at(event, |state, _| state.end(sessions))
    }

    pub(super) fn leave(&self, event: &EventId, tickets: &[Leave]) -> Reply<()> {
        self.at(event, |state, _| state.leave(tickets))
    }

    pub(super) fn find(&self, event: &EventId, id: IdHash) -> Reply<Found> {
        self.at(event, |state, _| state.find(id))
    }

    pub(super) fn snapshot(&self, event: &EventId, ask: &Ask) -> Reply<Snapshot> {
        self.at(event, |state, raw| state.snapshot(ask, raw))
    }

    pub(super) fn step(&self, event: &EventId, step: &Step) -> Reply<Stepped> {
        self.at(event, |state, _| state.step(step))
    }

    pub(super) fn restore(&self, event: &EventId, shadow: &Shadow) -> Restored {
        let raw = self.clock.unix_ms();
        let arrival = Arrival {
            raw,
            run: &self.run,
        };
        let mut inner = self.lock();
        let state = inner.events.entry(event.clone()).or_insert_with(|| {
            let rules = shadow.rules.clone().unwrap_or(UNKNOWN);
            EventState::newborn(&arrival, shadow, rules)
        });
        // A recovery that begins here is told by the restore itself.
        state.arrive(&arrival);
        state.restore(shadow, raw)
    }

    pub(super) fn reset(&self, event: &EventId) -> Reply<Generation> {
        self.at(event, EventState::reset)
    }

    pub(super) fn configure(&self, event: &EventId, seen: u64, rules: &Rules) -> Reply<u64> {
        self.at(event, |state, _| state.configure(seen, rules))
    }

    pub(super) fn events(&self) -> Vec<(EventId, StoredEvent)> {
        let inner = self.lock();
        let stored = inner.stored.iter();
        stored
            .map(|(id, event)| (id.clone(), event.clone()))
            .collect()
    }

    pub(super) fn put_event(
        &self,
        event: &EventId,
        seen: u64,
        stored: Option<&StoredEvent>,
    ) -> Put {
        let mut inner = self.lock();
        let present = inner.stored.get(event);
        if present.map_or(0, |present| present.version) != seen {
            return Put::Conflict(present.cloned());
        }
        match stored {
            Some(stored) => inner.stored.insert(event.clone(), stored.clone()),
            None => inner.stored.remove(event),
        };
        Put::Done
    }
}
