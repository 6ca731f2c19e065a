//! The certificates of the public door: read at the start, looked at again every
//! few seconds and at SIGHUP. A bad one is reported once, the old one is shown on,
//! and the others are renewed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info};

use crate::config::Config;
use crate::metrics::{self as names, Metrics};
use crate::tls::{Certificate, Change, Fault, Front};

/// How often the files are looked at: renewals replace them, in whatever way.
const LOOK: Duration = Duration::from_secs(10);

/// Opens the certificates that a configuration names, if it names any.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Front>>, Fault> {
    let Some(tls) = &config.tls else {
        return Ok(None);
    };
    let front = Front::open(&tls.certificates, tls.min_version, config.http2)?;
    Ok(Some(Arc::new(front)))
}

/// Tells of each pair that a fresh file names, that nobody watches because it was not
/// there at the start, and that the next start would refuse.
pub(super) fn tell_of_unwatched(runs: &Config, fresh: &Config) {
    let pairs = |config: &Config| {
        let tls = config.tls.as_ref();
        tls.map_or_else(Vec::new, |tls| tls.certificates.clone())
    };
    let watched = pairs(runs);
    for files in pairs(fresh) {
        if !watched.contains(&files)
            && let Err(fault) = Certificate::read(&files)
        {
            error!(%fault, "a certificate that the file names anew cannot be used: after a restart it would be a fault");
        }
    }
}

/// Keeps them fresh, until dropped.
pub(super) async fn keep(front: Arc<Front>, metrics: Arc<Metrics>, asked: Arc<Notify>) {
    tell(&front, &metrics);
    loop {
        let _asked_or_time = tokio::time::timeout(LOOK, asked.notified()).await;
        let looking = Arc::clone(&front);
        let Ok(changes) = tokio::task::spawn_blocking(move || looking.refresh()).await else {
            continue;
        };
        for change in changes {
            match change {
                Change::Renewed(file) => {
                    info!(file = %file.display(), "another certificate is shown from now on");
                }
                Change::Restored(file) => {
                    info!(file = %file.display(), "a certificate's files are good again, and hold what is shown");
                }
                Change::Bad(fault) => error!(
                    %fault,
                    "a certificate cannot be used; the one before it is shown on until its files are mended"
                ),
            }
        }
        tell(&front, &metrics);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
fn tell(front: &Front, metrics: &Metrics) {
    for (name, ends) in front.ends() {
        metrics
            .gauge(&names::CERTIFICATE_ENDS, &[("name", &name)])
            .set(ends as f64);
    }
}
