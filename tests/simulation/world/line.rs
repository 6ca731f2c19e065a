//! The door: newcomers arrive, are sent to the store in batches, and get in,
//! or a place in line.

use sumun::room::ticket::{Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{BATCH_MAX, Batch, Entered, Entrant};

use super::{Event, Stage, Temper, World};
use crate::door::NoReply;
use crate::gateway::Newcomer;

/// How often a batch is sent before the store counts as away.
const TRIES: u64 = 3;

impl World {
    pub(super) fn arrive(&mut self, visitor: usize) {
        let Some(gateway) = self.pick(visitor) else {
            return self.after(2_000, Event::Arrive(visitor));
        };
        let mut session = [0; 16];
        let dice = &mut self.visitors[visitor].dice;
        session[..8].copy_from_slice(&dice.next().to_be_bytes());
        session[8..].copy_from_slice(&dice.next().to_be_bytes());
        self.visitors[visitor].stage = Stage::AtDoor;
        let newcomer = Newcomer {
            visitor,
            session: SessionKey(session),
        };
        self.gateways[gateway].arrivals += 1;
        self.gateways[gateway].outbox.push(newcomer);
        self.send(gateway);
    }

    /// One batch is in flight per gateway; one whose reply was lost is sent
    /// again with the same number.
    pub(super) fn send(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        if !gateway.up {
            return;
        }
        let again = gateway.in_flight.is_some();
        if !again {
            if gateway.outbox.is_empty() {
                return;
            }
            let most = gateway.outbox.len().min(BATCH_MAX);
            let newcomers: Vec<Newcomer> = gateway.outbox.drain(..most).collect();
            gateway.batches += 1;
            let entrants = newcomers.iter().map(|n| Entrant {
                session: n.session,
                id: None,
            });
            let batch = Batch {
                gateway: gateway.name.clone(),
                batch: gateway.batches,
                above: gateway.own,
                entrants: entrants.collect(),
            };
            gateway.in_flight = Some((batch, newcomers));
            gateway.tries = 0;
        }
        gateway.tries += 1;
        let last_try = gateway.tries >= TRIES;
        let Some((batch, _)) = &gateway.in_flight else {
            return;
        };
        match self.door.enter(batch) {
            Ok(entered) => self.deliver(index, &entered),
            Err(NoReply::Lost) if !last_try => self.after(250, Event::Send(index)),
            Err(NoReply::Away | NoReply::Lost) => self.number_alone(index),
            Err(NoReply::Recovering | NoReply::Absent) => self.after(300, Event::Send(index)),
        }
    }

    fn deliver(&mut self, index: usize, entered: &[Entered]) {
        let Some((_, newcomers)) = self.gateways[index].in_flight.take() else {
            return;
        };
        for (newcomer, entered) in newcomers.iter().zip(entered) {
            match entered {
                Entered::Session { key, expires, .. } => {
                    self.inside(newcomer.visitor, index, *key, *expires);
                }
                Entered::Ticket { number } => {
                    self.door.model.delivered(*number, index);
                    self.ticket(newcomer.visitor, index, *number);
                }
                Entered::Closed => {}
            }
        }
        self.after(1, Event::Send(index));
    }

    /// The store is away: the gateway numbers by itself. What is in flight
    /// may have arrived; its visitors get another number, and keep that one.
    fn number_alone(&mut self, index: usize) {
        let cut_off = self.door.is_cut_off(&self.gateways[index].name);
        let everybody = !self.door.reaches("") && !cut_off && self.now >= self.hidden_until;
        let Some((_, newcomers)) = self.gateways[index].in_flight.take() else {
            return;
        };
        let mut left = newcomers.into_iter();
        while let Some(newcomer) = left.next() {
            let Some(number) = self.gateways[index].number(self.now) else {
                self.gateways[index].outbox.push(newcomer);
                self.gateways[index].outbox.extend(left);
                return self.after(500, Event::Send(index));
            };
            self.door.model.issued(number, Some(index), everybody);
            self.figures.numbered_alone += 1;
            self.ticket(newcomer.visitor, index, number);
        }
        self.after(1, Event::Send(index));
    }

    pub(super) fn ticket(&mut self, index: usize, gateway: usize, number: Number) {
        self.gateways[gateway].remember_heard(number);
        let visitor = &mut self.visitors[index];
        visitor.stage = Stage::Waiting;
        visitor.number = Some(number);
        visitor.generation = self.gateways[gateway].generation().unwrap_or_default();
        visitor.position = u64::MAX;
        visitor.polls = 0;
        if visitor.temper == Temper::Vanishes {
            self.figures.abandoned += 1;
            return self.done(index);
        }
        let first = self.visitors[index].dice.jitter(3_000, 0.15);
        self.after(first, Event::Poll(index));
    }

    pub(super) fn inside(
        &mut self,
        index: usize,
        gateway: usize,
        key: SessionKey,
        expires: Timestamp,
    ) {
        self.gateways[gateway].memory.sessions.insert(key, expires);
        self.door.model.acknowledged(key, expires, gateway);
        let losses = self.losses;
        let visitor = &mut self.visitors[index];
        let stay = visitor.dice.exponential(self.scenario.stay_ms);
        visitor.losses = losses;
        visitor.stage = Stage::Inside;
        visitor.session = key;
        visitor.until = expires;
        visitor.begun = self.door.model.time;
        visitor.leaves_at = self.now + 1_000 + stay;
        let unseen = visitor.dice.chance(0.03);
        let prompt = visitor.number.filter(|_| !visitor.slept);
        self.figures.admitted(prompt, self.now, visitor.estimate);
        if unseen {
            self.figures.unproven += 1;
            return self.done(index);
        }
        let first = self.visitors[index].dice.between(500, 5_000);
        self.after(first, Event::Visit(index));
    }
}
