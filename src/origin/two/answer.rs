//! An answer's body from its stream. What the client does not take stays in the
//! stream's window, which is no larger than the connection's share of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::Seat;
use super::upload::Sending;

/// The body of an answer.
pub(crate) struct Answer {
    stream: RecvStream,
    /// Whether only trailers can follow.
    is_read: bool,
    /// What is left of the length that the head names.
    left: Option<u64>,
    /// The stream's place and the request, until the answer has ended.
    underway: Option<(Seat, Option<Sending>)>,
}

impl Answer {
    /// The body that belongs to a head.
    pub(super) fn of(
        response: Response<RecvStream>,
        method: &Method,
        underway: (Seat, Option<Sending>),
    ) -> Response<Self> {
        let status = response.status();
        let has_none = *method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let left = if has_none {
            None
        } else {
            length(response.headers())
        };
        response.map(|stream| Self {
            stream,
            is_read: false,
            left,
            underway: Some(underway),
        })
    }
}

/// The length that a head names; h2 has seen to it that the body has no other.
fn length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.is_read {
            match ready!(this.stream.poll_data(context)) {
                Some(Ok(piece)) => {
                    if let Some((seat, _)) = &this.underway {
                        seat.heard();
                    }
                    // It fails only where nothing more comes anyway.
                    let _released = this.stream.flow_control().release_capacity(piece.len());
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(piece.len() as u64);
                    }
                    if this.stream.is_end_stream() {
                        this.underway = None;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None => this.is_read = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(context))?;
        this.underway = None;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
