//! The gate: what load is, and when it opens and closes.
//!
//! Pressure is the worst signal divided by its threshold. The gate closes at
//! 1 and opens again when every signal has stayed below the release ratio for
//! a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::QueueWhen;
use super::time::Timestamp;

/// How newcomers are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Walk in while slots are free and nobody waits.
    Open,
    /// Everyone new takes a ticket.
    Queueing,
    /// Turned away.
    Closed,
}

impl Gate {
    /// All states, for metrics that show each of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Queueing, Self::Closed];

    /// The word used in the store, in logs and as a metric label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Queueing => "queueing",
            Self::Closed => "closed",
        }
    }
}

/// Latency is counted in buckets whose upper bounds grow by a quarter power
/// of two: 1 ms to 65 s in 64 buckets and one for all above.
pub const LATENCY_BUCKETS: usize = 65;

/// The upper bound of a latency bucket.
#[must_use]
pub fn latency_bound(bucket: usize) -> Duration {
    let exponent = f64::from(u32::try_from(bucket).unwrap_or(u32::MAX)) / 4.0;
    Duration::from_secs_f64(0.001 * exponent.min(40.0).exp2())
}

/// The bucket that a latency falls into.
#[must_use]
pub fn latency_bucket(latency: Duration) -> usize {
    let ratio = latency.as_secs_f64() / 0.001;
    if ratio <= 1.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ratio is above 1 and the bucket is capped"
    )]
    let bucket = (ratio.log2() * 4.0).ceil() as usize;
    bucket.min(LATENCY_BUCKETS - 1)
}

/// What one gateway saw over the sliding window: counts, so that gateways add
/// up. Percentiles do not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The window's length, in milliseconds.
    pub window_ms: u64,
    /// Requests begun.
    pub requests: u64,
    /// Newcomers: visitors without a pass or a ticket.
    pub arrivals: u64,
    /// Requests at the origin now.
    pub in_flight: u64,
    /// Requests that the origin answered or failed.
    pub answered: u64,
    /// Of these, the failures: 5xx, refused, reset, too late.
    pub failures: u64,
    /// Time to the first byte, by bucket; empty when nothing was answered.
    pub latency: Vec<u32>,
    /// How long ago the newest answer was, in milliseconds; `None` when there is none.
    pub newest_ms: Option<u64>,
}

/// Load over all gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests a second.
    pub requests_per_second: f64,
    /// Newcomers a second.
    pub arrivals_per_second: f64,
    /// Requests at the origin.
    pub in_flight: f64,
    /// The 95th percentile of the time to first byte; `None` without enough
    /// or recent samples.
    pub latency_p95: Option<Duration>,
    /// Failures ÷ answers; `None` without enough or recent samples.
    pub failure_ratio: Option<f64>,
}

/// A sample older than this is no signal.
const STALE: Duration = Duration::from_secs(5);

impl Load {
    /// Sums what the gateways reported. Latency and failures need
    /// `min_requests` answers in the window and one within the last 5 s.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one window are far below 2^52"
    )]
    #[must_use]
    pub fn sum<'a>(reports: impl Iterator<Item = &'a LoadReport>, min_requests: u64) -> Self {
        let mut load = Self::default();
        let (mut answered, mut failures) = (0, 0);
        let mut latency = vec![0_u64; LATENCY_BUCKETS];
        let mut recent = false;
        for report in reports {
            let seconds = report.window_ms as f64 / 1000.0;
            if seconds > 0.0 {
                load.requests_per_second += report.requests as f64 / seconds;
                load.arrivals_per_second += report.arrivals as f64 / seconds;
            }
            load.in_flight += report.in_flight as f64;
            answered += report.answered;
            failures += report.failures;
            for (sum, count) in latency.iter_mut().zip(&report.latency) {
                *sum += u64::from(*count);
            }
            recent |= report
                .newest_ms
                .is_some_and(|age| Duration::from_millis(age) < STALE);
        }
        if recent && answered >= min_requests.max(1) {
            load.failure_ratio = Some(failures as f64 / answered as f64);
            load.latency_p95 = percentile(&latency, 0.95);
        }
        load
    }
}

