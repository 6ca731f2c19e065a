//! The body of a request on its way in, and who keeps an exchange waiting: in
//! HTTP/2 many share a connection, so that its silence says nothing of one.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What the client sends after the head, piece by piece.
pub struct ClientBody {
    incoming: Incoming,
    /// In HTTP/2 alone.
    exchange: Option<Arc<Exchange>>,
}

/// Goes with a request that came as an Extended CONNECT (RFC 8441) and was made the
/// upgrade that it stands for.
#[derive(Clone)]
pub struct WebSocket {
    /// The `Sec-WebSocket-Accept` that proves that the origin understood.
    pub accept: HeaderValue,
    /// Counts it as a connection of its client's, until this is dropped.
    pub place: Option<Arc<dyn Any + Send + Sync>>,
}

/// Goes with the answer by which such a WebSocket stands: a success without it would
/// be taken for one.
#[derive(Clone, Copy, Debug)]
pub struct Established;

/// Why a client's body ends too early.
#[derive(Debug)]
pub enum BodyFault {
    /// The connection, or the framing, as hyper says.
    Hyper(hyper::Error),
    /// The stream was reset in the middle, "without an error": hyper takes that for
    /// the end (RFC 9113 §8.1 allows it to a server that has answered, not to a
    /// client), and half an upload would look whole.
    CutShort,
}

/// One exchange of HTTP/2: whether it is the client who has to go on. Atomic
/// only because a body has to be `Send`.
#[derive(Debug, Default)]
pub struct Exchange {
    /// More of the request is wanted and does not come.
    sends_late: AtomicBool,
    /// A piece of the answer was given and the next one is not asked for.
    takes_late: AtomicBool,
    /// Pieces that moved, either way.
    moved: AtomicU32,
}

impl Exchange {
    /// Whether nothing goes on before the client sends or takes.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.sends_late.load(Relaxed) || self.takes_late.load(Relaxed)
    }

    /// Grows with each piece that moves.
    #[must_use]
    pub fn moved(&self) -> u32 {
        self.moved.load(Relaxed)
    }

    /// The answer's next piece was asked for: it is there, or the origin is late.
    pub fn answered(&self, is_there: bool) {
        self.takes_late.store(is_there, Relaxed);
        self.moved.fetch_add(1, Relaxed);
    }

    fn asked(&self, came: bool) {
        self.sends_late.store(!came, Relaxed);
        if came {
            self.moved.fetch_add(1, Relaxed);
        }
    }
}

impl ClientBody {
    /// A body of HTTP/2 tells its exchange.
    #[must_use]
    pub fn new(incoming: Incoming, exchange: Option<Arc<Exchange>>) -> Self {
        Self { incoming, exchange }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        if let Some(exchange) = &self.exchange {
            exchange.asked(polled.is_ready());
            if matches!(polled, Poll::Ready(None)) && !self.incoming.is_end_stream() {
                return Poll::Ready(Some(Err(BodyFault::CutShort)));
            }
        }
        polled.map_err(BodyFault::Hyper)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What nobody reads any more keeps nobody waiting.
impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.asked(true);
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hyper(fault) => fault.fmt(formatter),
            Self::CutShort => formatter.write_str("the client gave its upload up"),
        }
    }
}

impl Error for BodyFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Hyper(fault) => fault.source(),
            Self::CutShort => None,
        }
    }
}
