//! One request on its way: made ready once, then tried at an origin, or at one
//! after another for as long as none has seen anything of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::body::{Coming, RequestBody, Silence, Stage, Upload};
use super::fault::Broken;
use super::headers::{self, Asked};
use super::pool::Lease;
use super::remote::Underway;
use super::two::{self, Tried};
use super::{Body, Forward, Forwarded, Origin, OriginBody, OriginError, Timing, Tunnel, tunnel};
use crate::alarm::{Alarm, Ticker};
use crate::incoming::{ClientBody, WebSocket};

/// A request that was made ready for origins.
pub struct Errand {
    /// There until an origin may have seen it.
    pub(super) request: Option<Request<RequestBody>>,
    /// Its head once more, while it may be repeated.
    spare: Option<Spare>,
    /// It was repeated, here or at another origin, which is done once.
    pub(super) repeated: bool,
    /// Whether the client named a host, which only HTTP/1.0 may leave out.
    pub(super) names_host: bool,
    pub(super) upload: Option<Rc<Upload>>,
    asked: Asked,
    client: Option<OnUpgrade>,
    /// Asked for by an Extended CONNECT.
    socket: Option<WebSocket>,
    pub(super) method: Method,
    began: Instant,
    /// What is left of the time to connect, over all origins that are tried.
    pub left: Duration,
}

/// The head of a request without a body, to be repeated. Most never are: lines in a
/// row are copied in less time than a map of them.
struct Spare {
    uri: Uri,
    lines: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    fn of(request: &Request<RequestBody>) -> Self {
        let headers = request.headers();
        let mut lines = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            lines.push((name.clone(), value.clone()));
        }
        Self {
            uri: request.uri().clone(),
            lines,
        }
    }

    fn request(self, method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = self.uri;
        let headers = request.headers_mut();
        headers.reserve(self.lines.len());
        for (name, value) in self.lines {
            headers.append(name, value);
        }
        request
    }
}

/// An answer's head, and the connection that it came by.
pub struct Arrived(Came);

enum Came {
    One(Response<Incoming>, Lease),
    Two(Response<two::Answer>),
}

/// Why an origin gave no answer.
pub enum Setback {
    /// It has seen nothing of the request, or what it has seen may be repeated this
    /// once: it may be tried elsewhere.
    Unsent(OriginError),
    /// It may have seen it.
    Sent(OriginError),
}

pub(super) enum Failure<E> {
    Sending(Box<E>),
    Late(OriginError),
}

impl Errand {
    /// Makes a request ready, whichever origin it goes to; boxed, because those who
    /// carry it are moved with every request. `None`: it may go no
    /// further ([`Errand::last_forward`] is its answer).
    #[must_use]
    pub fn new(
        request: Request<ClientBody>,
        forward: Forward,
        ticker: &Rc<Ticker>,
        connect: Duration,
    ) -> Option<Box<Self>> {
        let began = Instant::now();
        let (mut parts, incoming) = request.into_parts();
        if parts.method == Method::OPTIONS && headers::last_forward(&mut parts.headers) {
            return None;
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        let socket = parts.extensions.get::<WebSocket>().cloned();
        let parts_name_host = parts.headers.contains_key(header::HOST);
        let (body, upload) = RequestBody::new(incoming, ticker);
        let asked = headers::prepare_request(&mut parts, upload.is_some(), forward);
        Some(Box::new(Self {
            method: parts.method.clone(),
            request: Some(Request::from_parts(parts, body)),
            spare: None,
            repeated: false,
            names_host: parts_name_host,
            upload,
            asked,
            client,
            socket,
            began,
            left: connect,
        }))
    }

    /// The answer to an OPTIONS that may go no further (RFC 9110 §7.6.2).
    #[must_use]
    pub fn last_forward<G>() -> Forwarded<G> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let first_byte = Duration::ZERO;
        Forwarded::Response(response, Timing { first_byte })
    }
}

impl Arrived {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            Came::One(response, _) => response.status(),
            Came::Two(response) => response.status(),
        }
    }
}

impl Setback {
    /// What was wrong.
    #[must_use]
    pub fn fault(&self) -> &OriginError {
        match self {
            Self::Unsent(fault) | Self::Sent(fault) => fault,
        }
    }

    /// The same, when nothing more is tried.
    #[must_use]
    pub fn into_fault(self) -> OriginError {
        match self {
            Self::Unsent(fault) | Self::Sent(fault) => fault,
        }
    }
}

