//! Which events there are: the file's, laid over with what the API changed
//! and the store keeps, so that all gateways see the same.
//!
//! An entry that was deleted stays as a tombstone. So an entry that this
//! gateway remembers and the store has not was lost, not deleted, and is put
//! back. What is left of a deleted event goes later (`deleted`).

mod deleted;
mod recalled;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracing::{error, info, warn};

pub use recalled::Memory;
use recalled::knows_less;

use crate::clock::Clock;
use crate::controller::{Bench, Controller};
use crate::ledger::{Ledger, Ledgers};
use crate::reception::{Reception, Site};
use crate::room::decision::OnFailure;
use crate::room::event::{EventId, EventSettings};
use crate::room::faults::Faults;
use crate::room::routes::Routes;
use crate::room::schema::Spelling;
use crate::room::settings::RawEvent;
use crate::store::{Put, Store, StoreError, StoredEvent};

/// The time between two looks at what the API changed.
const LOOK: Duration = Duration::from_millis(500);

/// Most events that the API may make.
pub const EVENTS_MAX: usize = 1_000;

/// Most entries of the API, those of the file's events and what remembers
/// deleted events included: all of them are read at each look.
pub const ENTRIES_MAX: usize = 10_000;

/// The file's part of the catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// Each event as written.
    pub written: Vec<RawEvent>,
    /// Each event resolved, in the same order.
    pub events: Vec<EventSettings>,
    /// Hosts that pass without any event.
    pub pass_hosts: Vec<String>,
    /// What happens while the store is away.
    pub on_failure: OnFailure,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file.
    File,
    /// The API.
    Api,
}

/// An event with everything that made it what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its effective settings.
    pub settings: EventSettings,
    /// Where it comes from.
    pub source: Source,
    /// What the API changed, if anything.
    pub stored: Option<StoredEvent>,
}

struct Running {
    ledger: Arc<Ledger>,
    controller: tokio::task::AbortHandle,
}

#[derive(Default)]
struct State {
    base: Base,
    stored: BTreeMap<EventId, StoredEvent>,
    records: Vec<Record>,
    /// The hosts in force that pass without any event.
    pass_hosts: Vec<String>,
    running: HashMap<EventId, Running>,
    asked: deleted::Asked,
    /// What an earlier process remembered, until the events run.
    recalled: Option<Memory>,
    /// When the store's entries were last read, by this machine's clock.
    stored_at: u64,
}

/// The events of this gateway. Its tasks run on the control thread.
pub struct Catalog {
    bench: Arc<Bench>,
    reception: Arc<Reception>,
    clock: Clock,
    state: Mutex<State>,
}

impl Catalog {
    /// The catalog of a file; nothing runs before `refresh`.
    #[must_use]
    pub fn new(bench: Arc<Bench>, reception: Arc<Reception>, base: Base) -> Self {
        let clock = reception.clock.clone();
        Self {
            bench,
            reception,
            state: Mutex::new(State {
                base,
                stored_at: clock.unix_ms(),
                ..State::default()
            }),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks twice a second, for ever.
    pub async fn run(&self) {
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.refresh().await {
                Ok(()) => {
                    failing = false;
                    if let Err(fault) = self.bury().await {
                        warn!(%fault, "what is left of a deleted event cannot be removed from the store; it is tried again in a minute");
                    }
                }
                Err(fault) if !failing => {
                    failing = true;
                    warn!(%fault, "what the API changed cannot be read; the events stay as they are");
                }
                Err(_) => {}
            }
        }
    }

    /// Puts another file in force.
    pub fn rebase(&self, base: Base) {
        self.lock().base = base;
        self.settle();
    }

    /// Puts the file in force alone, while the store is away.
    pub fn settle_without_store(&self) {
        self.settle();
    }

    /// Reads what the API changed and puts it in force.
    ///
    /// # Errors
    /// When the store cannot be asked; the events stay as they are.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let listed = self.bench.store.events().await;
        let stored: BTreeMap<EventId, StoredEvent> = match listed {
            Ok(listed) => listed.into_iter().collect(),
            Err(fault) => {
                self.settle();
                return Err(fault);
            }
        };
        let now = self.clock.unix_ms();
        self.lock().judge(&stored, now);
        let lost: Vec<(EventId, StoredEvent)> = self
            .lock()
            .stored
            .iter()
            .filter(|(id, event)| {
                let worth = stored.contains_key(*id) || deleted::is_worth_putting_back(event, now);
                worth && knows_less(stored.get(*id), event)
            })
            .map(|(id, event)| (id.clone(), event.clone()))
            .collect();
        for (id, event) in &lost {
            let seen = stored.get(id).map_or(0, |listed| listed.version);
            // A change made here while the list was on its way is there by now.
            let put = self.bench.store.put_event(id, seen, Some(event)).await?;
            if put == Put::Done {
                info!(event = %id, "the store forgot what the API changed: it is put back");
            }
        }
        {
            let mut state = self.lock();
            // A change made here while the list was on its way is newer.
            let mut mine = std::mem::take(&mut state.stored);
            mine.retain(|_, event| deleted::is_worth_putting_back(event, now));
            state.stored = stored;
            state.stored.extend(lost);
            for (id, event) in mine {
                let newer = knows_less(state.stored.get(&id), &event);
                if newer {
                    state.stored.insert(id, event);
                }
            }
        }
        self.settle();
        self.bench.catalog_read.store(true, Ordering::Release);
        Ok(())
    }

