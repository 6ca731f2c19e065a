//! What is kept in `state_dir` while the server runs: the embedded store's
//! state, or what a gateway on a shared store remembers.
//!
//! The memory is one file, written whole: a magic word, the form's version, a
//! CRC-32 of the rest, and a `MessagePack` document. It is bound to the store
//! that it is a memory of. A file that is damaged, of another form or of
//! another store is set aside and told of; it never keeps the server from
//! starting.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::time::Instant;
use tracing::{error, info};

use crate::catalog::{Catalog, Memory};
use crate::ledger::{Facts, Moment, Remembered};
use crate::room::event::EventId;
use crate::store::memory::write_file;
use crate::store::redis::Address;
use crate::store::{MemoryStore, StoredEvent};

/// The file in `state_dir`.
const FILE: &str = "memory.bin";

/// What the file begins with.
const MAGIC: [u8; 8] = *b"SUMUNMEM";

/// The form of the file; another form is refused, not guessed at. What is added
/// to `Facts`, or to the store's `Meta`, needs a default or another version.
const VERSION: u32 = 1;

/// The time between two writings...
const SAVE: Duration = Duration::from_secs(1);

/// ...and what it is at least, in times that a writing took: a tenth of the
/// time at most is spent writing.
const REST: u32 = 9;

/// Where nothing happens the file is still written this often: its age tells
/// how long nobody was there.
const SAVE_IDLE_MS: u64 = 300_000;

/// How often the embedded store's statistics are written.
const SAVE_STATISTICS: Duration = Duration::from_secs(60);

/// The file of statistics, beside the state.
pub(super) fn statistics_file(state: &Path) -> PathBuf {
    state.with_file_name("statistics.bin")
}

/// What is written to `state_dir` again and again, and at the end.
pub(super) enum Kept {
    /// The embedded store's whole state.
    State(MemoryStore, PathBuf),
    /// What this gateway remembers of a shared store.
    Memory(Keeper),
}

impl Kept {
    /// Writes it, if it has changed.
    pub(super) fn save(&self) -> std::io::Result<()> {
        match self {
            Self::State(store, file) => store.save(file),
            Self::Memory(keeper) => keeper.save(),
        }
    }

