//! Slices of statistics: what gateways counted in a span of time, as bytes
//! that the store does not read. Each gateway writes its own and writes it
//! again as it grows, so that a lost reply counts nothing twice.
//!
//! Nothing of the queue hangs on them: they are kept apart from it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::room::event::EventId;

/// Slices that are kept and found together.
const CHUNK: u64 = 60;

/// Most bytes that the embedded store keeps. Beyond it the oldest slices of
/// the finest step go first.
const BYTES_MAX: usize = 64 << 20;

/// What a slice takes beside its bytes.
const BESIDE: usize = 200;

/// The form of the file; another one is left, not guessed at.
const VERSION: u32 = 1;

/// What a slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What happened to an event and to its routes, and who arrived.
    Counts,
    /// A sketch of the visitors who were there.
    Visitors,
    /// A sketch of the users among them.
    Users,
}

impl What {
    /// The word in a key of the shared store.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Counts => "slices",
            Self::Visitors => "visitors",
            Self::Users => "users",
        }
    }

    /// How many of them are kept and found together: of sketches, which are large,
    /// only those of one span.
    pub(super) fn chunk(self) -> u64 {
        match self {
            Self::Counts => CHUNK,
            Self::Visitors | Self::Users => 1,
        }
    }

    /// A length's number in the embedded store: above every length of another sort,
    /// so that those of routes go first where there is no room.
    fn mark(self, step: u32) -> u32 {
        let sort = match self {
            Self::Counts => 0,
            Self::Visitors => 1,
            Self::Users => 2,
        };
        step | sort << 28
    }
}

/// A slice that one gateway counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What it is of.
    pub what: What,
    /// Its length in seconds.
    pub step: u32,
    /// When it began, in Unix seconds: a multiple of its length.
    pub start: u64,
    /// Who counted it: a gateway in one life of its process.
    pub writer: String,
    /// Until when it is kept, in Unix seconds.
    pub until: u64,
    /// What was counted.
    pub bytes: Vec<u8>,
}

/// Slices that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What they are of.
    pub what: What,
    /// Their length in seconds.
    pub step: u32,
    /// The first moment, in Unix seconds.
    pub from: u64,
    /// The first moment after it.
    pub to: u64,
}

/// What was found: when each began, and its bytes, in order of time.
pub type Found = Vec<(u64, Vec<u8>)>;

impl Span {
    pub(super) fn holds(&self, start: u64) -> bool {
        (self.from..self.to).contains(&start)
    }
}

type Key = (u32, u64, EventId, String);

/// The embedded store's slices. Clones share them.
#[derive(Clone, Default)]
pub struct Slices(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    rows: BTreeMap<Key, (u64, Vec<u8>)>,
    bytes: usize,
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    rows: Vec<(u32, u64, String, String, u64, ByteBuf)>,
}

