//! The thread that writes the access log. Nobody waits for it: what it cannot take,
//! because the disk is slow, full or not to be written to, is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use metrics::Counter;

use crate::clock::Clock;
use crate::metrics::{self as names, Metrics};
use crate::reception::Complaints;

/// Lines that may wait; each has at most some 3 KB, mostly a tenth of that.
const LINES_MAX: usize = 8192;

/// What is written at once, in bytes; one line may go beyond it.
const BATCH: usize = 64 * 1024;

/// How often it is looked whether the file is still there, when nothing is written.
const LOOK: Duration = Duration::from_secs(1);

/// How long the last lines may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The permissions of a new file: lines have addresses of visitors.
const MODE: u32 = 0o640;

/// The way to the thread.
pub(super) struct Writer {
    lines: SyncSender<Item>,
    /// Closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
    full: Counter,
}

enum Item {
    Line(Vec<u8>),
    End,
}

/// Where lines go.
enum Target {
    /// To standard output, which a write that broke off may have left torn.
    Output(bool),
    File(PathBuf, Option<Open>),
}

struct Open {
    file: File,
    /// The last write broke off within a line.
    torn: bool,
    /// Which one it is: device and number.
    id: (u64, u64),
}

/// What the thread has.
struct Desk {
    target: Target,
    lines: Receiver<Item>,
    batch: Vec<u8>,
    count: u64,
    /// Lines that were lost since a write last went well.
    lost: u64,
    unwritable: Counter,
    complaints: Complaints,
    clock: Clock,
}

impl Writer {
    /// Starts the thread, with a file or with standard output.
    pub(super) fn start(file: Option<PathBuf>, metrics: &Metrics) -> io::Result<Self> {
        let (send, lines) = sync_channel(LINES_MAX);
        let (alive, ended) = sync_channel(1);
        let dropped = |reason| metrics.counter(&names::ACCESS_LOG_DROPPED, &[("reason", reason)]);
        let mut desk = Desk {
            target: file.map_or(Target::Output(false), |path| Target::File(path, None)),
            lines,
            batch: Vec::new(),
            count: 0,
            lost: 0,
            unwritable: dropped("unwritable"),
            complaints: Complaints::default(),
            clock: Clock::system(),
        };
        let thread = std::thread::Builder::new().name("sumun-access-log".to_owned());
        thread.spawn(move || {
            let _alive: SyncSender<()> = alive;
            desk.run();
        })?;
        Ok(Self {
            lines: send,
            ended: Mutex::new(ended),
            full: dropped("full"),
        })
    }

    /// Hands a line over, or drops it.
    pub(super) fn write(&self, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.full.increment(1);
        }
    }

    /// Waits until all lines handed over are written, for a second at most.
    pub(super) fn finish(&self) {
        let clock = Clock::system();
        while let Err(TrySendError::Full(_)) = self.lines.try_send(Item::End) {
            if clock.monotonic_ms() > FAREWELL.as_secs() * 1000 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Ok(ended) = self.ended.lock() {
            let _ended_or_late = ended.recv_timeout(FAREWELL);
        }
    }
}

impl Desk {
    fn run(&mut self) {
        self.look();
        loop {
            let mut item = match self.lines.recv_timeout(LOOK) {
                Ok(item) => Some(item),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut ends = false;
            while let Some(one) = item.take() {
                match one {
                    Item::Line(line) => {
                        self.batch.extend_from_slice(&line);
                        self.count += 1;
                    }
                    Item::End => ends = true,
                }
                if !ends && self.batch.len() < BATCH {
                    item = self.lines.try_recv().ok();
                }
            }
            self.write();
            if ends {
                return;
            }
        }
    }

    /// Whoever rotates logs has renamed the file, or removed it: a new one is there
    /// at once, though nobody asks for a page at night.
    fn look(&mut self) {
        if let Err(fault) = self.target.ready() {
            self.tell(&fault);
        }
    }

    fn write(&mut self) {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return;
        }
        let written = self.target.write(&self.batch);
        self.batch.clear();
        match written {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::warn!(lost = self.lost, "the access log is written again");
                }
                self.lost = 0;
            }
            Err(fault) => {
                self.lost += count;
                self.unwritable.increment(count);
                self.tell(&fault);
            }
        }
    }

    fn tell(&self, fault: &io::Error) {
        let told = self
            .complaints
            .note("access_log", self.clock.monotonic_ms());
        if told.is_some() {
            let file = self.target.name();
            tracing::error!(%fault, file, lost = self.lost, "the access log cannot be written; requests are served without it");
        }
    }
}

impl Target {
    /// Opens the file that stands at the path now.
    fn ready(&mut self) -> io::Result<()> {
        let Self::File(path, open) = self else {
            return Ok(());
        };
        let id = std::fs::metadata(&*path).map(|there| (there.dev(), there.ino()));
        if open
            .as_ref()
            .is_some_and(|open| id.is_ok_and(|id| id == open.id))
        {
            return Ok(());
        }
        *open = None;
        *open = Some(Open::at(path)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ready()?;
        match self {
            Self::Output(torn) => {
                let mut output = io::stdout().lock();
                let written = put(&mut output, torn, bytes).and_then(|()| output.flush());
                // How much of it came out is not known.
                *torn |= written.is_err();
                written
            }
            Self::File(_, Some(Open { file, torn, .. })) => put(file, torn, bytes),
            Self::File(_, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Output(_) => "standard output".to_owned(),
            Self::File(path, _) => path.display().to_string(),
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(MODE).open(path)?;
        let there = file.metadata()?;
        Ok(Self {
            file,
            torn: false,
            id: (there.dev(), there.ino()),
        })
    }
}

/// Writes whole lines, behind the end of what was left of one. `torn` is whether what
/// is there ends within a line.
fn put(to: &mut impl io::Write, torn: &mut bool, lines: &[u8]) -> io::Result<()> {
    if *torn {
        to.write_all(b"\n")?;
        *torn = false;
    }
    let mut rest = lines;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let (written, more) = rest.split_at(count);
                *torn = !written.ends_with(b"\n");
                rest = more;
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes so many bytes at a time, and then is full.
    struct Disk(Vec<u8>, Vec<usize>);

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let Some(room) = self.1.pop() else {
                return Err(io::ErrorKind::StorageFull.into());
            };
            let most = bytes.len().min(room);
            self.0.extend_from_slice(&bytes[..most]);
            Ok(most)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_left_of_a_line_is_ended_and_nothing_else_is() {
        let (mut disk, mut torn) = (Disk(Vec::new(), Vec::new()), false);
        // Nothing of it came out.
        assert!(put(&mut disk, &mut torn, b"one\n").is_err());
        disk.1 = vec![9];
        put(&mut disk, &mut torn, b"two\n").unwrap();
        // Whole lines came out, then a piece of one.
        disk.1 = vec![6];
        assert!(put(&mut disk, &mut torn, b"three\nfour\n").is_err());
        disk.1 = vec![2, 9];
        assert!(put(&mut disk, &mut torn, b"five\nsix\n").is_ok());
        disk.1 = vec![3];
        assert!(put(&mut disk, &mut torn, b"seven\n").is_err());
        // The end of that one finds no room either.
        assert!(put(&mut disk, &mut torn, b"eight\n").is_err());
        disk.1 = vec![9, 9];
        put(&mut disk, &mut torn, b"nine\n").unwrap();
        let there = String::from_utf8(disk.0).unwrap();
        assert_eq!(there, "two\nthree\nfive\nsix\nsev\nnine\n");
    }
}
