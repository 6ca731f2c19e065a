//! What is known of visitors is given to the store: sketches of who was there, and
//! who arrived in each hour. Each gateway writes its own and writes it again as it
//! grows; what cannot be kept is tried again while it lasts.

use std::collections::HashMap;
use std::time::Duration;

use crate::ledger::{Ledger, Tallies, Uniques, start_of};
use crate::metrics::{self as names, Metrics};
use crate::reception::Reception;
use crate::room::event::EventId;
use crate::store::Store;
use crate::store::slices::{Slice, What};

/// The time between two writings.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Who arrived is kept by the hour...
const HOUR: u64 = 3_600;

/// ...for so long, in seconds.
const ARRIVALS_KEPT: u64 = 50 * HOUR;

/// Who was there is kept for so many times the length of its span.
const SPANS_KEPT: u64 = 3;

/// What this gateway has written of each event's present hour.
#[derive(Default)]
pub(super) struct Visitors {
    hours: HashMap<EventId, Hour>,
}

struct Hour {
    start: u64,
    /// All that was counted before it began.
    before: Tallies,
    written: Tallies,
}

impl Visitors {
    /// Gives the store what has changed; tells whether all of it was kept.
    pub(super) async fn keep(
        &mut self,
        store: &Store,
        reception: &Reception,
        writer: &str,
    ) -> bool {
        let site = reception.site.load_full();
        let second = reception.clock.unix_ms() / 1000;
        self.hours
            .retain(|event, _| site.ledgers.get(event.as_str()).is_some());
        let mut is_kept = true;
        for ledger in site.ledgers.iter() {
            is_kept &= self.keep_arrivals(store, ledger, writer, second).await;
            for what in [What::Visitors, What::Users] {
                is_kept &= keep_uniques(store, ledger, what, writer).await;
                show(&reception.metrics, ledger, what);
            }
        }
        is_kept
    }

    async fn keep_arrivals(
        &mut self,
        store: &Store,
        ledger: &Ledger,
        writer: &str,
        second: u64,
    ) -> bool {
        let now = ledger.arrivals.totals();
        let hour = self.hours.entry(ledger.id.clone()).or_insert_with(|| Hour {
            start: start_of(HOUR, second),
            before: Tallies::default(),
            written: Tallies::default(),
        });
        let arrived = now.since(&hour.before);
        let mut is_kept = true;
        if arrived != hour.written {
            let slice = Slice {
                what: What::Arrivals,
                step: u32::try_from(HOUR).unwrap_or(u32::MAX),
                start: hour.start,
                writer: writer.to_owned(),
                until: hour.start + ARRIVALS_KEPT,
                bytes: arrived.encode(),
            };
            is_kept = store
                .keep_slices(&ledger.id, &[slice], second)
                .await
                .is_ok();
            if is_kept {
                hour.written = arrived;
            }
        }
        // What could not be kept of an hour that is over counts to the next one.
        let start = start_of(HOUR, second);
        if hour.start < start && is_kept {
            *hour = Hour {
                start,
                before: now,
                written: Tallies::default(),
            };
        }
        is_kept
    }
}

fn uniques(ledger: &Ledger, what: What) -> &Uniques {
    match what {
        What::Users => &ledger.users,
        What::Visitors | What::Counts | What::Arrivals => &ledger.visitors,
    }
}

async fn keep_uniques(store: &Store, ledger: &Ledger, what: What, writer: &str) -> bool {
    let uniques = uniques(ledger, what);
    let mut is_kept = true;
    for counted in uniques.take_changed() {
        let slice = Slice {
            what,
            step: u32::try_from(counted.span).unwrap_or(u32::MAX),
            start: counted.start,
            writer: writer.to_owned(),
            until: counted.start + SPANS_KEPT * counted.span,
            bytes: counted.sketch.bytes().to_vec(),
        };
        let now = ledger.now().seconds();
        if store.keep_slices(&ledger.id, &[slice], now).await.is_err() {
            uniques.put_back(&counted);
            is_kept = false;
        }
    }
    is_kept
}

/// This gateway's own visitors: in the last whole minute, and so far in the hour and
/// the day.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn show(metrics: &Metrics, ledger: &Ledger, what: What) {
    let name = match what {
        What::Users => &names::UNIQUE_USERS,
        What::Visitors | What::Counts | What::Arrivals => &names::UNIQUE_VISITORS,
    };
    let uniques = uniques(ledger, what);
    if !uniques.has_any() {
        return;
    }
    let now = ledger.now().seconds();
    for (word, span, second) in [
        ("minute", 60, now.saturating_sub(60)),
        ("hour", HOUR, now),
        ("day", 24 * HOUR, now),
    ] {
        let sketch = uniques.of(span, start_of(span, second));
        let count = sketch.map_or(0, |sketch| sketch.count());
        let labels = [("event", ledger.id.as_str()), ("span", word)];
        metrics.gauge(name, &labels).set(count as f64);
    }
}
