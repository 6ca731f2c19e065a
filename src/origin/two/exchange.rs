//! One exchange over HTTP/2: a request in a stream of its own, and what its end says
//! of whether the origin has seen it.

use std::rc::Rc;
use std::time::Duration;

use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body::Body as _;

use super::super::body::{RequestBody, Stage, Upload};
use super::super::errand::{Errand, Failure, Setback};
use super::super::fault::Broken;
use super::super::pool::Lease;
use super::super::remote::Underway;
use super::super::{Origin, OriginError, headers};
use super::head::head;
use super::lines::Leased;
use super::upload::Sending;
use super::{Answer, Seat};

/// How often a request is tried at one origin that has not looked at it.
const TRIES: usize = 2;

/// What came of it.
pub(crate) enum Tried {
    /// The origin speaks HTTP/1.1 after all: here is a connection.
    One(Lease),
    /// An answer by HTTP/2.
    Two(Response<Answer>),
}

/// Why a stream gave no answer.
enum Lost {
    /// The origin says, or cannot help, that it has not looked at the request (RFC 9113 §8.7).
    Unseen(h2::Error),
    Seen(OriginError),
}

impl Origin {
    /// Sends the request in a stream of a connection that others share. What the
    /// origin has not looked at is tried once more.
    pub(in super::super) async fn share(
        &self,
        errand: &mut Errand,
        limit: &mut Duration,
        underway: Underway,
    ) -> Result<Tried, Setback> {
        let pool = &self.shared.pool;
        let mut underway = underway;
        let mut tries = 0;
        loop {
            tries += 1;
            let before = *limit;
            let leased = pool.share(underway, limit).await;
            errand.left = errand.left.saturating_sub(before.saturating_sub(*limit));
            let seat = match leased.map_err(Setback::Unsent)? {
                Leased::One(lease) => return Ok(Tried::One(lease)),
                Leased::Two(seat) => seat,
            };
            let Some(mut request) = errand.request.take() else {
                let gone = "a request is sent once";
                return Err(Setback::Sent(OriginError::Protocol(gone)));
            };
            let settings = &pool.remote.settings;
            headers::put_on_host(request.headers_mut(), settings, errand.names_host);
            let head = head(&request, settings.tls.is_some()).map_err(Setback::Sent)?;
            let fault = match self.exchange(errand, (head, &mut request), &seat).await {
                Ok((response, sending)) => {
                    seat.heard();
                    let answer = Answer::of(response, &errand.method, (seat, sending));
                    return Ok(Tried::Two(answer));
                }
                Err(Lost::Seen(fault)) => return Err(Setback::Sent(fault)),
                Err(Lost::Unseen(fault)) => fault,
            };
            let fault = OriginError::Reset(Broken::Two(fault));
            if errand.upload.is_some() && request.body().is_end_stream() {
                // Its body is gone.
                return Err(Setback::Sent(fault));
            }
            errand.request = Some(request);
            match seat.leave() {
                Some(left) if tries < TRIES => underway = left,
                _ => return Err(Setback::Unsent(fault)),
            }
        }
    }

    /// Sends and waits for the head of the answer. The body is taken out of the
    /// request when the stream stands.
    async fn exchange(
        &self,
        errand: &Errand,
        (head, request): (Request<()>, &mut Request<RequestBody>),
        seat: &Seat,
    ) -> Result<(Response<RecvStream>, Option<Sending>), Lost> {
        let upload = errand.upload.as_ref();
        let begun = seat.sender().send_request(head, upload.is_none());
        let (answer, stream) = begun.map_err(|fault| {
            if fault.is_go_away() || fault.is_io() {
                // The connection ended before: nothing was sent.
                return Lost::Unseen(fault);
            }
            Lost::Seen(OriginError::Reset(Broken::Two(fault)))
        })?;
        let sending = upload.is_some().then(|| {
            let body = std::mem::replace(request.body_mut(), RequestBody::empty());
            Sending::begin(body, stream)
        });
        match self.answer(Box::pin(answer), upload).await {
            Ok(response) => {
                if let Some(sending) = &sending {
                    sending.is_seen();
                }
                Ok((response, sending))
            }
            Err(Failure::Late(fault)) => {
                seat.heard_nothing();
                Err(Lost::Seen(fault))
            }
            Err(Failure::Sending(fault)) => {
                let refused = fault.is_reset() && fault.reason() == Some(Reason::REFUSED_STREAM);
                // Only streams above the last one that the origin looked at end so.
                if fault.is_remote() && (refused || fault.is_go_away()) {
                    if let (Some(sending), Some(upload)) = (sending, upload)
                        && let Some(body) = sending.take_back(upload)
                    {
                        *request.body_mut() = body;
                    }
                    return Err(Lost::Unseen(*fault));
                }
                Err(Lost::Seen(classify(*fault, upload)))
            }
        }
    }
}

/// Whose fault it was that a stream ended without an answer.
fn classify(fault: h2::Error, upload: Option<&Rc<Upload>>) -> OriginError {
    match upload.map(|upload| upload.stage()) {
        Some(Stage::Malformed) => OriginError::RequestBody,
        Some(Stage::Gone) => OriginError::ClientGone,
        _ if fault.is_library() && fault.is_reset() => {
            OriginError::Protocol("a stream of HTTP/2 breaks its rules")
        }
        _ => OriginError::Reset(Broken::Two(fault)),
    }
}
