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
use super::watch::{Order, Phase, Watch};
use super::watched::Watched;
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
    /// Nothing has come for a while.
    Rests,
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
    pub(super) fn desk(self) -> Rc<Desk<S>> {
        Rc::new(Desk {
            service: self.service,
            settings: self.settings,
            info: self.info,
            watch: self.watch,
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
        if watch.may_rest() {
            return Poll::Ready(End::Rests);
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
/// at once. One that rests between two requests is its socket alone: what hyper
/// needs is made anew for the next one.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds what it is given twice, for all of a connection's life"
)]
pub(super) fn serve_one<S, F, B>(mut socket: Watched, desk: Rc<Desk<S>>) -> impl Future<Output = ()>
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async move {
        loop {
            // All of this is gone before it rests.
            socket = {
                let server = Rc::clone(&desk);
                let respond = service_fn(move |request| Rc::clone(&server).answer(request));
                let connection = desk
                    .http1()
                    .serve_connection(TokioIo::new(socket), respond)
                    .with_upgrades();
                let mut connection = Box::new(connection);
                let end = run(&desk.watch, &mut connection, |mut connection| {
                    Pin::new(&mut **connection).graceful_shutdown();
                })
                .await;
                let rests = matches!(end, End::Rests);
                let speaks = desk.take_leave(end);
                // Not there once it was upgraded.
                match connection.into_parts() {
                    Some(parts) if rests => parts.io.into_inner().with_unread(parts.read_buf),
                    Some(parts) if speaks => return parts.io.into_inner().say(TIMED_OUT),
                    _ => return,
                }
            };
            if !socket.rest().await {
                return;
            }
        }
    }
}

impl<S> Desk<S> {
    fn http1(&self) -> http1::Builder {
        let settings = &self.settings;
        let mut http = http1::Builder::new();
        http.half_close(true)
            .header_read_timeout(None)
            .max_header_size(settings.header_bytes)
            .max_buf_size(settings.header_bytes.max(settings.buffer_bytes));
        http
    }

    /// What is to be known of a connection's end. Whether it is told that it took too
    /// long.
    fn take_leave(&self, end: End) -> bool {
        match end {
            End::Finished(Ok(())) | End::Rests => false,
            End::Finished(Err(fault)) => {
                if fault.is_user() {
                    self.watch.cut();
                } else if fault.is_parse_too_large() {
                    self.settings.refused("head_size");
                } else if fault.is_parse() {
                    self.settings.refused("malformed");
                }
                tracing::debug!(%fault, "connection ended");
                false
            }
            End::Told(order) => {
                let speaks = order == Order::TimedOut && self.watch.may_say_408();
                if speaks {
                    self.settings.refused("timeout");
                }
                if self.watch.phase() == Phase::Answering {
                    self.watch.cut();
                }
                speaks
            }
        }
    }

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
            let (is_socket, checked) = match checked {
                Ok(()) => match request.extensions_mut().get_mut::<WebSocket>() {
                    Some(socket) => (true, self.seat(socket)),
                    None => (false, Ok(())),
                },
                refusal => (false, refusal),
            };
            let mut response = match checked {
                Ok(()) => {
                    let request = request.map(|body| ClientBody::new(body, exchange.clone()));
                    let served = (self.service)(request, self.info);
                    let answer = served.await;
                    let stands = answer.extensions().get::<Established>().is_some();
                    if is_socket && answer.status().is_success() && !stands {
                        // A page of ours; here any success would be a WebSocket.
                        self.settings.refused(NO_SOCKET.reason);
                        refused(NO_SOCKET)
                    } else {
                        answer.map(Content::Served)
                    }
                }
                Err(refusal) => {
                    self.settings.refused(refusal.reason);
                    self.settings.turned_down(request, self.info, refusal);
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

impl<S> Desk<S> {
    /// A WebSocket in a stream counts as a connection of its own: elsewhere it is one.
    fn seat(&self, socket: &mut WebSocket) -> Result<(), Refusal> {
        let place = self.watch.place().another().map_err(|reason| Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason,
        })?;
        socket.place = Some(Arc::new(place));
        Ok(())
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
    let words = Bytes::from_static(refusal.words().as_bytes());
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;
    use tokio::task::LocalSet;

    use super::super::Places;
    use super::super::greeting::welcome;
    use super::super::patience::Patience;
    use super::*;
    use crate::visitor::address::TrustedProxies;

    const ONE: &[u8] = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A connection whose sweeps the test makes.
    struct Kept {
        client: TcpStream,
        watch: Arc<Watch>,
    }

    async fn kept() -> Kept {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let places = Places::new(9, 9, TrustedProxies::default());
        let place = places.take(peer.ip(), &Arc::new(Notify::new())).unwrap();
        let watch = Watch::new(place);
        let counted = Cell::new(0);
        let service = move |request: Request<ClientBody>, _: ConnectionInfo| {
            counted.set(counted.get() + 1);
            let said = format!("{}: {}", counted.get(), request.uri());
            async move { Response::new(Full::new(Bytes::from(said))) }
        };
        let terms = Terms {
            watch: Arc::clone(&watch),
            info: ConnectionInfo {
                peer,
                local: address,
                tls: false,
            },
            settings: Arc::default(),
            service: Rc::new(service),
            ticker: Ticker::new(Duration::from_secs(1)),
        };
        let served = welcome(tcp, terms, None);
        let task = size_of_val(&served);
        assert!(
            task <= 240,
            "what each connection at rest takes: {task} bytes"
        );
        tokio::task::spawn_local(served);
        Kept { client, watch }
    }

    impl Kept {
        async fn answer(&mut self, end: &str) {
            let mut came = String::new();
            while !came.ends_with(end) {
                let mut some = [0; 512];
                let read = self.client.read(&mut some).await.unwrap();
                assert!(read > 0, "{came}");
                came.push_str(std::str::from_utf8(&some[..read]).unwrap());
            }
        }

        /// Sweeps until the connection has gone to rest.
        async fn rest(&self) {
            let patience = Patience {
                head: 9,
                idle: 9,
                body: 9,
                half_close: 9,
                linger: 9,
            };
            while self.watch.phase() != Phase::Idle {
                tokio::task::yield_now().await;
            }
            self.watch.sweep(&patience);
            self.watch.sweep(&patience);
            assert!(self.watch.is_called_to_rest());
            while self.watch.is_called_to_rest() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn one_that_rested_serves_on_and_loses_no_byte() {
        let test = async {
            let mut kept = kept().await;
            // The next head begins in the same breath.
            let (first, rest) = ONE.split_at(9);
            kept.client.write_all(&[ONE, first].concat()).await.unwrap();
            kept.answer("1: /one").await;
            kept.rest().await;
            kept.client.write_all(rest).await.unwrap();
            kept.answer("2: /one").await;
            kept.rest().await;
            kept.client.write_all(ONE).await.unwrap();
            kept.answer("3: /one").await;
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn one_that_rests_ends_with_its_client_and_when_no_more_requests_are_taken() {
        let test = async {
            let mut gone = kept().await;
            gone.client.write_all(ONE).await.unwrap();
            gone.answer("1: /one").await;
            gone.rest().await;
            gone.client.shutdown().await.unwrap();
            assert_eq!(gone.client.read(&mut [0; 9]).await.unwrap(), 0);
            let mut told = kept().await;
            told.client.write_all(ONE).await.unwrap();
            told.answer("1: /one").await;
            told.rest().await;
            told.watch.drain();
            assert_eq!(told.client.read(&mut [0; 9]).await.unwrap(), 0);
        };
        LocalSet::new().run_until(test).await;
    }
}
