//! Who arrives: a visitor gets a session or a place, and is counted by what the
//! head of its request says of it. Once for each, and only where the operator
//! wants to know.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Outcome, Reception};
use crate::ledger::{Arrival, Ledger};
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
        let has_arrived = match outcome {
            Outcome::Inside(_) | Outcome::Waits(_) => true,
            Outcome::Blocked(_) | Outcome::Uncounted => false,
        };
        let wanted = self.wanted.load();
        if !has_arrived || !wanted.statistics {
            return;
        }
        let arrival = Arrival {
            profile: Profile::of(&newcomer.head),
            country: wanted.regions.country(newcomer.address),
            returning: newcomer.returning,
        };
        let event = ledger.id.as_str();
        ledger.arrivals.count(&self.metrics, event, &arrival);
    }
}
