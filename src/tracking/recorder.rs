//! One data thread's share of the tracking: which route a path is, and what
//! is counted of it while an answer goes out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ahash::RandomState;

use super::naming::name;
use super::table::{Place, Table};
use super::{THREAD_ROUTES_MAX, Tracker, Tracking};
use crate::clock::Clock;
use crate::room::event::EventId;

/// Paths whose routes a thread remembers; a power of two.
const PATHS: usize = 4_096;

/// Weights are halved this often.
const AGE_MS: u64 = 600_000;

/// How a request came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// From the origin, or from us because the origin failed.
    FromOrigin {
        /// A person looks at it.
        is_navigation: bool,
        /// How long the origin's first byte took, in microseconds.
        first_byte_us: Option<u32>,
        /// The visitor had waited for it.
        has_waited: bool,
    },
    /// It is the waiting page.
    Waiting,
    /// It is another answer of our own.
    Refused,
}

/// One data thread's recorder.
pub struct Recorder {
    tracker: Arc<Tracker>,
    thread: usize,
    clock: Clock,
    hasher: RandomState,
    tracking: RefCell<Arc<Tracking>>,
    fanout: Cell<u64>,
    /// By the events' place in the site's order.
    tables: RefCell<Vec<Rc<Table>>>,
    next_number: Cell<u64>,
    paths: RefCell<Box<[Option<Known>]>>,
    scratch: RefCell<String>,
    aged_ms: Cell<u64>,
}

/// A path whose route is known.
#[derive(Clone, Copy)]
struct Known {
    hash: u64,
    place: Place,
}

/// A request, from its begin until its answer's body has ended.
#[must_use]
pub struct Track {
    table: Option<Rc<Table>>,
    place: Option<Place>,
    /// By the clock of the table, in milliseconds; it may go round.
    began_ms: u32,
}

impl Recorder {
    /// A recorder for one more thread.
    #[must_use]
    pub fn new(tracker: &Arc<Tracker>, clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            thread: tracker.join(),
            tracking: RefCell::new(tracker.tracking()),
            fanout: Cell::new(tracker.fanout.version()),
            tracker: Arc::clone(tracker),
            aged_ms: Cell::new(clock.monotonic_ms()),
            clock,
            hasher: RandomState::new(),
            tables: RefCell::default(),
            next_number: Cell::new(0),
            paths: RefCell::new(vec![None; PATHS].into_boxed_slice()),
            scratch: RefCell::default(),
        })
    }

    /// The events are these now, in this order.
    pub fn arrange<'a>(&self, events: impl Iterator<Item = &'a EventId>) {
        let mut tables = self.tables.borrow_mut();
        let before = std::mem::take(&mut *tables);
        for event in events {
            let known = before.iter().find(|table| table.event == *event);
            let table = known.cloned().unwrap_or_else(|| {
                let number = self.next_number.get();
                self.next_number.set(number + 1);
                Rc::new(Table::new(event.clone(), number, self.clock.clone()))
            });
            tables.push(table);
        }
    }

    fn table(&self, event: usize) -> Option<Rc<Table>> {
        let is_enabled = self.tracking.borrow().enabled;
        self.tables
            .borrow()
            .get(event)
            .filter(|_| is_enabled)
            .cloned()
    }

    /// A request for a path begins, at an event by its place in the order.
    pub fn begin(&self, event: Option<usize>, path: &str) -> Track {
        let table = event.and_then(|event| self.table(event));
        let Some(table) = table else {
            return Track::none();
        };
        let place = self.known(&table, path);
        table.begun(place);
        Track {
            place,
            began_ms: now_ms(&table),
            table: Some(table),
        }
    }

    /// Where the route of a path is counted, if it is one that is kept.
    fn known(&self, table: &Table, path: &str) -> Option<Place> {
        let hash = self.hash(table, path);
        let seen = *self.paths.borrow().get(at(hash))?;
        let seen = seen.filter(|known| known.hash == hash && table.has(known.place));
        if let Some(known) = seen {
            return Some(known.place);
        }
        let mut name = self.scratch.borrow_mut();
        self.name(table, path, &mut name, |parent, _| {
            !self.tracker.fanout.is_guarded(&table.event, parent)
        });
        let place = table.find(&name)?;
        self.remember(hash, place);
        Some(place)
    }

    /// Makes the route of a path one that is kept. What the site is known to have
    /// counts among its parent's children: nobody can make up too many of them.
    fn admit(&self, table: &Table, path: &str, is_there: bool) -> Option<Place> {
        let now_ms = self.clock.monotonic_ms();
        let mut name = self.scratch.borrow_mut();
        self.name(table, path, &mut name, |parent, child| {
            let fanout = &self.tracker.fanout;
            if is_there {
                fanout.note(&table.event, parent, child, now_ms)
            } else {
                !fanout.is_guarded(&table.event, parent)
            }
        });
        let has_room = || {
            let tables = self.tables.borrow();
            tables.iter().map(|table| table.len()).sum::<usize>() < THREAD_ROUTES_MAX
        };
        let place = match table.find(&name) {
            Some(place) => place,
            None => table.admit(&name, has_room())?,
        };
        self.remember(self.hash(table, path), place);
        Some(place)
    }

    fn name(
        &self,
        table: &Table,
        path: &str,
        out: &mut String,
        keeps: impl FnMut(&str, &str) -> bool,
    ) {
        let tracking = self.tracking.borrow();
        name(path, (&table.event, &tracking.named), out, keeps);
    }

    fn hash(&self, table: &Table, path: &str) -> u64 {
        self.hasher.hash_one((table.number, path))
    }

    fn remember(&self, hash: u64, place: Place) {
        if let Some(seen) = self.paths.borrow_mut().get_mut(at(hash)) {
            *seen = Some(Known { hash, place });
        }
    }

    /// A visitor who waited at this path got in.
    pub fn converted(&self, event: &EventId, path: &str) {
        let tables = self.tables.borrow();
        let Some(table) = tables.iter().find(|table| table.event == *event) else {
            return;
        };
        if !self.tracking.borrow().enabled {
            return;
        }
        match self.known(table, path) {
            Some(place) => table.count(Some(place), 0, |counts| counts.conversions += 1),
            // The name is still where it was looked for.
            None => table.converted(&self.scratch.borrow()),
        }
    }

    /// Tells what is new, and goes by what has changed; call it each second.
    pub fn tell(&self) {
        let tables = self.tables.borrow();
        if self.tracker.has_room(tables.len()) {
            let told: Vec<_> = tables.iter().map(|table| table.tell(self.thread)).collect();
            self.tracker.hand_in(told);
        }
        let now_ms = self.clock.monotonic_ms();
        if now_ms.saturating_sub(self.aged_ms.get()) >= AGE_MS {
            self.aged_ms.set(now_ms);
            tables.iter().for_each(|table| table.age());
        }
        let (tracking, fanout) = (self.tracker.tracking(), self.tracker.fanout.version());
        let same = Arc::ptr_eq(&tracking, &self.tracking.borrow());
        if !same || fanout != self.fanout.replace(fanout) {
            self.tracking.replace(tracking);
            self.paths.borrow_mut().fill(None);
        }
    }
}

