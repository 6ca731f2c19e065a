//! One connection of HTTP/2: how it is opened, how many streams it has room for,
//! and whether the other end is still there.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;

use super::super::OriginError;
use super::super::connect::Opened;
use super::super::pool::{PIECE, Pool};
use super::super::remote::{Slot, Underway};

/// Requests of one connection at once, if the origin allows as many.
const STREAMS_MAX: usize = 100;

/// What is held of one answer that the client does not take, in bytes.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same of all answers of a connection: so much that those who take nothing
/// never stand in the way of the others.
#[expect(clippy::cast_possible_truncation, reason = "a hundred")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// What the pieces of answers that nobody has taken may cost beside their bytes, in h2's
/// reckoning. The windows are the bound: where this one is met h2 ends the connection,
/// and one who takes nothing of an answer in small pieces would end everybody's.
const PIECES_BUDGET: usize = usize::MAX;

/// What is held of one upload that the origin does not take, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that visitors left, of which the origin may not know yet.
const LEFT_MAX: usize = 1_000;

/// How long an origin may be silent.
#[derive(Clone, Copy)]
struct Patience {
    /// After so long it is asked whether it is there, if requests are under way.
    silence: Duration,
    /// The time it has to say so.
    pong: Duration,
    /// How soon it is asked again when it has said nothing else since: some servers
    /// take more for an attack (gRPC's allow one in five minutes).
    again: Duration,
}

const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(15),
    pong: Duration::from_secs(10),
    again: Duration::from_secs(301),
};

/// A connection that streams share. Dropping it closes it at once.
pub(crate) struct Line {
    send: SendRequest<Bytes>,
    streams: Cell<usize>,
    /// The right to use one of a limited number of connections, while there are streams.
    right: RefCell<Option<OwnedSemaphorePermit>>,
    address: SocketAddr,
    /// The tick at which the last stream ended.
    since: Cell<u32>,
    heard: Rc<Heard>,
    driver: AbortHandle,
}

/// What the one that drives a connection has to know of its streams.
#[derive(Default)]
struct Heard {
    /// Pieces of answers, wrapping.
    pieces: Cell<u32>,
    busy: Cell<bool>,
    /// Whether an answer did not begin in time, and nothing came since its request began.
    doubted: Cell<bool>,
}

/// A stream's place on a connection, and the request that it is for.
pub(crate) struct Seat {
    line: Rc<Line>,
    pool: Rc<Pool>,
    /// The pieces that had come on the connection before.
    before: u32,
    /// Gone when the request is to go elsewhere.
    underway: Option<Underway>,
}

/// What a connection is opened with.
pub(crate) struct Way {
    pub(crate) opened: Opened,
    pub(crate) slot: Rc<Slot>,
}

impl Line {
    /// Makes a connection one of HTTP/2. It stands when the origin has told its
    /// settings and answered to a ping: what speaks no HTTP/2 has seen no request.
    pub(super) async fn open(way: Way, limit: Duration) -> Result<Rc<Self>, OriginError> {
        let Way { opened, slot } = way;
        let opening = async {
            let (send, mut connection) = Builder::new()
                .enable_push(false)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .data_frame_budget(PIECES_BUDGET)
                .max_header_list_size(u32::try_from(PIECE).unwrap_or(u32::MAX))
                .max_send_buffer_size(SEND_BUFFER)
                .max_concurrent_reset_streams(LEFT_MAX)
                // What comes for streams that are forgotten is nobody's attack.
                .max_local_error_reset_streams(None)
                .handshake(opened.wire)
                .await
                .map_err(not_spoken)?;
            let pings = connection.ping_pong().ok_or_else(|| {
                let twice = io::Error::other("its pings are somebody else's");
                OriginError::Connect(twice)
            })?;
            let (greeted, greeting) = oneshot::channel();
            let heard = Rc::<Heard>::default();
            let driven = drive(connection, (pings, greeted), (Rc::clone(&heard), PATIENCE));
            let task = tokio::task::spawn_local(async move {
                driven.await;
                // It counts until its socket is closed.
                drop(slot);
            });
            let line = Self {
                send,
                streams: Cell::new(0),
                right: RefCell::default(),
                address: opened.address,
                since: Cell::new(0),
                heard,
                driver: task.abort_handle(),
            };
            match greeting.await {
                Ok(Ok(())) => Ok(Rc::new(line)),
                Ok(Err(Some(fault))) => Err(not_spoken(fault)),
                Ok(Err(None)) | Err(_) => {
                    let closed = io::ErrorKind::ConnectionReset.into();
                    Err(OriginError::Connect(closed))
                }
            }
        };
        let opened = tokio::time::timeout(limit, opening).await;
        opened.map_err(|_| OriginError::ConnectTimeout)?
    }

    /// Where it leads to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it takes no more requests: it was closed, the origin said GOAWAY, or those
    /// for whom something might still have come are gone.
    pub(super) fn is_over(&self) -> bool {
        if self.is_idle() && self.heard.doubted.get() {
            return true;
        }
        let mut context = Context::from_waker(Waker::noop());
        // A handle that has sent nothing waits for nobody.
        matches!(
            self.send.clone().poll_ready(&mut context),
            Poll::Ready(Err(_))
        )
    }

