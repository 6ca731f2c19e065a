//! A clock that is wrong, and that can be set while a process runs. The
//! monotonic clock of the process stays as it is, as it does on a machine.

use std::path::PathBuf;

use tempfile::TempDir;

/// How far a process' wall clock is ahead of the machine's.
pub(crate) struct WrongClock {
    dir: TempDir,
}

impl WrongClock {
    /// A clock ahead by so many seconds; behind, if that is negative.
    pub(crate) fn ahead_by(seconds: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Self { dir };
        clock.set(seconds);
        clock
    }

    /// Sets it, also backward, for whoever runs with it now.
    pub(crate) fn set(&self, seconds: i64) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("{seconds:+}")).unwrap();
        // Whole at each moment: it is read at each look at the clock.
        std::fs::rename(next, self.file()).unwrap();
    }

    /// What a process that lives by this clock is started with.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            // redis-server's own allocator looks at the clock before this one
            // is there to be looked at: it takes the C library's instead.
            ("LD_PRELOAD", format!("{} libc.so.6", library().display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clock")
    }
}

/// The library that stands between a process and its clock.
fn library() -> PathBuf {
    let below = std::fs::read_dir("/usr/lib").unwrap();
    below
        .map(|folder| folder.unwrap().path())
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.exists())
        .expect("libfaketime; tests/run installs it")
}
