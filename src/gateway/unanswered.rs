//! A request until it is answered. Who leaves before that has a line in the access log
//! too, and is not counted: there was no answer that could be.

use std::rc::Rc;

use http::StatusCode;

use super::asker::Asker;
use super::log::Finished;
use super::{Gateway, Here, LogLine, WAIT};
use crate::metrics as names;
use crate::reception::Site;
use crate::tracking::{Came, Track};

/// nginx's word for a client that left before its answer (`ngx_http_request.h`).
const CLIENT_LEFT: u16 = 499;

/// What was done, for the metric and the log.
#[derive(Clone, Copy)]
pub(super) struct Done {
    /// The event's place in the site's order.
    pub(super) event: Option<usize>,
    pub(super) decision: &'static str,
    /// The visitor had waited at this page.
    pub(super) has_waited: bool,
}

/// A request that is being answered.
pub(super) struct Unanswered {
    pub(super) gateway: Rc<Gateway>,
    pub(super) site: Here,
    pub(super) began_ms: u64,
    /// What is done about it, as far as that is known.
    pub(super) done: Done,
    pub(super) line: Option<LogLine>,
    /// Where it is counted beside that.
    pub(super) track: Track,
}

impl Unanswered {
    /// Counts it. Its line, if it has one, is to be written when the answer has gone
    /// out, and its route is told then how much that was.
    pub(super) fn answered(
        mut self,
        asker: &Asker,
        (done, through): (Done, bool),
        status: StatusCode,
    ) -> (Option<Box<Finished>>, Track) {
        let took_ms = self.took_ms();
        self.gateway.count(&self.site, done, status, took_ms);
        let mut track = std::mem::replace(&mut self.track, Track::none());
        let recorder = &self.gateway.recorder;
        let came = came(asker, done, through);
        track.answered(recorder, asker.uri.path(), status.as_u16(), came);
        let line = self.line.take().and_then(|line| {
            let event = event_name(&self.site, done);
            line.answered(&event, done.decision, status, took_ms)
        });
        (line, track)
    }

    fn took_ms(&self) -> u64 {
        let now_ms = self.gateway.reception.clock.monotonic_ms();
        now_ms.saturating_sub(self.began_ms)
    }
}

impl Gateway {
    fn count(&self, site: &Here, done: Done, status: StatusCode, took_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a request's milliseconds")]
        self.counts.duration.record(took_ms as f64 / 1000.0);
        let key = (done.event, done.decision, status.as_u16());
        // The request may have begun under another order of events.
        let is_present = Rc::ptr_eq(site, &self.site.borrow());
        if is_present && let Some(counter) = self.counts.requests.borrow().get(&key) {
            return counter.increment(1);
        }
        let event = event_name(site, done);
        let labels = [
            ("event", event.as_str()),
            ("decision", done.decision),
            ("code", status.as_str()),
        ];
        let counter = self
            .reception
            .metrics
            .counter(&names::HTTP_REQUESTS, &labels);
        counter.increment(1);
        let mut requests = self.counts.requests.borrow_mut();
        // An origin may invent status codes.
        if requests.len() > 1_000 {
            requests.clear();
        }
        if is_present {
            requests.insert(key, counter);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let (Some(line), Ok(status)) = (self.line.take(), StatusCode::from_u16(CLIENT_LEFT)) else {
            return;
        };
        let event = event_name(&self.site, self.done);
        if let Some(line) = line.answered(&event, self.done.decision, status, self.took_ms()) {
            line.write(0);
        }
    }
}

pub(super) fn done(event: Option<usize>, decision: &'static str) -> Done {
    Done {
        event,
        decision,
        has_waited: false,
    }
}

/// How it came to its answer.
fn came(asker: &Asker, done: Done, through: bool) -> Came {
    if through {
        return Came::FromOrigin {
            is_navigation: asker.kind.is_navigation(),
            first_byte_us: asker.first_byte_us.get(),
            has_waited: done.has_waited,
        };
    }
    if done.decision == WAIT {
        Came::Waiting
    } else {
        Came::Refused
    }
}

fn event_name(site: &Site, done: Done) -> String {
    done.event
        .and_then(|index| site.ledgers.at(index))
        .map_or_else(|| "none".to_owned(), |ledger| ledger.id.to_string())
}
