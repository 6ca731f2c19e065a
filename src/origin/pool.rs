//! Connections to one origin that wait for their next request, newest first, so
//! that the oldest may lapse. Whether one is ready is looked at, never awaited.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::OriginError;
use super::body::RequestBody;
use super::connect::{Heard, connect};
use super::fault::Broken;
use super::remote::{Remote, Slot, Underway};
use super::two::{Leased, Lines, Way};
use crate::alarm::Ticker;

/// The most that is read of an answer at once, in bytes; its head has to fit in too.
/// What a slow client does not take is held by pieces.
pub(crate) const PIECE: usize = 64 * 1024;

/// The idle connections of one data thread.
pub(crate) struct Pool {
    pub(crate) remote: Arc<Remote>,
    idle: RefCell<Vec<Idle>>,
    limit: usize,
    lifetime: u32,
    ticker: Rc<Ticker>,
    /// Where HTTP/2 may be spoken.
    lines: Option<Box<Lines>>,
}

/// A connection in use. Dropping it closes the connection at once.
pub(crate) struct Lease {
    /// HTTP/1.1: one request at a time.
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) heard: Heard,
    task: Task,
    slot: Rc<Slot>,
    address: SocketAddr,
    /// Whether it served a request before: only then may silence mean that it was stale.
    pub(crate) reused: bool,
    underway: Underway,
}

/// What a tunnel keeps of the connection that it was made of.
pub(crate) struct Held {
    _slot: Rc<Slot>,
    _underway: Underway,
}

/// The task that drives a connection. hyper's own would not notice that nobody
/// waits any more while the origin is silent, so it is ended from here.
struct Task(Option<AbortHandle>);

struct Idle {
    sender: SendRequest<RequestBody>,
    heard: Heard,
    task: Task,
    slot: Rc<Slot>,
    address: SocketAddr,
    since: u32,
}

impl Pool {
    /// No connections yet. Must be called inside a `LocalSet`.
    pub(crate) fn new(remote: Arc<Remote>, ticker: Rc<Ticker>) -> Rc<Self> {
        let pool = Rc::new(Self {
            idle: RefCell::default(),
            limit: remote.settings.pool_max_idle,
            lifetime: ticker.ticks(remote.settings.pool_idle),
            ticker,
            lines: remote.settings.http2.then(Box::default),
            remote,
        });
        if let Some(slots) = &pool.remote.slots {
            tokio::task::spawn_local(yield_when_called(Rc::downgrade(&pool), slots.calls()));
        }
        pool
    }

    /// A connection that is ready, where they are not limited.
    pub(crate) fn ready(&self, underway: Underway) -> Result<Lease, Underway> {
        if self.remote.slots.is_some() || self.lines.is_some() {
            return Err(underway);
        }
        self.take_up(underway)
    }

    /// A connection of HTTP/1.1 that is ready.
    pub(crate) fn take_up(&self, underway: Underway) -> Result<Lease, Underway> {
        match self.take() {
            Some(idle) => Ok(idle.lease(underway)),
            None => Err(underway),
        }
    }

    /// Whether a request may share a connection of HTTP/2. One that asks to leave HTTP
    /// takes a connection of HTTP/1.1 with it.
    pub(crate) fn shares(&self, is_upgrade: bool) -> bool {
        self.lines.is_some() && !is_upgrade
    }

    /// A place on a connection of HTTP/2, or one of HTTP/1.1 that the origin chose.
    pub(crate) async fn share(
        self: &Rc<Self>,
        underway: Underway,
        limit: &mut Duration,
    ) -> Result<Leased, OriginError> {
        match &self.lines {
            Some(lines) => lines.lease(self, underway, limit).await,
            None => self.lease(underway, limit).await.map(Leased::One),
        }
    }

    /// A connection for a request: one that is ready, else a new one. Where they
    /// are limited, a wait for it comes first, and is no part of `limit`.
    pub(crate) async fn lease(
        &self,
        mut underway: Underway,
        limit: &mut Duration,
    ) -> Result<Lease, OriginError> {
        if self.remote.slots.is_some() {
            self.remote.enter(&mut underway).await?;
        }
        match self.take_up(underway) {
            Ok(lease) => Ok(lease),
            Err(underway) => self.open(underway, limit).await,
        }
    }

