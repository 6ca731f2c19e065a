//! The store as gateways reach it: real, but with a clock that steps, calls
//! that do not arrive, and a witness (the model) to every reply.

use std::collections::HashMap;

use futures_util::FutureExt;
use sumun::clock::Clock;
use sumun::room::event::EventId;
use sumun::room::pages::Bits;
use sumun::room::snapshot::{Rules, Snapshot};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::{Timestamp, advance};
use sumun::store::{
    Ask, Batch, Claim, Claimed, Entered, MemoryStore, Reply, Restored, Shadow, Step, Stepped,
    Store, StoreError, Touch,
};

use super::model::Model;

/// Why a call brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// It did not arrive.
    Away,
    /// The store has to be restored, or is being.
    Recovering,
    Absent,
}

pub(crate) struct Door {
    pub clock: Clock,
    pub model: Model,
    /// The store is out of everybody's reach until this moment of the world.
    pub away_until: u64,
    /// Gateways that the store is out of reach for.
    pub cut_off: HashMap<String, u64>,
    pub now: u64,
    /// How far the store's clock is ahead of the world's, in milliseconds.
    pub skew: i64,
    event: EventId,
    store: Store,
    lives: u64,
    raw: u64,
    exists: bool,
    replies: HashMap<(String, u64, u64), Vec<Entered>>,
}

/// Waits for what never pends: the embedded store answers at once.
fn at_once<T>(answer: impl Future<Output = Result<T, StoreError>>) -> T {
    answer
        .now_or_never()
        .expect("memory never pends")
        .expect("memory is never away")
}