impl Origin {
    /// Counts a request that was given to this origin.
    #[must_use]
    pub fn begin(&self) -> Underway {
        Underway::new(&self.shared.pool)
    }

    /// Sends the request and waits for the head of the answer; a new connection
    /// has to stand within `connect`. Once, on a reused connection that died
    /// without a word, it is tried anew (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    ///
    /// # Errors
    /// When there is no answer; the errand can be tried elsewhere when nothing was sent.
    pub async fn attempt(
        &self,
        errand: &mut Errand,
        connect: Duration,
        underway: Underway,
    ) -> Result<Arrived, Setback> {
        let pool = &self.shared.pool;
        let settings = &pool.remote.settings;
        let mut limit = connect;
        let mut lease = match pool.ready(underway) {
            Ok(lease) => lease,
            Err(underway) if pool.shares(errand.asked.upgrade.is_some()) => {
                match Box::pin(self.share(errand, &mut limit, underway)).await? {
                    Tried::Two(answer) => return Ok(Arrived(Came::Two(answer))),
                    Tried::One(lease) => lease,
                }
            }
            Err(underway) => {
                // Large and seldom: it would make every request's future as large.
                let leased = Box::pin(pool.lease(underway, &mut limit)).await;
                errand.left = errand.left.saturating_sub(connect.saturating_sub(limit));
                leased.map_err(Setback::Unsent)?
            }
        };
        loop {
            let Some(mut request) = errand.request.take() else {
                let gone = "a request is sent once";
                return Err(Setback::Sent(OriginError::Protocol(gone)));
            };
            headers::put_on_host(request.headers_mut(), settings, errand.names_host);
            let upload = errand.upload.as_ref();
            let may_repeat = lease.reused
                && !errand.repeated
                && upload.is_none()
                && errand.method.is_idempotent();
            errand.spare = may_repeat.then(|| Spare::of(&request));
            lease.heard.lower();
            let sending = Box::pin(lease.sender.try_send_request(request));
            let mut fault = match self.answer(sending, upload).await {
                Ok(response) => return Ok(Arrived(Came::One(response, lease))),
                Err(Failure::Late(fault)) => return Err(Setback::Sent(fault)),
                Err(Failure::Sending(fault)) => fault,
            };
            let unsent = fault.take_message();
            if !lease.reused {
                let is_unsent = unsent.is_some();
                errand.request = unsent;
                let fault = classify(fault.into_error(), upload);
                return Err(if is_unsent {
                    Setback::Unsent(fault)
                } else {
                    Setback::Sent(fault)
                });
            }
            let spare = errand.spare.take().filter(|_| !lease.heard.is_raised());
            errand.request = match (unsent, spare) {
                (Some(unsent), _) => Some(unsent),
                (None, Some(spare)) => {
                    errand.repeated = true;
                    Some(spare.request(errand.method.clone()))
                }
                (None, None) => {
                    return Err(Setback::Sent(classify(fault.into_error(), upload)));
                }
            };
            let before = limit;
            let opened = Box::pin(pool.open(lease.close(), &mut limit)).await;
            errand.left = errand.left.saturating_sub(before.saturating_sub(limit));
            lease = opened.map_err(Setback::Unsent)?;
        }
    }

