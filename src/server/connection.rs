//! One client's connection: HTTP/1.1 or HTTP/2 by hyper, what hyper lets through
//! checked, what takes too long ended, and the last answer delivered before the
//! close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::guard::{self, Refusal};
use super::watch::{Order, Phase, Watch, Watched};
use super::{Settings, streams};
use crate::alarm::Ticker;
use crate::incoming::{ClientBody, Established, Exchange, WebSocket};

/// What a service learns about the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// The other end or, where a trusted proxy announced one, who came to that proxy.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether TLS was terminated here.
    pub tls: bool,
}

/// The body of what goes out: the service's, or a refusal's few words.
pub(super) struct Answer<B> {
    content: Content<B>,
    /// In HTTP/2.
    exchange: Option<Arc<Exchange>>,
    _served: Served,
}

/// A request, until its answer has gone out or nobody wants it any more.
struct Served(Arc<Watch>);

enum Content<B> {
    Served(B),
    Words(Option<Bytes>),
}

/// What every request of a connection is answered with.
pub(super) struct Desk<S> {
    service: Rc<S>,
    settings: Arc<Settings>,
    info: ConnectionInfo,
    watch: Arc<Watch>,
}

pub(super) enum End {
    Finished(Result<(), hyper::Error>),
    Told(Order),
}

const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What answers an Extended CONNECT for what is no WebSocket.
const NO_SOCKET: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    reason: "protocol",
};

/// What a connection is served with.
pub(crate) struct Terms<S> {
    pub(crate) watch: Arc<Watch>,
    pub(crate) info: ConnectionInfo,
    pub(crate) settings: Arc<Settings>,
    pub(crate) service: Rc<S>,
    /// The thread's clock for limits.
    pub(crate) ticker: Rc<Ticker>,
}

impl<S> Terms<S> {
    pub(super) fn desk(&self) -> Rc<Desk<S>> {
        Rc::new(Desk {
            service: Rc::clone(&self.service),
            settings: Arc::clone(&self.settings),
            info: self.info,
            watch: Arc::clone(&self.watch),
        })
    }
}

/// Runs a connection until it ends, or is told to; `drain` says that no more
/// requests are taken.
pub(super) async fn run<C>(watch: &Watch, connection: &mut C, drain: impl Fn(Pin<&mut C>)) -> End
where
    C: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    let mut draining = false;
    poll_fn(|context| {
        watch.attend(context);
        let order = watch.order();
        if order != Order::Go {
            return Poll::Ready(End::Told(order));
        }
        // What has come in already is a request, not an idle connection.
        loop {
            if let Poll::Ready(end) = Pin::new(&mut *connection).poll(context) {
                return Poll::Ready(End::Finished(end));
            }
            if draining || !watch.is_draining() || watch.is_silent() {
                return Poll::Pending;
            }
            draining = true;
            drain(Pin::new(&mut *connection));
        }
    })
    .await
}

/// Serves one connection of HTTP/1.1 until it ends. Dropping the future ends it
/// at once.
pub(crate) async fn serve_one<S, F, B>(socket: Watched, terms: Terms<S>)
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (watch, settings) = (Arc::clone(&terms.watch), Arc::clone(&terms.settings));
    let mut http = http1::Builder::new();
    http.half_close(true)
        .header_read_timeout(None)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(settings.buffer_bytes));
    let desk = terms.desk();
    let respond = service_fn(move |request| Rc::clone(&desk).answer(request));
    let mut connection = http
        .serve_connection(TokioIo::new(socket), respond)
        .with_upgrades();
    let end = run(&watch, &mut connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
    match end {
        End::Finished(Ok(())) => {}
        End::Finished(Err(fault)) => {
            if fault.is_user() {
                watch.cut();
            } else if fault.is_parse_too_large() {
                settings.refused("head_size");
            } else if fault.is_parse() {
                settings.refused("malformed");
            }
            tracing::debug!(%fault, "connection ended");
        }
        End::Told(order) => {
            let speaks = order == Order::TimedOut && watch.may_say_408();
            if speaks {
                settings.refused("timeout");
            }
            if watch.phase() == Phase::Answering {
                watch.cut();
            }
            if let Some(parts) = connection.into_parts().filter(|_| speaks) {
                parts.io.into_inner().say(TIMED_OUT);
            }
        }
    }
}