    /// Whether one more stream is allowed. None is where the way to the origin may be
    /// dead: a ping may be minutes away.
    pub(super) fn has_room(&self) -> bool {
        !self.heard.doubted.get()
            && self.streams.get() < STREAMS_MAX.min(self.send.current_max_send_streams())
            && !self.is_over()
    }

    /// Whether it has no stream.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Whether it has had no stream since this many ticks.
    pub(super) fn has_lapsed(&self, now: u32, lifetime: u32) -> bool {
        self.is_idle() && now.saturating_sub(self.since.get()) >= lifetime
    }

    /// Takes a place. A connection that is in use needs no second right to be.
    pub(super) fn seat(self: &Rc<Self>, mut underway: Underway) -> Seat {
        let right = underway.use_of_one.take();
        if self.is_idle() {
            self.right.replace(right);
        }
        self.streams.set(self.streams.get() + 1);
        self.heard.busy.set(true);
        Seat {
            line: Rc::clone(self),
            pool: Rc::clone(&underway.pool),
            before: self.heard.pieces.get(),
            underway: Some(underway),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Seat {
    /// What sends a request.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.line.send.clone()
    }

    /// A piece of an answer came.
    pub(super) fn heard(&self) {
        let heard = &self.line.heard;
        heard.pieces.set(heard.pieces.get().wrapping_add(1));
        if heard.doubted.replace(false) {
            self.pool.has_room();
        }
    }

    /// No answer came in time.
    pub(super) fn heard_nothing(&self) {
        let heard = &self.line.heard;
        if heard.pieces.get() == self.before {
            heard.doubted.set(true);
        }
    }

    /// The request goes elsewhere.
    pub(super) fn leave(mut self) -> Option<Underway> {
        self.underway.take()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let line = &self.line;
        line.streams.set(line.streams.get().saturating_sub(1));
        if line.is_idle() {
            line.heard.busy.set(false);
            line.since.set(self.pool.now());
            line.right.take();
        }
        self.pool.has_room();
    }
}

fn not_spoken(fault: h2::Error) -> OriginError {
    let text = format!("it does not speak HTTP/2 as origin_http2 says: {fault}");
    OriginError::Connect(match fault.into_io() {
        Some(fault) => fault,
        None => io::Error::other(text),
    })
}

/// Told whether the connection stands; an end without a fault is one too.
type Greeted = oneshot::Sender<Result<(), Option<h2::Error>>>;

/// Drives a connection to its end.
async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    connection: Connection<T, Bytes>,
    (mut pings, greeted): (PingPong, Greeted),
    (heard, patience): (Rc<Heard>, Patience),
) {
    let mut connection = std::pin::pin!(connection);
    let greeting = tokio::select! {
        ended = &mut connection => Err(ended.err()),
        pong = pings.ping(Ping::opaque()) => pong.map(drop).map_err(Some),
    };
    let stands = greeting.is_ok();
    // Whoever opened it may have left.
    let told = greeted.send(greeting).is_ok();
    if stands && told {
        tokio::select! {
            // How it ends is told to its streams.
            _told = &mut connection => {}
            () = until_gone(&mut pings, &heard, patience) => {}
        }
    }
}

/// Resolves when the other end does not answer any more.
async fn until_gone(pings: &mut PingPong, heard: &Heard, patience: Patience) {
    loop {
        let before = heard.pieces.get();
        tokio::time::sleep(patience.silence).await;
        if heard.pieces.get() != before || !heard.busy.get() {
            continue;
        }
        match tokio::time::timeout(patience.pong, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself tells why.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
        let mut waited = Duration::ZERO;
        while heard.pieces.get() == before && waited < patience.again {
            tokio::time::sleep(patience.silence).await;
            waited += patience.silence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Patience = Patience {
        silence: Duration::from_millis(5),
        pong: Duration::from_millis(50),
        again: Duration::from_millis(10),
    };

    #[tokio::test]
    async fn an_origin_that_answers_to_no_ping_any_more_is_left_if_somebody_waits_for_it() {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let mut server = h2::server::handshake(there).await.unwrap();
            tokio::select! {
                // Drives the connection; no request comes.
                _none = server.accept() => {}
                _told = stopped => {}
            }
            // It keeps the socket, as a machine without power does.
            pending::<()>().await;
        });
        let (_send, mut connection) = h2::client::handshake(here).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let (greeted, greeting) = oneshot::channel();
        let heard = Rc::<Heard>::default();
        let driven = drive(connection, (pings, greeted), (Rc::clone(&heard), QUICK));
        let mut driven = std::pin::pin!(driven);
        tokio::select! {
            () = &mut driven => panic!("it ended"),
            greeting = greeting => assert!(greeting.unwrap().is_ok()),
        }
        stop.send(()).unwrap();
        heard.busy.set(true);
        driven.await;
        server.abort();
    }
}
