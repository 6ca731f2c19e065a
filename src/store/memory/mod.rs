//! The embedded store: the whole state in this process, behind one lock.
//!
//! A real backend, not a stand-in: a single gateway needs no other. Its state
//! file (`state_dir`) and the journal beside it make a restart, or a crash, an
//! ordinary recovery.

mod dump;
mod file;
mod journal;
pub(crate) mod state;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use file::write as write_file;
use journal::{Change, Journal};
use state::{Arrival, EventState, arrived};

use super::slices::{self, Slice, Slices, Span};
use super::{
    Ask, Batch, Claim, Claimed, Entered, Forgotten, Found, IdHash, Leave, LetIn, Put, Reply,
    Restored, Shadow, Step, Stepped, StoredEvent, Touch, UNKNOWN,
};
use crate::clock::Clock;
use crate::room::event::EventId;
use crate::room::pages::Bits;
use crate::room::snapshot::{FORGET_IDLE_MS, Rules, Snapshot};
use crate::room::ticket::{Generation, SessionKey};
use crate::room::time::Timestamp;

#[derive(Default)]
struct Inner {
    events: HashMap<EventId, EventState>,
    stored: BTreeMap<EventId, StoredEvent>,
    journal: Option<Journal>,
}

impl Inner {
    fn note(&mut self, event: &EventId, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.note(event, change);
        }
    }
}

