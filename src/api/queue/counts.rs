//! What is counted of the calls under `/__sumun/`, and their line in the
//! access log: as the front door does it, cheaply, for polls come here.

use bytes::Bytes;
use http::{Method, Response};
use metrics::{Gauge, Histogram};

use super::caller::Caller;
use super::{Call, Fields, PublicDoor};
use crate::gateway::LogLine;
use crate::ledger::Codes;
use crate::metrics::{self as names, Metrics};
use crate::token::{Token, Verdict};

/// The word of the label `decision`.
const DECISION: &str = "api";

/// The event of a call that names none, or none that is there.
const NO_EVENT: &str = "none";

/// One data thread's handles; the counters of events are theirs.
pub(super) struct Counts {
    in_flight: Gauge,
    duration: Histogram,
    without_event: Codes,
}

/// A call being answered.
pub(super) struct Counted(Option<Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.decrement(1.0);
        }
    }
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            in_flight: metrics.gauge(&names::HTTP_IN_FLIGHT, &[]),
            duration: metrics.histogram(&names::HTTP_REQUEST_SECONDS, &[]),
            without_event: Codes::default(),
        }
    }

    /// A call that begins. Polls are too many and too short to be seen in
    /// flight, so they do not pay for it.
    pub(super) fn begin(&self, call: Option<Call>) -> Counted {
        let seen = call != Some(Call::Status);
        Counted(seen.then(|| {
            self.in_flight.increment(1.0);
            self.in_flight.clone()
        }))
    }
}

impl PublicDoor {
    /// Counts a call that is answered, and writes its line.
    pub(super) fn count(
        &self,
        caller: &Caller,
        fields: &Fields,
        answer: &Response<Bytes>,
        took_ms: u64,
    ) {
        let status = answer.status();
        #[expect(clippy::cast_precision_loss, reason = "a request's milliseconds")]
        self.counts.duration.record(took_ms as f64 / 1000.0);
        let site = self.reception.site.load();
        let id = self.named(fields);
        let ledger = id.as_deref().and_then(|id| site.ledgers.get(id));
        let event = ledger.map_or(NO_EVENT, |ledger| ledger.id.as_str());
        let codes = ledger.map_or(&self.counts.without_event, |ledger| &ledger.counts.api);
        codes.count(status, |code| {
            let labels = [("event", event), ("decision", DECISION), ("code", code)];
            self.reception
                .metrics
                .counter(&names::HTTP_REQUESTS, &labels)
        });
        if let Some(log) = &self.access_log {
            let said = (&caller.method, caller.uri.path(), caller.version);
            let line = LogLine::new(log, said, &caller.headers, caller.visitor.address)
                .called(self.request_ids.as_ref(), &caller.headers)
                .answered(event, DECISION, status, took_ms);
            let is_head = caller.method == Method::HEAD;
            let bytes = if is_head { 0 } else { answer.body().len() };
            if let Some(line) = line {
                line.write(bytes as u64);
            }
        }
    }

    /// The event that a call names, by a field or by a success token of ours.
    fn named<'a>(&self, fields: &'a Fields) -> Option<std::borrow::Cow<'a, str>> {
        let text = |name| fields.text(name).ok().flatten();
        if let Some(id) = text("eventId").or_else(|| text("event")) {
            return Some(id.into());
        }
        // Whatever was good is remembered by now; nothing is checked twice.
        let known = self.tokens.remembered(text("successToken")?)?;
        match &known.verdict {
            Verdict::Good(Token::Success(success)) => Some(success.event.to_string().into()),
            Verdict::Good(Token::Pass(_) | Token::Ticket(_))
            | Verdict::Nothing
            | Verdict::UnknownKey => None,
        }
    }
}
