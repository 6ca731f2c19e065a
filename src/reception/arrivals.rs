//! Who arrives: a visitor gets a session or a place, and is counted by what the
//! head of its request says of it. Once for each, and only where the operator
//! wants to know.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{Inside, Outcome, Reception};
use crate::ledger::{Arrival, Ledger, hash};
use crate::room::time::Timestamp;
use crate::token::{Ticket, cookie};
use crate::visitor::address::{Visitor, network};
use crate::visitor::profile::{Head, Profile};
use crate::visitor::region::Regions;
use crate::visitor::user::{UserFrom, UserHash};

/// What is counted of visitors.
#[derive(Clone, Default)]
pub struct Wanted {
    /// `visitor.statistics`.
    pub statistics: bool,
    /// What tells of addresses.
    pub regions: Arc<Regions>,
    /// How users are told, if they are.
    pub users: Option<Arc<Users>>,
}

/// How users are told: where it is written who is logged in, and what is made of it.
pub struct Users {
    /// Where.
    pub from: UserFrom,
    /// The hash of whoever it is.
    pub hash: UserHash,
}

impl Users {
    /// The hash of who is logged in, by these headers. A header is believed from
    /// trusted proxies only; a cookie is what the browser sends.
    pub(super) fn hash(&self, brought: &Brought<'_>, now: Timestamp) -> Option<u64> {
        let user = match &self.from {
            UserFrom::Cookie(name) => {
                let lines = brought.headers.get_all(header::COOKIE);
                cookie::named(lines.iter(), name).next()?.as_bytes()
            }
            UserFrom::Header(_) if !brought.visitor.behind_trusted_proxy => return None,
            UserFrom::Header(name) => brought.headers.get(name)?.as_bytes(),
        };
        self.hash.of(user, now.seconds())
    }
}

/// A request's headers, and who brought them.
#[derive(Clone, Copy, Debug)]
pub struct Brought<'a> {
    /// All of them.
    pub headers: &'a HeaderMap,
    /// The visitor's address, and whether a trusted proxy tells of it.
    pub visitor: &'a Visitor,
}

/// Somebody at the door who was asked in, or given a place.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The head of its request.
    pub head: Head<'a>,
    /// Its address, and who brought the request.
    pub visitor: &'a Visitor,
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
        let brought = Brought {
            headers: newcomer.head.headers,
            visitor: newcomer.visitor,
        };
        // A server brings the visitors of many addresses.
        if !newcomer.head.by_key {
            self.note_draw(ledger, newcomer.visitor, &brought);
        }
        let wanted = self.wanted.load();
        if !wanted.statistics {
            return;
        }
        wanted.hear(ledger, visitor, Some(&brought), ledger.now());
        let arrival = Arrival {
            profile: Profile::of(&newcomer.head),
            country: wanted.regions.country(newcomer.visitor.address),
            returning: newcomer.returning,
        };
        let event = ledger.id.as_str();
        ledger.arrivals.count(&self.metrics, event, &arrival);
    }

    /// Counts a visitor who is inside as there, once a minute: requests cost no more
    /// than a look at the session.
    pub fn count_there(
        &self,
        ledger: &Ledger,
        inside: &Inside,
        brought: &Brought<'_>,
        now: Timestamp,
    ) {
        if inside.stay.is_uncounted(now) {
            if inside.pass.scope.is_some() {
                inside.stay.heard_from(network(brought.visitor.address));
            }
            self.note_inside(ledger, &inside.stay, brought);
            let wanted = self.wanted.load();
            wanted.hear(ledger, &inside.pass.visitor, Some(brought), now);
        }
    }

    /// The same of one who waits and asks; who is logged in was told on arrival.
    pub(super) fn count_waiting(&self, ledger: &Ledger, ticket: &Ticket) {
        let wanted = self.wanted.load();
        wanted.hear(ledger, &ticket.visitor, None, ledger.now());
    }
}

impl Wanted {
    fn hear(&self, ledger: &Ledger, visitor: &str, brought: Option<&Brought<'_>>, now: Timestamp) {
        if !self.statistics {
            return;
        }
        ledger.visitors.hear(hash(visitor.as_bytes()), now);
        if let (Some(users), Some(brought)) = (&self.users, brought)
            && let Some(user) = users.hash(brought, now)
        {
            ledger.users.hear(user, now);
        }
    }
}
