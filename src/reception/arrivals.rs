//! Who arrives: a visitor gets a session or a place, and is counted by what the
//! head of its request says of it. Once for each, and only where the operator
//! wants to know.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Inside, Outcome, Reception};
use crate::ledger::{Arrival, Ledger, hash};
use crate::room::time::Timestamp;
use crate::token::Ticket;
use crate::visitor::profile::{Head, Profile};
use crate::visitor::region::Regions;

/// What is counted of visitors.
#[derive(Clone, Default)]
pub struct Wanted {
    /// `visitor.statistics`.
    pub statistics: bool,
    /// What tells of addresses.
    pub regions: Arc<Regions>,
}

/// Somebody at the door who was asked in, or given a place.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The head of its request.
    pub head: Head<'a>,
    /// Its address.
    pub address: IpAddr,
    /// It brought a pass or a ticket of this event that is over.
    pub returning: bool,
}

impl Reception {
    /// Counts a newcomer who has arrived; one who was turned away has not.
    pub fn count_arrival(&self, ledger: &Ledger, outcome: &Outcome, newcomer: &Newcomer<'_>) {
        let visitor = match outcome {
            Outcome::Inside(inside) => &inside.pass.visitor,
            Outcome::Waits(line) => &line.ticket.visitor,
            Outcome::Blocked(_) | Outcome::Uncounted => return,
        };
        let wanted = self.wanted.load();
        if !wanted.statistics {
            return;
        }
        ledger.visitors.hear(hash(visitor.as_bytes()), ledger.now());
        let arrival = Arrival {
            profile: Profile::of(&newcomer.head),
            country: wanted.regions.country(newcomer.address),
            returning: newcomer.returning,
        };
        let event = ledger.id.as_str();
        ledger.arrivals.count(&self.metrics, event, &arrival);
    }

    /// Counts a visitor who is inside as there, once a minute: requests cost no more
    /// than a look at the session.
    pub fn count_there(&self, ledger: &Ledger, inside: &Inside, now: Timestamp) {
        if inside.stay.is_uncounted(now) && self.wanted.load().statistics {
            let visitor = inside.pass.visitor.as_bytes();
            ledger.visitors.hear(hash(visitor), now);
        }
    }

    /// The same of one who waits and asks.
    pub(super) fn count_waiting(&self, ledger: &Ledger, ticket: &Ticket) {
        if self.wanted.load().statistics {
            let visitor = ticket.visitor.as_bytes();
            ledger.visitors.hear(hash(visitor), ledger.now());
        }
    }
}