/// The value below which `share` of the counted latencies lie: its bucket's
/// upper bound, so at most a fifth too high.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one window are far below 2^52"
)]
fn percentile(buckets: &[u64], share: f64) -> Option<Duration> {
    let total: u64 = buckets.iter().sum();
    let mut seen = 0;
    buckets
        .iter()
        .position(|count| {
            seen += count;
            seen > 0 && seen as f64 >= total as f64 * share
        })
        .map(latency_bound)
}

/// A measured quantity that can close the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Sessions inside.
    Sessions,
    /// Newcomers a second. Closes the gate, but is no brake on those who wait.
    Arrivals,
    /// Requests a second.
    Requests,
    /// Requests at the origin at once.
    InFlight,
    /// The 95th percentile of the time to first byte.
    Latency,
    /// Failures ÷ answers.
    Failures,
}

impl Signal {
    /// All signals, for metrics that show each of them.
    pub const ALL: [Self; 6] = [
        Self::Sessions,
        Self::Arrivals,
        Self::Requests,
        Self::InFlight,
        Self::Latency,
        Self::Failures,
    ];

    /// The threshold's key in `queue_when`, also the metric label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Arrivals => "arrivals_per_second",
            Self::Requests => "requests_per_second",
            Self::InFlight => "in_flight",
            Self::Latency => "latency_p95",
            Self::Failures => "failure_ratio",
        }
    }
}

/// One signal: what was measured and what the operator allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Which.
    pub signal: Signal,
    /// Measured, in the threshold's unit (seconds for latency); `None`
    /// without a sample.
    pub value: Option<f64>,
    /// The threshold, in the same unit; `None` when the operator set none.
    pub threshold: Option<f64>,
}

impl Reading {
    /// Value ÷ threshold; `None` where either is missing.
    #[must_use]
    pub fn pressure(&self) -> Option<f64> {
        Some(self.value? / self.threshold?.max(f64::MIN_POSITIVE))
    }
}

/// Every signal's reading.
#[expect(
    clippy::cast_precision_loss,
    reason = "sessions and requests at once are far below 2^52"
)]
#[must_use]
pub fn readings(load: &Load, sessions: u64, thresholds: &QueueWhen) -> [Reading; 6] {
    let reading = |signal, value, threshold| Reading {
        signal,
        value,
        threshold,
    };
    [
        reading(
            Signal::Sessions,
            Some(sessions as f64),
            thresholds.sessions.map(|most| most as f64),
        ),
        reading(
            Signal::Arrivals,
            Some(load.arrivals_per_second),
            thresholds.arrivals_per_second,
        ),
        reading(
            Signal::Requests,
            Some(load.requests_per_second),
            thresholds.requests_per_second,
        ),
        reading(
            Signal::InFlight,
            Some(load.in_flight),
            thresholds.in_flight.map(|most| most as f64),
        ),
        reading(
            Signal::Latency,
            load.latency_p95.map(|p95| p95.as_secs_f64()),
            thresholds.latency_p95.map(|most| most.as_secs_f64()),
        ),
        reading(
            Signal::Failures,
            load.failure_ratio,
            thresholds.failure_ratio,
        ),
    ]
}

/// Pressure on the origin: the worst of the signals that brake those who
/// wait, 0 without any.
#[must_use]
pub fn pressure(readings: &[Reading]) -> f64 {
    readings
        .iter()
        .filter(|reading| reading.signal != Signal::Arrivals)
        .filter_map(Reading::pressure)
        .fold(0.0, f64::max)
}

/// What the gate does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Next {
    /// The gate as load decides it.
    pub gate: Gate,
    /// Since when every signal is below its release ratio.
    pub calm_since: Option<Timestamp>,
    /// The signal that closed it, when it closes now.
    pub closed_by: Option<Signal>,
}

