//! One client's connection: HTTP/1.1 by hyper, what hyper lets through checked,
//! what takes too long ended, and the last answer delivered before the close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Settings;
use super::guard::{self, Refusal};
use super::watch::{Order, Phase, Watch, Watched};

/// What a service learns about the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether TLS was terminated here.
    pub tls: bool,
}

/// The body of what goes out: the service's, or a refusal's few words.
struct Answer<B> {
    content: Content<B>,
    watch: Arc<Watch>,
}

enum Content<B> {
    Served(B),
    Words(Option<Bytes>),
}

/// What every request of a connection is answered with.
struct Desk<S> {
    service: Rc<S>,
    settings: Arc<Settings>,
    info: ConnectionInfo,
    watch: Arc<Watch>,
}

enum End {
    Finished(Result<(), hyper::Error>),
    Told(Order),
}

const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves one connection until it ends. Dropping the future ends it at once.
pub(crate) async fn serve<S, F, B>(
    socket: Watched,
    watch: Arc<Watch>,
    info: ConnectionInfo,
    settings: Arc<Settings>,
    service: Rc<S>,
) where
    S: Fn(Request<Incoming>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    http.half_close(true)
        .header_read_timeout(None)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(settings.buffer_bytes));
    let told = Arc::clone(&settings);
    let desk = Rc::new(Desk {
        service,
        settings,
        info,
        watch: Arc::clone(&watch),
    });
    let respond = service_fn(move |request: Request<Incoming>| {
        let desk = Rc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut connection = http
        .serve_connection(TokioIo::new(socket), respond)
        .with_upgrades();
    let mut draining = false;
    let end = poll_fn(|context| {
        watch.attend(context);
        let order = watch.order();
        if order != Order::Go {
            return Poll::Ready(End::Told(order));
        }
        if !draining && watch.is_draining() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(context).map(End::Finished)
    })
    .await;
    match end {
        End::Finished(Ok(())) => {}
        End::Finished(Err(fault)) => {
            if fault.is_user() {
                watch.cut();
            } else if fault.is_parse_too_large() {
                told.refused("head_size");
            } else if fault.is_parse() {
                told.refused("malformed");
            }
            tracing::debug!(%fault, "connection ended");
        }
        End::Told(order) => {
            let speaks = order == Order::TimedOut && watch.may_say_408();
            if speaks {
                told.refused("timeout");
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
    async fn answer<F, B>(&self, mut request: Request<Incoming>) -> Response<Answer<B>>
    where
        S: Fn(Request<Incoming>, ConnectionInfo) -> F,
        F: Future<Output = Response<B>>,
    {
        let has_body = !request.body().is_end_stream();
        self.watch
            .begin(has_body, request.version() == Version::HTTP_10);
        let checked = if self.watch.take_fragment() {
            Err(Refusal {
                status: StatusCode::BAD_REQUEST,
                reason: "target",
            })
        } else {
            guard::check(&mut request, self.settings.target_bytes)
        };
        let response = match checked {
            Ok(()) => (self.service)(request, self.info)
                .await
                .map(Content::Served),
            Err(refusal) => {
                self.settings.refused(refusal.reason);
                drop(request);
                refused(refusal)
            }
        };
        self.watch
            .enter(if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                Phase::Tunnel
            } else {
                Phase::Answering
            });
        response.map(|content| Answer {
            content,
            watch: Arc::clone(&self.watch),
        })
    }
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
        match &mut self.content {
            Content::Served(body) => Pin::new(body).poll_frame(context),
            Content::Words(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
        }
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

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.watch.answered();
    }
}
