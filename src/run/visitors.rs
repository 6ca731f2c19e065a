//! How many different visitors there were is given to the store: sketches of who was
//! there. Each gateway writes its own and writes it again as it grows; what cannot be
//! kept is tried again while it lasts.

use std::time::Duration;

use crate::ledger::{Ledger, Uniques, start_of};
use crate::metrics::{self as names, Metrics};
use crate::reception::Reception;
use crate::store::Store;
use crate::store::slices::{Slice, What};

/// The time between two writings.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Who was there is kept for so many times the length of its span.
const SPANS_KEPT: u64 = 3;

const HOUR: u64 = 3_600;

/// Gives the store what has changed; tells whether all of it was kept.
pub(super) async fn keep(store: &Store, reception: &Reception, writer: &str) -> bool {
    let site = reception.site.load_full();
    let mut is_kept = true;
    for ledger in site.ledgers.iter() {
        for what in [What::Visitors, What::Users] {
            is_kept &= keep_uniques(store, ledger, what, writer).await;
            show(&reception.metrics, ledger, what);
        }
    }
    is_kept
}

fn uniques(ledger: &Ledger, what: What) -> &Uniques {
    match what {
        What::Users => &ledger.users,
        What::Visitors | What::Counts => &ledger.visitors,
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
        What::Visitors | What::Counts => &names::UNIQUE_VISITORS,
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
