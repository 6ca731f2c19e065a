//! Whose turn it is: one process lives in a state directory, and the next one there may
//! come while the one before drains. It listens when that one does no more, so that
//! nobody is refused, and serves when the state is free.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::{Listeners, RunError};
use crate::config::Config;

/// The file in `state_dir` that a running process holds locked, and in which it says
/// that it is about to go.
const LOCK_FILE: &str = "lock";

/// How often it is looked how far the one before is.
const LOOK: Duration = Duration::from_millis(20);

/// How often its admin door is tried, which closes with its last step.
const TRIES: u32 = 250;

/// How far a process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It drains, and still accepts.
    Leaving,
    /// Within a second it accepts nobody any more.
    Closing,
}

impl Step {
    fn word(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Closing => "closing",
        }
    }
}

/// A state directory that is this process's own.
pub(super) struct Lock(Option<File>);

impl Lock {
    /// Makes the state directory and locks it for this process; without effect where
    /// the file system knows no locks.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process lives there.
    pub(super) fn take(dir: &Path) -> Result<Self, RunError> {
        let (file, path) = open(dir)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .map_err(|fault| RunError::State(path, fault))?;
                Ok(Self(Some(file)))
            }
            Err(TryLockError::WouldBlock) => Err(RunError::StateInUse(dir.to_owned())),
            Err(TryLockError::Error(fault)) => {
                warn!(%fault, "state_dir cannot be locked; see to it that no other sumun uses it");
                Ok(Self(None))
            }
        }
    }

    /// Tells whoever waits for this directory how far this process is.
    pub(super) fn tell(&self, step: Step) {
        let Some(mut file) = self.0.as_ref() else {
            return;
        };
        let told = file
            .rewind()
            .and_then(|()| file.write_all(step.word().as_bytes()));
        if let Err(fault) = told {
            warn!(%fault, "state_dir cannot be written to: a process that waits for it listens late");
        }
    }
}

fn open(dir: &Path) -> Result<(File, PathBuf), RunError> {
    let path = dir.join(LOCK_FILE);
    std::fs::create_dir_all(dir).map_err(|fault| RunError::State(dir.to_owned(), fault))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    match file {
        Ok(file) => Ok((file, path)),
        Err(fault) => Err(RunError::State(path, fault)),
    }
}

/// Opens the doors that a configuration names. Where a process that lives in the state
/// directory is about to go, this waits for its end, and listens for visitors before.
///
/// # Errors
/// When an address cannot be listened on, the state directory cannot be used, or a
/// process lives there that stays.
pub async fn take_over(config: &Config) -> Result<Listeners, RunError> {
    let Some(dir) = config.state_dir.as_deref() else {
        return Listeners::open(config);
    };
    let (mut file, path) = open(dir)?;
    let mut public: Option<Vec<TcpListener>> = None;
    let mut waits = false;
    // Where there are no locks nobody can be waited for.
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        let mut said = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut said))
            .map_err(|fault| RunError::State(path.clone(), fault))?;
        if said == Step::Closing.word() && public.is_none() {
            public = Some(Listeners::public(config)?);
        }
        if said.is_empty() {
            return Err(RunError::StateInUse(dir.to_owned()));
        }
        if !waits {
            info!("the process before this one drains: waiting for its state");
            waits = true;
        }
        tokio::time::sleep(LOOK).await;
    }
    // The server takes it for itself.
    drop(file);
    let public = public.map_or_else(|| Listeners::public(config), Ok)?;
    let mut tries = if waits { TRIES } else { 0 };
    loop {
        match Listeners::others(config) {
            Ok((admin, metrics)) => {
                return Ok(Listeners {
                    public,
                    admin,
                    metrics,
                });
            }
            Err(fault) if tries == 0 => return Err(fault),
            Err(_) => tries -= 1,
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let text = format!(
            "listen = \"127.0.0.1:0\"\norigin = \"http://127.0.0.1:9\"\nstate_dir = {dir:?}\n\
             [admin]\nlisten = \"127.0.0.1:0\""
        );
        Config::parse(&text, std::iter::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_stays_is_not_waited_for_and_one_that_goes_is() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let lock = Lock::take(dir.path()).unwrap();
        let refused = take_over(&config).await.err().unwrap();
        assert!(matches!(refused, RunError::StateInUse(_)), "{refused}");
        lock.tell(Step::Leaving);
        let next = tokio::spawn(async move { take_over(&config).await.is_ok() });
        lock.tell(Step::Closing);
        drop(lock);
        assert!(next.await.unwrap());
        // What the last one said is not what the next one says.
        let _lock = Lock::take(dir.path()).unwrap();
        assert!(matches!(
            Lock::take(dir.path()),
            Err(RunError::StateInUse(_))
        ));
        assert_eq!(std::fs::read(dir.path().join(LOCK_FILE)).unwrap(), b"");
    }
}