impl Door {
    pub(crate) fn new(model: Model, unix_ms: u64) -> Self {
        let clock = Clock::manual(unix_ms);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "life-0"));
        Self {
            clock,
            model,
            away_until: 0,
            cut_off: HashMap::new(),
            now: unix_ms,
            skew: 0,
            event: EventId::new("main").expect("a good id"),
            store,
            lives: 0,
            raw: unix_ms,
            exists: false,
            replies: HashMap::new(),
        }
    }

    /// The world's clock moves; the store's follows at its distance.
    pub(crate) fn at(&mut self, now: u64) {
        self.now = now;
        self.clock.set(now.saturating_add_signed(self.skew));
    }

    /// The store's process dies with all it knew; an empty one takes its place.
    pub(crate) fn lose(&mut self) {
        self.lives += 1;
        let run = format!("life-{}", self.lives);
        self.store = Store::Memory(MemoryStore::new(self.clock.clone(), &run));
        self.exists = false;
        self.replies.clear();
        self.model.store_lost();
    }

    pub(crate) fn reaches(&self, gateway: &str) -> bool {
        self.now >= self.away_until
            && self
                .cut_off
                .get(gateway)
                .is_none_or(|until| self.now >= *until)
    }

    /// Every call begins here: the model's time follows the rule of `room::time`.
    fn arrive(&mut self, gateway: &str) -> Result<(), NoReply> {
        if !self.reaches(gateway) {
            return Err(NoReply::Away);
        }
        let raw = self.clock.unix_ms();
        if self.exists {
            self.model.time = advance(self.model.time, self.raw, raw);
            self.raw = raw;
        }
        Ok(())
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

    pub(crate) fn enter(&mut self, batch: &Batch) -> Result<Vec<Entered>, NoReply> {
        self.arrive(&batch.gateway)?;
        let reply = at_once(self.store.enter(&self.event, batch));
        let entered = self.take(reply)?;
        let name = (batch.gateway.clone(), batch.batch, self.lives);
        if let Some(first) = self.replies.get(&name) {
            let same = *first == entered;
            self.model
                .demand("1", same, || format!("a repeated batch got {entered:?}"));
            return Ok(entered);
        }
        for one in &entered {
            match one {
                Entered::Session { key, expires, .. } => self.model.walked_in(*key, *expires),
                Entered::Ticket { number } => self.model.issued(*number, None, true),
                Entered::Closed => self.model.violated("3", "turned away without an order"),
            }
        }
        self.replies.insert(name, entered.clone());
        Ok(entered)
    }

    pub(crate) fn claim(&mut self, gateway: &str, claim: &Claim) -> Result<Claimed, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.claim(&self.event, std::slice::from_ref(claim)));
        let claimed = self.take(reply)?.remove(0);
        let number = claim.number;
        match claimed {
            Claimed::Admitted {
                expires,
                fresh: true,
            } => {
                self.model.claimed(number, claim.session, expires);
            }
            Claimed::Admitted { fresh: false, .. } | Claimed::NotYet => {}
            Claimed::Held => self.model.held(number),
            Claimed::TooLate => self.model.refused_as_late(number),
            Claimed::Spent => self.model.refused_as_spent(number),
        }
        Ok(claimed)
    }

    pub(crate) fn beat(&mut self, gateway: &str, pages: &[(u64, Bits)]) -> Result<(), NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.beat(&self.event, pages));
        self.take(reply)?;
        self.heard(pages);
        Ok(())
    }

    fn heard(&mut self, pages: &[(u64, Bits)]) {
        for (page, bits) in pages {
            for bit in bits.ones(0) {
                self.model.heard(Number::at(*page, bit));
            }
        }
    }

    pub(crate) fn touch(
        &mut self,
        gateway: &str,
        touch: Touch,
    ) -> Result<Option<Timestamp>, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.touch(&self.event, &[touch]));
        let answer = self.take(reply)?.remove(0);
        self.model.touched(touch.session, touch.until, answer);
        Ok(answer)
    }

    pub(crate) fn end(&mut self, gateway: &str, session: SessionKey) -> Result<bool, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.end(&self.event, &[session]));
        let was_there = self.take(reply)?.remove(0);
        self.model.ended(session);
        Ok(was_there)
    }

    pub(crate) fn snapshot(&mut self, ask: &Ask) -> Result<Snapshot, NoReply> {
        self.arrive(&ask.gateway)?;
        let reply = at_once(self.store.snapshot(&self.event, ask));
        let snapshot = self.take(reply)?;
        self.model.snapshot(&snapshot);
        Ok(snapshot)
    }

    pub(crate) fn step(&mut self, gateway: &str, step: &Step) -> Result<Stepped, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.step(&self.event, step));
        let stepped = self.take(reply)?;
        match stepped {
            Stepped::Done { lapsed, .. } => {
                self.model.counts.steps += 1;
                self.model.counts.lapsed += lapsed;
                self.model.called(step.to, &step.offers);
            }
            Stepped::LostRace => self.model.counts.lost_races += 1,
        }
        Ok(stepped)
    }

    pub(crate) fn restore(&mut self, shadow: &Shadow) -> Result<Restored, NoReply> {
        self.arrive(&shadow.gateway)?;
        let raw = self.clock.unix_ms();
        if !self.exists {
            self.exists = true;
            self.raw = raw;
            let known = shadow.born.map(|_| shadow.time);
            self.model.time = known.unwrap_or(Timestamp(raw).max(self.model.time));
        }
        let restored = at_once(self.store.restore(&self.event, shadow));
        if let Some(cause) = restored.began {
            self.model.recovering(cause.word());
        }
        if shadow.born.is_some() {
            self.model.time = self.model.time.max(shadow.time);
        }
        self.heard(&shadow.live);
        Ok(restored)
    }

    pub(crate) fn reset(&mut self, gateway: &str) -> Result<Generation, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.reset(&self.event));
        let generation = self.take(reply)?;
        self.model.reset(generation);
        Ok(generation)
    }

    pub(crate) fn configure(
        &mut self,
        gateway: &str,
        seen: u64,
        rules: &Rules,
    ) -> Result<u64, NoReply> {
        self.arrive(gateway)?;
        let reply = at_once(self.store.configure(&self.event, seen, rules));
        let version = self.take(reply)?;
        if version == seen + 1 {
            self.model.rules = rules.clone();
        }
        Ok(version)
    }
}
