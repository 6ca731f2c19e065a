//! What a visitor does once he has a place: polls, claims, looks around inside,
//! leaves.

use std::time::Duration;

use sumun::room::estimate::{poll_after, wait};
use sumun::room::snapshot::UNPROVEN_MS;
use sumun::room::ticket::{Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{Claim, Claimed, Touch};

use super::{Event, Temper, Visitor, World};
use crate::faults::Fault;
use crate::model::Promise;

impl Visitor {
    /// When one who has left tries to come in again by the same ticket, if he
    /// does.
    fn reuse(&mut self) -> Option<u64> {
        let tries = self.number.is_some() && self.dice.chance(0.15);
        tries.then(|| self.dice.between(100, 30_000))
    }
}

impl World {
    /// A visitor inside asks for something, leaves, or is never seen again.
    pub(super) fn visit(&mut self, index: usize) {
        let Some(gateway) = self.pick(index) else {
            return self.after(2_000, Event::Visit(index));
        };
        let name = self.gateways[gateway].name.clone();
        let visitor = self.visitors[index].clone();
        if self.now >= visitor.leaves_at {
            if self.visitors[index].dice.chance(0.25) {
                return self.done(index);
            }
            return match self.door.end(&name, visitor.session) {
                Ok(_) => {
                    let memory = &mut self.gateways[gateway].memory;
                    memory.sessions.remove(&visitor.session);
                    memory.ended.insert(visitor.session, self.door.model.time);
                    self.door.model.end_told(visitor.session);
                    self.done(index);
                    if let Some(after) = self.visitors[index].reuse() {
                        self.after(after, Event::Again(index));
                    }
                }
                Err(_) => self.after(1_000, Event::Visit(index)),
            };
        }
        let touch = Touch {
            session: visitor.session,
            begun: visitor.begun,
            until: visitor.until,
            keep: Timestamp(0),
        };
        match self.door.touch(&name, touch) {
            Err(_) => return self.after(1_000, Event::Visit(index)),
            Ok(Some(expires)) => {
                let sessions = &mut self.gateways[gateway].memory.sessions;
                let known = sessions.entry(visitor.session).or_default();
                *known = expires.max(*known);
                self.door
                    .model
                    .acknowledged(visitor.session, expires, gateway);
                self.visitors[index].until = expires;
            }
            Ok(None) => {
                self.figures.outstayed += 1;
                return self.done(index);
            }
        }
        let idle = self.rules.session_idle_ms;
        let dice = &mut self.visitors[index].dice;
        // Some read for almost as long as a session may be idle.
        let next = if dice.chance(0.2) {
            dice.between(idle / 2, idle * 9 / 10)
        } else {
            dice.jitter(idle / 4, 0.3).min(UNPROVEN_MS)
        };
        let left = visitor.leaves_at.saturating_sub(self.now).max(1);
        self.after(next.min(left), Event::Visit(index));
    }

    pub(super) fn poll(&mut self, index: usize) {
        let Some(gateway) = self.pick(index) else {
            return self.after(2_000, Event::Poll(index));
        };
        let visitor = self.visitors[index].clone();
        let Some(number) = visitor.number else {
            return;
        };
        match self.gateways[gateway].generation() {
            Some(generation) if generation > visitor.generation => {
                return self.again(index, true);
            }
            Some(generation) if generation == visitor.generation => {}
            _ => return self.after(1_000, Event::Poll(index)),
        }
        if let Temper::GivesUp(after) = visitor.temper
            && self.now >= visitor.arrived + after
        {
            self.figures.abandoned += 1;
            return self.done(index);
        }
        if self.gateways[gateway].is_called(number) {
            return self.claim(index, gateway, number);
        }
        self.wait(index, gateway, number);
    }

    /// A gateway heard a visitor. The store hears of it in time unless it is
    /// this gateway alone that does not reach it.
    fn polled(&mut self, number: Number, gateway: usize) {
        let name = &self.gateways[gateway].name;
        let cut_off = self.door.is_cut_off(name);
        self.door.model.polled(number, gateway, !cut_off);
    }

    /// Begins again at the door: the place is void or was slept away.
    fn again(&mut self, index: usize, voided: bool) {
        let visitor = &mut self.visitors[index];
        if let Some(number) = visitor.number.take() {
            self.door.model.gone(number);
        }
        visitor.voided |= voided;
        visitor.arrived = self.now;
        visitor.estimate = None;
        let next = self.visitors[index].dice.between(100, 1_000);
        self.after(next, Event::Arrive(index));
    }

    fn wait(&mut self, index: usize, gateway: usize, number: Number) {
        self.gateways[gateway].hear(number);
        self.polled(number, gateway);
        let gateway = &self.gateways[gateway];
        let rates = gateway.history.rates();
        let visitor = &mut self.visitors[index];
        visitor.polls += 1;
        let mut estimate = None;
        if let (Some(seen), Some(census)) = (&gateway.seen, &gateway.census) {
            let place = census.place(number);
            self.figures
                .position(visitor.position, place.position, place.about);
            visitor.position = visitor.position.min(place.position);
            estimate = wait(visitor.position, &rates, seen.meta.rate());
            if visitor.estimate.is_none()
                && let Some(wait) = estimate
            {
                visitor.estimate = Some((self.now, wait.seconds));
            }
        }
        let near = visitor.position < 20 && visitor.polls > 1;
        match visitor.temper {
            Temper::NoShow if near => {
                self.figures.no_shows += 1;
                return self.done(index);
            }
            Temper::Sleeps(ms) if near && !visitor.slept => {
                visitor.slept = true;
                self.figures.slept += 1;
                return self.after(ms, Event::Poll(index));
            }
            _ => {}
        }
        let window = Duration::from_millis(self.rules.window_ms);
        let next = poll_after(estimate, visitor.position, 2, visitor.polls == 0, window).as_millis()
            as u64;
        let next = self.visitors[index].dice.jitter(next, 0.15);
        self.after(next, Event::Poll(index));
    }

    pub(super) fn claim(&mut self, index: usize, gateway: usize, number: Number) {
        let visitor = self.visitors[index].clone();
        let session = SessionKey::of_ticket(visitor.generation, number, &visitor.name);
        let claim = Claim {
            number,
            session,
            id: None,
        };
        self.polled(number, gateway);
        let name = self.gateways[gateway].name.clone();
        match self.door.claim(&name, &claim) {
            Ok(Claimed::Admitted { expires, .. }) => {
                self.gateways[gateway].spent(number);
                self.inside(index, gateway, session, expires);
            }
            Ok(Claimed::TooLate) => {
                let generation = self.door.model.generation;
                // Issued before a reset, and the reply came again after it.
                let old = self.door.model.is_void(number);
                let void = visitor.generation != generation || old;
                let slept = void || matches!(visitor.temper, Temper::Sleeps(_));
                self.door.model.demand(Promise::Place, slept, || {
                    format!("{number} is too late, awake")
                });
                self.again(index, true);
            }
            Ok(Claimed::Spent) => {
                self.door.model.demand(Promise::Place, false, || {
                    format!("{number} is spent, and its visitor never got in")
                });
            }
            Ok(Claimed::Held | Claimed::NotYet) => {
                self.gateways[gateway].hear(number);
                let next = self.visitors[index].dice.jitter(1_000, 0.15);
                self.after(next, Event::Poll(index));
            }
            Err(_) => {
                self.gateways[gateway].hear(number);
                let next = self.visitors[index].dice.jitter(1_500, 0.15);
                self.after(next, Event::Poll(index));
            }
        }
    }

    /// A ticket that was used and whose session has ended is worth nothing
    /// (promise 8): to a store that has not forgotten, or has been told by
    /// gateways all of which remember.
    pub(super) fn use_again(&mut self, index: usize) {
        let visitor = self.visitors[index].clone();
        let mut faults = self.scenario.faults.iter().map(|planned| planned.fault);
        let absent = faults.any(|f| matches!(f, Fault::Crash { .. } | Fault::Cut { .. }));
        if absent && self.losses != visitor.losses || self.door.model.has_forgotten() {
            return;
        }
        let (Some(gateway), Some(number)) = (self.pick(index), visitor.number) else {
            return;
        };
        let claim = Claim {
            number,
            session: visitor.session,
            id: None,
        };
        self.figures.reused += 1;
        let name = self.gateways[gateway].name.clone();
        let claimed = self.door.claim(&name, &claim);
        let refused = !matches!(claimed, Ok(Claimed::Admitted { .. }));
        self.door.model.demand(Promise::Token, refused, || {
            format!("{number} was used, and let in again")
        });
    }
}
