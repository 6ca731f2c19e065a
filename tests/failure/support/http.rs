//! A small HTTP client: connections are kept and used again, as a browser or a
//! load balancer does; what a connection breaks on is told, never repeated.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections in use at once.
const CONNECTIONS: usize = 128;

/// No answer takes longer, whatever is broken.
const PATIENCE: Duration = Duration::from_secs(20);

type Sender = SendRequest<Full<Bytes>>;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// When to ask again, by the header.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after").parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// The client.
pub(crate) struct Client {
    idle: Mutex<HashMap<SocketAddr, Vec<Sender>>>,
    room: Semaphore,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            room: Semaphore::new(CONNECTIONS),
        }
    }
}

impl Client {
    /// Sends a request; `Err` when there is no whole answer.
    pub(crate) async fn send(
        &self,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let _room = self.room.acquire().await.unwrap();
        tokio::time::timeout(PATIENCE, self.exchange(to, request))
            .await
            .map_err(|_| format!("{to}: no answer within {PATIENCE:?}"))?
            .map_err(|fault| format!("{to}: {fault}"))
    }

    async fn exchange(
        &self,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut sender = self.sender(to).await?;
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        if sender.ready().await.is_ok() {
            self.idle
                .lock()
                .unwrap()
                .entry(to)
                .or_default()
                .push(sender);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn sender(
        &self,
        to: SocketAddr,
    ) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        while let Some(kept) = self.kept(to) {
            if kept.is_ready() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn kept(&self, to: SocketAddr) -> Option<Sender> {
        self.idle.lock().unwrap().get_mut(&to)?.pop()
    }
}