impl<S> Desk<S> {
    /// Answers one request. (A plain function: an `async fn` holds its request twice,
    /// and this future is moved with every one.)
    pub(super) fn answer<F, B>(
        self: Rc<Self>,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer<B>>, Infallible>>
    where
        S: Fn(Request<ClientBody>, ConnectionInfo) -> F,
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes>,
    {
        let served = Served::begin(&self.watch, &request);
        let is_head = request.method() == Method::HEAD;
        async move {
            let two = self.watch.phase() == Phase::Streams;
            let exchange = two.then(streams::exchange).flatten();
            let checked = if self.watch.take_fragment() {
                Err(Refusal {
                    status: StatusCode::BAD_REQUEST,
                    reason: "target",
                })
            } else {
                guard::check(&mut request, self.settings.target_bytes)
            };
            let is_socket = request.extensions().get::<WebSocket>().is_some();
            let mut response = match checked {
                Ok(()) => {
                    let request = request.map(|body| ClientBody::new(body, exchange.clone()));
                    let served = (self.service)(request, self.info);
                    let answer = served.await;
                    let stands = answer.extensions().get::<Established>().is_some();
                    if is_socket && answer.status().is_success() && !stands {
                        // A page of ours; here any success would be a WebSocket.
                        refused(NO_SOCKET)
                    } else {
                        answer.map(Content::Served)
                    }
                }
                Err(refusal) => {
                    self.settings.refused(refusal.reason);
                    drop(request);
                    refused(refusal)
                }
            };
            if two {
                if let Some(exchange) = &exchange {
                    exchange.answered(true);
                }
                let response = without_body(response, is_head);
                return Ok(leaving(response, exchange, served));
            }
            let phase = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                Phase::Tunnel
            } else {
                if self.watch.is_parting() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Phase::Answering
            };
            self.watch.enter(phase);
            Ok(leaving(response, exchange, served))
        }
    }
}

/// An answer on its way out.
fn leaving<B>(
    response: Response<Content<B>>,
    exchange: Option<Arc<Exchange>>,
    served: Served,
) -> Response<Answer<B>> {
    response.map(|content| Answer {
        content,
        exchange,
        _served: served,
    })
}

/// In HTTP/1.1 hyper leaves out the body that an answer must not have (RFC 9110
/// §6.4.1); in HTTP/2 it sends what there is.
fn without_body<B: Body>(response: Response<Content<B>>, is_head: bool) -> Response<Content<B>> {
    let status = response.status();
    if !is_head && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        return response;
    }
    let length = match response.body() {
        Content::Served(body) => body.size_hint().exact(),
        Content::Words(words) => words.as_ref().map(|words| words.len() as u64),
    };
    let (mut head, _body) = response.into_parts();
    // Nothing there is no length: the origin answers HEAD with the head alone.
    match length.filter(|length| *length > 0 && is_head && status != StatusCode::NO_CONTENT) {
        _ if head.headers.contains_key(header::CONTENT_LENGTH) => {}
        Some(length) => {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        None => {}
    }
    Response::from_parts(head, Content::Words(None))
}

fn refused<B>(refusal: Refusal) -> Response<Content<B>> {
    let reason = refusal.status.canonical_reason().unwrap_or("Refused");
    let words = Bytes::from_static(reason.as_bytes());
    let mut response = Response::new(Content::Words(Some(words)));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        );
    }
    response
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = match &mut self.content {
            Content::Served(body) => Pin::new(body).poll_frame(context),
            Content::Words(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
        };
        if let Some(exchange) = &self.exchange {
            exchange.answered(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Served(body) => body.is_end_stream(),
            Content::Words(words) => words.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Served(body) => body.size_hint(),
            Content::Words(words) => {
                SizeHint::with_exact(words.as_ref().map_or(0, |words| words.len() as u64))
            }
        }
    }
}

impl Served {
    fn begin<B: Body>(watch: &Arc<Watch>, request: &Request<B>) -> Self {
        // Streams are counted where they run.
        if watch.phase() != Phase::Streams {
            let has_body = !request.body().is_end_stream();
            watch.begin(has_body, request.version() == Version::HTTP_10);
        }
        Self(Arc::clone(watch))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.0.phase() != Phase::Streams {
            self.0.answered();
        }
    }
}