    /// Writes what statistics the embedded store keeps, if they have changed.
    pub(super) fn save_statistics(&self) -> std::io::Result<()> {
        match self {
            Self::State(store, file) => store.statistics().save(&statistics_file(file)),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Writes it each second, or less often where that takes long.
    pub(super) async fn keep(self: Arc<Self>) {
        let (mut failing, mut rest) = (false, SAVE);
        let mut statistics = Instant::now();
        loop {
            tokio::time::sleep(rest).await;
            let began = Instant::now();
            let kept = Arc::clone(&self);
            let with_statistics = statistics.elapsed() >= SAVE_STATISTICS;
            if with_statistics {
                statistics = began;
            }
            let saved = tokio::task::spawn_blocking(move || {
                kept.save()?;
                if with_statistics {
                    kept.save_statistics()?;
                }
                Ok(())
            });
            let saved: Result<std::io::Result<()>, _> = saved.await;
            rest = SAVE.max(began.elapsed() * REST);
            match saved {
                Ok(Ok(())) => failing = false,
                Ok(Err(fault)) if !failing => {
                    failing = true;
                    error!(%fault, "the state cannot be written to state_dir; a restart would lose the line's order");
                }
                _ => {}
            }
        }
    }
}

/// Writes a gateway's memory.
pub(super) struct Keeper {
    catalog: Arc<Catalog>,
    file: PathBuf,
    store: String,
    /// The facts last written, and when; also keeps writings apart.
    written: Mutex<Option<(u32, u64)>>,
}

impl Keeper {
    /// A keeper of the memory in a state directory. What an earlier process
    /// left there is taken in.
    pub(super) fn open(catalog: Arc<Catalog>, dir: &Path, store: String) -> Self {
        let file = dir.join(FILE);
        if let Some(memory) = read_or_set_aside(&file, &store) {
            info!(
                events = memory.events.len(),
                "what state_dir remembers was read"
            );
            catalog.recall(memory);
        }
        Self {
            catalog,
            file,
            store,
            written: Mutex::default(),
        }
    }

    fn save(&self) -> std::io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = self.catalog.memory();
        let saved_at = memory.saved_at;
        let (facts, text) = render(&self.store, memory)?;
        let same = written.is_some_and(|(known, at)| {
            known == facts && saved_at.saturating_sub(at) < SAVE_IDLE_MS
        });
        if !same {
            write_file(&self.file, &text)?;
            *written = Some((facts, saved_at));
        }
        Ok(())
    }
}

/// Tells one store from another: by its place and prefix, without secrets.
pub(super) fn name_of_store(address: &Address, prefix: &str) -> String {
    format!("{}\n{prefix}", address.name())
}

#[derive(Serialize, Deserialize)]
struct Document {
    store: String,
    saved_at: u64,
    stored_at: u64,
    moments: BTreeMap<String, Moment>,
    /// The facts, encoded by themselves: they are compared with those before.
    facts: ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct AllFacts {
    events: BTreeMap<String, Facts>,
    stored: BTreeMap<String, StoredEvent>,
}

/// The file's bytes, and what tells whether the facts have changed.
fn render(store: &str, memory: Memory) -> std::io::Result<(u32, Vec<u8>)> {
    let mut moments = BTreeMap::new();
    let mut events = BTreeMap::new();
    for (id, remembered) in memory.events {
        moments.insert(id.to_string(), remembered.moment);
        events.insert(id.to_string(), remembered.facts);
    }
    let stored = memory.stored.into_iter();
    let facts = AllFacts {
        events,
        stored: stored.map(|(id, entry)| (id.to_string(), entry)).collect(),
    };
    let facts = rmp_serde::to_vec_named(&facts).map_err(Error::other)?;
    let changed = crc32fast::hash(&facts);
    let document = Document {
        store: store.to_owned(),
        saved_at: memory.saved_at,
        stored_at: memory.stored_at,
        moments,
        facts: ByteBuf::from(facts),
    };
    let document = rmp_serde::to_vec_named(&document).map_err(Error::other)?;
    let mut text = Vec::with_capacity(16 + document.len());
    text.extend(MAGIC);
    text.extend(VERSION.to_be_bytes());
    text.extend(crc32fast::hash(&document).to_be_bytes());
    text.extend(document);
    Ok((changed, text))
}

/// Why a file is no memory of this gateway's.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("its form {0} is not known")]
    Form(u32),
    #[error("it is the memory of another store.url or store.prefix")]
    Foreign,
}

fn damaged(what: impl std::fmt::Display) -> Unusable {
    Unusable::Damaged(what.to_string())
}

fn read(text: &[u8], store: &str) -> Result<Memory, Unusable> {
    let short = || damaged("it is cut short");
    let (magic, rest) = text.split_first_chunk().ok_or_else(short)?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (sum, document) = rest.split_first_chunk().ok_or_else(short)?;
    if *magic != MAGIC {
        return Err(damaged("it begins otherwise"));
    }
    let version = u32::from_be_bytes(*version);
    if version != VERSION {
        return Err(Unusable::Form(version));
    }
    if crc32fast::hash(document) != u32::from_be_bytes(*sum) {
        return Err(damaged("its sum does not agree"));
    }
    let document: Document = rmp_serde::from_slice(document).map_err(damaged)?;
    if document.store != store {
        return Err(Unusable::Foreign);
    }
    let facts: AllFacts = rmp_serde::from_slice(&document.facts).map_err(damaged)?;
    let mut memory = Memory {
        saved_at: document.saved_at,
        stored_at: document.stored_at,
        ..Memory::default()
    };
    for (id, facts) in facts.events {
        let moment = document.moments.get(&id).copied().unwrap_or_default();
        let id = EventId::new(&id).map_err(damaged)?;
        memory.events.insert(id, Remembered { moment, facts });
    }
    for (id, entry) in facts.stored {
        memory
            .stored
            .insert(EventId::new(&id).map_err(damaged)?, entry);
    }
    Ok(memory)
}

/// Reads the file. One that cannot be used is set aside, not overwritten.
fn read_or_set_aside(file: &Path, store: &str) -> Option<Memory> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return None,
        Err(fault) => {
            error!(%fault, file = %file.display(), "what state_dir remembers cannot be read; starting without");
            return None;
        }
    };
    let fault = match read(&text, store) {
        Ok(memory) => return Some(memory),
        Err(fault) => fault,
    };
    let aside = file.with_extension(match fault {
        Unusable::Foreign => "other-store",
        Unusable::Damaged(_) | Unusable::Form(_) => "damaged",
    });
    error!(%fault, aside = %aside.display(), "what state_dir remembers cannot be used and is set aside; places are rebuilt from other gateways and from what visitors hold");
    if let Err(fault) = std::fs::rename(file, &aside) {
        error!(%fault, "it could not be set aside and will be overwritten");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ledger::{Ledger, View};
    use crate::metrics::Metrics;
    use crate::room::event::EventSettings;
    use crate::room::gate::{Load, readings};
    use crate::room::ticket::{Number, SessionKey};
    use crate::room::time::Timestamp;
    use crate::store::{Ask, Reply, Shadow, Store};

    const MORNING_MS: u64 = 1_800_000_000_000;

    /// An event of which this gateway heard from so many who wait, and from so
    /// many inside.
    async fn ledger(waiting: u64, inside: u64) -> Arc<Ledger> {
        let clock = Clock::manual(MORNING_MS);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let settings = EventSettings::new(EventId::new("main").unwrap());
        let id = settings.id.clone();
        let metrics = Arc::new(Metrics::default());
        let when = settings.queue_when.clone();
        let ledger = Ledger::open(settings, &store, "one", clock, &metrics);
        store.restore(&id, &Shadow::default()).await.unwrap();
        let ask = Ask {
            gateway: "one".to_owned(),
            ..Ask::default()
        };
        let Ok(Reply::Done(snapshot)) = store.snapshot(&id, &ask).await else {
            panic!("the store does not answer");
        };
        let first = snapshot.meta.issued;
        let readings = readings(&Load::default(), 0, &when);
        let rates = crate::room::estimate::Rates::default();
        ledger.publish(View::new(snapshot, 0, rates, readings));
        for number in 0..waiting {
            ledger.heard.hear(Number(first.0 + number));
        }
        for session in 0..inside {
            let key = SessionKey(rand::random());
            let until = Timestamp(MORNING_MS + 600_000 + session);
            let _known = ledger.sessions.stay(key, Timestamp(MORNING_MS), until);
        }
        let ended = (SessionKey([9; 16]), Timestamp(MORNING_MS));
        ledger.sessions.note_ended(&[ended]);
        ledger.heard.spend(first);
        ledger
    }

    fn remembered(ledger: &Ledger) -> Memory {
        let entry = StoredEvent {
            version: 3,
            overrides: serde_json::json!({ "limitCnt": 7, "admitPerSecond": 0.5 }),
            created: true,
            created_at: MORNING_MS,
            updated_at: MORNING_MS,
        };
        let tombstone = StoredEvent {
            overrides: serde_json::Value::Null,
            ..entry.clone()
        };
        Memory {
            saved_at: MORNING_MS,
            stored_at: MORNING_MS - 500,
            events: [(ledger.id.clone(), ledger.remembered())].into(),
            stored: [
                (EventId::new("sale").unwrap(), entry),
                (EventId::new("gone").unwrap(), tombstone),
            ]
            .into(),
        }
    }

    async fn memory(waiting: u64, inside: u64) -> Memory {
        remembered(&*ledger(waiting, inside).await)
    }

    #[tokio::test]
    async fn what_was_written_is_read() {
        let memory = memory(100_000, 1_000).await;
        let (_, text) = render("a store", memory.clone()).unwrap();
        assert_eq!(read(&text, "a store").unwrap(), memory);
        assert!(matches!(read(&text, "another"), Err(Unusable::Foreign)));
    }

    #[tokio::test]
    async fn time_alone_is_no_change_and_a_ticket_is_one() {
        let before = memory(10, 0).await;
        let later = Memory {
            saved_at: MORNING_MS + 1,
            ..before.clone()
        };
        let changed = |memory| render("a store", memory).unwrap().0;
        assert_eq!(changed(before.clone()), changed(later));
        assert_ne!(changed(before), changed(memory(11, 0).await));
    }

    #[tokio::test]
    async fn no_file_however_damaged_is_believed_or_breaks_anything() {
        let (_, text) = render("a store", memory(10, 2).await).unwrap();
        for end in 0..text.len() {
            assert!(read(&text[..end], "a store").is_err());
        }
        for at in 0..text.len() {
            let mut bytes = text.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(read(&bytes, "a store").is_err());
            // Also one whose sum agrees: written by something else.
            let sum = crc32fast::hash(&bytes[16..]);
            bytes[12..16].copy_from_slice(&sum.to_be_bytes());
            let _either = read(&bytes, "a store");
        }
    }

    #[test]
    fn a_store_is_told_from_another_by_its_place_and_prefix_and_not_by_its_login() {
        let name = |url, prefix| name_of_store(&Address::parse(url).unwrap(), prefix);
        let one = name("redis://redis.example", "sumun");
        assert_eq!(
            name("redis://user:secret@redis.example:6379/0", "sumun"),
            one
        );
        assert_ne!(name("redis://redis.example/1", "sumun"), one);
        assert_ne!(name("redis://redis.example:6380", "sumun"), one);
        assert_ne!(name("redis://redis.example", "shop"), one);
        let sentinel = name("redis-sentinel://:secret@one,two/primary", "sumun");
        assert!(!sentinel.contains("secret"));
    }

    /// `cargo test --lib a_million -- --ignored --nocapture`
    #[tokio::test]
    #[ignore = "prints the figures of docs/measured.md"]
    async fn a_million_who_wait_and_a_hundred_thousand_inside() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(1_000_000, 100_000).await;
        let began = Instant::now();
        let memory = remembered(&ledger);
        let collected = began.elapsed();
        let began = Instant::now();
        let (_, text) = render("a store", memory).unwrap();
        let rendered = began.elapsed();
        let began = Instant::now();
        write_file(&folder.path().join(FILE), &text).unwrap();
        let written = began.elapsed();
        let began = Instant::now();
        let mut memory = read(&text, "a store").unwrap();
        let (_, remembered) = memory.events.pop_first().unwrap();
        ledger.recall(remembered, Duration::ZERO);
        println!(
            "{} bytes; collected in {collected:?}, rendered in {rendered:?}, written in \
             {written:?}; read and taken in in {:?}",
            text.len(),
            began.elapsed(),
        );
        assert!(text.len() < 4_000_000);
    }
}
