//! Reading the file again: at SIGHUP, and when it changes, also by a swapped
//! symlink. A bad file is reported and the old configuration stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::config::{self, Config};
use crate::tls::Certificate;

/// Editors write a file in several steps; it is read when they are through.
const SETTLE: Duration = Duration::from_millis(300);

/// What reading the file again gave.
#[derive(Debug)]
pub enum Reload {
    /// A good configuration.
    Fresh(Box<Config>),
    /// Faults, which are in the log: the old configuration stays.
    Faulty,
}

/// Sends each good new configuration of `path`, until the receiver is gone.
pub async fn watch(path: PathBuf, to: mpsc::Sender<Reload>) {
    let (changed, mut notices) = mpsc::channel(1);
    // The folder is watched, not the file: editors and config maps replace it.
    let _watcher = match watcher(&path, changed) {
        Ok(watcher) => Some(watcher),
        Err(fault) => {
            warn!(%fault, "changes of the file are not noticed; send SIGHUP to read it again");
            None
        }
    };
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return warn!("SIGHUP cannot be listened for");
    };
    let mut last = std::fs::read(&path).ok();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            Some(()) = notices.recv() => {
                tokio::time::sleep(SETTLE).await;
                false
            }
        };
        let now = std::fs::read(&path).ok();
        if !asked && (now == last || now.is_none()) {
            continue;
        }
        last = now;
        let read = match Config::load_again(&path, config::variables()) {
            Ok(config) => Reload::Fresh(Box::new(config)),
            Err(faults) => {
                for fault in &faults {
                    error!(%fault, "the file has a fault; the old configuration stays");
                }
                Reload::Faulty
            }
        };
        if to.send(read).await.is_err() {
            return;
        }
    }
}

/// What runs after a reload: the fresh file's events, hosts that pass and origins,
/// and all else as it was at the start.
pub(super) fn in_force(started: &Config, fresh: &Config) -> Config {
    Config {
        events: fresh.events.clone(),
        written_events: fresh.written_events.clone(),
        pass_hosts: fresh.pass_hosts.clone(),
        origins: fresh.origins.clone(),
        event_origins: fresh.event_origins.clone(),
        origin_http2: fresh.origin_http2,
        origin_pool: fresh.origin_pool.clone(),
        origin_health: fresh.origin_health.clone(),
        origin_check: fresh.origin_check.clone(),
        origin_tls: fresh.origin_tls.clone(),
        ..started.clone()
    }
}

/// Tells of each pair that the fresh file names, that nobody watches because it
/// was not there at the start, and that the next start would refuse.
pub(super) fn tell_of_unwatched(started: &Config, fresh: &Config) {
    let pairs = |config: &Config| {
        let tls = config.tls.as_ref();
        tls.map_or_else(Vec::new, |tls| tls.certificates.clone())
    };
    let watched = pairs(started);
    for files in pairs(fresh) {
        if !watched.contains(&files)
            && let Err(fault) = Certificate::read(&files)
        {
            error!(%fault, "a certificate that the file names anew cannot be used: after a restart it would be a fault");
        }
    }
}

fn watcher(path: &Path, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event| {
        if is_change(&event) {
            // One waiting notice is as good as many.
            let _ = changed.try_send(());
        }
    })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether something may have changed: not when a file was only opened, as
/// this one is by our own looking at it.
fn is_change(event: &notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(top: &str, event: &str) -> Config {
        let text =
            format!("origin = \"http://127.0.0.1:3000\"\n{top}\n[[event]]\nid = \"main\"\n{event}");
        Config::parse(&text, std::iter::empty()).unwrap()
    }

    #[test]
    fn events_hosts_that_pass_and_origins_are_in_force_at_once() {
        let started = config("", "limit = 5\nhosts = [\"a.example\"]");
        let fresh = config(
            "pass_hosts = [\"b.example\"]\norigin_http2 = true\n[origin_pool]\nconnections = 5\n\
             [origin_health]\neject_after = 3\n[origin_check]\npath = \"/\"\n\
             [origin_tls]\nverify = false",
            "origins = [\"http://127.0.0.1:3001\"]\nlimit = 6\nhosts = [\"a.example\"]",
        );
        assert_eq!(in_force(&started, &fresh), fresh);
    }

    #[test]
    fn all_else_stays_as_it_was_at_the_start_and_is_missed_each_time() {
        let started = config("", "limit = 5");
        let lines = [
            "listen = \"127.0.0.1:1\"",
            "origin_host = \"origin\"",
            "trusted_proxies = []",
            "client_address_header = \"X-Real-Ip\"",
            "request_id_header = \"X-Request-Id\"",
            "forward_token = true",
            "state_dir = \"\"",
            "drain_delay = \"1s\"",
            "drain_timeout = \"1s\"",
            "[timeouts]\nidle = \"1s\"",
            "[limits]\nconnections = 1000",
            "[log]\naccess = false",
            "[admin]\ntoken = \"a token of more than sixteen\"",
            "[metrics]\nlisten = \"127.0.0.1:2\"",
            "[api]\ncors_origins = [\"https://a.example\"]",
            "[store]\nprefix = \"other\"",
            "[signing]\nkeys = [{ id = \"a\", secret = \"0123456789abcdef0123456789abcdef\" }]",
        ];
        for line in lines {
            let fresh = config(line, "limit = 6");
            let runs = in_force(&started, &fresh);
            assert_ne!(runs, fresh, "{line}");
            assert_eq!(runs, config("", "limit = 6"), "{line}");
        }
    }

    #[tokio::test]
    async fn reading_the_file_is_no_change_and_writing_it_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, "limit = 1").unwrap();
        let (tell, mut told) = mpsc::channel(16);
        let mut watcher = notify::recommended_watcher(move |event| {
            let _full = tell.blocking_send(event);
        })
        .unwrap();
        watcher
            .watch(folder.path(), RecursiveMode::NonRecursive)
            .unwrap();
        let mut next = async || {
            let told = tokio::time::timeout(Duration::from_secs(20), told.recv());
            told.await.expect("no notice").unwrap()
        };
        std::fs::read(&file).unwrap();
        let opened = next().await;
        assert!(!is_change(&opened), "{opened:?}");
        std::fs::write(&file, "limit = 2").unwrap();
        while !is_change(&next().await) {}
    }
}
