//! The two bodies of a forwarded exchange. Each knows what hyper does not tell:
//! whose fault a broken upload is, when a connection may be used again, and that
//! an answer cut short must never look complete.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::OriginError;
use super::fault::Broken;
use super::headers;
use super::pool::Lease;
use super::two;
use crate::alarm::{Alarm, Ticker};
use crate::incoming::{BodyFault, ClientBody};

/// The body of an answer: the origin's own stream, or something of ours.
/// The guard `G` is dropped when the body has ended, or with it.
pub enum Body<G> {
    /// Nothing.
    Empty,
    /// Bytes of our own, sent with their length.
    Full(Bytes),
    /// Nothing, although the head names this length: a 304 (RFC 9110 §8.6).
    Absent(u64),
    /// What the origin sends, frame by frame, never collected. Boxed, because an
    /// answer is moved some fifteen times on its way out.
    Origin(Box<OriginBody<G>>),
}

/// Told how an answer's body ended: whole, or cut by the origin's fault. Not told of
/// one that a client did not wait for.
pub type Ending = Rc<dyn Fn(Option<&OriginError>)>;

/// The origin's body on its way to the client.
pub struct OriginBody<G> {
    pub(crate) incoming: Coming,
    /// The connection of HTTP/1.1, until the body has ended.
    pub(crate) lease: Option<Lease>,
    /// Whether the connection may serve again after that.
    pub(crate) reusable: bool,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) silence: Silence,
    pub(crate) ending: Option<Ending>,
    pub(crate) guard: Option<G>,
}

/// What comes from the origin, by the version that is spoken.
pub(crate) enum Coming {
    One(Incoming),
    Two(Box<two::Answer>),
}

/// The limit between two pieces of a body; it runs only while we wait for the
/// origin, never while a slow client holds us back.
pub(crate) struct Silence {
    pub(crate) alarm: Alarm,
    pub(crate) limit: u32,
    pub(crate) due: Option<u32>,
}

/// The request's body on its way to the origin.
pub(crate) struct RequestBody {
    /// Nothing for a head that is sent a second time.
    incoming: Option<ClientBody>,
    upload: Option<Rc<Upload>>,
}

/// How far an upload has come; seen by the one who waits for the answer.
pub(crate) struct Upload {
    stage: Cell<Stage>,
    /// The tick at which the last piece was taken.
    taken: Cell<u32>,
    /// What an origin was given that has not looked at it, to be given once more.
    again: RefCell<Option<Bytes>>,
    ticker: Rc<Ticker>,
}

/// The stages of an upload, with the tick at which each began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The origin is to take what it was given.
    Sending(u32),
    /// The client is to send more.
    Client,
    /// All of it was handed over.
    Whole(u32),
    /// The client's framing was wrong.
    Malformed,
    /// The client went away in the middle.
    Gone,
}

impl<G> From<Bytes> for Body<G> {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl<G> Body<G> {
    /// Has somebody told how the origin's body ends.
    pub(crate) fn tell(&mut self, ending: &Ending) {
        if let Self::Origin(body) = self {
            body.ending = Some(Rc::clone(ending));
        }
    }
}

impl<G: Unpin> HttpBody for Body<G> {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        match &mut *self {
            Self::Empty | Self::Absent(_) => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Origin(body) => body.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            // Said to be there, so that hyper writes its length; a 304 sends none of it.
            Self::Full(_) | Self::Absent(_) => false,
            Self::Origin(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Absent(length) => SizeHint::with_exact(*length),
            Self::Origin(body) => body.incoming.size_hint(),
        }
    }
}

impl From<Incoming> for Coming {
    fn from(incoming: Incoming) -> Self {
        Self::One(incoming)
    }
}

impl From<two::Answer> for Coming {
    fn from(answer: two::Answer) -> Self {
        Self::Two(Box::new(answer))
    }
}

impl Coming {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::One(incoming) => Pin::new(incoming).poll_frame(context).map_err(Broken::One),
            Self::Two(answer) => Pin::new(&mut **answer)
                .poll_frame(context)
                .map_err(Broken::Two),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(incoming) => incoming.is_end_stream(),
            Self::Two(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One(incoming) => incoming.size_hint(),
            Self::Two(answer) => answer.size_hint(),
        }
    }
}

