//! The owner's files of regions and networks: read at the start, looked at again
//! every few seconds and at SIGHUP. A bad one is reported once, and the one before
//! it is used on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info};

use crate::metrics as names;
use crate::reception::Reception;
use crate::visitor::region::{Change, Regions};

/// How often the files are looked at: their makers renew them once or twice a week.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps them fresh, until dropped.
pub(super) async fn keep(reception: Arc<Reception>, asked: Arc<Notify>) {
    loop {
        let regions = Arc::clone(&reception.wanted.load().regions);
        tell(&regions, &reception);
        let _asked_or_time = tokio::time::timeout(LOOK, asked.notified()).await;
        let regions = Arc::clone(&reception.wanted.load().regions);
        let looked = tokio::task::spawn_blocking(move || regions.refresh()).await;
        for change in looked.unwrap_or_default() {
            match change {
                Change::Renewed(file) => {
                    info!(file = %file.display(), "another database of regions or networks is used from now on");
                }
                Change::Bad(fault) => error!(
                    %fault,
                    "a database of regions or networks cannot be used; the one before it is used on until the file is mended"
                ),
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
fn tell(regions: &Regions, reception: &Reception) {
    for (database, made) in regions.made() {
        let labels = [("database", database)];
        let gauge = reception.metrics.gauge(&names::REGIONS_MADE, &labels);
        gauge.set(made as f64);
    }
}
