//! The way to the customer's origin: one request out, one answer back, with every
//! duty of an HTTP/1.1 intermediary (RFC 9110 §7) and as little work as that allows.
//! One [`Origin`] lives on each data thread; nothing in it is shared between threads.

mod body;
mod connect;
mod fault;
mod framing;
mod headers;
mod pool;
mod tunnel;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

pub use body::{Body, OriginBody};
pub use fault::OriginError;
pub use rustls::pki_types::CertificateDer;
pub use tunnel::{Tunnel, TunnelEnd};

use crate::alarm::{Alarm, Ticker};
use crate::incoming::{ClientBody, WebSocket};
use body::{RequestBody, Silence, Stage, Upload};
use pool::{Lease, Pool};

/// Where the origin is and how long it may take. Shared by all data threads.
#[derive(Clone)]
pub struct OriginSettings {
    /// The longest that resolving, connecting and TLS may take together.
    pub connect: Duration,
    /// The longest from the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// The longest between two pieces of a body.
    pub idle: Duration,
    /// The longest that a tunnel may move nothing.
    pub tunnel_idle: Duration,
    /// How long an unused connection is kept; shorter than the origin's own limit.
    pub pool_idle: Duration,
    /// How many unused connections a data thread keeps.
    pub pool_max_idle: usize,
    /// What the origin gets as `Host`.
    pub host_header: HostHeader,
    /// Write header names as `Content-Length`, for old origins that mind.
    pub title_case_headers: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// The `Host` that the origin gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The one that the client sent.
    Preserve,
    /// The origin's own, from its URL.
    Origin,
    /// This one.
    Name(HeaderValue),
}

/// An origin's URL that cannot be used; says why and what to write instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidOrigin(String);

/// What was decided about one request before it is forwarded.
pub struct Forward {
    /// Who asks, as the origin shall see it.
    pub client: Client,
    /// Headers of our own, set after the client's spoofed ones are dropped.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What becomes of the `Cookie` header.
    pub cookie: Cookie,
}

/// Who asks: what the `X-Forwarded-*` headers say.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection, appended to `X-Forwarded-For`.
    pub peer: IpAddr,
    /// The same as a header's value.
    pub peer_label: HeaderValue,
    /// Whether the peer is a trusted proxy, whose own `X-Forwarded-*` and `Forwarded` stay.
    pub trusted: bool,
    /// Whether the visitor came by https.
    pub https: bool,
    /// The host that the visitor asked for, port included if it was named.
    pub host: Option<HeaderValue>,
    /// The port that the visitor came to.
    pub port: u16,
}

/// What becomes of the client's `Cookie` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// It goes on byte for byte.
    AsSent,
    /// It becomes this.
    Replaced(HeaderValue),
    /// Nothing was left of it.
    Removed,
}

/// An answer from the origin.
pub enum Forwarded<G> {
    /// An ordinary one.
    Response(Response<Body<G>>, Timing),
    /// Both sides leave HTTP: answer with the response and run the tunnel in a task of its own.
    Tunnel(Response<Body<G>>, Tunnel<G>),
}

/// How long the origin took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the beginning of forwarding to the head of the answer, connecting included.
    pub first_byte: Duration,
}

/// The origin, as one data thread sees it. Cloning is cheap.
#[derive(Clone)]
pub struct Origin {
    shared: Rc<Shared>,
}

struct Shared {
    settings: Arc<OriginSettings>,
    pool: Rc<Pool>,
    ticker: Rc<Ticker>,
    first_byte: u32,
    idle: u32,
}

enum Failure {
    Sending(Box<TrySendError<Request<RequestBody>>>),
    Late(OriginError),
}

