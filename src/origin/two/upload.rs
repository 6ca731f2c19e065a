//! The request's body into its stream, as far as the origin has room for it: by a
//! task of its own, since the answer may come before the request has ended.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::task::AbortHandle;

use super::super::body::{RequestBody, Upload};

/// What is kept of a body to be sent once more should the origin not look at it, in
/// bytes; most messages of gRPC are smaller.
const KEPT_MAX: usize = 64 * 1024;

/// The same in pieces: each takes some memory of its own, however small it is.
const PIECES_MAX: usize = 256;

/// A body on its way. Dropping it gives it up, and resets the stream unless the
/// origin has all of it.
pub(crate) struct Sending {
    task: AbortHandle,
    pump: Rc<RefCell<Pump>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sending {
    /// Begins to send.
    pub(super) fn begin(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        let pump = Rc::new(RefCell::new(Pump {
            body,
            stream,
            piece: None,
            ended: false,
            kept: Some(Kept::default()),
        }));
        let driven = Rc::clone(&pump);
        let task = tokio::task::spawn_local(async move {
            let sent = poll_fn(|context| driven.borrow_mut().poll(context)).await;
            if let Err(Broken::Client) = sent {
                driven.borrow_mut().stream.send_reset(Reason::CANCEL);
            }
        });
        Self {
            task: task.abort_handle(),
            pump,
        }
    }

    /// The origin has begun to answer: nothing is sent once more.
    pub(super) fn is_seen(&self) {
        self.pump.borrow_mut().kept = None;
    }

    /// The body as it was in the beginning, if it can still be had; `upload` is its own.
    pub(super) fn take_back(self, upload: &Upload) -> Option<RequestBody> {
        let mut pump = self.pump.borrow_mut();
        let kept = pump.kept.take()?;
        // As one: an origin may take very many small pieces at once for an attack.
        let sent = (!kept.pieces.is_empty()).then(|| kept.pieces.concat().into());
        upload.repeat(sent);
        Some(std::mem::replace(&mut pump.body, RequestBody::empty()))
    }
}

struct Pump {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// What waits for room.
    piece: Option<Bytes>,
    /// Whether that is the last of it.
    ended: bool,
    /// All that was read, unless it was too much.
    kept: Option<Kept>,
}

/// What was read of a body, piece by piece.
#[derive(Default)]
struct Kept {
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// Who broke off.
enum Broken {
    /// The client.
    Client,
    /// The origin, or the connection to it: the answer tells how.
    Origin,
}

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Self {
        Self::Origin
    }
}

impl Pump {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if self.piece.is_some() {
                ready!(self.poll_piece(context))?;
                if self.ended {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // Nothing is read for an origin that wants nothing more.
            if self.stream.poll_reset(context)?.is_ready() {
                return Poll::Ready(Err(Broken::Origin));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => {
                    self.stream.send_data(Bytes::new(), true)?;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(_)) => return Poll::Ready(Err(Broken::Client)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        self.ended = self.body.is_end_stream();
                        self.keep(&piece);
                        if piece.is_empty() && self.ended {
                            self.stream.send_data(piece, true)?;
                            return Poll::Ready(Ok(()));
                        }
                        self.piece = Some(piece).filter(|piece| !piece.is_empty());
                    }
                    Err(frame) => {
                        self.kept = None;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                },
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        if let Some(kept) = &mut self.kept {
            kept.bytes = kept.bytes.saturating_add(piece.len());
            if kept.bytes > KEPT_MAX || kept.pieces.len() >= PIECES_MAX {
                self.kept = None;
            } else {
                kept.pieces.push(piece.clone());
            }
        }
    }

    /// Sends what waits, as much at a time as there is room for.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let Some(mut piece) = self.piece.take() {
            self.stream.reserve_capacity(piece.len());
            let room = match self.stream.capacity() {
                0 => match self.stream.poll_capacity(context) {
                    Poll::Ready(Some(room)) => room?,
                    Poll::Ready(None) => return Poll::Ready(Err(Broken::Origin)),
                    Poll::Pending => {
                        self.piece = Some(piece);
                        return Poll::Pending;
                    }
                },
                room => room,
            };
            let part = piece.split_to(room.min(piece.len()));
            let last = self.ended && piece.is_empty();
            self.stream.send_data(part, last)?;
            self.piece = Some(piece).filter(|piece| !piece.is_empty());
        }
        Poll::Ready(Ok(()))
    }
}