/// The embedded store. Clones share one state.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Clock,
    run: Arc<str>,
    inner: Arc<Mutex<Inner>>,
    /// One writing of the state at a time.
    saving: Arc<Mutex<()>>,
    slices: Slices,
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
            saving: Arc::default(),
            slices: Slices::default(),
        }
    }

    /// A store with what `save` wrote in an earlier life and what was
    /// acknowledged after that; empty when there is no file. From here on it
    /// keeps a journal beside the file.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged, or the journal cannot be
    /// read.
    pub fn load(clock: Clock, run: &str, path: &Path) -> std::io::Result<Self> {
        let store = Self::new(clock, run);
        let saved = file::read(path)?;
        let (journal, changes) = Journal::open(path)?;
        let mut inner = store.lock();
        if let Some((events, stored)) = saved {
            (inner.events, inner.stored) = (events, stored);
        }
        let Inner { events, stored, .. } = &mut *inner;
        journal::replay(changes, events, stored);
        inner.journal = Some(journal);
        drop(inner);
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
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, journal) = {
            let mut inner = self.lock();
            let text = file::render(&inner.events, &inner.stored)?;
            (text, inner.journal.as_mut().map(Journal::turn))
        };
        file::write(path, &text)?;
        journal.map_or(Ok(()), |number| journal::forget(path, number))
    }

    /// The slices of statistics, which have a file of their own.
    #[must_use]
    pub fn statistics(&self) -> &Slices {
        &self.slices
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
        self.noting(event, operation, |_, _| None)
    }

    /// Does it, and notes in the journal what it changed.
    fn noting<T>(
        &self,
        event: &EventId,
        operation: impl FnOnce(&mut EventState, u64) -> T,
        change: impl FnOnce(&T, &EventState) -> Option<Change>,
    ) -> Reply<T> {
        let raw = self.clock.unix_ms();
        let arrival = Arrival {
            raw,
            run: &self.run,
        };
        let mut inner = self.lock();
        let Inner {
            events, journal, ..
        } = &mut *inner;
        arrived(events.get_mut(event), &arrival, |state| {
            let done = operation(state, raw);
            if let Some(journal) = journal
                && let Some(change) = change(&done, state)
            {
                journal.note(event, change);
            }
            done
        })
    }

    pub(super) fn enter(&self, event: &EventId, batch: &Batch) -> Reply<Vec<Entered>> {
        self.noting(
            event,
            |state, raw| state.enter(batch, raw),
            |reply, _| Some(journal::entered(batch, reply)),
        )
    }

    pub(super) fn claim(&self, event: &EventId, claims: &[Claim]) -> Reply<Vec<Claimed>> {
        self.noting(
            event,
            |state, _| state.claim(claims),
            |reply, state| Some(journal::claimed(claims, reply, state.meta.time)),
        )
    }

    pub(super) fn beat(&self, event: &EventId, pages: &[(u64, Bits)]) -> Reply<()> {
        self.at(event, |state, raw| state.beat(pages, raw))
    }

    pub(super) fn let_in(
        &self,
        event: &EventId,
        visitors: &[LetIn],
    ) -> Reply<Vec<Option<Timestamp>>> {
        self.noting(
            event,
            |state, _| state.let_in(visitors),
            |reply, state| Some(journal::let_in(visitors, reply, state.meta.time)),
        )
    }

    pub(super) fn touch(
        &self,
        event: &EventId,
        touches: &[Touch],
    ) -> Reply<Vec<Option<Timestamp>>> {
        self.noting(
            event,
            |state, _| state.touch(touches),
            |reply, _| Some(journal::touched(touches, reply)),
        )
    }

    pub(super) fn inside(
        &self,
        event: &EventId,
        sessions: &[SessionKey],
    ) -> Reply<Vec<Option<Timestamp>>> {
        self.at(event, |state, _| state.inside(sessions))
    }

    pub(super) fn end(&self, event: &EventId, sessions: &[SessionKey]) -> Reply<Vec<bool>> {
        self.noting(
            event,
            |state, _| state.end(sessions),
            |_, state| Some(journal::ended(sessions, state.meta.time)),
        )
    }

    pub(super) fn leave(&self, event: &EventId, tickets: &[Leave]) -> Reply<()> {
        self.noting(
            event,
            |state, _| state.leave(tickets),
            |(), _| Some(journal::left(tickets)),
        )
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
        let Inner {
            events, journal, ..
        } = &mut *inner;
        let state = events.entry(event.clone()).or_insert_with(|| {
            let rules = shadow.rules.clone().unwrap_or(UNKNOWN);
            let state = EventState::newborn(&arrival, shadow, rules);
            if let Some(journal) = journal {
                journal.note(event, Change::Born(Box::new(state.meta.clone())));
            }
            state
        });
        // A recovery that begins here is told by the restore itself.
        state.arrive(&arrival);
        state.restore(shadow, raw)
    }

    pub(super) fn reset(&self, event: &EventId) -> Reply<Generation> {
        let raw = self.clock.unix_ms();
        self.noting(
            event,
            |state, _| state.reset(raw),
            |generation, _| Some(Change::Reset(*generation, raw)),
        )
    }

    pub(super) fn configure(&self, event: &EventId, seen: u64, rules: &Rules) -> Reply<u64> {
        self.noting(
            event,
            |state, _| state.configure(seen, rules),
            |version, state| Some(Change::Rules(*version, state.meta.rules.clone())),
        )
    }

    pub(super) fn forget(&self, event: &EventId) -> Forgotten {
        let raw = self.clock.unix_ms();
        let mut inner = self.lock();
        let idle = |state: &EventState| raw.saturating_sub(state.meta.raw) >= FORGET_IDLE_MS;
        if !inner.events.get(event).is_none_or(idle) {
            return Forgotten::InUse;
        }
        if inner.events.remove(event).is_some() {
            inner.note(event, Change::Forgotten);
        }
        Forgotten::Gone
    }

    pub(super) fn events(&self) -> Vec<(EventId, StoredEvent)> {
        let inner = self.lock();
        let stored = inner.stored.iter();
        stored
            .map(|(id, event)| (id.clone(), event.clone()))
            .collect()
    }

    pub(super) fn keep_slices(&self, event: &EventId, slices: &[Slice], now: u64) {
        self.slices.keep(event, slices, now);
    }

    pub(super) fn slices(&self, event: &EventId, span: &Span) -> slices::Found {
        self.slices.find(event, span)
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
        inner.note(event, Change::Stored(stored.cloned()));
        Put::Done
    }
}
