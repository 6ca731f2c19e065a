//! One event's routes, as one thread counts them.

use std::cell::RefCell;
use std::sync::Arc;

use super::heavy::Heavy;
use super::{Batch, Counts, ROUTES_MAX, Told};
use crate::clock::Clock;
use crate::room::event::EventId;

/// What is counted of one event, by one thread.
pub(super) struct Table {
    pub(super) event: EventId,
    /// Tells it from all others of this thread.
    pub(super) number: u64,
    pub(super) clock: Clock,
    inner: RefCell<Inner>,
}

struct Inner {
    heavy: Heavy<Route>,
    other: Counts,
    /// Routes, unknown here, where somebody had waited and got in.
    conversions: Vec<Arc<str>>,
}

/// Such routes that wait to be told of; the others are counted as one.
const CONVERSIONS_MAX: usize = 1_024;

#[derive(Default)]
struct Route {
    fresh: Counts,
    in_flight: u32,
}

/// A route's place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) row: u16,
    pub(super) epoch: u32,
}

impl Table {
    pub(super) fn new(event: EventId, number: u64, clock: Clock) -> Self {
        Self {
            event,
            number,
            clock,
            inner: RefCell::new(Inner {
                heavy: Heavy::new(ROUTES_MAX),
                other: Counts::default(),
                conversions: Vec::new(),
            }),
        }
    }

    /// Where a route stands, if it is kept.
    pub(super) fn find(&self, name: &str) -> Option<Place> {
        place(self.inner.borrow().heavy.find(name)?)
    }

    /// Whether a route is still where it was.
    pub(super) fn has(&self, place: Place) -> bool {
        let mut inner = self.inner.borrow_mut();
        inner.heavy.at(place.row.into(), place.epoch).is_some()
    }

    /// Gives a new route a place; who has to go for it counts among the
    /// others from here on.
    pub(super) fn admit(&self, name: &str, has_room: bool) -> Option<Place> {
        let mut inner = self.inner.borrow_mut();
        if !has_room {
            inner.heavy.fix();
        }
        let placed = inner.heavy.put(name, 0);
        if let Some(gone) = placed.gone {
            inner.other.add(&gone.fresh);
        }
        place((placed.place, placed.epoch))
    }

    pub(super) fn len(&self) -> usize {
        self.inner.borrow().heavy.len()
    }

    /// An answer is under way.
    pub(super) fn begun(&self, place: Option<Place>) {
        self.at(place, |route| route.in_flight += 1);
    }

    /// It is no more.
    pub(super) fn ended(&self, place: Option<Place>, bytes: u64, busy_ms: u64) {
        self.at(place, |route| {
            route.in_flight = route.in_flight.saturating_sub(1);
        });
        self.count(place, 0, |counts| {
            counts.bytes += bytes;
            counts.busy_ms += busy_ms;
        });
    }

    fn at(&self, place: Option<Place>, change: impl FnOnce(&mut Route)) {
        let mut inner = self.inner.borrow_mut();
        let row = place.and_then(|place| inner.heavy.at(place.row.into(), place.epoch));
        if let Some(row) = row {
            change(&mut row.value);
        }
    }

    /// Counts at a route, or among the others if it has no place (any more).
    pub(super) fn count(
        &self,
        place: Option<Place>,
        weight: u64,
        change: impl FnOnce(&mut Counts),
    ) {
        let inner = &mut *self.inner.borrow_mut();
        let row = place.and_then(|place| inner.heavy.at(place.row.into(), place.epoch));
        match row {
            Some(row) => {
                row.weight += weight;
                change(&mut row.value.fresh);
            }
            None => change(&mut inner.other),
        }
    }

    /// Somebody got in who had waited at a route: another thread may know it.
    pub(super) fn converted(&self, name: &str) {
        let mut inner = self.inner.borrow_mut();
        if inner.conversions.len() < CONVERSIONS_MAX {
            inner.conversions.push(name.into());
        } else {
            inner.other.conversions += 1;
        }
    }

    /// Halves the weights.
    pub(super) fn age(&self) {
        self.inner.borrow_mut().heavy.age();
    }

    /// What is new since this was asked last.
    pub(super) fn tell(&self, thread: usize) -> Batch {
        let inner = &mut *self.inner.borrow_mut();
        let mut routes = Vec::new();
        for row in inner.heavy.rows_mut() {
            let in_flight = row.value.in_flight;
            if in_flight > 0 || !row.value.fresh.is_empty() {
                routes.push(Told {
                    name: Arc::clone(&row.name),
                    counts: std::mem::take(&mut row.value.fresh),
                    in_flight,
                    is_hearsay: false,
                });
            }
        }
        routes.extend(inner.conversions.drain(..).map(|name| Told {
            name,
            counts: Counts {
                conversions: 1,
                ..Counts::default()
            },
            in_flight: 0,
            is_hearsay: true,
        }));
        Batch {
            thread,
            event: self.event.clone(),
            routes,
            other: std::mem::take(&mut inner.other),
        }
    }
}

fn place((row, epoch): (usize, u32)) -> Option<Place> {
    let row = u16::try_from(row).ok()?;
    Some(Place { row, epoch })
}
