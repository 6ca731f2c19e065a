//! What a controller does for its gateway's share: how much of it to ask for,
//! and whether the load that this gateway sees lets anybody in while the store
//! is away.

use std::sync::atomic::Ordering;

use super::Controller;
use crate::ledger::View;
use crate::room::gate::{self, Gate, Load};
use crate::room::share;
use crate::room::time::Timestamp;

/// The gate of a gateway alone, by its own clock.
#[derive(Debug)]
pub(super) struct Alone {
    gate: Gate,
    calm_since: Option<Timestamp>,
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            gate: Gate::Open,
            calm_since: None,
        }
    }
}

impl Controller {
    /// How many slots this gateway would hold for itself: while the store is
    /// away, those it has.
    pub(super) fn share_wanted(&self, view: Option<&View>) -> u64 {
        match view {
            _ if self.bench.leaving.load(Ordering::Acquire) => 0,
            Some(view) if view.store_up => share::wanted(&view.snapshot),
            _ => self.ledger.share_left(),
        }
    }

    /// Judges the load as if all gateways bore the same: what the others see
    /// is not known.
    pub(super) fn judge_alone(&mut self) {
        let Some(view) = self.ledger.view().filter(|_| self.ledger.keeps_share()) else {
            return;
        };
        let settings = self.ledger.settings.load_full();
        let when = &settings.queue_when;
        let now_ms = self.ledger.monotonic_ms();
        let report = self.ledger.load.report(now_ms, when.window);
        let gateways = view.snapshot.present().count().max(1);
        let load = Load::sum(std::iter::repeat_n(&report, gateways), when.min_requests);
        let sessions = view.snapshot.sessions + self.ledger.sessions.untold();
        let readings = gate::readings(&load, sessions, when);
        let Alone { gate, calm_since } = self.alone;
        let next = gate::next(gate, calm_since, &readings, when, Timestamp(now_ms));
        self.alone = Alone {
            gate: next.gate,
            calm_since: next.calm_since,
        };
        self.ledger.set_share_gate(next.gate);
        self.gauges.share(self.ledger.share_left());
    }
}