impl Slices {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, event: &EventId, slices: &[Slice], now: u64) {
        let mut kept = self.lock();
        kept.drop_over(now);
        for slice in slices {
            let step = slice.what.mark(slice.step);
            let key = (step, slice.start, event.clone(), slice.writer.clone());
            kept.put(key, (slice.until, slice.bytes.clone()));
        }
    }

    pub(super) fn find(&self, event: &EventId, span: &Span) -> Found {
        let kept = self.lock();
        let found = kept.rows.iter().filter(|((step, start, of, _), _)| {
            *step == span.what.mark(span.step) && span.holds(*start) && of == event
        });
        found
            .map(|((_, start, ..), (_, bytes))| (*start, bytes.clone()))
            .collect()
    }

    /// Reads what `save` wrote; a file that is damaged is an error of
    /// [`ErrorKind::InvalidData`], and nothing is read of it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(&self, path: &Path) -> std::io::Result<()> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let damaged = |what: String| std::io::Error::new(ErrorKind::InvalidData, what);
        let document: Document =
            rmp_serde::from_slice(&bytes).map_err(|fault| damaged(fault.to_string()))?;
        if document.version != VERSION {
            let what = format!("version {} is not known", document.version);
            return Err(damaged(what));
        }
        let mut kept = self.lock();
        for (step, start, event, writer, until, bytes) in document.rows {
            let event = EventId::new(&event).map_err(|fault| damaged(fault.to_string()))?;
            kept.put((step, start, event, writer), (until, bytes.into_vec()));
        }
        kept.changed = false;
        Ok(())
    }

    /// Writes them, if they have changed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let document = {
            let mut kept = self.lock();
            if !std::mem::take(&mut kept.changed) {
                return Ok(());
            }
            let rows = kept.rows.iter().map(|((step, start, event, writer), row)| {
                let (until, bytes) = row;
                let bytes = ByteBuf::from(bytes.clone());
                (
                    *step,
                    *start,
                    event.to_string(),
                    writer.clone(),
                    *until,
                    bytes,
                )
            });
            Document {
                version: VERSION,
                rows: rows.collect(),
            }
        };
        let bytes = rmp_serde::to_vec(&document).map_err(std::io::Error::other)?;
        super::memory::write_file(path, &bytes).inspect_err(|_| self.lock().changed = true)
    }
}

impl Kept {
    fn put(&mut self, key: Key, row: (u64, Vec<u8>)) {
        self.changed = true;
        self.bytes += row.1.len() + BESIDE;
        if let Some((_, before)) = self.rows.insert(key, row) {
            self.bytes -= before.len() + BESIDE;
        }
        while self.bytes > BYTES_MAX
            && let Some((_, (_, gone))) = self.rows.pop_first()
        {
            self.bytes -= gone.len() + BESIDE;
        }
    }

    fn drop_over(&mut self, now: u64) {
        let bytes = &mut self.bytes;
        self.rows.retain(|_, (until, row)| {
            let stays = *until > now;
            if !stays {
                *bytes -= row.len() + BESIDE;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(step: u32, start: u64, bytes: usize) -> Slice {
        Slice {
            what: What::Counts,
            step,
            start,
            writer: "a".to_owned(),
            until: 1_000_000,
            bytes: vec![1; bytes],
        }
    }

    fn all(slices: &Slices, step: u32) -> Vec<u64> {
        let span = Span {
            what: What::Counts,
            step,
            from: 0,
            to: u64::MAX,
        };
        let found = slices.find(&EventId::new("main").unwrap(), &span);
        found.into_iter().map(|(start, _)| start).collect()
    }

    #[test]
    fn beyond_the_most_bytes_the_oldest_of_the_finest_go_first() {
        let (slices, event) = (Slices::default(), EventId::new("main").unwrap());
        let half = BYTES_MAX / 2 - 2 * BESIDE;
        slices.keep(&event, &[slice(60, 0, half), slice(10, 0, half)], 0);
        assert_eq!((all(&slices, 10), all(&slices, 60)), (vec![0], vec![0]));
        slices.keep(&event, &[slice(10, 10, 5_000)], 0);
        assert_eq!((all(&slices, 10), all(&slices, 60)), (vec![10], vec![0]));
        let kept = slices.lock();
        let bytes = kept.rows.values().map(|(_, row)| row.len() + BESIDE);
        assert_eq!(kept.bytes, bytes.sum::<usize>());
    }

    #[test]
    fn a_file_brings_them_back_and_a_damaged_one_nothing() {
        let (slices, event) = (Slices::default(), EventId::new("main").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("statistics.bin");
        slices.load(&file).unwrap();
        slices.save(&file).unwrap();
        assert!(!file.exists());
        slices.keep(&event, &[slice(10, 0, 5), slice(10, 10, 5)], 0);
        slices.save(&file).unwrap();
        let again = Slices::default();
        again.load(&file).unwrap();
        assert_eq!(all(&again, 10), [0, 10]);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        let damaged = Slices::default().load(&file).unwrap_err();
        assert_eq!(damaged.kind(), ErrorKind::InvalidData);
    }
}
