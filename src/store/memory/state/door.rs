//! In and out of the line: newcomers at the door, called tickets that claim,
//! ids given through the API, tickets given back.

use super::{EventState, IDS_FEW, Named, Offer};
use crate::room::event::Mode;
use crate::room::gate::Gate;
use crate::room::snapshot::{OFFER_MS, UNPROVEN_MS};
use crate::room::time::Timestamp;
use crate::store::{Batch, Claim, Claimed, Entered, Entrant, Found, IdHash, Leave, LetIn};

impl EventState {
    pub(crate) fn enter(&mut self, batch: &Batch, raw: u64) -> Vec<Entered> {
        if let Some(row) = self.gateways.get(&batch.gateway)
            && row.batch == batch.batch
        {
            return row.reply.clone();
        }
        if let Some(above) = batch.above {
            self.rise(above, raw);
        }
        self.purge();
        let reply: Vec<Entered> = batch
            .entrants
            .iter()
            .map(|entrant| self.enter_one(entrant))
            .collect();
        self.note_sessions();
        let row = self.row(&batch.gateway);
        row.batch = batch.batch;
        row.reply.clone_from(&reply);
        reply
    }

    pub(super) fn enter_one(&mut self, entrant: &Entrant) -> Entered {
        if let Some(known) = entrant.id.and_then(|id| self.known(id)) {
            return known;
        }
        let gate = self.meta.gate();
        if gate == Gate::Closed {
            return Entered::Closed;
        }
        // A batch may arrive once more after later ones, and nobody waits for
        // its reply: who is inside keeps his time, who has left stays out.
        let inside = self.active.get(&entrant.session).copied();
        if let Some(expires) = inside {
            return Entered::Session {
                key: entrant.session,
                begun: self.meta.time,
                expires,
            };
        }
        if self.may_walk_in(gate) && !self.ended.contains_key(&entrant.session) {
            self.meta.pay(1);
            let expires = Timestamp(self.meta.time.0 + UNPROVEN_MS);
            self.insert(entrant.session, expires);
            self.count_begun();
            let begun = self.meta.time;
            self.name(entrant.id, Named::Session(entrant.session, begun));
            return Entered::Session {
                key: entrant.session,
                begun,
                expires,
            };
        }
        let number = self.meta.issued;
        self.meta.issued = number.next_issued();
        self.tally.issued += 1;
        self.fresh.set(number, self.meta.fresh_window);
        self.name(entrant.id, Named::Ticket(number));
        Entered::Ticket { number }
    }

    pub(super) fn may_walk_in(&self, gate: Gate) -> bool {
        if self.meta.recovery.is_some() {
            return false;
        }
        let by_order = matches!(self.meta.rules.mode, Mode::Off | Mode::Shadow);
        by_order
            || (gate == Gate::Open
                && self.meta.called == self.meta.issued
                && self.has_room(self.offers.len())
                && self.meta.tokens(self.meta.time) >= 1.0)
    }

    /// Remembers what an id stands for. Now and then those are dropped that
    /// cannot live any more: their number grows with who is here, not with
    /// who ever was.
    pub(super) fn name(&mut self, id: Option<IdHash>, named: Named) {
        let Some(id) = id else {
            return;
        };
        if self.ids.len() >= self.ids_most {
            let (active, live, fresh) = (&self.active, &self.live, &self.fresh);
            self.ids.retain(|_, named| match named {
                Named::Session(session, _) => active.contains_key(session),
                Named::Ticket(number) => {
                    live.page(number.page()).is_some() || fresh.page(number.page()).is_some()
                }
            });
            self.ids_most = (self.ids.len() * 2).max(IDS_FEW);
        }
        self.ids.insert(id, named);
    }

    /// What an id stands for, if that still lives.
    pub(super) fn known(&self, id: IdHash) -> Option<Entered> {
        match *self.ids.get(&id)? {
            Named::Session(key, begun) => self.active.get(&key).map(|expires| Entered::Session {
                key,
                begun,
                expires: *expires,
            }),
            Named::Ticket(number) if self.lives(number) => Some(Entered::Ticket { number }),
            Named::Ticket(_) => None,
        }
    }

