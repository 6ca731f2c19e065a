//! A second process takes the place of the first at one public address: under load of
//! every kind no connection is refused or reset, and no request fails.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::encrypted::{Authority, connect, section};
use crate::support::process::{Doors, Process};
use crate::support::{Origin, Reply, free_address, until};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
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
    (Kind::New, 8),
    (Kind::Kept, 4),
    (Kind::Slow, 4),
    (Kind::Streams, 2),
];

/// Everybody who asks, and what came of it.
struct Crowd {
    door: SocketAddr,
    tls: Option<[Arc<ClientConfig>; 2]>,
    over: AtomicBool,
    served: [AtomicUsize; 4],
    failures: Mutex<Vec<String>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Crowd {
    fn begin(door: SocketAddr, authority: Option<&Authority>) -> Arc<Self> {
        let versions: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let of = |authority: &Authority| {
            ["http/1.1", "h2"].map(|alpn| Arc::new(authority.client(versions, &[alpn])))
        };
        let crowd = Arc::new(Self {
            door,
            tls: authority.map(of),
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

    async fn connect(&self, h2: bool) -> std::io::Result<Box<dyn Stream>> {
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
    async fn goes_on(&self, times: usize) {
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

fn file(folder: &Path, doors: Doors, origin: SocketAddr, tls: &str) -> std::path::PathBuf {
    let file = folder.join(format!("{}.toml", doors.admin.port()));
    let text = format!(
        "listen = \"{}\"\norigin = \"http://{origin}\"\nstate_dir = \"\"\n\
         drain_delay = \"2s\"\ndrain_timeout = \"8s\"\n[admin]\nlisten = \"{}\"\n\
         [log]\naccess = false\n{tls}[[event]]\nid = \"main\"\n",
        doors.public, doors.admin
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn running(file: &Path, doors: Doors) -> Process {
    let process = Process::run(file, doors);
    until("the process is ready", async || {
        process.is_ready().then_some(())
    })
    .await;
    process
}

async fn hand_over(authority: Option<&Authority>) {
    let origin = Origin::open().await;
    origin.answers(|seen| match seen.target.as_str() {
        _ if seen.header("upgrade").is_some() => Reply::echo(),
        "/slow" => Reply::page().after(Duration::from_secs(1)),
        _ => Reply::page(),
    });
    let files = authority.map(|authority| authority.sign("site", &["shop.example"]));
    let tls = files.map_or_else(String::new, |files| section(&files));
    let folder = tempfile::tempdir().unwrap();
    let public = free_address();
    let doors = || Doors {
        public,
        admin: free_address(),
    };
    let (one, two) = (doors(), doors());
    let mut first = running(&file(folder.path(), one, origin.address, &tls), one).await;
    let crowd = Crowd::begin(public, authority);
    let stream = crowd.connect(false).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.example/chat", stream)
        .await
        .unwrap();
    crowd.goes_on(5).await;
    let second = running(&file(folder.path(), two, origin.address, &tls), two).await;
    crowd.goes_on(5).await;
    first.signal("TERM");
    until("the drain", async || {
        (!first.said("draining").is_empty()).then_some(())
    })
    .await;
    // A tunnel goes on, and has an end of its own.
    socket.send("still here".into()).await.unwrap();
    let back = socket.next().await.unwrap().unwrap();
    assert_eq!(back.into_text().unwrap().as_str(), "still here");
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    first.ended().await;
    crowd.goes_on(5).await;
    crowd.over.store(true, SeqCst);
    let failures = crowd.failures.lock().unwrap().clone();
    assert_eq!(failures, [""; 0]);
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_takes_anothers_place_and_no_request_fails() {
    hand_over(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_takes_anothers_place_under_tls_and_no_request_fails() {
    hand_over(Some(&Authority::new())).await;
}
