//! The customer's server: answers by a script and remembers who asked what.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::append;

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What the origin answers.
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    after: Duration,
    gate: Option<watch::Receiver<bool>>,
}

enum Body {
    Whole(Bytes),
    Parts(mpsc::UnboundedReceiver<Bytes>),
    Echo,
}

impl Reply {
    /// A page that says nothing of caches.
    pub(crate) fn page() -> Self {
        Self::text("<h1>the shop</h1>").with("content-type", "text/html; charset=utf-8")
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Body::Whole(text.into()),
            after: Duration::ZERO,
            gate: None,
        }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap();
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// The origin takes its time.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// The origin answers when `gate` becomes true.
    pub(crate) fn behind(mut self, gate: &watch::Receiver<bool>) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// A body that comes in parts; it ends with the sender.
    pub(crate) fn parts() -> (Self, mpsc::UnboundedSender<Bytes>) {
        let (send, parts) = mpsc::unbounded_channel();
        let reply = Self {
            body: Body::Parts(parts),
            ..Self::text("")
        };
        (reply, send)
    }

    /// A WebSocket that says back what it hears.
    pub(crate) fn echo() -> Self {
        Self {
            body: Body::Echo,
            ..Self::text("")
        }
    }
}

/// A page; at `/done` the visit is complete.
pub(crate) fn completes_at_done(seen: &Seen) -> Reply {
    if seen.target == "/done" {
        Reply::page().with("sumun-session", "complete")
    } else {
        Reply::page()
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Desk {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Vec<Seen>>,
}

/// The customer's server.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
}

impl Origin {
    /// An origin on a port of its own, answering [`Reply::page`] until told
    /// otherwise.
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let desk = Arc::new(Desk {
            script: Mutex::new(Arc::new(|_: &Seen| Reply::page())),
            seen: Mutex::default(),
        });
        let origin = Self {
            address: listener.local_addr().unwrap(),
            desk: Arc::clone(&desk),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let desk = Arc::clone(&desk);
                        async move { Ok::<_, Infallible>(answer(&desk, request).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _closed = served.await;
                });
            }
        });
        origin
    }

    /// From now on the origin answers so.
    pub(crate) fn answers(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.desk.script.lock().unwrap() = Arc::new(script);
    }

    /// The next request is answered by a body of what is sent here, until the
    /// sender is gone; those after it by a page.
    pub(crate) fn answers_once_in_parts(&self) -> mpsc::UnboundedSender<Bytes> {
        let (reply, parts) = Reply::parts();
        let reply = Mutex::new(Some(reply));
        self.answers(move |_| reply.lock().unwrap().take().unwrap_or_else(Reply::page));
        parts
    }

    /// Everything that reached it.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.desk.seen.lock().unwrap().clone()
    }

    /// The last request that reached it.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("nothing reached the origin")
    }
}

type Answered = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(desk: &Desk, mut request: Request<Incoming>) -> Answered {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let seen = Seen {
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: body.unwrap_or_default(),
    };
    desk.seen.lock().unwrap().push(seen.clone());
    let script = Arc::clone(&desk.script.lock().unwrap());
    let mut reply = script(&seen);
    tokio::time::sleep(reply.after).await;
    if let Some(gate) = &mut reply.gate {
        let _gone = gate.wait_for(|open| *open).await;
    }
    let body = match reply.body {
        Body::Whole(bytes) => Full::new(bytes).boxed_unsync(),
        Body::Parts(parts) => {
            let frames = futures_util::stream::unfold(parts, |mut parts| async {
                let part = parts.recv().await?;
                Some((Ok(Frame::data(part)), parts))
            });
            StreamBody::new(frames).boxed_unsync()
        }
        Body::Echo => return switch(&seen, upgrade),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
        .headers_mut()
        .insert("x-origin", HeaderValue::from_static("yes"));
    response
}

fn switch(seen: &Seen, upgrade: hyper::upgrade::OnUpgrade) -> Answered {
    let key = seen.headers["sec-websocket-key"].as_bytes();
    let accept = derive_accept_key(key);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let stream = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept)
        .header("x-origin", "yes")
        .body(Full::default().boxed_unsync())
        .unwrap()
}
