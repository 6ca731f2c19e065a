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