impl OriginSettings {
    /// The settings for `url` (`http://host[:port]` or `https://host[:port]`) with the
    /// default limits. For https the machine's root certificates are loaded, and
    /// `extra_roots` are trusted as well.
    ///
    /// # Errors
    /// When the URL is of another scheme, has no host, or has a path, query or user.
    pub fn new(url: &str, extra_roots: &[CertificateDer<'static>]) -> Result<Self, InvalidOrigin> {
        let invalid =
            |why: &str| InvalidOrigin(format!("{why}; write http://host:port or https://host"));
        let parsed = url::Url::parse(url).map_err(|fault| invalid(&fault.to_string()))?;
        let https = match parsed.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(invalid(&format!("scheme {other} is unknown"))),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(invalid("a user name or password is not supported"));
        }
        if !matches!(parsed.path(), "" | "/")
            || parsed.query().is_some()
            || parsed.fragment().is_some()
        {
            return Err(invalid("a path, query or fragment is not supported"));
        }
        let shown = parsed.host_str().ok_or_else(|| invalid("no host"))?;
        let authority = match parsed.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown.to_owned(),
        };
        let tls = https
            .then(|| connect::tls(extra_roots))
            .transpose()
            .map_err(InvalidOrigin)?;
        Ok(Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            pool_idle: Duration::from_secs(4),
            pool_max_idle: 256,
            host_header: HostHeader::Preserve,
            title_case_headers: false,
            host: shown.trim_matches(['[', ']']).to_owned(),
            port: parsed.port_or_known_default().unwrap_or(80),
            authority: HeaderValue::try_from(authority)
                .map_err(|_| invalid("the host is malformed"))?,
            tls,
        })
    }
}

impl Origin {
    /// The origin for this thread. Must be called inside a `LocalSet`, where it
    /// leaves a task that looks at deadlines until the last clone is dropped.
    #[must_use]
    pub fn new(settings: Arc<OriginSettings>) -> Self {
        let shortest = settings
            .first_byte
            .min(settings.idle)
            .min(settings.pool_idle);
        let tick = (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let ticker = Ticker::new(tick);
        let shared = Rc::new(Shared {
            pool: Pool::new(&settings, Rc::clone(&ticker)),
            first_byte: ticker.ticks(settings.first_byte),
            idle: ticker.ticks(settings.idle),
            ticker,
            settings,
        });
        let watched = Rc::downgrade(&shared);
        tokio::task::spawn_local(async move {
            let mut interval = tokio::time::interval(tick);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval.tick().await;
            loop {
                interval.tick().await;
                let Some(shared) = watched.upgrade() else {
                    return;
                };
                shared.ticker.advance();
                shared.pool.expire();
            }
        });
        Self { shared }
    }

    /// How many unused connections are kept at the moment.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.shared.pool.len()
    }

    /// Forwards one request, already checked by the server, and gives the head of
    /// the answer as soon as it is there. `guard` lives until the answer's body
    /// (or the tunnel) has ended. Dropping the future cancels the request.
    ///
    /// # Errors
    /// See [`OriginError`]; [`OriginError::status`] is what the client should get.
    pub async fn forward<G: 'static>(
        &self,
        request: Request<ClientBody>,
        forward: Forward,
        guard: G,
    ) -> Result<Forwarded<G>, OriginError> {
        let began = Instant::now();
        let shared = &*self.shared;
        let (mut parts, incoming) = request.into_parts();
        if parts.method == Method::OPTIONS && headers::last_forward(&mut parts.headers) {
            return Ok(Forwarded::Response(
                last_forward(),
                Timing {
                    first_byte: Duration::ZERO,
                },
            ));
        }
        let client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let socket = parts.extensions.get::<WebSocket>().cloned();
        let (body, upload) = RequestBody::new(incoming, &shared.ticker);
        let asked =
            headers::prepare_request(&mut parts, upload.is_some(), forward, &shared.settings);
        let method = parts.method.clone();
        let request = Request::from_parts(parts, body);
        let (mut response, lease) = shared.exchange(request, upload.as_ref()).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(asked), Some(client)) = (&asked.upgrade, client) else {
                return Err(OriginError::UnsolicitedUpgrade);
            };
            headers::prepare_switch(&mut response, asked)?;
            tunnel::fold(&mut response, socket.as_ref())?;
            lease.let_go();
            let tunnel = Tunnel {
                client,
                origin: hyper::upgrade::on(&mut response),
                idle: shared.settings.tunnel_idle,
                guard,
            };
            return Ok(Forwarded::Tunnel(response.map(|_| Body::Empty), tunnel));
        }
        tunnel::must_not_succeed(&response, socket.as_ref())?;
        let bodiless = method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
        let framing = headers::prepare_response(&mut response, bodiless)?;
        let timing = Timing {
            first_byte: began.elapsed(),
        };
        let not_modified = response.status() == StatusCode::NOT_MODIFIED;
        let response = response.map(|incoming| {
            if !incoming.is_end_stream() {
                return Body::Origin(OriginBody {
                    incoming,
                    lease: Some(lease),
                    reusable: framing.reusable,
                    upload,
                    silence: Silence {
                        alarm: Alarm::new(Rc::clone(&shared.ticker)),
                        limit: shared.idle,
                        due: None,
                    },
                    guard: Some(guard),
                });
            }
            if framing.reusable && Upload::is_whole(upload.as_deref()) {
                lease.give_back();
            }
            match framing.named_length {
                Some(length) if not_modified => Body::Absent(length),
                _ => Body::Empty,
            }
        });
        Ok(Forwarded::Response(response, timing))
    }
}

