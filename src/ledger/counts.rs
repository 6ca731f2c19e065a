//! What is counted of an event in the request path: handles fetched once.

use std::sync::OnceLock;

use http::StatusCode;
use metrics::{Counter, Histogram};

use crate::metrics::{self as names, Metrics};

/// One event's counters.
pub struct Counts {
    /// Numbers given.
    pub tickets: Counter,
    /// Sessions begun without waiting.
    pub walk_ins: Counter,
    /// Sessions begun by a called ticket.
    pub claims: Counter,
    /// Sessions completed.
    pub completed: Counter,
    /// Sessions ended by the operator or the origin.
    pub revoked: Counter,
    /// From a number's issue to its claim, in seconds.
    pub waited: Histogram,
    /// Time waited ÷ time first estimated.
    pub estimate_error: Histogram,
    /// Polls, by what came of them.
    pub polls: Polls,
    /// Calls of the API that name this event, by status code.
    pub api: Codes,
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
            walk_ins: started("walk_in"),
            claims: started("claim"),
            completed: ended("completed"),
            revoked: ended("revoked"),
            waited: metrics.histogram(&names::WAIT_SECONDS_TAKEN, &of),
            estimate_error: metrics.histogram(&names::ESTIMATE_ERROR, &of),
        }
    }
}
