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
    /// How many requests of this thread wait for a place or for a connection.
    waiting: Cell<usize>,
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

/// One of those who wait.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
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
            // Who comes while others of this thread wait stands behind them; those of
            // another thread can take no place here.
            if self.waiting.get() == 0
                && let Some(line) = self.with_room(false)
            {
                return Ok(self.seat(&line, underway));
            }
            let _waiting = Waiting::begin(&self.waiting);
            let mut turn = pin!(pool.remote.turn());
            loop {
                tokio::select! {
                    biased;
                    right = &mut turn => {
                        underway.use_of_one = right?;
                        break;
                    }
                    () = self.room.notified() => if let Some(line) = self.with_room(false) {
                        return Ok(self.seat(&line, underway));
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
                return Ok(self.seat(&line, underway));
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
        Ok(self.seat(&line, underway))
    }

    /// Takes a place there. If that leaves more of them, the next one who waits, also for
    /// a right of its own, may sit there too.
    fn seat(&self, line: &Rc<Line>, underway: Underway) -> Leased {
        let seat = line.seat(underway);
        if self.waiting.get() > 0 && line.has_room() {
            self.room.notify_one();
        }
        Leased::Two(seat)
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use tokio::net::TcpListener;
    use tokio::task::{LocalSet, spawn_local};

    use super::super::super::remote::Remote;
    use super::super::super::{OriginSettings, Resolver};
    use super::*;
    use crate::alarm::Ticker;
    use crate::clock::Clock;

    /// An origin that allows one connection and four streams on it, as two threads have it.
    async fn threads() -> [Rc<Pool>; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                spawn_local(async move {
                    let mut builder = h2::server::Builder::new();
                    let opened = builder.max_concurrent_streams(4).handshake::<_, Bytes>(tcp);
                    // Drives the connection; no request comes.
                    opened.await.unwrap().accept().await
                });
            }
        });
        let mut settings = OriginSettings::new(&url, &[]).unwrap();
        settings.http2 = true;
        settings.connections = 1;
        settings.connection_wait = Duration::from_secs(60);
        let remote = Remote::new(
            settings,
            (Resolver::System, Clock::system()),
            Arc::default(),
        );
        let remote = Arc::new(remote);
        [0, 1].map(|_| Pool::new(Arc::clone(&remote), Ticker::new(Duration::from_secs(1))))
    }

    async fn seat(pool: &Rc<Pool>) -> Seat {
        let mut limit = Duration::from_secs(60);
        match pool.share(Underway::new(pool), &mut limit).await.unwrap() {
            Leased::Two(seat) => seat,
            Leased::One(_) => panic!("HTTP/2 was asked for"),
        }
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut context)
    }

    /// One who gets a place at once.
    fn sits(pool: &Rc<Pool>) -> Seat {
        match poll(&mut Box::pin(seat(pool))) {
            Poll::Ready(seat) => seat,
            Poll::Pending => panic!("there is room"),
        }
    }

    /// One who does not.
    fn waits(pool: &Rc<Pool>) -> Pin<Box<impl Future<Output = Seat>>> {
        let mut waiter = Box::pin(seat(pool));
        assert!(poll(&mut waiter).is_pending(), "there is no room");
        waiter
    }

    #[tokio::test]
    async fn who_waits_on_another_thread_keeps_nobody_from_a_free_place() {
        let test = async {
            let [here, there] = threads().await;
            let first = seat(&here).await;
            let elsewhere = waits(&there);
            assert_eq!(here.remote.waiting(), 1);
            let more = [sits(&here), sits(&here), sits(&here)];
            // All are taken.
            let last = waits(&here);
            drop(first);
            let last = last.await;
            drop((more, last));
            elsewhere.await;
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn all_who_wait_get_the_places_that_come_free_at_once() {
        let test = async {
            let [here, _] = threads().await;
            let mut taken = vec![seat(&here).await];
            taken.extend([sits(&here), sits(&here), sits(&here)]);
            let mut first = waits(&here);
            taken.truncate(1);
            let others = [sits(&here), sits(&here)];
            let Poll::Ready(first) = poll(&mut first) else {
                panic!("a place was left")
            };
            drop((taken, others, first));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn who_takes_up_a_connection_at_rest_makes_place_for_the_others() {
        let test = async {
            let [here, _] = threads().await;
            let mut taken = vec![seat(&here).await];
            taken.extend([sits(&here), sits(&here), sits(&here)]);
            let mut first = waits(&here);
            drop(taken);
            // The right to use the connection is the first one's.
            let mut others = [waits(&here), waits(&here)];
            let first = poll(&mut first);
            assert!(first.is_ready());
            let others = others.each_mut().map(poll);
            assert!(others.iter().all(Poll::is_ready));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_connection_that_said_nothing_in_time_has_room_again_when_it_speaks() {
        let test = async {
            let [here, _] = threads().await;
            let first = seat(&here).await;
            sits(&here).heard_nothing();
            let mut next = waits(&here);
            first.heard();
            assert!(poll(&mut next).is_ready());
        };
        LocalSet::new().run_until(test).await;
    }
}
