//! The store as gateways reach it: real, but with a clock that steps, a
//! network between, and a witness (the model) to every reply.

mod calls;

use std::collections::HashMap;

use futures_util::FutureExt;
use sumun::clock::Clock;
use sumun::room::event::EventId;
use sumun::room::time::advance;
use sumun::store::{Entered, MemoryStore, Reply, Store, StoreError};
use tempfile::TempDir;

use super::faults::Sort;
use super::model::{Kept, Model};
use super::network::{Call, Fate, Network};
use super::scenario::Defect;

/// Why a call brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// It did not arrive.
    Away,
    /// It may have arrived, or may be about to.
    Lost,
    /// The store has to be restored, or is being.
    Recovering,
    Absent,
}

/// A gateway's last batch, and what it brought.
type LastBatch = (u64, Vec<Entered>);

/// The store as it was, on a disk.
struct Copy {
    disk: TempDir,
    life: u64,
    exists: bool,
    raw: u64,
    arrived: u64,
    batches: HashMap<String, LastBatch>,
    known: Kept,
}

pub(crate) struct Door {
    pub clock: Clock,
    pub model: Model,
    pub network: Network,
    /// The store is out of everybody's reach until this moment of the world.
    pub away_until: u64,
    /// Gateways that the store is out of reach for.
    pub cut_off: HashMap<String, u64>,
    pub now: u64,
    /// How far the store's clock is ahead of the world's, in milliseconds.
    pub skew: i64,
    pub defect: Option<Defect>,
    event: EventId,
    store: MemoryStore,
    lives: u64,
    raw: u64,
    exists: bool,
    batches: HashMap<String, LastBatch>,
    copy: Option<Copy>,
    /// Where the present store keeps its journal.
    disk: Option<TempDir>,
}

/// Waits for what never pends: the embedded store answers at once.
fn at_once<T>(answer: impl Future<Output = Result<T, StoreError>>) -> T {
    answer
        .now_or_never()
        .expect("memory never pends")
        .expect("memory is never away")
}

impl Door {
    pub(crate) fn new(model: Model, network: Network, unix_ms: u64) -> Self {
        let clock = Clock::manual(unix_ms);
        Self {
            store: MemoryStore::new(clock.clone(), "life-0"),
            clock,
            model,
            network,
            away_until: 0,
            cut_off: HashMap::new(),
            now: unix_ms,
            skew: 0,
            defect: None,
            event: EventId::new("main").expect("a good id"),
            lives: 0,
            raw: unix_ms,
            exists: false,
            batches: HashMap::new(),
            copy: None,
            disk: None,
        }
    }

    /// The world's clock moves; the store's follows at its distance.
    pub(crate) fn at(&mut self, now: u64) {
        self.now = now;
        self.clock.set(now.saturating_add_signed(self.skew));
    }

    fn store(&self) -> Store {
        Store::Memory(self.store.clone())
    }

    fn next_life(&mut self) -> String {
        self.lives += 1;
        format!("life-{}", self.lives)
    }

    /// The store's process dies with all it knew; an empty one takes its place.
    pub(crate) fn lose(&mut self) {
        if self.exists {
            self.network.struck.count(Sort::Loss);
        }
        let run = self.next_life();
        self.store = MemoryStore::new(self.clock.clone(), &run);
        self.exists = false;
        self.batches.clear();
        self.disk = None;
        self.model.store_lost();
    }

    /// The store as it is now is what it will fall back to.
    pub(crate) fn keep(&mut self) {
        let disk = tempfile::tempdir().expect("a folder");
        let file = disk.path().join("state.json");
        self.store.save(&file).expect("the state is written");
        self.copy = Some(Copy {
            disk,
            life: self.lives,
            exists: self.exists,
            raw: self.raw,
            arrived: self.network.arrived(),
            batches: self.batches.clone(),
            known: self.model.keep(),
        });
    }

    /// The store's process dies; one takes its place that knows what was kept,
    /// and nothing of what came after.
    pub(crate) fn fall_back(&mut self) {
        let Some(copy) = self.copy.take() else {
            return;
        };
        if copy.life != self.lives || !self.exists {
            return;
        }
        if !copy.exists {
            return self.lose();
        }
        if self.network.arrived() > copy.arrived {
            self.network.struck.count(Sort::LostTail);
        }
        let run = self.next_life();
        let file = copy.disk.path().join("state.json");
        self.store = MemoryStore::load(self.clock.clone(), &run, &file).expect("the state is read");
        self.disk = Some(copy.disk);
        self.raw = copy.raw;
        self.batches = copy.batches;
        self.model.store_fell_back(copy.known);
    }

    pub(crate) fn reaches(&self, gateway: &str) -> bool {
        self.now >= self.away_until && !self.is_cut_off(gateway)
    }

    /// Whether the store is out of reach for this gateway, whatever it is for
    /// the others.
    pub(crate) fn is_cut_off(&self, gateway: &str) -> bool {
        let until = self.cut_off.get(gateway);
        until.is_some_and(|until| self.now < *until)
    }

    /// A call on its way: whether it arrives, once or twice or late, and
    /// whether its reply does.
    fn through<T>(
        &mut self,
        gateway: &str,
        call: impl FnOnce() -> Call,
        made: impl FnOnce(&mut Self) -> Result<T, NoReply>,
    ) -> Result<T, NoReply> {
        if !self.reaches(gateway) {
            let silence = self.now < self.away_until;
            let sort = if silence { Sort::Silence } else { Sort::Cut };
            self.network.struck.count(sort);
            return Err(NoReply::Away);
        }
        match self.network.fate(self.now) {
            Fate::Arrives => made(self),
            Fate::ReplyLost => {
                let _nobody_hears = made(self);
                Err(NoReply::Lost)
            }
            Fate::Twice => {
                self.network.later(call(), self.now, true);
                made(self)
            }
            Fate::Late => {
                self.network.later(call(), self.now, false);
                Err(NoReply::Lost)
            }
        }
    }

    /// Every call arrives here: the model's time follows the rule of `room::time`.
    fn arrive(&mut self) {
        self.network.arrives();
        let raw = self.clock.unix_ms();
        if self.exists {
            self.model.time = advance(self.model.time, self.raw, raw);
            self.raw = raw;
        }
    }

    fn take<T>(&mut self, reply: Reply<T>) -> Result<T, NoReply> {
        match reply {
            Reply::Done(value) => Ok(value),
            Reply::Recovering => {
                self.model.recovering("silence");
                Err(NoReply::Recovering)
            }
            Reply::Absent => Err(NoReply::Absent),
        }
    }

    /// A call that was under way for long arrives. Nobody waits for its reply.
    pub(crate) fn late(&mut self) {
        let Some(call) = self.network.take_late() else {
            return;
        };
        self.model.note(&format!("late: {}", call.words()));
        if !self.reaches(call.gateway()) {
            return;
        }
        match &call {
            Call::Enter(batch) => drop(self.enter_now(batch)),
            Call::Claim(_, claim) => drop(self.claim_now(claim)),
            Call::Beat(_, pages) => drop(self.beat_now(pages)),
            Call::Touch(_, touch) => drop(self.touch_now(*touch)),
            Call::End(_, session) => drop(self.end_now(*session)),
            Call::Snapshot(ask) => drop(self.snapshot_now(ask)),
            Call::Step(_, step) => drop(self.step_now(step)),
            Call::Restore(shadow) => {
                self.restore_now(shadow);
            }
        }
    }
}
