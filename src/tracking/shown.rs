//! The heaviest routes as Prometheus reads them. A route that leaves them has
//! no series any more; one that comes back begins at zero. What is not shown is
//! counted as `(other)`, and stays counted there.

use super::counts::CLASS_WORDS;
use super::{Counts, OTHER, Tracker};
use crate::metrics::{self as names, Families};
use crate::room::event::EventId;
use crate::room::gate::{LATENCY_BUCKETS, latency_bound};

/// The distance of the bounds that are shown, in buckets: each is twice the one before.
const BOUND_STEP: usize = 4;

/// One that is to be shown.
struct Shown<'a> {
    event: &'a EventId,
    route: &'a str,
    counts: &'a Counts,
    in_flight: u64,
}

impl Tracker {
    /// The series of routes, in the text format.
    #[must_use]
    pub fn render(&self) -> String {
        let events = self.events();
        let mut text = Families::default();
        for (event, routes) in &*events {
            let shown = |name: &str| {
                let mut rows = routes.heavy.rows();
                rows.any(|row| *row.name == *name && row.value.shown.is_some())
            };
            for row in routes.heavy.rows() {
                if let Some(counts) = &row.value.shown {
                    let shown = Shown {
                        event,
                        route: &row.name,
                        counts,
                        in_flight: routes.in_flight(|name| *name == *row.name),
                    };
                    shown.write(&mut text);
                }
            }
            let others = Shown {
                event,
                route: OTHER,
                counts: &routes.other,
                in_flight: routes.in_flight(|name| !shown(name)),
            };
            others.write(&mut text);
        }
        text.finish()
    }
}

impl Shown<'_> {
    fn write(&self, text: &mut Families) {
        let (event, route) = (("event", self.event.as_str()), ("route", self.route));
        let labels = [event, route];
        let counts = self.counts;
        text.count(&names::ROUTE_VIEWS, &labels, counts.views);
        for (class, count) in CLASS_WORDS.iter().zip(counts.answers) {
            let labels = [event, route, ("class", *class)];
            if count > 0 {
                text.count(&names::ROUTE_ANSWERS, &labels, count);
            }
        }
        text.count(&names::ROUTE_WAITING_PAGES, &labels, counts.exposures);
        text.count(&names::ROUTE_CONVERSIONS, &labels, counts.conversions);
        text.count(&names::ROUTE_SENT_BYTES, &labels, counts.bytes);
        text.count(&names::ROUTE_IN_FLIGHT, &labels, self.in_flight);
        let mut below = 0_u64;
        let mut buckets = Vec::new();
        for (at, count) in counts.first_byte.iter().enumerate() {
            below += u64::from(*count);
            let is_bound =
                at % BOUND_STEP == 0 && (2 * BOUND_STEP..LATENCY_BUCKETS - 1).contains(&at);
            if is_bound {
                buckets.push((latency_bound(at).as_secs_f64(), below));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds below 2^52")]
        let sum = counts.first_byte_us as f64 / 1e6;
        text.histogram(&names::ROUTE_FIRST_BYTE, &labels, &buckets, (below, sum));
    }
}
