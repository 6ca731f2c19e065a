//! Statistics on the control thread: what the data threads counted is put
//! together each second, and slices that are over are given to the store. The
//! queue knows nothing of it: what cannot be kept is tried again, and lost at last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::visitors;
use crate::controller::Bench;
use crate::ledger::Ledger;
use crate::metrics as names;
use crate::reception::Reception;
use crate::room::event::EventId;
use crate::store::slices::{Slice, What};
use crate::tracking::{STEPS, Sight};

/// The time between two gatherings.
const GATHER: Duration = Duration::from_secs(1);

/// The longest that the last slices are waited for.
const AT_THE_END: Duration = Duration::from_secs(1);

/// Who gathers and keeps.
pub(super) struct Statistician {
    bench: Arc<Bench>,
    reception: Arc<Reception>,
    /// This gateway in this life of its process.
    writer: String,
}

impl Statistician {
    pub(super) fn new(bench: &Arc<Bench>, reception: &Arc<Reception>) -> Self {
        Self {
            writer: format!("{}:{:08x}", bench.gateway, rand::random::<u32>()),
            bench: Arc::clone(bench),
            reception: Arc::clone(reception),
        }
    }

    /// Begins to gather.
    pub(super) fn begin(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let own = Arc::clone(self);
        tokio::spawn(async move { own.run().await })
    }

    /// Gathers each second, for ever.
    async fn run(&self) {
        let mut failing = false;
        for round in 0_u64.. {
            tokio::time::sleep(GATHER).await;
            self.gather();
            let mut is_kept = self.keep(false).await;
            if round % visitors::EVERY.as_secs() == 0 {
                is_kept &= self.keep_visitors().await;
            }
            if !is_kept && !failing {
                warn!(
                    "statistics cannot be kept by the store; the last hours of them are kept here and tried again"
                );
            }
            failing = !is_kept;
        }
    }

    /// The last of it, when nobody counts any more.
    pub(super) async fn finish(&self) {
        self.gather();
        let keep = async { self.keep(true).await & self.keep_visitors().await };
        if tokio::time::timeout(AT_THE_END, keep).await != Ok(true) {
            warn!("the last statistics could not be kept by the store");
        }
    }

    async fn keep_visitors(&self) -> bool {
        visitors::keep(&self.bench.store, &self.reception, &self.writer).await
    }

    fn gather(&self) {
        let site = self.reception.site.load_full();
        let tracker = &self.reception.tracker;
        tracker.gather(|event: &EventId| site.ledgers.get(event.as_str()).is_some());
        for ledger in site.ledgers.iter() {
            tracker.see(&ledger.id, sight(ledger));
        }
    }

    /// Gives the store what is due; tells whether all of it was kept.
    async fn keep(&self, at_the_end: bool) -> bool {
        let tracker = &self.reception.tracker;
        let second = self.reception.clock.unix_ms() / 1000;
        let (mut due, lost) = tracker.due(second, at_the_end);
        if lost > 0 {
            let metrics = &self.bench.metrics;
            metrics
                .counter(&names::STATISTICS_LOST, &[])
                .increment(lost);
        }
        let keep = tracker.tracking().keep;
        let mut undone = BTreeMap::new();
        while let Some((of, bytes)) = due.pop_first() {
            let kept_for = STEPS.iter().zip(keep).find(|(step, _)| **step == of.step);
            let kept_for = kept_for.map_or(0, |(_, keep)| keep.as_secs());
            let slice = Slice {
                what: What::Counts,
                step: of.step,
                start: of.start,
                writer: self.writer.clone(),
                until: of.start + u64::from(of.step) + kept_for,
                bytes,
            };
            let store = &self.bench.store;
            let kept = store.keep_slices(&of.event, std::slice::from_ref(&slice), second);
            if kept.await.is_err() {
                undone.insert(of, slice.bytes);
                break;
            }
        }
        undone.append(&mut due);
        let is_kept = undone.is_empty();
        tracker.put_back(undone);
        is_kept
    }
}

/// How an event stands.
fn sight(ledger: &Ledger) -> Sight {
    let view = ledger.view().filter(|view| view.store_up);
    Sight {
        totals: ledger.counts.totals(ledger.load.arrived()),
        arrived: ledger.arrivals.totals(),
        waiting: view.as_ref().map_or(0, |view| view.waiting()),
        inside: view.as_ref().map_or(0, |view| view.snapshot.sessions),
    }
}