/// Where a path is remembered.
fn at(hash: u64) -> usize {
    usize::try_from(hash % PATHS as u64).unwrap_or_default()
}

/// Answers by which no new route is known: what is not there, or was not
/// understood, is no page.
fn is_no_page(status: u16) -> bool {
    matches!(status, 400 | 404 | 405 | 410 | 414 | 421)
}

impl Track {
    /// Of what is not tracked.
    pub fn none() -> Self {
        Self {
            table: None,
            place: None,
            began_ms: 0,
        }
    }

    /// The head of the answer is there.
    pub fn answered(&mut self, recorder: &Recorder, path: &str, status: u16, came: Came) {
        let Some(table) = &self.table else {
            return;
        };
        let (is_page, is_there) = match came {
            Came::FromOrigin { .. } => (!is_no_page(status), status < 400),
            Came::Waiting => (true, false),
            Came::Refused => (false, false),
        };
        if self.place.is_none() && is_page {
            self.place = recorder.admit(table, path, is_there);
            table.begun(self.place);
        }
        table.count(self.place, 1, |counts| match came {
            Came::FromOrigin {
                is_navigation,
                first_byte_us,
                has_waited,
            } => {
                counts.answered(status);
                let is_redirect = (300..400).contains(&status) && status != 304;
                counts.views += u64::from(is_navigation && !is_redirect);
                counts.conversions += u64::from(has_waited);
                if let Some(micros) = first_byte_us {
                    counts.first_byte(micros);
                }
            }
            Came::Waiting => counts.exposures += 1,
            Came::Refused => counts.refused += 1,
        });
    }

    /// The answer's body has ended, after so many bytes.
    pub fn ended(&mut self, bytes: u64) {
        if let Some(table) = self.table.take() {
            let busy_ms = now_ms(&table).wrapping_sub(self.began_ms);
            table.ended(self.place, bytes, busy_ms.into());
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it goes round, as it may")]
fn now_ms(table: &Table) -> u32 {
    table.clock.monotonic_ms() as u32
}

impl Drop for Track {
    fn drop(&mut self) {
        self.ended(0);
    }
}
