//! The last look at the store, as the request path reads it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::room::census::{Census, Place};
use crate::room::estimate::{self, Rates, Wait};
use crate::room::event::{Mode, QueueWhen};
use crate::room::gate::{self, Gate, Load, Reading};
use crate::room::snapshot::Snapshot;
use crate::room::ticket::Number;
use crate::room::time::{SILENCE, Timestamp, millis};
use crate::store::Shadow;

/// One look at the store.
#[derive(Clone, Debug)]
pub struct View {
    /// What it said.
    pub snapshot: Snapshot,
    /// When it was taken, on this gateway's own clock, in milliseconds.
    pub taken_ms: u64,
    /// Whether the store answered when it was last asked.
    pub store_up: bool,
    /// The rates measured up to here.
    pub rates: Rates,
    /// Every signal's reading.
    pub readings: [Reading; 6],
    /// The signing keys that all gateways know.
    pub shared_keys: Vec<String>,
    census: Census,
    /// Read from the disk: the running time then. The store has not answered since.
    pub(super) remembered: Option<Timestamp>,
}

impl View {
    /// A look taken now.
    #[must_use]
    pub fn new(snapshot: Snapshot, taken_ms: u64, rates: Rates, readings: [Reading; 6]) -> Self {
        Self {
            shared_keys: shared_keys(&snapshot),
            census: Census::of(&snapshot),
            snapshot,
            taken_ms,
            store_up: true,
            rates,
            readings,
            remembered: None,
        }
    }

    /// A look that an earlier process took, before the first one of this.
    pub(super) fn recalled(snapshot: Snapshot, taken_ms: u64) -> Self {
        let remembered = Some(snapshot.now());
        let readings = gate::readings(&Load::default(), 0, &QueueWhen::default());
        Self {
            store_up: false,
            remembered,
            ..Self::new(snapshot, taken_ms, Rates::default(), readings)
        }
    }

    /// The same look, after the store could not be asked.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self {
            store_up: false,
            ..self.clone()
        }
    }

    /// The running time: it goes on for two seconds after a look and then
    /// waits for the store.
    #[must_use]
    pub fn now(&self, monotonic_ms: u64) -> Timestamp {
        let elapsed = monotonic_ms.saturating_sub(self.taken_ms);
        Timestamp(self.snapshot.meta.time.0 + elapsed.min(millis(SILENCE)))
    }

    /// The store's wall clock in Unix seconds; it goes on.
    #[must_use]
    pub fn unix_seconds(&self, monotonic_ms: u64) -> u64 {
        self.snapshot.unix_seconds + monotonic_ms.saturating_sub(self.taken_ms) / 1000
    }

    /// Whether a newcomer must take a ticket.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let meta = &self.snapshot.meta;
        let offers = self.snapshot.offers.len() as u64;
        let taken = self.snapshot.sessions + meta.ghosts + meta.reserved() + offers;
        meta.gate() != Gate::Open
            || meta.called != meta.issued
            || meta.recovery.is_some()
            || meta.rules.limit.is_some_and(|limit| taken >= limit)
    }

    /// Living tickets that wait to be called.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.census.waiting()
    }

    /// Where a number stands.
    #[must_use]
    pub fn place(&self, number: Number) -> Place {
        self.census.place(number)
    }

    /// How long the ticket at `position` will wait. While nobody is called by
    /// order, nobody knows.
    #[must_use]
    pub fn wait(&self, position: u64) -> Option<Wait> {
        if matches!(self.snapshot.meta.rules.mode, Mode::Pause | Mode::Closed) {
            return None;
        }
        estimate::wait(position, &self.rates, self.snapshot.meta.rate())
    }

    /// When the ticket at `position` is to ask again, before jitter.
    #[must_use]
    pub fn poll_after(
        &self,
        wait: Option<Wait>,
        position: u64,
        first: bool,
        window: Duration,
    ) -> Duration {
        let gateways = self.snapshot.present().count() as u64;
        estimate::poll_after(wait, position, gateways, first, window)
    }

    /// Fills in what is remembered of the state itself.
    pub(super) fn remember(&self, shadow: &mut Shadow, monotonic_ms: u64) {
        let meta = &self.snapshot.meta;
        shadow.born = Some(meta.born);
        shadow.seq = meta.seq;
        shadow.time = self.now(monotonic_ms);
        shadow.generation = meta.generation;
        shadow.issued = meta.issued;
        shadow.called = meta.called;
        shadow.gate = Some(meta.gate);
        shadow.marks.clone_from(&meta.marks);
        shadow.cfgver = meta.cfgver;
        shadow.tally = self.snapshot.tally;
        shadow.shares.clone_from(&meta.shares);
        shadow.sessions_known = self.snapshot.sessions + meta.ghosts;
        shadow.peers = self.snapshot.peers(&shadow.gateway).collect();
    }
}

/// The signing keys that every gateway at work knows, in the first one's order.
fn shared_keys(snapshot: &Snapshot) -> Vec<String> {
    let mut shared: Option<Vec<String>> = None;
    for row in snapshot.present() {
        let keys: BTreeSet<&String> = row.report.keys.iter().collect();
        match &mut shared {
            None => shared = Some(row.report.keys.clone()),
            Some(shared) => shared.retain(|key| keys.contains(key)),
        }
    }
    shared.unwrap_or_default()
}
