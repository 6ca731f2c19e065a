//! What is known of bots, on the control thread: how much of it there is.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Parts;
use crate::metrics as names;
use crate::reception::Reception;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Begins to look after it.
pub(super) fn begin(parts: &Parts) -> JoinHandle<()> {
    let reception = Arc::clone(&parts.reception);
    tokio::spawn(async move {
        loop {
            show(&reception);
            tokio::time::sleep(LOOK).await;
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "at most 100,000")]
fn show(reception: &Reception) {
    let records = reception.metrics.gauge(&names::BOT_RECORDS, &[]);
    records.set(reception.bots.len() as f64);
}
