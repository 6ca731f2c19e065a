//! Visitors who come all the time, in every way, each request of whom has to be served
//! with the page of a shop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::until;
use crate::encrypted::connect;

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How the load comes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A connection for each request.
    New,
    /// One connection for as long as the answers let it.
    Kept,
    /// The same, with requests that take a second.
    Slow,
    /// Streams of HTTP/2.
    Streams,
}

const KINDS: [(Kind, usize); 4] = [
    (Kind::New, 24),
    (Kind::Kept, 4),
    (Kind::Slow, 4),
    (Kind::Streams, 2),
];

/// Everybody who asks, and what came of it.
pub(crate) struct Crowd {
    door: SocketAddr,
    tls: Option<[Arc<ClientConfig>; 2]>,
    over: AtomicBool,
    served: [AtomicUsize; 4],
    failures: Mutex<Vec<String>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Crowd {
    /// With `tls`, of HTTP/1.1 and of HTTP/2, they come encrypted.
    pub(crate) fn begin(door: SocketAddr, tls: Option<[Arc<ClientConfig>; 2]>) -> Arc<Self> {
        let crowd = Arc::new(Self {
            door,
            tls,
            over: AtomicBool::new(false),
            served: Default::default(),
            failures: Mutex::default(),
        });
        for (place, (kind, count)) in KINDS.into_iter().enumerate() {
            for _ in 0..count {
                tokio::spawn(Arc::clone(&crowd).come(kind, place));
            }
        }
        crowd
    }

    async fn come(self: Arc<Self>, kind: Kind, place: usize) {
        while !self.over.load(SeqCst) {
            let came = match kind {
                Kind::New => self.once(place).await,
                Kind::Kept => self.stay(place, "/").await,
                Kind::Slow => self.stay(place, "/slow").await,
                Kind::Streams => self.stream(place).await,
            };
            if let Err(fault) = came {
                self.failures
                    .lock()
                    .unwrap()
                    .push(format!("{kind:?}: {fault:?}"));
            }
        }
    }

    pub(crate) async fn connect(&self, h2: bool) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.tls {
            None => Box::new(TcpStream::connect(self.door).await?),
            Some(tls) => {
                let tls = &tls[usize::from(h2)];
                Box::new(connect(self.door, tls, "shop.example").await?)
            }
        })
    }

    async fn took(&self, place: usize, answer: Response<Incoming>) -> Result<bool, Failure> {
        let stays = answer.headers().get("connection").is_none();
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != 200 || !body.ends_with(b"shop</h1>") {
            return Err(format!("{status} {body:?}").into());
        }
        self.served[place].fetch_add(1, SeqCst);
        Ok(stays)
    }

    async fn once(&self, place: usize) -> Result<(), Failure> {
        let stream = self.connect(false).await?;
        let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let answer = send.send_request(request("/")).await?;
        self.took(place, answer).await?;
        Ok(())
    }

    async fn stay(&self, place: usize, path: &str) -> Result<(), Failure> {
        let stream = self.connect(false).await?;
        let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        while !self.over.load(SeqCst) {
            send.ready().await?;
            let answer = send.send_request(request(path)).await?;
            if !self.took(place, answer).await? {
                break;
            }
        }
        Ok(())
    }

    async fn stream(&self, place: usize) -> Result<(), Failure> {
        let stream = self.connect(true).await?;
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut send, connection) = shaken.await?;
        tokio::spawn(connection);
        while !self.over.load(SeqCst) {
            if send.ready().await.is_err() {
                // A GOAWAY came while nothing was asked.
                break;
            }
            let request = Request::get("http://shop.example/").body(Full::<Bytes>::default());
            match send.send_request(request.unwrap()).await {
                Ok(answer) => {
                    self.took(place, answer).await?;
                }
                Err(fault) if was_not_processed(&fault) => break,
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    /// Waits until each kind was served so many times more.
    pub(crate) async fn goes_on(&self, times: usize) {
        let before: Vec<usize> = self.served.iter().map(|count| count.load(SeqCst)).collect();
        until("the crowd to be served", async || {
            let mut kinds = self.served.iter().zip(&before);
            kinds
                .all(|(count, before)| count.load(SeqCst) >= before + times)
                .then_some(())
        })
        .await;
    }
}

impl Crowd {
    /// Nobody comes any more, and whoever came was served.
    #[track_caller]
    pub(crate) fn ends_without_failure(&self) {
        self.over.store(true, SeqCst);
        assert_eq!(*self.failures.lock().unwrap(), [""; 0]);
    }
}

/// Whether the server said that it has not looked at a request: then it may be sent
/// again (RFC 9113 §8.7).
fn was_not_processed(fault: &hyper::Error) -> bool {
    let source = std::error::Error::source(fault);
    let h2 = source.and_then(|source| source.downcast_ref::<h2::Error>());
    fault.is_canceled() || h2.is_some_and(|h2| h2.is_go_away() && h2.is_remote())
}

fn request(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "shop.example");
    request.body(Full::default()).unwrap()
}