    pub(crate) fn find(&self, id: IdHash) -> Found {
        match self.known(id) {
            Some(Entered::Session {
                key,
                begun,
                expires,
            }) => Found::Session {
                key,
                begun,
                expires,
            },
            Some(Entered::Ticket { number }) => Found::Ticket(number),
            _ => Found::Nothing,
        }
    }

    pub(crate) fn claim(&mut self, claims: &[Claim]) -> Vec<Claimed> {
        self.purge();
        let claimed = claims.iter().map(|claim| self.claim_one(claim)).collect();
        self.note_sessions();
        claimed
    }

    pub(super) fn claim_one(&mut self, claim: &Claim) -> Claimed {
        if let Some(expires) = self.active.get(&claim.session) {
            return Claimed::Admitted {
                expires: *expires,
                fresh: false,
            };
        }
        // A session that nobody was ever heard from gave its number back: the
        // claim's reply may have been lost.
        let given_back = self.unproven.contains_key(&claim.session);
        if self.ended.contains_key(&claim.session) || (self.is_spent(claim.number) && !given_back) {
            return Claimed::Spent;
        }
        if self.meta.recovery.is_some() {
            return Claimed::Held;
        }
        let by_order = matches!(self.meta.rules.mode, Mode::Off | Mode::Shadow);
        if !by_order {
            if claim.number >= self.meta.called {
                return Claimed::NotYet;
            }
            let late = claim.number < self.meta.floor() && !self.lives(claim.number);
            if late || claim.number < self.meta.void() {
                return Claimed::TooLate;
            }
            // In a pause nobody is called: who was passed over while absent
            // is not called now.
            if self.meta.rules.mode == Mode::Pause && !self.offers.contains_key(&claim.number) {
                return Claimed::Held;
            }
            // A late one gets its offer back, in its place; one that asks
            // keeps it.
            let due = Timestamp(self.meta.time.0 + OFFER_MS);
            self.offers.insert(claim.number, Offer { due, asked: true });
            let before = self.offers.range(..claim.number).count();
            if self.meta.rules.mode == Mode::Closed || !self.has_room(before) {
                return Claimed::Held;
            }
        }
        if self.offers.contains_key(&claim.number) {
            self.meta.settled += 1;
            self.meta.shown += 1;
        }
        self.spend(claim.number);
        let expires = Timestamp(self.meta.time.0 + UNPROVEN_MS);
        self.insert(claim.session, expires);
        self.count_begun();
        self.unproven.insert(claim.session, self.meta.time);
        let begun = self.meta.time;
        self.name(claim.id, Named::Session(claim.session, begun));
        Claimed::Admitted {
            expires,
            fresh: true,
        }
    }

    pub(crate) fn let_in(&mut self, visitors: &[LetIn]) -> Vec<Option<Timestamp>> {
        self.purge();
        let each = visitors.iter();
        let expires = each.map(|visitor| self.let_one_in(visitor)).collect();
        self.note_sessions();
        expires
    }

    fn let_one_in(&mut self, visitor: &LetIn) -> Option<Timestamp> {
        if let Some(number) = visitor.number {
            self.spend(number);
        }
        if let Some(expires) = self.active.get(&visitor.session) {
            return Some(*expires);
        }
        if self.ended.contains_key(&visitor.session) || visitor.until <= self.meta.time {
            return None;
        }
        let now = self.meta.time;
        let for_how_long = if visitor.proven {
            self.meta.rules.session_idle_ms
        } else {
            UNPROVEN_MS
        };
        let expires = Timestamp(now.0 + for_how_long);
        self.insert(visitor.session, expires);
        self.count_begun();
        self.name(visitor.id, Named::Session(visitor.session, now));
        Some(expires)
    }

    pub(crate) fn leave(&mut self, tickets: &[Leave]) {
        for ticket in tickets {
            self.spend(ticket.number);
            if let Some(id) = ticket.id
                && self.ids.get(&id) == Some(&Named::Ticket(ticket.number))
            {
                self.ids.remove(&id);
            }
        }
    }
}
