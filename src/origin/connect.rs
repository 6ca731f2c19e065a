//! The wire to the origin: TCP or TLS, opened within a time limit. It remembers
//! whether a byte of answer was heard, because only silence allows a retry.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::names::Names;
use super::{OriginError, OriginSettings};

/// Whether the origin said anything since the flag was last lowered.
/// Shared with a connection that must be `Send` for upgrades, hence atomic; only one thread uses it.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<AtomicBool>);

/// A connection to the origin.
pub(crate) struct Wire {
    stream: Stream,
    heard: Heard,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Heard {
    /// Forgets what was heard: a new request begins.
    pub(crate) fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a byte came since.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that stands.
pub(crate) struct Opened {
    pub(crate) wire: Wire,
    pub(crate) heard: Heard,
    /// Where it leads to.
    pub(crate) address: SocketAddr,
    /// Whether HTTP/2 is spoken there.
    pub(crate) speaks_two: bool,
}

/// Opens a connection, name resolution and TLS handshake included, within `limit`;
/// it may be one of HTTP/2 if it is said to.
pub(crate) async fn connect(
    settings: (&OriginSettings, bool),
    names: &Names,
    limit: Duration,
) -> Result<Opened, OriginError> {
    let until = Instant::now() + limit;
    let (stream, address) = tokio::time::timeout_at(until, open(settings, names, until))
        .await
        .map_err(|_| OriginError::ConnectTimeout)?
        .map_err(|fault| match fault.kind() {
            io::ErrorKind::TimedOut => OriginError::ConnectTimeout,
            _ => OriginError::Connect(fault),
        })?;
    let heard = Heard::default();
    let speaks_two = match &stream {
        Stream::Plain(_) => settings.1,
        Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    };
    Ok(Opened {
        wire: Wire {
            stream,
            heard: heard.clone(),
        },
        heard,
        address,
        speaks_two,
    })
}

async fn open(
    (settings, may_be_two): (&OriginSettings, bool),
    names: &Names,
    until: Instant,
) -> io::Result<(Stream, SocketAddr)> {
    let (tcp, address) = reach(names, until).await?;
    tcp.set_nodelay(true)?;
    let Some((tls, name)) = &settings.tls else {
        return Ok((Stream::Plain(tcp), address));
    };
    let config = if may_be_two { &tls.two } else { &tls.config };
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), tcp)
        .await?;
    Ok((Stream::Tls(Box::new(stream)), address))
}

/// Tries the addresses of the name, the last good one first; each gets its part
/// of the time that is left, so that a dead one takes none of the others with it.
async fn reach(names: &Names, until: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    let known = names.addresses().await?;
    let count = known.addresses.len();
    let first = known.preferred.load(Ordering::Relaxed);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for step in 0..count {
        let place = (first + step) % count;
        let Some(address) = known.addresses.get(place).copied() else {
            break;
        };
        let left = until.saturating_duration_since(Instant::now());
        let part = left / u32::try_from(count - step).unwrap_or(1).max(1);
        match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                known.preferred.store(place, Ordering::Relaxed);
                return Ok((tcp, address));
            }
            Ok(Err(fault)) => last = fault,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.heard.0.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
