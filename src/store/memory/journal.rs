//! What the embedded store acknowledged since its state file was last
//! written: a line per call, next to that file, read again after a crash.
//!
//! A visitor who was told "inside" holds a pass that must be worth a session,
//! also when the process is killed within the second before the state is
//! written. Lines are written without waiting for the disk: they survive the
//! process, not the machine.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::state::{Arrival, EventState, Named};
use crate::room::event::EventId;
use crate::room::snapshot::{Meta, Rules};
use crate::room::ticket::{Generation, Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{
    Batch, Claim, Claimed, Entered, IdHash, Leave, LetIn, Shadow, StoredEvent, Touch, UNKNOWN,
};

/// What a call changed in an event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Change {
    /// Its state was made.
    Born(Box<Meta>),
    /// Visitors came, went in, went out.
    Facts(Vec<Fact>),
    /// Its line was begun anew, at this moment of the wall clock.
    Reset(Generation, u64),
    /// Its rules, and their version.
    Rules(u64, Rules),
    /// What the API keeps of it.
    Stored(Option<StoredEvent>),
    /// Its state was removed.
    Forgotten,
}

/// What became of one visitor. All of them may be told again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fact {
    /// A session, until it expires.
    Inside(SessionKey, Timestamp),
    /// A session is over.
    Ended(SessionKey, Timestamp),
    /// A number was given.
    Ticket(Number),
    /// A number was used or given back.
    Spent(Number),
    /// What an id stands for.
    Named(IdHash, Named),
}

#[derive(Serialize, Deserialize)]
struct Line {
    event: String,
    change: Change,
}

/// The journal being written. It is kept in files that are numbered: each
/// writing of the state begins another one, and makes those before it useless.
#[derive(Debug)]
pub(super) struct Journal {
    state_file: PathBuf,
    number: u64,
    file: Option<File>,
    /// Nothing more is written until the state has been.
    broken: bool,
}

impl Journal {
    /// Reads what an earlier life left, in the order of its writing, and
    /// begins another file.
    pub(super) fn open(state_file: &Path) -> std::io::Result<(Self, Vec<(EventId, Change)>)> {
        let mut changes = Vec::new();
        let mut next = 0;
        for (number, path) in files(state_file)? {
            read(&path, &mut changes)?;
            next = number + 1;
        }
        let journal = Self {
            state_file: state_file.to_owned(),
            number: next,
            file: None,
            broken: false,
        };
        Ok((journal, changes))
    }

    /// Notes a change. One that cannot be written is told in the log, once:
    /// the next writing of the state contains it.
    pub(super) fn note(&mut self, event: &EventId, change: Change) {
        let nothing = matches!(&change, Change::Facts(facts) if facts.is_empty());
        if self.broken || nothing {
            return;
        }
        let line = Line {
            event: event.to_string(),
            change,
        };
        if let Err(fault) = self.append(&line) {
            self.broken = true;
            error!(%fault, "the journal in state_dir cannot be written; a crash would lose the last second");
        }
    }

    fn append(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(path(&self.state_file, self.number))?,
            ),
        };
        // One write for the whole line: a kill leaves all of it or nothing.
        file.write_all(&text)
    }

    /// The state is being written as it is now: begins another file, and
    /// tells its number.
    pub(super) fn turn(&mut self) -> u64 {
        if self.file.take().is_some() {
            self.number += 1;
        }
        self.broken = false;
        self.number
    }
}

