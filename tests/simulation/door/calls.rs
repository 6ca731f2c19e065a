//! Each call on the store: through the network, and where it arrives.

use sumun::room::pages::Bits;
use sumun::room::snapshot::{Rules, Snapshot};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{Ask, Batch, Claim, Claimed, Entered, Restored, Shadow, Step, Stepped, Touch};

use super::{Call, Defect, Door, NoReply, at_once};
use crate::model::Promise;

impl Door {
    pub(crate) fn enter(&mut self, batch: &Batch) -> Result<Vec<Entered>, NoReply> {
        self.through(
            &batch.gateway,
            || Call::Enter(batch.clone()),
            |door| door.enter_now(batch),
        )
    }

    pub(super) fn enter_now(&mut self, batch: &Batch) -> Result<Vec<Entered>, NoReply> {
        self.arrive();
        let last = self.batches.get(&batch.gateway).cloned();
        let again = last.filter(|(number, _)| *number == batch.batch);
        let mut batch = batch.clone();
        if again.is_some() && self.defect == Some(Defect::ForgetsBatches) {
            batch.batch |= 1 << 60;
        }
        let reply = at_once(self.store().enter(&self.event, &batch));
        let entered = self.take(reply)?;
        if let Some((_, first)) = again {
            self.model.demand(Promise::Limit, first == entered, || {
                format!("a repeated batch got {entered:?}")
            });
            return Ok(entered);
        }
        for one in &entered {
            match one {
                Entered::Session { key, expires, .. } => self.model.came_in(*key, *expires),
                Entered::Ticket { number } => self.model.issued(*number, None, true),
                Entered::Closed => self.model.demand(Promise::Place, false, || {
                    "turned away without an order".to_owned()
                }),
            }
        }
        self.batches
            .insert(batch.gateway, (batch.batch, entered.clone()));
        Ok(entered)
    }

    pub(crate) fn claim(&mut self, gateway: &str, claim: &Claim) -> Result<Claimed, NoReply> {
        self.through(
            gateway,
            || Call::Claim(gateway.to_owned(), claim.clone()),
            |door| door.claim_now(claim),
        )
    }

    pub(super) fn claim_now(&mut self, claim: &Claim) -> Result<Claimed, NoReply> {
        self.arrive();
        let claims = std::slice::from_ref(claim);
        let reply = at_once(self.store().claim(&self.event, claims));
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
        self.through(
            gateway,
            || Call::Beat(gateway.to_owned(), pages.to_vec()),
            |door| door.beat_now(pages),
        )
    }

    pub(super) fn beat_now(&mut self, pages: &[(u64, Bits)]) -> Result<(), NoReply> {
        self.arrive();
        let reply = at_once(self.store().beat(&self.event, pages));
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
        self.through(
            gateway,
            || Call::Touch(gateway.to_owned(), touch),
            |door| door.touch_now(touch),
        )
    }

    pub(super) fn touch_now(&mut self, touch: Touch) -> Result<Option<Timestamp>, NoReply> {
        self.arrive();
        let reply = at_once(self.store().touch(&self.event, &[touch]));
        let answer = self.take(reply)?.remove(0);
        self.model.touched(touch.session, touch.until, answer);
        Ok(answer)
    }

    pub(crate) fn end(&mut self, gateway: &str, session: SessionKey) -> Result<bool, NoReply> {
        self.through(
            gateway,
            || Call::End(gateway.to_owned(), session),
            |door| door.end_now(session),
        )
    }

    pub(super) fn end_now(&mut self, session: SessionKey) -> Result<bool, NoReply> {
        self.arrive();
        let reply = at_once(self.store().end(&self.event, &[session]));
        let was_there = self.take(reply)?.remove(0);
        self.model.ended(session);
        Ok(was_there)
    }

    pub(crate) fn snapshot(&mut self, ask: &Ask) -> Result<Snapshot, NoReply> {
        self.through(
            &ask.gateway,
            || Call::Snapshot(Box::new(ask.clone())),
            |door| door.snapshot_now(ask),
        )
    }

    pub(super) fn snapshot_now(&mut self, ask: &Ask) -> Result<Snapshot, NoReply> {
        self.arrive();
        let reply = at_once(self.store().snapshot(&self.event, ask));
        let snapshot = self.take(reply)?;
        self.model.snapshot(&snapshot);
        Ok(snapshot)
    }

    pub(crate) fn step(&mut self, gateway: &str, step: &Step) -> Result<Stepped, NoReply> {
        self.through(
            gateway,
            || Call::Step(gateway.to_owned(), Box::new(step.clone())),
            |door| door.step_now(step),
        )
    }

    pub(super) fn step_now(&mut self, step: &Step) -> Result<Stepped, NoReply> {
        self.arrive();
        let mut step = step.clone();
        if self.defect == Some(Defect::PassesOver) && !step.offers.is_empty() {
            step.offers.remove(0);
        }
        let reply = at_once(self.store().step(&self.event, &step));
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
        self.through(
            &shadow.gateway,
            || Call::Restore(Box::new(shadow.clone())),
            |door| Ok(door.restore_now(shadow)),
        )
    }

    pub(super) fn restore_now(&mut self, shadow: &Shadow) -> Restored {
        self.arrive();
        let raw = self.clock.unix_ms();
        if !self.exists {
            self.exists = true;
            self.raw = raw;
            let known = shadow.born.map(|_| shadow.time);
            self.model.time = known.unwrap_or(Timestamp(raw));
            self.model.rules = shadow.rules.clone().expect("rules in every push");
        }
        let restored = at_once(self.store().restore(&self.event, shadow));
        if let Some(cause) = restored.began {
            self.model.recovering(cause.word());
            self.model.found_out();
        }
        if shadow.born.is_some() {
            self.model.goes_on_from(shadow.time);
            self.model.told_generation(shadow.generation);
            self.model.pushed(&shadow.gateway);
        }
        self.heard(&shadow.live);
        restored
    }

    /// An order of the operator's, at a gateway that reaches the store.
    pub(crate) fn reset(&mut self) -> Result<Generation, NoReply> {
        if self.now < self.away_until {
            return Err(NoReply::Away);
        }
        self.arrive();
        let reply = at_once(self.store().reset(&self.event));
        let generation = self.take(reply)?;
        let state = self.store.dump(&self.event).expect("a state was reset");
        self.model.reset(generation, state.meta.called);
        Ok(generation)
    }

    /// Puts the operator's rules in force, if they were not changed since `seen`.
    pub(crate) fn configure(&mut self, seen: u64, rules: &Rules) -> Result<u64, NoReply> {
        if self.now < self.away_until {
            return Err(NoReply::Away);
        }
        self.arrive();
        let reply = at_once(self.store().configure(&self.event, seen, rules));
        let version = self.take(reply)?;
        let state = self.store.dump(&self.event);
        if state.is_some_and(|state| state.meta.rules == *rules) {
            self.model.rules = rules.clone();
        }
        Ok(version)
    }
}
