//! The client's socket, watched: what moves on it is told to its watch, and it rests
//! without a buffer.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::{Order, Phase, Watch};
use super::wire::Wire;

/// The client's socket, watched.
pub(crate) struct Watched {
    wire: Wire,
    watch: Arc<Watch>,
    /// Whether the next bytes belong to a request line.
    in_request_line: bool,
    /// Bytes that may still be thrown away at the end.
    linger_bytes: usize,
    shut: bool,
    /// What was read before and not used, to be read once more.
    unread: Bytes,
}

impl Watched {
    pub(crate) fn new(wire: Wire, watch: Arc<Watch>, linger_bytes: usize) -> Self {
        Self {
            wire,
            watch,
            in_request_line: true,
            linger_bytes,
            shut: false,
            unread: Bytes::new(),
        }
    }

    /// The same, with what was read and not used.
    pub(crate) fn with_unread(mut self, unread: Bytes) -> Self {
        // An empty part would hold all of the buffer that it was read into.
        self.unread = if unread.is_empty() {
            Bytes::new()
        } else {
            unread
        };
        self
    }

    /// Waits, without a buffer, until there is something to read (true), or until
    /// the connection is told to end or to take no more requests, and is closed.
    pub(crate) async fn rest(&mut self) -> bool {
        let watch = Arc::clone(&self.watch);
        poll_fn(|context| {
            watch.attend(context);
            if watch.order() != Order::Go {
                return Poll::Ready(false);
            }
            // Our half has ended: whatever still comes could not be answered.
            if self.shut {
                let closed = Pin::new(&mut *self).poll_shutdown(context);
                return closed.map(|_| false);
            }
            // An end, and a fault, are something to read too.
            if !self.unread.is_empty() || self.wire.tcp().poll_read_ready(context).is_ready() {
                return Poll::Ready(true);
            }
            if watch.is_draining() {
                let closed = Pin::new(&mut *self).poll_shutdown(context);
                return closed.map(|_| false);
            }
            Poll::Pending
        })
        .await
    }

    /// A last word, if the socket takes it at once.
    pub(crate) fn say(&self, words: &[u8]) {
        self.wire.say(words);
    }

    /// Bytes of a head came in.
    fn head_bytes(&mut self, phase: Phase, bytes: &[u8]) {
        if phase == Phase::Idle {
            self.watch.enter(Phase::Head);
            self.in_request_line = true;
        }
        self.watch.began.store(true, Relaxed);
        if !self.in_request_line {
            return;
        }
        let start = bytes
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'))
            .unwrap_or(bytes.len());
        for byte in bytes.get(start..).unwrap_or_default() {
            match byte {
                b'#' => self.watch.fragment.store(true, Relaxed),
                b'\n' => {
                    self.in_request_line = false;
                    return;
                }
                _ => {}
            }
        }
    }

    /// Whether the client is still there: its end is noticed though nobody reads.
    fn probe(&mut self) -> io::Result<()> {
        if self.wire.has_ended()? {
            self.watch.half_closed.store(true, Relaxed);
        }
        Ok(())
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        let pending = polled.is_pending();
        self.watch.wants_write.store(pending, Relaxed);
        // Frames of an HTTP/2 connection without a request are no use of it.
        let is_used = match self.watch.phase() {
            Phase::Head => false,
            Phase::Streams => self.watch.streams.load(Relaxed) > 0,
            _ => true,
        };
        if !pending && is_used {
            self.watch.quiet.store(0, Relaxed);
            self.watch.ended.store(0, Relaxed);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if self.unread.is_empty() {
            Pin::new(&mut self.wire).poll_read(context, buffer)
        } else {
            let most = buffer.remaining().min(self.unread.len());
            buffer.put_slice(&self.unread.split_to(most));
            Poll::Ready(Ok(()))
        };
        self.watch.wants_read.store(polled.is_pending(), Relaxed);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            match self.watch.phase() {
                phase @ (Phase::Head | Phase::Idle) => self.head_bytes(phase, came),
                Phase::Serving | Phase::Answering => self.watch.quiet.store(0, Relaxed),
                Phase::Lingering | Phase::Tunnel | Phase::Streams => {}
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write(context, bytes);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write_vectored(context, slices);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    /// hyper flushes each time its task runs, so this is where a probe is answered.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.probe.swap(false, Relaxed) {
            self.probe()?;
        }
        let polled = Pin::new(&mut self.wire).poll_flush(context);
        // Only under TLS there is anything to wait for.
        self.watch.wants_flush.store(polled.is_pending(), Relaxed);
        polled
    }

    /// Ends our half, then throws away what the client still sends: closing a
    /// socket with unread bytes resets it, and the answer would be lost.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.wire).poll_shutdown(context))?;
            self.shut = true;
            let unread = match self.watch.phase() {
                Phase::Tunnel | Phase::Streams => false,
                Phase::Head => true,
                _ => self.watch.has_body.load(Relaxed),
            };
            if !unread {
                return Poll::Ready(Ok(()));
            }
            self.watch.enter(Phase::Lingering);
        }
        if self.watch.phase() != Phase::Lingering {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut scrap);
            let read = ready!(Pin::new(&mut self.wire).poll_read(context, &mut buffer));
            let came = buffer.filled().len();
            if read.is_err() || came == 0 || came >= self.linger_bytes {
                return Poll::Ready(Ok(()));
            }
            self.linger_bytes -= came;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.watch.cut.load(Relaxed) {
            let _closed_anyway = SockRef::from(self.wire.tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::super::Places;
    use super::*;
    use crate::visitor::address::TrustedProxies;

    #[tokio::test]
    async fn one_that_rests_and_was_closed_takes_no_request_that_came_too_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        // One that rests has been read to its end.
        tcp.try_read(&mut [0]).unwrap_err();
        let places = Places::new(9, 9, TrustedProxies::default());
        let watch = Watch::new(places.take(peer.ip(), &Arc::new(Notify::new())).unwrap());
        // The last request had a body.
        watch.begin(true, false);
        watch.answered();
        watch.drain();
        let mut socket = Watched::new(Wire::Plain(tcp), watch, 1024);
        let late = async {
            assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            client.shutdown().await.unwrap();
        };
        let (is_a_request, ()) = tokio::join!(socket.rest(), late);
        assert!(!is_a_request);
    }
}
