//! The connections of HTTP/2 to one origin that one data thread has. A request
//! takes a place on one of them; a new one is opened by one request at a time,
//! and the others take their places there.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::OriginError;
use super::super::pool::{Lease, Pool};
use super::super::remote::Underway;
use super::{Line, Seat};

/// What a data thread has of an origin that may speak HTTP/2.
#[derive(Default)]
pub(crate) struct Lines {
    open: RefCell<Vec<Rc<Line>>>,
    /// A place came free.
    room: Notify,
    opening: Cell<bool>,
    /// An attempt to open one has ended.
    opened: Notify,
    /// Whether the origin chose HTTP/1.1 when it was last asked.
    chose_one: Cell<bool>,
}

/// What a request goes by.
pub(crate) enum Leased {
    /// A connection of HTTP/1.1, because the origin chose it.
    One(Lease),
    /// A place on a shared one.
    Two(Seat),
}

/// The only one who opens a connection.
struct Opening<'a>(&'a Lines);

impl<'a> Opening<'a> {
    fn begin(lines: &'a Lines) -> Self {
        lines.opening.set(true);
        Self(lines)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

impl Lines {
    /// A place for a request. A wait for a connection where they are limited is no
    /// part of `limit`, in which a new one has to stand.
    pub(crate) async fn lease(
        &self,
        pool: &Rc<Pool>,
        mut underway: Underway,
        limit: &mut Duration,
    ) -> Result<Leased, OriginError> {
        if pool.remote.slots.is_some() {
            // Who comes while others wait stands behind them.
            if pool.remote.waiting() == 0
                && let Some(line) = self.with_room(false)
            {
                return Ok(Leased::Two(line.seat(underway)));
            }
            let mut turn = pin!(pool.remote.turn());
            loop {
                tokio::select! {
                    biased;
                    right = &mut turn => {
                        underway.use_of_one = right?;
                        break;
                    }
                    () = self.room.notified() => if let Some(line) = self.with_room(false) {
                        return Ok(Leased::Two(line.seat(underway)));
                    }
                }
            }
        }
        let began = Instant::now();
        let leased = self.find(pool, underway, *limit).await;
        *limit = limit.saturating_sub(began.elapsed());
        leased
    }

    /// The same for one who may use a connection, within `limit`.
    async fn find(
        &self,
        pool: &Rc<Pool>,
        underway: Underway,
        limit: Duration,
    ) -> Result<Leased, OriginError> {
        let until = Instant::now() + limit;
        let mut opened = pin!(self.opened.notified());
        loop {
            if let Some(line) = self.with_room(true) {
                return Ok(Leased::Two(line.seat(underway)));
            }
            if self.chose_one.get() {
                match pool.take_up(underway) {
                    Ok(lease) => return Ok(Leased::One(lease)),
                    Err(underway) => return self.open(pool, underway, until).await,
                }
            }
            if !self.opening.get() {
                return self.open(pool, underway, until).await;
            }
            let waited = tokio::time::timeout_at(until, opened.as_mut()).await;
            waited.map_err(|_| OriginError::ConnectTimeout)?;
            opened.set(self.opened.notified());
        }
    }

    async fn open(
        &self,
        pool: &Rc<Pool>,
        underway: Underway,
        until: Instant,
    ) -> Result<Leased, OriginError> {
        let _opening = Opening::begin(self);
        let left = || until.saturating_duration_since(Instant::now());
        let way = pool.dial(true, left()).await?;
        self.chose_one.set(!way.opened.speaks_two);
        if !way.opened.speaks_two {
            return pool.make_one(way, underway).await.map(Leased::One);
        }
        let line = Line::open(way, left()).await?;
        self.open.borrow_mut().push(Rc::clone(&line));
        if !line.has_room() {
            return Err(OriginError::NoConnectionFree);
        }
        let seat = line.seat(underway);
        // Those who wait for a right of their own may sit here.
        self.room.notify_waiters();
        Ok(Leased::Two(seat))
    }

    /// The first connection that has room, so that those opened for a crowd lapse;
    /// `idle`: also one that nobody uses.
    fn with_room(&self, idle: bool) -> Option<Rc<Line>> {
        let mut open = self.open.borrow_mut();
        open.retain(|line| !line.is_over());
        let fits = |line: &&Rc<Line>| (idle || !line.is_idle()) && line.has_room();
        open.iter().find(fits).cloned()
    }

    /// A place came free.
    pub(crate) fn has_room(&self) {
        self.room.notify_one();
    }

    /// Drops what is over, has been unused for too long, or leads where the origin is
    /// no more; requests under way there end where they are.
    pub(crate) fn expire(&self, (now, lifetime): (u32, u32), leads: impl Fn(SocketAddr) -> bool) {
        self.open.borrow_mut().retain(|line| {
            !line.is_over() && !line.has_lapsed(now, lifetime) && leads(line.address())
        });
    }

    /// Closes one that nobody uses.
    pub(crate) fn close_one(&self) {
        let mut open = self.open.borrow_mut();
        if let Some(place) = open.iter().position(|line| line.is_idle()) {
            open.remove(place);
        }
    }

    /// How many nobody uses.
    pub(crate) fn idle(&self) -> usize {
        self.open
            .borrow()
            .iter()
            .filter(|line| line.is_idle())
            .count()
    }
}
