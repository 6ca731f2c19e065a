//! Reading the file again: at SIGHUP, and when it changes, also by a swapped
//! symlink. A bad file is reported and the old configuration stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// A file that is watched. From its making on SIGHUP ends the process no more, and no
/// change is missed, also while nobody takes what it reads.
pub struct Watch {
    path: PathBuf,
    /// What the file said when it was last read.
    last: Option<Vec<u8>>,
    hangup: Option<Signal>,
    changes: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Watches a file of which `text` was read. Must be called on a Tokio runtime.
    #[must_use]
    pub fn begin(path: PathBuf, text: String) -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|fault| warn!(%fault, "SIGHUP cannot be listened for"));
        let (tell, changes) = mpsc::channel(1);
        // The folder is watched, not the file: editors and config maps replace it.
        let watcher = watcher(&path, tell).inspect_err(|fault| {
            warn!(%fault, "changes of the file are not noticed; send SIGHUP to read it again");
        });
        Self {
            path,
            last: Some(text.into_bytes()),
            hangup: hangup.ok(),
            changes,
            _watcher: watcher.ok(),
        }
    }

    /// Sends each good new configuration, until the receiver is gone.
    pub async fn run(mut self, to: mpsc::Sender<Reload>) {
        // It may have changed before it was watched.
        let mut asked = false;
        loop {
            let now = std::fs::read(&self.path).ok();
            if asked || (now.is_some() && now != self.last) {
                self.last = now;
                if to.send(read(&self.path)).await.is_err() {
                    return;
                }
            }
            asked = self.next().await;
        }
    }

    /// Waits until the file is to be read again: asked for by a signal (true), or
    /// because it may have changed.
    async fn next(&mut self) -> bool {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => true,
            Some(()) = self.changes.recv() => {
                tokio::time::sleep(SETTLE).await;
                false
            }
        }
    }
}

fn read(path: &Path) -> Reload {
    match Config::load_again(path, config::variables()) {
        Ok(config) => Reload::Fresh(Box::new(config)),
        Err(faults) => {
            for fault in &faults {
                error!(%fault, "the file has a fault; the old configuration stays");
            }
            Reload::Faulty
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