/// Decides the gate of mode `auto`: closes when any signal
/// reaches its threshold, opens when all have been below `release_ratio` for
/// `release_after`, whether or not people wait.
#[must_use]
pub fn next(
    gate: Gate,
    calm_since: Option<Timestamp>,
    readings: &[Reading],
    thresholds: &QueueWhen,
    now: Timestamp,
) -> Next {
    let worst = readings
        .iter()
        .filter_map(|reading| Some((reading.pressure()?, reading.signal)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let pressure = worst.map_or(0.0, |(pressure, _)| pressure);
    let calm_since = (pressure < thresholds.release_ratio).then(|| calm_since.unwrap_or(now));
    let closes = gate == Gate::Open && pressure >= 1.0;
    let opens = gate != Gate::Open
        && calm_since.is_some_and(|since| now.since(since) >= thresholds.release_after);
    Next {
        gate: match (closes, opens) {
            (true, _) => Gate::Queueing,
            (_, true) => Gate::Open,
            _ => gate,
        },
        calm_since,
        closed_by: worst.filter(|_| closes).map(|(_, signal)| signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds() -> QueueWhen {
        QueueWhen {
            in_flight: Some(100),
            latency_p95: Some(Duration::from_millis(800)),
            release_ratio: 0.8,
            release_after: Duration::from_secs(30),
            ..QueueWhen::default()
        }
    }

    fn at(in_flight: f64) -> [Reading; 6] {
        let load = Load {
            in_flight,
            ..Load::default()
        };
        readings(&load, 0, &thresholds())
    }

    #[test]
    fn the_gate_closes_when_a_signal_reaches_its_threshold_and_names_it() {
        let next = next(Gate::Open, None, &at(100.0), &thresholds(), Timestamp(0));
        assert_eq!(next.gate, Gate::Queueing);
        assert_eq!(next.closed_by, Some(Signal::InFlight));
    }

    #[test]
    fn the_gate_opens_only_after_the_whole_release_time() {
        let mut calm = None;
        let mut gate = Gate::Queueing;
        for second in 0..=30 {
            let now = Timestamp(second * 1000);
            let decided = next(gate, calm, &at(10.0), &thresholds(), now);
            (gate, calm) = (decided.gate, decided.calm_since);
            assert_eq!(gate == Gate::Open, second == 30, "at {second} s");
        }
    }

    #[test]
    fn one_loaded_moment_begins_the_release_time_anew() {
        let decided = next(
            Gate::Queueing,
            Some(Timestamp(0)),
            &at(85.0),
            &thresholds(),
            Timestamp(29_000),
        );
        assert_eq!(decided.calm_since, None);
        assert_eq!(decided.gate, Gate::Queueing);
    }

    #[test]
    fn arrivals_close_the_gate_but_are_no_pressure() {
        let thresholds = QueueWhen {
            arrivals_per_second: Some(10.0),
            release_ratio: 0.8,
            ..QueueWhen::default()
        };
        let load = Load {
            arrivals_per_second: 20.0,
            ..Load::default()
        };
        let readings = readings(&load, 0, &thresholds);
        assert_eq!(
            next(Gate::Open, None, &readings, &thresholds, Timestamp(0)).gate,
            Gate::Queueing
        );
        assert!(pressure(&readings) < 1.0);
    }

    #[test]
    fn gateways_add_up_and_a_percentile_is_taken_of_the_sum() {
        let mut slow = vec![0; LATENCY_BUCKETS];
        slow[latency_bucket(Duration::from_millis(900))] = 10;
        let mut fast = vec![0; LATENCY_BUCKETS];
        fast[latency_bucket(Duration::from_millis(10))] = 90;
        let report = |latency: Vec<u32>, answered| LoadReport {
            window_ms: 10_000,
            requests: 50,
            answered,
            latency,
            newest_ms: Some(100),
            ..LoadReport::default()
        };
        let load = Load::sum([report(slow, 10), report(fast, 90)].iter(), 20);
        assert!((load.requests_per_second - 10.0).abs() < 1e-9);
        let p95 = load.latency_p95.unwrap();
        assert!(p95 >= Duration::from_millis(900) && p95 < Duration::from_millis(1_100));
    }

    #[test]
    fn few_or_old_samples_are_no_signal() {
        let few = LoadReport {
            window_ms: 10_000,
            answered: 3,
            failures: 3,
            newest_ms: Some(0),
            ..LoadReport::default()
        };
        assert_eq!(Load::sum([few.clone()].iter(), 20).failure_ratio, None);
        let old = LoadReport {
            answered: 30,
            newest_ms: Some(6_000),
            ..few
        };
        assert_eq!(Load::sum([old].iter(), 20).failure_ratio, None);
    }

    #[test]
    fn a_latency_lies_under_its_buckets_bound_and_above_the_one_before() {
        for ms in [1, 2, 3, 50, 800, 5_000, 60_000] {
            let latency = Duration::from_millis(ms);
            let bucket = latency_bucket(latency);
            assert!(latency_bound(bucket) >= latency);
            assert!(bucket == 0 || latency_bound(bucket - 1) < latency);
        }
    }
}