impl Shared {
    /// Sends the request and waits for the head of the answer. Once, on a reused
    /// connection that died without a word, it is tried anew (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        upload: Option<&Rc<Upload>>,
    ) -> Result<(Response<Incoming>, Lease), OriginError> {
        let mut reusable = self.pool.take();
        loop {
            let mut lease = match reusable.take() {
                Some(lease) => lease,
                None => self.pool.open(&self.settings).await?,
            };
            let spare = (lease.reused && upload.is_none() && request.method().is_idempotent())
                .then(|| copy_head(&request));
            lease.heard.lower();
            let sending = lease.sender.try_send_request(request);
            match self.answer(sending, upload).await {
                Ok(response) => return Ok((response, lease)),
                Err(Failure::Late(fault)) => return Err(fault),
                Err(Failure::Sending(mut fault)) => {
                    let unsent = fault.take_message();
                    let again = unsent.or_else(|| spare.filter(|_| !lease.heard.is_raised()));
                    match again {
                        Some(again) if lease.reused => request = again,
                        _ => return Err(classify(fault.into_error(), upload)),
                    }
                }
            }
        }
    }

    /// Waits for the head of the answer. While the client uploads, the origin has
    /// only to keep taking; the limit for its answer begins at the end of the request.
    async fn answer(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
        upload: Option<&Rc<Upload>>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut sending = pin!(sending);
        let mut alarm = Alarm::new(Rc::clone(&self.ticker));
        let began = self.ticker.now();
        poll_fn(|context| {
            if let Poll::Ready(outcome) = sending.as_mut().poll(context) {
                return Poll::Ready(outcome.map_err(|fault| Failure::Sending(Box::new(fault))));
            }
            loop {
                let now = self.ticker.now();
                let recheck = now.saturating_add(self.first_byte.min(self.idle));
                let (due, look, fault) = match upload.map(|upload| upload.stage()) {
                    None => {
                        let due = began.saturating_add(self.first_byte);
                        (due, due, OriginError::FirstByteTimeout)
                    }
                    Some(Stage::Whole(since)) => {
                        let due = since.saturating_add(self.first_byte);
                        (due, due, OriginError::FirstByteTimeout)
                    }
                    Some(Stage::Sending(since)) => {
                        let due = since.saturating_add(self.idle);
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
        .await
    }
}

/// The head once more, for a retry; only for requests without a body.
fn copy_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The answer to an OPTIONS that may go no further (RFC 9110 §7.6.2).
fn last_forward<G>() -> Response<Body<G>> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Whose fault it was that hyper gave up.
fn classify(fault: hyper::Error, upload: Option<&Rc<Upload>>) -> OriginError {
    match upload.map(|upload| upload.stage()) {
        Some(Stage::Malformed) => OriginError::RequestBody,
        Some(Stage::Gone) => OriginError::ClientGone,
        _ if fault.is_parse() => OriginError::Malformed(fault),
        _ => OriginError::Reset(fault),
    }
}