    /// The newest connection that is ready now, if any.
    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        while index > 0 {
            index -= 1;
            let Some(candidate) = idle.get(index) else {
                break;
            };
            if candidate.sender.is_closed() {
                idle.remove(index);
            } else if candidate.sender.is_ready() {
                return Some(idle.remove(index));
            }
            // Neither: its last exchange is being wound up. It stays for the next one.
        }
        None
    }

    /// Opens a new connection within `limit`; what it took is taken from it.
    pub(crate) async fn open(
        &self,
        underway: Underway,
        limit: &mut Duration,
    ) -> Result<Lease, OriginError> {
        let began = tokio::time::Instant::now();
        let dialed = self.dial(false, *limit).await;
        *limit = limit.saturating_sub(began.elapsed());
        self.make_one(dialed?, underway).await
    }

    /// Opens a connection within `limit`; under TLS the origin may choose HTTP/2.
    pub(crate) async fn dial(&self, may_be_two: bool, limit: Duration) -> Result<Way, OriginError> {
        let began = tokio::time::Instant::now();
        // Who may use a connection gets one at once, or when one at rest is closed.
        let slot = tokio::time::timeout(limit, self.remote.slot())
            .await
            .map_err(|_| OriginError::NoConnectionFree)?;
        let settings = &self.remote.settings;
        let left = limit.saturating_sub(began.elapsed());
        let opened = connect((settings, may_be_two), &self.remote.names, left).await?;
        Ok(Way { opened, slot })
    }

    /// Makes a connection one of HTTP/1.1.
    pub(crate) async fn make_one(
        &self,
        way: Way,
        underway: Underway,
    ) -> Result<Lease, OriginError> {
        let Way { opened, slot } = way;
        let (sender, connection) = http1::Builder::new()
            .title_case_headers(self.remote.settings.title_case_headers)
            .max_buf_size(PIECE)
            .handshake(TokioIo::new(opened.wire))
            .await
            .map_err(|fault| OriginError::Reset(Broken::One(fault)))?;
        // It counts until its socket is closed, which is with this task.
        let counted = Rc::clone(&slot);
        let driven = tokio::task::spawn_local(async move {
            // How a connection ends is told to the request that was using it.
            let _told = connection.with_upgrades().await;
            drop(counted);
        });
        Ok(Lease {
            sender,
            heard: opened.heard,
            task: Task(Some(driven.abort_handle())),
            slot,
            address: opened.address,
            reused: false,
            underway,
        })
    }

    /// Drops what is closed, has waited too long, or leads where the origin is no more.
    pub(crate) fn expire(&self) {
        let now = self.ticker.now();
        self.idle.borrow_mut().retain(|idle| {
            !idle.sender.is_closed()
                && now.saturating_sub(idle.since) < self.lifetime
                && self.remote.names.leads_to(idle.address)
        });
        if let Some(lines) = &self.lines {
            let leads = |address| self.remote.names.leads_to(address);
            lines.expire((now, self.lifetime), leads);
        }
    }

    /// The present tick.
    pub(crate) fn now(&self) -> u32 {
        self.ticker.now()
    }

    /// A place on a shared connection came free, or all of one.
    pub(crate) fn has_room(&self) {
        if let Some(lines) = &self.lines {
            lines.has_room();
        }
        self.give_up();
    }

    /// Closes the oldest ones that others want.
    fn give_up(&self) {
        let Some(slots) = &self.remote.slots else {
            return;
        };
        let mut idle = self.idle.borrow_mut();
        while !idle.is_empty() && slots.gives_one_up() {
            idle.remove(0);
        }
        let Some(lines) = &self.lines else {
            return;
        };
        while lines.idle() > 0 && slots.gives_one_up() {
            lines.close_one();
        }
    }

    /// How many connections wait.
    pub(crate) fn len(&self) -> usize {
        let shared = self.lines.as_ref().map_or(0, |lines| lines.idle());
        self.idle.borrow().len() + shared
    }
}

