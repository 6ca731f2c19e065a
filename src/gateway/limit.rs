//! What one session may: so many requests a second, so many in flight. One copied
//! cookie is one visitor, not a thousand browsers.

use std::sync::Arc;

use metrics::Counter;

use super::asker::Asker;
use super::through::{Carry, Passage};
use super::{Gateway, Way, done};
use crate::ledger::{InUse, Ledger, Stay};
use crate::metrics::{self as names, Metrics};
use crate::reception::Inside;
use crate::room::event::Mode;

/// Counters of refusals.
pub(super) struct Beyond {
    rate: Counter,
    in_flight: Counter,
}

impl Beyond {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |reason| metrics.counter(&names::REFUSALS, &[("reason", reason)]);
        Self {
            rate: of("session_requests_per_second"),
            in_flight: of("session_requests_in_flight"),
        }
    }
}

impl Gateway {
    /// Inside a session, as far as it may do more. Who is refused was heard from all
    /// the same, and keeps the session, the pass and a ticket that was called.
    pub(super) fn within(
        &self,
        event: usize,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        (inside, carry): (Inside, Carry),
        decision: &'static str,
    ) -> Way {
        match self.held_within(ledger, asker, &inside.stay) {
            Some(in_use) => {
                let passage = Passage::inside(ledger, inside, in_use, carry);
                Way::Through(passage, done(Some(event), decision))
            }
            None => self.beyond(event, ledger, asker),
        }
    }

    /// What a session of another event is lent here is on that session's account.
    pub(super) fn lent(
        &self,
        event: usize,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        stay: Option<&Arc<Stay>>,
    ) -> Way {
        let in_use = match stay.map(|stay| self.held_within(ledger, asker, stay)) {
            Some(None) => return self.beyond(event, ledger, asker),
            Some(in_use) => in_use,
            None => None,
        };
        let passage = Passage::lent(ledger, in_use);
        Way::Through(passage, done(Some(event), "neighbour"))
    }

    /// Counts one more request of a session, if it is within the event's limits.
    fn held_within(&self, ledger: &Ledger, asker: &Asker, stay: &Arc<Stay>) -> Option<InUse> {
        let settings = ledger.settings.load();
        // The operator ordered that all pass.
        if matches!(settings.mode, Mode::Off | Mode::Shadow) {
            return Some(stay.hold());
        }
        let Some(in_use) = stay.hold_within(settings.session_requests_in_flight) else {
            self.counts.beyond.in_flight.increment(1);
            return None;
        };
        if !stay.is_within_rate(asker.came_ms, settings.session_requests_per_second) {
            self.counts.beyond.rate.increment(1);
            return None;
        }
        Some(in_use)
    }

    #[cold]
    fn beyond(&self, event: usize, ledger: &Ledger, asker: &Asker) -> Way {
        let answer = self.too_much(ledger, asker);
        Way::own(answer, done(Some(event), "session_limit"))
    }
}