    /// The store that keeps all of it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.bench.store
    }

    /// The events as they are in force.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// One event as it is in force.
    #[must_use]
    pub fn record(&self, id: &str) -> Option<Record> {
        let state = self.lock();
        state
            .records
            .iter()
            .find(|record| record.settings.id.as_str() == id)
            .cloned()
    }

    /// What the API keeps of an event, tombstones included.
    #[must_use]
    pub fn stored(&self, id: &EventId) -> Option<StoredEvent> {
        self.lock().stored.get(id).cloned()
    }

    /// How many entries the API keeps, tombstones included.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.lock().stored.len()
    }

    /// The file's words about an event.
    #[must_use]
    pub fn written(&self, id: &EventId) -> Option<RawEvent> {
        let state = self.lock();
        written(&state.base, id).cloned()
    }

    /// The settings that an event would have with these overrides.
    ///
    /// # Errors
    /// All faults of the result, by field.
    pub fn preview(&self, id: &EventId, overrides: &Value) -> Result<EventSettings, Faults> {
        let base = self.lock().base.clone();
        resolve(&base, id, overrides)
    }

    /// Writes an event's overrides (`None` buries it), if nobody else did
    /// since version `seen`, and puts them in force here at once.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn put(
        &self,
        id: &EventId,
        seen: u64,
        overrides: Option<Value>,
    ) -> Result<Put, StoreError> {
        let now = self.clock.unix_ms();
        let before = self.stored(id);
        let in_file = self.written(id).is_some();
        let stored = StoredEvent {
            version: seen + 1,
            // A tombstone tells whether the API had made the event: only then
            // there is something to be forgotten.
            created: !in_file
                && (overrides.is_some() || before.as_ref().is_some_and(|before| before.created)),
            created_at: before
                .as_ref()
                .filter(|before| !is_tombstone(before))
                .map_or(now, |before| before.created_at),
            // Never before the change that it follows, whatever this clock says.
            updated_at: before
                .as_ref()
                .map_or(now, |before| now.max(before.updated_at + 1)),
            overrides: overrides.unwrap_or(Value::Null),
        };
        let put = self.bench.store.put_event(id, seen, Some(&stored)).await?;
        if put == Put::Done {
            self.lock().stored.insert(id.clone(), stored);
            self.settle();
        }
        Ok(put)
    }

    /// Makes the events what file and overrides say.
    fn settle(&self) {
        let mut state = self.lock();
        let records = records(&state);
        let same = records == state.records && state.pass_hosts == state.base.pass_hosts;
        if same && self.reception.site.load().ledgers.iter().next().is_some() {
            return;
        }
        let mut order = Vec::with_capacity(records.len());
        for record in &records {
            order.push(self.open(&mut state, &record.settings));
        }
        state.recalled = None;
        let gone: Vec<EventId> = state
            .running
            .keys()
            .filter(|id| !records.iter().any(|record| record.settings.id == **id))
            .cloned()
            .collect();
        for id in gone {
            if let Some(running) = state.running.remove(&id) {
                running.controller.abort();
                self.bench.metrics.hide_event(id.as_str());
                info!(event = %id, "the event is gone");
            }
        }
        let settings: Vec<Arc<EventSettings>> = order
            .iter()
            .map(|ledger| ledger.settings.load_full())
            .collect();
        let State {
            base, pass_hosts, ..
        } = &mut *state;
        pass_hosts.clone_from(&base.pass_hosts);
        let routes = Routes::new(&settings, pass_hosts);
        state.records = records;
        self.reception.site.store(Arc::new(Site {
            ledgers: Ledgers::new(order),
            routes,
        }));
    }

    fn open(&self, state: &mut State, settings: &EventSettings) -> Arc<Ledger> {
        if let Some(running) = state.running.get(&settings.id) {
            running.ledger.change(settings.clone());
            return Arc::clone(&running.ledger);
        }
        let bench = &self.bench;
        bench.metrics.show_event(settings.id.as_str());
        let ledger = Ledger::open(
            settings.clone(),
            &bench.store,
            &bench.gateway,
            self.clock.clone(),
            &bench.metrics,
        );
        // A ledger that was just opened has not been told yet.
        let _told = ledger.on_failure.set(state.base.on_failure);
        state.remind(&ledger, self.clock.unix_ms());
        let controller = Controller::new(Arc::clone(bench), Arc::clone(&ledger));
        let running = Running {
            ledger: Arc::clone(&ledger),
            controller: tokio::spawn(controller.run()).abort_handle(),
        };
        state.running.insert(settings.id.clone(), running);
        ledger
    }
}

