//! What is counted of an event in the request path: handles fetched once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use metrics::{Counter, Histogram};

use crate::metrics::{self as names, Metrics};
use crate::tracking::{Totals, WAIT_BUCKETS, wait_bucket};

/// One event's counters.
pub struct Counts {
    /// Numbers given.
    pub tickets: Counter,
    /// Sessions begun without waiting.
    pub walk_ins: Counted,
    /// Sessions begun by a called ticket.
    pub claims: Counted,
    /// Sessions completed.
    pub completed: Counted,
    /// Offers that lapsed unclaimed, of those that this gateway's steps swept.
    pub abandoned: Counted,
    /// Sessions ended by the operator or the origin.
    pub revoked: Counted,
    /// Times that a called visitor was told to wait, for its address has its share.
    pub shared: Counter,
    /// From a number's issue to its claim, in seconds.
    pub waited: Waits,
    /// Time waited ÷ time first estimated.
    pub estimate_error: Histogram,
    /// Polls, by what came of them.
    pub polls: Polls,
    /// Calls of the API that name this event, by status code.
    pub api: Codes,
}

/// A counter that can be read too: a metric's handle only counts.
pub struct Counted {
    shown: Counter,
    count: AtomicU64,
}

impl Counted {
    fn new(shown: Counter) -> Self {
        Self {
            shown,
            count: AtomicU64::new(0),
        }
    }

    /// Counts so many more.
    pub fn increment(&self, more: u64) {
        self.shown.increment(more);
        self.count.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// The same of waits, by buckets of seconds.
pub struct Waits {
    shown: Histogram,
    buckets: [AtomicU64; WAIT_BUCKETS],
}

impl Waits {
    fn new(shown: Histogram) -> Self {
        Self {
            shown,
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Somebody got in after so many seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "waits are far below 2^52 seconds"
    )]
    pub fn record(&self, seconds: u64) {
        self.shown.record(seconds as f64);
        if let Some(bucket) = self.buckets.get(wait_bucket(seconds)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many fell into each bucket.
    #[must_use]
    pub fn counts(&self) -> [u64; WAIT_BUCKETS] {
        std::array::from_fn(|at| {
            let bucket = self.buckets.get(at);
            bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        })
    }
}

/// What came of polls.
pub struct Polls {
    /// Waits.
    pub wait: Counter,
    /// Entered, or was inside.
    pub enter: Counter,
    /// Asked before its time: without effect.
    pub early: Counter,
    /// Turned away.
    pub block: Counter,
    /// Held nothing that is worth anything.
    pub nothing: Counter,
}

/// The status codes that the public door of the API answers with, the most
/// frequent first.
const CODES: [StatusCode; 15] = [
    StatusCode::OK,
    StatusCode::NO_CONTENT,
    StatusCode::ACCEPTED,
    StatusCode::GONE,
    StatusCode::UNAUTHORIZED,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::SEE_OTHER,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::INTERNAL_SERVER_ERROR,
];

/// A counter for each status code, made with the first answer of its kind.
#[derive(Default)]
pub struct Codes {
    known: [OnceLock<Counter>; CODES.len()],
    other: OnceLock<Counter>,
}

impl Codes {
    /// Counts an answer; `make` makes the counter of a label.
    pub fn count(&self, status: StatusCode, make: impl FnOnce(&str) -> Counter) {
        let mut known = CODES.iter().zip(&self.known);
        let counter =
            known.find_map(|(code, counter)| (*code == status).then_some((counter, code.as_str())));
        let (counter, label) = counter.unwrap_or((&self.other, "other"));
        counter.get_or_init(|| make(label)).increment(1);
    }
}

impl Counts {
    /// What statistics want of it.
    #[must_use]
    pub fn totals(&self, arrivals: u64) -> Totals {
        Totals {
            arrivals,
            walk_ins: self.walk_ins.count(),
            claims: self.claims.count(),
            completed: self.completed.count(),
            abandoned: self.abandoned.count(),
            waits: self.waited.counts(),
        }
    }

    pub(super) fn new(metrics: &Metrics, event: &str) -> Self {
        let of = [("event", event)];
        let started =
            |way| metrics.counter(&names::SESSIONS_STARTED, &[("event", event), ("way", way)]);
        let ended = |reason| {
            let labels = [("event", event), ("reason", reason)];
            metrics.counter(&names::SESSIONS_ENDED, &labels)
        };
        let polled =
            |result| metrics.counter(&names::POLLS, &[("event", event), ("result", result)]);
        Self {
            api: Codes::default(),
            polls: Polls {
                wait: polled("wait"),
                enter: polled("enter"),
                early: polled("early"),
                block: polled("block"),
                nothing: polled("nothing"),
            },
            tickets: metrics.counter(&names::TICKETS_ISSUED, &of),
            walk_ins: Counted::new(started("walk_in")),
            claims: Counted::new(started("claim")),
            completed: Counted::new(ended("completed")),
            abandoned: Counted::new(metrics.counter(&names::TICKETS_ABANDONED, &of)),
            revoked: Counted::new(ended("revoked")),
            shared: metrics.counter(&names::ADDRESS_SHARE_HOLDS, &of),
            waited: Waits::new(metrics.histogram(&names::WAIT_SECONDS_TAKEN, &of)),
            estimate_error: metrics.histogram(&names::ESTIMATE_ERROR, &of),
        }
    }
}