impl<G> OriginBody<G> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        match self.incoming.poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.silence.due = None;
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_trailers(trailers);
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(fault))) => self.fail(OriginError::BodyCut(fault)),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => match self.silence.poll(self.upload.as_deref(), context) {
                Poll::Ready(()) => self.fail(OriginError::IdleTimeout),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// The answer is whole: the guard goes, and the connection goes back if the request is whole too.
    fn end(&mut self) {
        self.guard = None;
        if let Some(ending) = self.ending.take() {
            ending(None);
        }
        if let Some(lease) = self.lease.take()
            && self.reusable
            && Upload::is_whole(self.upload.as_deref())
        {
            lease.give_back();
        }
    }

    fn fail(&mut self, fault: OriginError) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        self.guard = None;
        self.lease = None;
        let ending = self.ending.take();
        // An origin may be done before the client is, and close in its face.
        let is_uploading = !Upload::is_whole(self.upload.as_deref());
        if let Some(ending) = ending.filter(|_| !is_uploading) {
            ending(Some(&fault));
        }
        Poll::Ready(Some(Err(fault)))
    }
}

impl Silence {
    /// An origin that takes a request while it answers is not silent.
    fn poll(&mut self, upload: Option<&Upload>, context: &Context<'_>) -> Poll<()> {
        loop {
            let now = self.alarm.ticker().now();
            let due = *self.due.get_or_insert(now.saturating_add(self.limit));
            ready!(self.alarm.poll_until(due, context));
            let taken = upload.map_or(0, |upload| upload.taken.get());
            match taken.saturating_add(self.limit) {
                later if later > now => self.due = Some(later),
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl RequestBody {
    /// The client's body; the `Upload` is there unless it is empty.
    pub(crate) fn new(incoming: ClientBody, ticker: &Rc<Ticker>) -> (Self, Option<Rc<Upload>>) {
        let upload = (!incoming.is_end_stream()).then(|| {
            Rc::new(Upload {
                stage: Cell::new(Stage::Sending(ticker.now())),
                taken: Cell::new(ticker.now()),
                again: RefCell::default(),
                ticker: Rc::clone(ticker),
            })
        });
        let body = Self {
            incoming: Some(incoming),
            upload: upload.clone(),
        };
        (body, upload)
    }

    /// No body at all.
    pub(crate) fn empty() -> Self {
        Self {
            incoming: None,
            upload: None,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let again = this.upload.as_ref().and_then(|upload| upload.again());
        let mut polled = match again {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Pin::new(&mut *incoming).poll_frame(context),
        };
        let Some(upload) = &this.upload else {
            return polled;
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::clean_trailers(trailers);
        }
        let now = upload.ticker.now();
        if polled.is_ready() {
            upload.taken.set(now);
        }
        upload.stage.set(match &polled {
            Poll::Pending => Stage::Client,
            Poll::Ready(None) => Stage::Whole(now),
            Poll::Ready(Some(Ok(_))) if incoming.is_end_stream() && upload.is_new() => {
                Stage::Whole(now)
            }
            Poll::Ready(Some(Ok(_))) => Stage::Sending(now),
            Poll::Ready(Some(Err(fault))) => blame(fault),
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
            && self.upload.as_ref().is_none_or(|upload| upload.is_new())
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Upload {
    /// What was sent is to be given once more, before what is still to come.
    pub(crate) fn repeat(&self, sent: Option<Bytes>) {
        self.stage.set(Stage::Sending(self.ticker.now()));
        self.again.replace(sent);
    }

    fn again(&self) -> Option<Bytes> {
        self.again.take()
    }

    /// Whether what comes next was given to nobody yet.
    fn is_new(&self) -> bool {
        self.again.borrow().is_none()
    }

    /// Where it stands.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether everything that was to be sent has been handed over; a request without a body is whole.
    pub(crate) fn is_whole(upload: Option<&Self>) -> bool {
        upload.is_none_or(|upload| matches!(upload.stage(), Stage::Whole(_)))
    }
}

/// A body that ends too early is a client that left; anything else that the
/// decoder refuses is the client's bad framing.
fn blame(fault: &BodyFault) -> Stage {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(fault);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                    Stage::Malformed
                }
                _ => Stage::Gone,
            };
        }
        cause = error.source();
    }
    Stage::Gone
}