/// Whether an entry only remembers that there was one.
#[must_use]
pub fn is_tombstone(stored: &StoredEvent) -> bool {
    stored.overrides.is_null()
}

fn written<'a>(base: &'a Base, id: &EventId) -> Option<&'a RawEvent> {
    let at = base.events.iter().position(|event| event.id == *id)?;
    base.written.get(at)
}

/// File and overrides together.
fn resolve(base: &Base, id: &EventId, overrides: &Value) -> Result<EventSettings, Faults> {
    let mut faults = Faults::default();
    let over = RawEvent::read(overrides, Spelling::Api, "", &mut faults);
    let mut raw = match written(base, id) {
        Some(written) => RawEvent::merge(written, &over),
        None => over,
    };
    raw.id = Some(id.to_string());
    match raw.resolve("", &mut faults) {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(faults),
    }
}

/// Every event in force: the file's in its order, then the API's by id. An
/// override that can not be used any more leaves the file in force, loudly.
fn records(state: &State) -> Vec<Record> {
    let mut records = Vec::new();
    for settings in &state.base.events {
        let stored = state.stored.get(&settings.id).filter(|s| !is_tombstone(s));
        let effective = stored.map(|stored| resolve(&state.base, &settings.id, &stored.overrides));
        let settings = match effective {
            Some(Ok(effective)) => effective,
            Some(Err(faults)) => {
                for fault in &faults {
                    error!(event = %settings.id, %fault, "an override cannot be used; the file is in force");
                }
                settings.clone()
            }
            None => settings.clone(),
        };
        records.push(Record {
            settings,
            source: Source::File,
            stored: stored.cloned(),
        });
    }
    for (id, stored) in state
        .stored
        .iter()
        .filter(|(_, stored)| !is_tombstone(stored))
    {
        if state.base.events.iter().any(|event| event.id == *id) {
            continue;
        }
        match resolve(&state.base, id, &stored.overrides) {
            Ok(settings) => records.push(Record {
                settings,
                source: Source::Api,
                stored: Some(stored.clone()),
            }),
            Err(faults) => {
                for fault in &faults {
                    error!(event = %id, %fault, "an event of the API cannot be used");
                }
            }
        }
    }
    records
}
