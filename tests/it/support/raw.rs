//! HTTP as bytes: a client that sends what it is told to, and an origin that
//! records every byte it received.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::bounded;

/// A connection of a client, or of the origin, byte by byte.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.split("\r\n").any(|own| own == line)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn more(&mut self) -> std::io::Result<usize> {
        bounded("the next bytes", self.stream.read_buf(&mut self.buffer)).await
    }

    /// Everything up to the end of the connection, however it ends.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while self.more().await.is_ok_and(|came| came > 0) {}
        self.buffer
    }

    /// Reads up to and including `mark`; `None` if the connection ends first.
    pub(crate) async fn up_to(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if self.more().await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if self.more().await.ok()? == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        Some(String::from_utf8(self.up_to(b"\r\n\r\n").await?).unwrap())
    }

    /// A head and its body, by the framing that the head names; HEAD, 204 and 304 by status only.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        self.answer_to(true).await
    }

    pub(crate) async fn answer_to(&mut self, may_have_body: bool) -> RawAnswer {
        let head = self.head().await.expect("an answer");
        let status = head[9..12].parse().unwrap();
        let mut body = Vec::new();
        if may_have_body && !matches!(status, 204 | 304) {
            if head.contains("transfer-encoding: chunked") {
                loop {
                    let line = self.up_to(b"\r\n").await.expect("a chunk");
                    let size =
                        usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16)
                            .unwrap();
                    if size == 0 {
                        body.extend(rest_of_trailers(self).await.expect("an end"));
                        break;
                    }
                    body.extend(self.take(size).await.expect("a whole chunk"));
                    self.take(2).await.expect("the end of the chunk");
                }
                body.truncate(body.len() - 2);
            } else if let Some(length) = header(&head, "content-length") {
                body = self.take(length.parse().unwrap()).await.expect("a body");
            } else {
                while self.more().await.unwrap() > 0 {}
                body = std::mem::take(&mut self.buffer);
            }
        }
        RawAnswer { status, head, body }
    }
}

pub(crate) fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// An origin that speaks bytes.
pub(crate) struct RawOrigin {
    pub(crate) address: SocketAddr,
    pub(crate) received: Arc<Mutex<Vec<u8>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl RawOrigin {
    /// Answers every request (its body by length, or up to the last chunk) with these bytes.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::with(move |mut raw, _, received| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = whole_request(&mut raw).await {
                    received.lock().unwrap().extend(request);
                    raw.send(answer.as_slice()).await;
                }
            }
        })
        .await
    }

    /// Each connection, with its number from 0, goes to `handler`.
    pub(crate) async fn with<H, F>(handler: H) -> Self
    where
        H: Fn(Raw, usize, Arc<Mutex<Vec<u8>>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            connections: Arc::default(),
        };
        let (received, connections) = (
            Arc::clone(&origin.received),
            Arc::clone(&origin.connections),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(handler(Raw::over(stream), number, Arc::clone(&received)));
            }
        });
        origin
    }

    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The exact bytes of one request; what came of it is recorded nowhere if it never gets whole.
pub(crate) async fn whole_request(raw: &mut Raw) -> Option<Vec<u8>> {
    let head = raw.head().await?;
    let mut bytes = head.clone().into_bytes();
    if let Some(length) = header(&head, "content-length") {
        bytes.extend(raw.take(length.parse().ok()?).await?);
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let line = raw.up_to(b"\r\n").await?;
            let last = line == b"0\r\n";
            bytes.extend(line);
            if last {
                bytes.extend(rest_of_trailers(raw).await?);
                return Some(bytes);
            }
        }
    }
    Some(bytes)
}

async fn rest_of_trailers(raw: &mut Raw) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let line = raw.up_to(b"\r\n").await?;
        let last = line == b"\r\n";
        bytes.extend(line);
        if last {
            return Some(bytes);
        }
    }
}