/// The state was written: deletes the journal's files before `number`.
pub(super) fn forget(state_file: &Path, number: u64) -> std::io::Result<()> {
    for (old, path) in files(state_file)? {
        if old < number {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Takes in what was noted after the state was written. What the state knows
/// already changes nothing.
pub(super) fn replay(
    changes: Vec<(EventId, Change)>,
    events: &mut HashMap<EventId, EventState>,
    stored: &mut BTreeMap<EventId, StoredEvent>,
) {
    for (event, change) in changes {
        match change {
            Change::Stored(Some(entry)) => {
                let known = stored.get(&event).map_or(0, |known| known.version);
                if entry.version > known {
                    stored.insert(event, entry);
                }
            }
            Change::Stored(None) => {
                stored.remove(&event);
            }
            Change::Forgotten => {
                events.remove(&event);
            }
            Change::Born(meta) => {
                events.entry(event).or_insert_with(|| born(*meta));
            }
            Change::Reset(generation, raw) => {
                if let Some(state) = events.get_mut(&event)
                    && state.meta.generation < generation
                {
                    state.reset(raw);
                }
            }
            Change::Rules(version, rules) => {
                if let Some(state) = events.get_mut(&event)
                    && state.meta.cfgver < version
                {
                    (state.meta.cfgver, state.meta.rules) = (version, rules);
                }
            }
            Change::Facts(facts) => {
                if let Some(state) = events.get_mut(&event) {
                    for fact in &facts {
                        believe(state, fact);
                    }
                }
            }
        }
    }
}

/// What a batch of newcomers comes to.
pub(super) fn entered(batch: &Batch, reply: &[Entered]) -> Change {
    let mut facts = Vec::new();
    for (entrant, entered) in batch.entrants.iter().zip(reply) {
        let named = match *entered {
            Entered::Session {
                key,
                begun,
                expires,
            } => {
                facts.push(Fact::Inside(key, expires));
                Named::Session(key, begun)
            }
            Entered::Ticket { number } => {
                facts.push(Fact::Ticket(number));
                Named::Ticket(number)
            }
            Entered::Closed => continue,
        };
        facts.extend(entrant.id.map(|id| Fact::Named(id, named)));
    }
    Change::Facts(facts)
}

/// What a batch of called tickets comes to at this moment.
pub(super) fn claimed(claims: &[Claim], reply: &[Claimed], now: Timestamp) -> Change {
    let mut facts = Vec::new();
    for (claim, claimed) in claims.iter().zip(reply) {
        if let Claimed::Admitted { expires, fresh } = *claimed {
            facts.push(Fact::Inside(claim.session, expires));
            facts.push(Fact::Spent(claim.number));
            let named = Named::Session(claim.session, now);
            let id = claim.id.filter(|_| fresh);
            facts.extend(id.map(|id| Fact::Named(id, named)));
        }
    }
    Change::Facts(facts)
}

/// What visitors let in by order come to at this moment.
pub(super) fn let_in(visitors: &[LetIn], reply: &[Option<Timestamp>], now: Timestamp) -> Change {
    let mut facts = Vec::new();
    for (visitor, expires) in visitors.iter().zip(reply) {
        facts.extend(visitor.number.map(Fact::Spent));
        if let Some(expires) = expires {
            facts.push(Fact::Inside(visitor.session, *expires));
            let named = Named::Session(visitor.session, now);
            facts.extend(visitor.id.map(|id| Fact::Named(id, named)));
        }
    }
    Change::Facts(facts)
}

/// What sessions heard from come to.
pub(super) fn touched(touches: &[Touch], reply: &[Option<Timestamp>]) -> Change {
    let answered = touches.iter().zip(reply);
    let inside = answered.filter_map(|(t, expires)| Some(Fact::Inside(t.session, (*expires)?)));
    Change::Facts(inside.collect())
}

/// Sessions that are over.
pub(super) fn ended(sessions: &[SessionKey], at: Timestamp) -> Change {
    Change::Facts(sessions.iter().map(|s| Fact::Ended(*s, at)).collect())
}

/// Places given back.
pub(super) fn left(tickets: &[Leave]) -> Change {
    Change::Facts(tickets.iter().map(|t| Fact::Spent(t.number)).collect())
}

fn born(meta: Meta) -> EventState {
    let arrival = Arrival {
        raw: meta.raw,
        run: &meta.run,
    };
    let mut state = EventState::newborn(&arrival, &Shadow::default(), UNKNOWN);
    state.meta = meta;
    state
}

fn believe(state: &mut EventState, fact: &Fact) {
    match *fact {
        Fact::Inside(session, expires) => {
            let known = state.active.get(&session).copied();
            if state.ended.contains_key(&session) || known >= Some(expires) {
                return;
            }
            if let Some(before) = state.active.insert(session, expires) {
                state.expiries.remove(&(before, session));
            }
            state.expiries.insert((expires, session));
        }
        Fact::Ended(session, at) => {
            if let Some(expires) = state.active.remove(&session) {
                state.expiries.remove(&(expires, session));
            }
            state.ended.entry(session).or_insert(at);
        }
        Fact::Ticket(number) => {
            let meta = &mut state.meta;
            meta.issued = meta.issued.max(number.next_issued());
            state.fresh.set(number, meta.fresh_window);
        }
        Fact::Spent(number) => {
            let page = state.spent.entry(number.page()).or_default();
            page.set(number.bit());
            state.live.clear(number);
            state.fresh.clear(number);
            state.offers.remove(&number);
        }
        Fact::Named(id, named) => {
            state.ids.insert(id, named);
        }
    }
}

fn path(state_file: &Path, number: u64) -> PathBuf {
    state_file.with_extension(format!("journal.{number}"))
}

/// The journal's files, in the order of their writing.
fn files(state_file: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(stem)) = (state_file.parent(), state_file.file_stem()) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let begins = format!("{}.journal.", stem.to_string_lossy());
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        let number = name.and_then(|name| name.strip_prefix(&begins)?.parse().ok());
        files.extend(number.map(|number: u64| (number, path)));
    }
    files.sort();
    Ok(files)
}

/// Reads a file up to its end or to a line that is not whole.
fn read(path: &Path, changes: &mut Vec<(EventId, Change)>) -> std::io::Result<()> {
    for text in BufReader::new(File::open(path)?).split(b'\n') {
        let line: Result<Line, _> = serde_json::from_slice(&text?);
        let known = line.ok().and_then(|line| {
            let event = EventId::new(&line.event).ok()?;
            Some((event, line.change))
        });
        let Some(known) = known else {
            warn!(path = %path.display(), "the journal ends in a line that cannot be read");
            return Ok(());
        };
        changes.push(known);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Entrant, MemoryStore, Reply};

    const START_MS: u64 = 1_790_000_000_000;

    fn event() -> EventId {
        EventId::new("main").unwrap()
    }

    fn key(byte: u8) -> SessionKey {
        SessionKey([byte; 16])
    }

    /// A store in this folder, with one slot.
    fn open(folder: &Path, clock: &Clock, run: &str) -> MemoryStore {
        let store = MemoryStore::load(clock.clone(), run, &folder.join("store.json")).unwrap();
        store.resume();
        store
    }

    fn begin(store: &MemoryStore) {
        let rules = Rules {
            mode: crate::room::event::Mode::Auto,
            limit: Some(1),
            ..UNKNOWN
        };
        let shadow = Shadow {
            gateway: "one".into(),
            newborn: 7,
            rules: Some(rules),
            ..Shadow::default()
        };
        store.restore(&event(), &shadow);
    }

    fn enter(store: &MemoryStore, batch: u64, session: u8) -> Entered {
        let entrant = Entrant {
            session: key(session),
            id: None,
        };
        let batch = Batch {
            gateway: "one".into(),
            batch,
            above: None,
            entrants: vec![entrant],
        };
        let Reply::Done(reply) = store.enter(&event(), &batch) else {
            panic!("the store did not answer");
        };
        reply[0].clone()
    }

    #[test]
    fn what_was_acknowledged_after_the_last_writing_is_known_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let store = open(folder.path(), &clock, "first");
        begin(&store);
        assert!(matches!(enter(&store, 1, 1), Entered::Session { .. }));
        let Entered::Ticket { number } = enter(&store, 2, 2) else {
            panic!("there is one slot");
        };
        let before = store.dump(&event()).unwrap();
        drop(store);

        let again = open(folder.path(), &clock, "second");
        let after = again.dump(&event()).unwrap();
        assert_eq!(after.active, before.active);
        assert_eq!(after.fresh, before.fresh);
        assert!(after.meta.issued > number);
        assert_eq!(after.meta.rules.limit, Some(1));
        again.end(&event(), &[key(1)]);
        drop(again);
        let third = open(folder.path(), &clock, "third").dump(&event()).unwrap();
        assert!(third.active.is_empty() && third.ended.contains_key(&key(1)));
    }

    #[test]
    fn a_written_state_makes_the_journal_useless_and_a_torn_line_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.json");
        let clock = Clock::manual(START_MS);
        let store = open(folder.path(), &clock, "first");
        begin(&store);
        enter(&store, 1, 1);
        assert_eq!(files(&file).unwrap().len(), 1);
        store.save(&file).unwrap();
        assert!(files(&file).unwrap().is_empty());
        enter(&store, 2, 2);
        drop(store);
        let (_, last) = files(&file).unwrap().pop().unwrap();
        let mut torn = OpenOptions::new().append(true).open(last).unwrap();
        torn.write_all(b"{\"event\":\"main\",\"chan").unwrap();
        let state = open(folder.path(), &clock, "second")
            .dump(&event())
            .unwrap();
        assert_eq!(state.active.len(), 1);
        assert_eq!(state.fresh.len(), 1);
    }
}
