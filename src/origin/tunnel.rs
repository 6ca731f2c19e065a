//! What follows a `101 Switching Protocols` (RFC 9110 §7.8): bytes both ways,
//! unread, until one side ends, nothing moves for too long, or we are told to end it.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};

use super::OriginError;
use super::pool::Held;
use crate::incoming::{Established, WebSocket};

/// A connection that both sides agreed to take out of HTTP. Nothing moves until [`Tunnel::run`].
pub struct Tunnel<G> {
    pub(crate) client: OnUpgrade,
    pub(crate) origin: OnUpgrade,
    pub(crate) idle: Duration,
    /// It counts as a request and as a connection of the origin until it has ended.
    pub(crate) held: Held,
    /// A client's, which counts as a connection of its own.
    pub(crate) socket: Option<WebSocket>,
    pub(crate) guard: G,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// A side closed it, or its connection broke.
    Closed,
    /// Nothing moved in either direction for the idle limit.
    Idle,
    /// The caller's `close` resolved.
    Told,
    /// A side was gone before the tunnel stood.
    NeverStood,
}

struct Counted<'a> {
    stream: TokioIo<Upgraded>,
    moved: &'a Cell<u64>,
}

impl<G> Tunnel<G> {
    /// Copies both ways until the end; `close` ends it early. The guard is dropped last.
    /// Spawn it where the 101 is answered: it waits until that answer has been written.
    pub async fn run(self, close: impl Future<Output = ()>) -> TunnelEnd {
        let Self {
            client,
            origin,
            idle,
            held,
            socket,
            guard,
        } = self;
        let mut close = pin!(close);
        let both = async { tokio::try_join!(client, origin) };
        let (client, origin) = tokio::select! {
            both = both => match both {
                Ok(both) => both,
                Err(_) => return TunnelEnd::NeverStood,
            },
            () = &mut close => return TunnelEnd::Told,
            () = tokio::time::sleep(idle) => return TunnelEnd::NeverStood,
        };
        let moved = Cell::new(0);
        let mut client = Counted::new(client, &moved);
        let mut origin = Counted::new(origin, &moved);
        let end = copy(&mut client, &mut origin, &moved, idle, close).await;
        // Whoever is still there learns that it is over; a peer that does not take it is not waited for.
        let farewell = async { tokio::join!(client.shutdown(), origin.shutdown()) };
        let _gone_or_slow = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        drop((client, origin));
        drop((held, socket, guard));
        end
    }
}

/// Makes a 101 the answer to an Extended CONNECT (RFC 8441 §5), if the origin proves
/// that it means a WebSocket.
///
/// # Errors
/// When the key that it answers is not that of the question.
pub(crate) fn fold<B>(
    response: &mut Response<B>,
    socket: Option<&WebSocket>,
) -> Result<(), OriginError> {
    let Some(socket) = socket else {
        return Ok(());
    };
    let headers = response.headers_mut();
    if headers.get(header::SEC_WEBSOCKET_ACCEPT) != Some(&socket.accept) {
        return Err(OriginError::UnsolicitedUpgrade);
    }
    for name in [
        header::SEC_WEBSOCKET_ACCEPT,
        header::CONNECTION,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    *response.status_mut() = StatusCode::OK;
    response.extensions_mut().insert(Established);
    Ok(())
}

/// An ordinary answer to an Extended CONNECT may say no: a success would open a tunnel
/// with nobody behind it.
///
/// # Errors
/// When it says yes.
pub(crate) fn must_not_succeed<B>(
    response: &Response<B>,
    socket: Option<&WebSocket>,
) -> Result<(), OriginError> {
    if socket.is_some() && response.status().is_success() {
        return Err(OriginError::NoWebSocket);
    }
    Ok(())
}

async fn copy(
    client: &mut Counted<'_>,
    origin: &mut Counted<'_>,
    moved: &Cell<u64>,
    idle: Duration,
    mut close: Pin<&mut impl Future<Output = ()>>,
) -> TunnelEnd {
    let mut copying = pin!(copy_bidirectional(client, origin));
    loop {
        let before = moved.get();
        tokio::select! {
            _ended = &mut copying => return TunnelEnd::Closed,
            () = &mut close => return TunnelEnd::Told,
            () = tokio::time::sleep(idle) => if moved.get() == before {
                return TunnelEnd::Idle;
            },
        }
    }
}

impl<'a> Counted<'a> {
    fn new(stream: Upgraded, moved: &'a Cell<u64>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            moved,
        }
    }
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.moved.set(self.moved.get().wrapping_add(1));
        }
        polled
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_ready() {
            self.moved.set(self.moved.get().wrapping_add(1));
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
