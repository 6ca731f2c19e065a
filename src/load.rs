//! What the origin bears, measured in the request path: guards for what is in
//! flight, and a ring of one-second slots for what happened.
//!
//! All data threads write the same atomics; nothing is locked. A slot that
//! is being renewed may lose a few counts: load is a signal, not a ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::room::gate::{LATENCY_BUCKETS, LoadReport, latency_bucket};

/// The longest sliding window, in seconds.
pub const WINDOW_SECONDS_MAX: u64 = 300;

struct Slot {
    /// The second that it counts, plus one; 0: none yet.
    second: AtomicU64,
    requests: AtomicU32,
    arrivals: AtomicU32,
    answered: AtomicU32,
    failures: AtomicU32,
    latency: [AtomicU32; LATENCY_BUCKETS],
}

impl Slot {
    fn new() -> Self {
        Self {
            second: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            arrivals: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            latency: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn clear(&self) {
        for counter in [
            &self.requests,
            &self.arrivals,
            &self.answered,
            &self.failures,
        ]
        .into_iter()
        .chain(&self.latency)
        {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// One event's meter.
pub struct Meter {
    slots: Box<[Slot]>,
    in_flight: AtomicU64,
    newest_answer_ms: AtomicU64,
    arrived: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            slots: (0..WINDOW_SECONDS_MAX + 2).map(|_| Slot::new()).collect(),
            in_flight: AtomicU64::new(0),
            newest_answer_ms: AtomicU64::new(u64::MAX),
            arrived: AtomicU64::new(0),
        }
    }
}

impl Meter {
    fn slot(&self, now_ms: u64) -> Option<&Slot> {
        let second = now_ms / 1000;
        let index = usize::try_from(second).ok()? % self.slots.len();
        let slot = self.slots.get(index)?;
        let before = slot.second.load(Ordering::Acquire);
        if before != second + 1
            && slot
                .second
                .compare_exchange(before, second + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            slot.clear();
        }
        Some(slot)
    }

    /// A request goes to the origin; in flight until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, now_ms: u64) -> InFlight {
        if let Some(slot) = self.slot(now_ms) {
            slot.requests.fetch_add(1, Ordering::Relaxed);
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// A visitor came who holds nothing.
    pub fn arrival(&self, now_ms: u64) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = self.slot(now_ms) {
            slot.arrivals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The origin answered after `first_byte`, or (without one) failed to.
    pub fn answered(&self, now_ms: u64, first_byte: Option<Duration>, failed: bool) {
        self.newest_answer_ms.store(now_ms, Ordering::Relaxed);
        let Some(slot) = self.slot(now_ms) else {
            return;
        };
        slot.answered.fetch_add(1, Ordering::Relaxed);
        if failed {
            slot.failures.fetch_add(1, Ordering::Relaxed);
        }
        let bucket = first_byte.and_then(|taken| slot.latency.get(latency_bucket(taken)));
        if let Some(bucket) = bucket {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All who came and held nothing.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Requests at the origin now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What happened within the last `window`: the present second and the
    /// whole ones before it.
    #[must_use]
    pub fn report(&self, now_ms: u64, window: Duration) -> LoadReport {
        let seconds = window.as_secs().clamp(1, WINDOW_SECONDS_MAX);
        let now = now_ms / 1000;
        let mut report = LoadReport {
            window_ms: (seconds - 1) * 1000 + (now_ms % 1000).max(1),
            in_flight: self.in_flight(),
            ..LoadReport::default()
        };
        let mut latency = [0_u32; LATENCY_BUCKETS];
        let of = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        for slot in &self.slots {
            let second = slot.second.load(Ordering::Acquire);
            if second == 0 || second > now + 1 || second + seconds <= now + 1 {
                continue;
            }
            report.requests += of(&slot.requests);
            report.arrivals += of(&slot.arrivals);
            report.answered += of(&slot.answered);
            report.failures += of(&slot.failures);
            for (sum, count) in latency.iter_mut().zip(&slot.latency) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        if report.answered > 0 {
            report.latency = latency.to_vec();
            let newest = self.newest_answer_ms.load(Ordering::Relaxed);
            report.newest_ms = Some(now_ms.saturating_sub(newest));
        }
        // Until a window has passed the rate is over the time there was.
        report.window_ms = report.window_ms.min(now_ms.max(1));
        report
    }
}

/// A request at the origin; leaves the count when dropped.
pub struct InFlight(Arc<Meter>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_leaves_when_its_guard_is_dropped() {
        let meter = Arc::new(Meter::default());
        let first = meter.begin(1_000);
        let second = meter.begin(1_000);
        assert_eq!(meter.in_flight(), 2);
        drop(first);
        assert_eq!(meter.in_flight(), 1);
        drop(second);
        assert_eq!(meter.in_flight(), 0);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let meter = Arc::new(Meter::default());
        for second in 0..20 {
            drop(meter.begin(second * 1000 + 500));
        }
        let report = meter.report(19_999, Duration::from_secs(10));
        assert_eq!(report.requests, 10);
        assert_eq!(report.window_ms, 9_999);
    }

    #[test]
    fn a_slot_used_again_begins_at_zero() {
        let meter = Arc::new(Meter::default());
        drop(meter.begin(0));
        let round = (WINDOW_SECONDS_MAX + 2) * 1000;
        drop(meter.begin(round));
        assert_eq!(meter.report(round, Duration::from_secs(1)).requests, 1);
    }

    #[test]
    fn answers_fill_the_histogram_and_age() {
        let meter = Meter::default();
        meter.answered(5_000, Some(Duration::from_millis(30)), false);
        meter.answered(5_100, Some(Duration::from_secs(90)), true);
        meter.answered(5_100, None, true);
        let report = meter.report(7_100, Duration::from_secs(10));
        assert_eq!((report.answered, report.failures), (3, 2));
        assert_eq!(report.latency.iter().sum::<u32>(), 2);
        assert_eq!(report.newest_ms, Some(2_000));
    }
}
