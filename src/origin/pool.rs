//! Connections to one origin that wait for their next request, newest first, so
//! that the oldest may lapse. Whether one is ready is looked at, never awaited.

use std::cell::RefCell;
use std::rc::Rc;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::body::RequestBody;
use super::connect::{Heard, connect};
use super::{OriginError, OriginSettings};
use crate::alarm::Ticker;

/// The most that is read of an answer at once, in bytes; its head has to fit in too.
/// What a slow client does not take is held by pieces.
pub(crate) const PIECE: usize = 64 * 1024;

/// The idle connections of one data thread.
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    limit: usize,
    lifetime: u32,
    ticker: Rc<Ticker>,
}

/// A connection in use. Dropping it closes the connection at once.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) heard: Heard,
    task: Task,
    /// Whether it served a request before: only then may silence mean that it was stale.
    pub(crate) reused: bool,
    pool: Rc<Pool>,
}

/// The task that drives a connection. hyper's own would not notice that nobody
/// waits any more while the origin is silent, so it is ended from here.
struct Task(Option<AbortHandle>);

struct Idle {
    sender: SendRequest<RequestBody>,
    heard: Heard,
    task: Task,
    since: u32,
}

impl Pool {
    pub(crate) fn new(settings: &OriginSettings, ticker: Rc<Ticker>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            limit: settings.pool_max_idle,
            lifetime: ticker.ticks(settings.pool_idle),
            ticker,
        })
    }

    /// The newest connection that is ready now, if any.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Lease> {
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
                let Idle {
                    sender,
                    heard,
                    task,
                    ..
                } = idle.remove(index);
                return Some(Lease {
                    sender,
                    heard,
                    task,
                    reused: true,
                    pool: Rc::clone(self),
                });
            }
            // Neither: its last exchange is being wound up. It stays for the next one.
        }
        None
    }

    /// Opens a new connection.
    pub(crate) async fn open(
        self: &Rc<Self>,
        settings: &OriginSettings,
    ) -> Result<Lease, OriginError> {
        let (wire, heard) = connect(settings).await?;
        let (sender, connection) = http1::Builder::new()
            .title_case_headers(settings.title_case_headers)
            .max_buf_size(PIECE)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(OriginError::Reset)?;
        let driven = tokio::task::spawn_local(async move {
            // How a connection ends is told to the request that was using it.
            let _told = connection.with_upgrades().await;
        });
        Ok(Lease {
            sender,
            heard,
            task: Task(Some(driven.abort_handle())),
            reused: false,
            pool: Rc::clone(self),
        })
    }

    /// Drops what is closed or has waited too long.
    pub(crate) fn expire(&self) {
        let now = self.ticker.now();
        self.idle.borrow_mut().retain(|idle| {
            !idle.sender.is_closed() && now.saturating_sub(idle.since) < self.lifetime
        });
    }

    /// How many connections wait.
    pub(crate) fn len(&self) -> usize {
        self.idle.borrow().len()
    }
}

impl Lease {
    /// Lets the connection live on by itself: it leaves HTTP and belongs to a tunnel.
    pub(crate) fn let_go(mut self) {
        self.task.0 = None;
    }

    /// Puts the connection back: its request was sent whole and its answer ended cleanly.
    pub(crate) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() >= self.pool.limit {
            if self.pool.limit == 0 {
                return;
            }
            idle.remove(0);
        }
        idle.push(Idle {
            sender: self.sender,
            heard: self.heard,
            task: self.task,
            since: self.pool.ticker.now(),
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