/// Gives up connections at rest whenever other threads want them.
async fn yield_when_called(pool: Weak<Pool>, mut calls: watch::Receiver<()>) {
    while calls.changed().await.is_ok() {
        let Some(pool) = pool.upgrade() else {
            return;
        };
        pool.give_up();
    }
}

impl Idle {
    /// Takes it up again.
    fn lease(self, underway: Underway) -> Lease {
        Lease {
            sender: self.sender,
            heard: self.heard,
            task: self.task,
            slot: self.slot,
            address: self.address,
            reused: true,
            underway,
        }
    }
}

impl Lease {
    /// Lets the connection live on by itself: it leaves HTTP and belongs to a tunnel.
    pub(crate) fn let_go(mut self) -> Held {
        self.task.0 = None;
        Held {
            _slot: self.slot,
            _underway: self.underway,
        }
    }

    /// Closes the connection; the request is still on its way.
    pub(crate) fn close(self) -> Underway {
        self.underway
    }

    /// Puts the connection back: its request was sent whole and its answer ended cleanly.
    pub(crate) fn give_back(self) {
        let pool = Rc::clone(&self.underway.pool);
        if self.sender.is_closed() || !pool.remote.names.leads_to(self.address) {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() >= pool.limit {
            if pool.limit == 0 {
                return;
            }
            idle.remove(0);
        }
        idle.push(Idle {
            sender: self.sender,
            heard: self.heard,
            task: self.task,
            slot: self.slot,
            address: self.address,
            since: pool.ticker.now(),
        });
        drop(idle);
        pool.give_up();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;
    use std::sync::Mutex;

    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::super::{OriginSettings, Resolver};
    use super::*;
    use crate::clock::Clock;

    /// What a name leads to, as a test says it.
    type Addresses = Arc<Mutex<Vec<IpAddr>>>;

    /// A pool for a name, whose addresses are asked for each time.
    fn pool(port: u16, addresses: &Addresses) -> Rc<Pool> {
        let mut settings =
            OriginSettings::new(&format!("http://shop.internal:{port}"), &[]).unwrap();
        settings.names_kept = Duration::ZERO;
        let told = Arc::clone(addresses);
        let resolver = Resolver::Scripted(Arc::new(move |_| {
            io::Result::Ok(told.lock().unwrap().clone())
        }));
        let remote = Remote::new(settings, (resolver, Clock::system()), Arc::default());
        Pool::new(Arc::new(remote), Ticker::new(Duration::from_secs(1)))
    }

    async fn leased(pool: &Rc<Pool>) -> Result<Lease, OriginError> {
        let mut limit = Duration::from_secs(20);
        pool.lease(Underway::new(pool), &mut limit).await
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_tried_the_one_that_answered_first_the_next_time() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = listener.local_addr().unwrap();
            // Nobody listens at the first two.
            let all = ["127.0.0.9", "127.0.0.8", "127.0.0.1"].map(ip).to_vec();
            let addresses: Addresses = Arc::new(Mutex::new(all));
            let pool = pool(here.port(), &addresses);
            for _ in 0..2 {
                assert_eq!(leased(&pool).await.unwrap().address, here);
                let known = pool.remote.names.addresses().await.unwrap();
                let preferred = &known.preferred;
                assert_eq!(preferred.load(std::sync::atomic::Ordering::Relaxed), 2);
            }
            *addresses.lock().unwrap() = vec![ip("127.0.0.9")];
            assert!(matches!(leased(&pool).await, Err(OriginError::Connect(_))));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn unused_connections_to_an_address_that_is_gone_lapse() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addresses: Addresses = Arc::new(Mutex::new(vec![ip("127.0.0.1")]));
            let pool = pool(listener.local_addr().unwrap().port(), &addresses);
            let (first, second) = (leased(&pool).await.unwrap(), leased(&pool).await.unwrap());
            first.give_back();
            pool.expire();
            assert_eq!((pool.len(), pool.remote.traffic().in_flight()), (1, 1));
            *addresses.lock().unwrap() = vec![ip("127.0.0.9")];
            pool.remote.names.refresh().await;
            pool.expire();
            assert_eq!(pool.len(), 0);
            second.give_back();
            assert_eq!((pool.len(), pool.remote.traffic().in_flight()), (0, 0));
        };
        LocalSet::new().run_until(test).await;
    }
}