    /// Makes the origin's answer the one that the client gets. `guard` lives until
    /// its body (or the tunnel) has ended.
    ///
    /// # Errors
    /// When the answer breaks a rule.
    pub fn settle<G>(
        &self,
        errand: &mut Errand,
        arrived: Arrived,
        guard: G,
    ) -> Result<Forwarded<G>, OriginError> {
        match arrived.0 {
            Came::One(response, lease) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(errand, (response, lease), guard)
            }
            Came::One(response, lease) => self.answered(errand, (response, Some(lease)), guard),
            Came::Two(response) => self.answered(errand, (response, None), guard),
        }
    }

    /// Both sides leave HTTP.
    fn switch<G>(
        &self,
        errand: &mut Errand,
        (mut response, lease): (Response<Incoming>, Lease),
        guard: G,
    ) -> Result<Forwarded<G>, OriginError> {
        let (Some(asked), Some(client)) = (&errand.asked.upgrade, errand.client.take()) else {
            return Err(OriginError::UnsolicitedUpgrade);
        };
        headers::prepare_switch(&mut response, asked)?;
        tunnel::fold(&mut response, errand.socket.as_ref())?;
        let tunnel = Tunnel {
            client,
            origin: hyper::upgrade::on(&mut response),
            idle: self.shared.pool.remote.settings.tunnel_idle,
            held: lease.let_go(),
            socket: errand.socket.take(),
            guard,
        };
        Ok(Forwarded::Tunnel(response.map(|_| Body::Empty), tunnel))
    }

    /// An ordinary answer.
    fn answered<B: HttpBody + Into<Coming>, G>(
        &self,
        errand: &mut Errand,
        (mut response, lease): (Response<B>, Option<Lease>),
        guard: G,
    ) -> Result<Forwarded<G>, OriginError> {
        let upload = errand.upload.take();
        let socket = errand.socket.as_ref();
        let shared = &*self.shared;
        tunnel::must_not_succeed(&response, socket)?;
        let bodiless =
            errand.method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
        let framing = headers::prepare_response(&mut response, bodiless)?;
        let timing = Timing {
            first_byte: errand.began.elapsed(),
        };
        let not_modified = response.status() == StatusCode::NOT_MODIFIED;
        let response = response.map(|incoming| {
            if !incoming.is_end_stream() {
                return Body::Origin(Box::new(OriginBody {
                    incoming: incoming.into(),
                    lease,
                    reusable: framing.reusable,
                    upload,
                    silence: Silence {
                        alarm: Alarm::new(Rc::clone(&shared.ticker)),
                        limit: shared.idle,
                        due: None,
                    },
                    ending: None,
                    guard: Some(guard),
                }));
            }
            if let Some(lease) = lease
                && framing.reusable
                && Upload::is_whole(upload.as_deref())
            {
                lease.give_back();
            }
            match framing.named_length {
                Some(length) if not_modified => Body::Absent(length),
                _ => Body::Empty,
            }
        });
        Ok(Forwarded::Response(response, timing))
    }

    /// Waits for the head of the answer. While the client uploads, the origin has
    /// only to keep taking; the limit for its answer begins at the end of the request.
    pub(super) fn answer<'a, S, B, E>(
        &'a self,
        mut sending: Pin<Box<S>>,
        upload: Option<&'a Rc<Upload>>,
    ) -> impl Future<Output = Result<Response<B>, Failure<E>>> + use<'a, S, B, E>
    where
        S: Future<Output = Result<Response<B>, E>>,
    {
        let shared = &*self.shared;
        let mut alarm = Alarm::new(Rc::clone(&shared.ticker));
        let began = shared.ticker.now();
        poll_fn(move |context| {
            if let Poll::Ready(outcome) = sending.as_mut().poll(context) {
                return Poll::Ready(outcome.map_err(|fault| Failure::Sending(Box::new(fault))));
            }
            loop {
                let now = shared.ticker.now();
                let recheck = now.saturating_add(shared.first_byte.min(shared.idle));
                let (due, look, fault) = match upload.map(|upload| upload.stage()) {
                    None => {
                        let due = began.saturating_add(shared.first_byte);
                        (due, due, OriginError::FirstByteTimeout)
                    }
                    Some(Stage::Whole(since)) => {
                        let due = since.saturating_add(shared.first_byte);
                        (due, due, OriginError::FirstByteTimeout)
                    }
                    Some(Stage::Sending(since)) => {
                        let due = since.saturating_add(shared.idle);
                        (due, due.min(recheck), OriginError::IdleTimeout)
                    }
                    // The client's slowness is for the server to limit.
                    Some(Stage::Client | Stage::Malformed | Stage::Gone) => {
                        (u32::MAX, recheck, OriginError::ClientGone)
                    }
                };
                if now >= due {
                    return Poll::Ready(Err(Failure::Late(fault)));
                }
                if alarm.poll_until(look, context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
    }
}

/// Whose fault it was that hyper gave up.
fn classify(fault: hyper::Error, upload: Option<&Rc<Upload>>) -> OriginError {
    match upload.map(|upload| upload.stage()) {
        Some(Stage::Malformed) => OriginError::RequestBody,
        Some(Stage::Gone) => OriginError::ClientGone,
        _ if fault.is_parse() => OriginError::Malformed(fault),
        _ => OriginError::Reset(Broken::One(fault)),
    }
}
