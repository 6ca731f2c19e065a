//! The proxy core over real sockets: a raw client, the core, and a raw origin
//! that records every byte it received. What is asserted is what was on the wire.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use sumun::origin::{Body, Client, Cookie, Forward, Forwarded, HostHeader, Origin, OriginSettings};
use sumun::server::{self, ConnectionInfo, Places, Settings};
use sumun::visitor::address::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

/// Nothing here takes that long; it only turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(60);

async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

// ---------------------------------------------------------------- the gateway

struct Setup {
    server: Settings,
    origin: OriginSettings,
    places: Places,
    trusted: Vec<&'static str>,
    cookie: Cookie,
}

struct Gateway {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    in_flight: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gateway {
    fn before(origin: SocketAddr) -> Self {
        Self::with(origin, |_| ())
    }

    fn with(origin: SocketAddr, adjust: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            server: Settings {
                sweep: Duration::from_millis(20),
                ..Settings::default()
            },
            origin: OriginSettings::new(&format!("http://{origin}"), &[]).unwrap(),
            places: Places::new(1000, 1000, TrustedProxies::default()),
            trusted: vec![],
            cookie: Cookie::AsSent,
        };
        adjust(&mut setup);
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(false);
        let in_flight = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&in_flight);
        let thread = std::thread::spawn(move || run(listener, setup, draining, &counted));
        Self {
            address,
            drain,
            in_flight,
            thread: Some(thread),
        }
    }

    async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Sends these bytes on a connection of their own and reads to its end.
    async fn tell(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.rest().await
    }

    /// One exchange on a connection of its own.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.answer().await
    }

    async fn until_idle(&self) {
        bounded("the end of what is in flight", async {
            while self.in_flight.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.drain.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn run(
    listener: std::net::TcpListener,
    setup: Setup,
    drain: watch::Receiver<bool>,
    in_flight: &Arc<AtomicUsize>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let in_flight = Arc::clone(in_flight);
    let served = local.run_until(async move {
        let origin = Origin::new(Arc::new(setup.origin));
        let proxies = Arc::new(TrustedProxies::new(&setup.trusted, "").unwrap());
        let cookie = setup.cookie;
        let mut server = setup.server;
        server.drain = server.drain.min(Duration::from_secs(2));
        let service = move |request: Request<Incoming>, info: ConnectionInfo| {
            let (origin, proxies) = (origin.clone(), Arc::clone(&proxies));
            let (guard, cookie) = (InFlight::new(&in_flight), cookie.clone());
            async move { forward(&origin, &proxies, request, info, guard, cookie).await }
        };
        server::serve(listener, Arc::new(server), setup.places, service, drain).await
    });
    runtime.block_on(served).unwrap();
}

async fn forward(
    origin: &Origin,
    proxies: &TrustedProxies,
    request: Request<Incoming>,
    info: ConnectionInfo,
    guard: InFlight,
    cookie: Cookie,
) -> Response<Body<InFlight>> {
    let visitor = proxies.visitor(info.peer, info.tls, request.headers());
    let forward = Forward {
        client: Client {
            peer: visitor.peer,
            peer_label: visitor.peer.to_string().parse().unwrap(),
            trusted: visitor.behind_trusted_proxy,
            https: visitor.https,
            host: visitor.host,
            port: visitor.port,
        },
        headers: vec![(
            HeaderName::from_static("sumun-event"),
            HeaderValue::from_static("main"),
        )],
        cookie,
    };
    match origin.forward(request, forward, guard).await {
        Ok(Forwarded::Response(response, _)) => response,
        Ok(Forwarded::Tunnel(response, tunnel)) => {
            tokio::task::spawn_local(tunnel.run(pending()));
            response
        }
        Err(fault) => {
            let mut response =
                Response::new(Body::from(Bytes::from_static(fault.kind().as_bytes())));
            *response.status_mut() = fault.status();
            if fault.is_clients_fault() {
                response
                    .headers_mut()
                    .insert("connection", HeaderValue::from_static("close"));
            }
            response
        }
    }
}

// ------------------------------------------------------------- the raw client

struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn has(&self, line: &str) -> bool {
        self.head.split("\r\n").any(|own| own == line)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        bounded("the next bytes", self.stream.read_buf(&mut self.buffer)).await
    }

    /// Everything up to the end of the connection, however it ends.
    async fn rest(mut self) -> Vec<u8> {
        while self.more().await.is_ok_and(|came| came > 0) {}
        self.buffer
    }

    /// Reads up to and including `mark`; `None` if the connection ends first.
    async fn up_to(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if self.more().await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if self.more().await.ok()? == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn head(&mut self) -> Option<String> {
        Some(String::from_utf8(self.up_to(b"\r\n\r\n").await?).unwrap())
    }

    /// A head and its body, by the framing that the head names; HEAD, 204 and 304 by status only.
    async fn answer(&mut self) -> Answer {
        self.answer_to(true).await
    }

    async fn answer_to(&mut self, may_have_body: bool) -> Answer {
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
        Answer { status, head, body }
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

// ------------------------------------------------------------- the raw origin

struct RawOrigin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

impl RawOrigin {
    /// Answers every request (its body by length, or up to the last chunk) with these bytes.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
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
    async fn with<H, F>(handler: H) -> Self
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

    fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The exact bytes of one request; what came of it is recorded nowhere if it never gets whole.
async fn whole_request(raw: &mut Raw) -> Option<Vec<u8>> {
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

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";

// -------------------------------------------------- messages that are refused

/// Each with its name and the statuses that are right for it.
#[rustfmt::skip]
fn messages_with_two_readings() -> Vec<(&'static str, String, &'static [u16])> {
    let h = "host: a.example\r\n";
    let long = "x".repeat(40_000);
    vec![
        ("two lengths", format!("POST / HTTP/1.1\r\n{h}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), &[400]),
        ("a list of lengths", format!("POST / HTTP/1.1\r\n{h}content-length: 3, 3\r\n\r\nabc"), &[400]),
        ("a signed length", format!("POST / HTTP/1.1\r\n{h}content-length: +3\r\n\r\nabc"), &[400]),
        ("a hex length", format!("POST / HTTP/1.1\r\n{h}content-length: 0x3\r\n\r\nabc"), &[400]),
        ("an empty length", format!("POST / HTTP/1.1\r\n{h}content-length: \r\n\r\n"), &[400]),
        ("an overflowing length", format!("POST / HTTP/1.1\r\n{h}content-length: 99999999999999999999\r\n\r\n"), &[400]),
        ("gzip, chunked", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), &[501]),
        ("chunked, gzip", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("gzip", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: gzip\r\n\r\n"), &[400, 501]),
        ("chunked twice", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("chunked on two lines", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("identity and chunked", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[501]),
        ("a quoted coding", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("a coding with a tab", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("an empty coding", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \r\n\r\n"), &[400, 501]),
        ("a coding in 1.0", format!("POST / HTTP/1.0\r\n{h}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("a folded header", format!("GET / HTTP/1.1\r\n{h}a: b\r\n c\r\n\r\n"), &[400]),
        ("a space before the colon", format!("GET / HTTP/1.1\r\n{h}a : b\r\n\r\n"), &[400]),
        ("a space before Host", "GET / HTTP/1.1\r\n host: a.example\r\n\r\n".into(), &[400]),
        ("NUL in a value", format!("GET / HTTP/1.1\r\n{h}a: b\0c\r\n\r\n"), &[400]),
        ("NUL in a name", format!("GET / HTTP/1.1\r\n{h}a\0: b\r\n\r\n"), &[400]),
        ("a control byte in a value", format!("GET / HTTP/1.1\r\n{h}a: b\x01c\r\n\r\n"), &[400]),
        ("a bare CR", format!("GET / HTTP/1.1\r\n{h}a: b\rc: d\r\n\r\n"), &[400]),
        ("no name", format!("GET / HTTP/1.1\r\n{h}: b\r\n\r\n"), &[400]),
        ("no colon", format!("GET / HTTP/1.1\r\n{h}ab\r\n\r\n"), &[400]),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), &[400]),
        ("two Hosts", format!("GET / HTTP/1.1\r\n{h}host: b.example\r\n\r\n"), &[400]),
        ("the same Host twice", format!("GET / HTTP/1.1\r\n{h}{h}\r\n"), &[400]),
        ("an empty Host", "GET / HTTP/1.1\r\nhost: \r\n\r\n".into(), &[400]),
        ("a user in Host", "GET / HTTP/1.1\r\nhost: u@a.example\r\n\r\n".into(), &[400]),
        ("a path in Host", "GET / HTTP/1.1\r\nhost: a.example/x\r\n\r\n".into(), &[400]),
        ("a bad port in Host", "GET / HTTP/1.1\r\nhost: a.example:x\r\n\r\n".into(), &[400]),
        ("a port too large", "GET / HTTP/1.1\r\nhost: a.example:70000\r\n\r\n".into(), &[400]),
        ("two hosts in one", "GET / HTTP/1.1\r\nhost: a.example, b.example\r\n\r\n".into(), &[400]),
        ("a bad Host in 1.0", "GET / HTTP/1.0\r\nhost: a@b\r\n\r\n".into(), &[400]),
        ("a bad Host under absolute form", "GET http://a.example/ HTTP/1.1\r\nhost: a@b\r\n\r\n".into(), &[400]),
        ("no Host under absolute form", "GET http://a.example/ HTTP/1.1\r\n\r\n".into(), &[400]),
        ("a user in absolute form", format!("GET http://u@a.example/ HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("another scheme", format!("GET ftp://a.example/ HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("authority form", format!("GET a.example:80 HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("CONNECT", format!("CONNECT a.example:80 HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("CONNECT with a path", format!("CONNECT / HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("TRACE", format!("TRACE / HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("GET *", format!("GET * HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("no slash", format!("GET index.html HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a fragment", format!("GET /a#b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a space in the target", format!("GET /a b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a control byte in the target", format!("GET /a\x01b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("8-bit in the target", format!("GET /\u{e4} HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a long target", format!("GET /{} HTTP/1.1\r\n{h}\r\n", &long[..9000]), &[414]),
        ("a head too long", format!("GET / HTTP/1.1\r\n{h}a: {long}\r\n\r\n"), &[431]),
        ("too many headers", format!("GET / HTTP/1.1\r\n{h}{}\r\n", "a: b\r\n".repeat(200)), &[431]),
        ("another expectation", format!("POST / HTTP/1.1\r\n{h}expect: coffee\r\ncontent-length: 1\r\n\r\nx"), &[417]),
        ("a version of the future", format!("GET / HTTP/3.0\r\n{h}\r\n"), &[400]),
        ("no version", "GET /\r\n\r\n".into(), &[400]),
        ("a method of two words", format!("GE T / HTTP/1.1\r\n{h}\r\n"), &[400]),
    ]
}

#[tokio::test]
async fn every_message_with_two_readings_is_refused_and_nothing_of_it_reaches_the_origin() {
    let origin = RawOrigin::with(|mut raw, _, received| async move {
        while raw.more().await.is_ok_and(|came| came > 0) {
            received.lock().unwrap().append(&mut raw.buffer);
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    for (name, bytes, statuses) in messages_with_two_readings() {
        let told = gateway.tell(&bytes).await;
        let text = String::from_utf8_lossy(&told);
        let status: u16 = text.get(9..12).unwrap_or("0").parse().unwrap_or(0);
        assert!(statuses.contains(&status), "{name}: {text:?}");
        assert_eq!(
            text.matches("HTTP/1.1 ").count() + text.matches("HTTP/1.0 ").count(),
            1,
            "{name}: {text}"
        );
        assert_eq!(origin.received(), "", "{name}: the origin saw it");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn the_http2_preface_and_garbage_are_closed_without_reaching_the_origin() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let told = gateway.tell(bytes).await;
        assert!(
            told.is_empty() || told.starts_with(b"HTTP/1.1 400"),
            "{told:?}"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn length_beside_chunked_has_one_reading_and_ends_the_connection() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let origin = RawOrigin::answering(OK).await;
        let gateway = Gateway::before(origin.address);
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.example\r\n\r\n";
        let told = gateway
            .tell(format!(
                "POST / HTTP/1.1\r\nhost: a.example\r\n{lines}\r\n\r\n0\r\n\r\n{smuggled}"
            ))
            .await;
        let text = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        let seen = origin.received();
        assert!(
            !seen.contains("content-length") && !seen.contains("smuggled"),
            "{seen}"
        );
        assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_bad_chunk_is_the_clients_fault_and_the_origins_connection_is_not_used_again() {
    let chunks = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\nhello\n0\n\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "\r\nhello\r\n",
    ];
    for chunk in chunks {
        let origin = RawOrigin::answering(OK).await;
        let gateway = Gateway::before(origin.address);
        let told = gateway
            .tell(format!(
                "POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
            ))
            .await;
        let text = String::from_utf8_lossy(&told).into_owned();
        assert!(text.starts_with("HTTP/1.1 400"), "{chunk:?}: {text}");
        assert!(text.contains("connection: close"), "{chunk:?}: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{chunk:?}");
        assert_eq!(gateway.ask(GET).await.status, 200);
        assert!(
            origin.received().starts_with("GET "),
            "{chunk:?}: a whole request was made of it"
        );
        assert_eq!(origin.connections(), 2, "{chunk:?}");
    }
}

// ------------------------------------------------------ what is taken and put

#[tokio::test]
async fn the_origin_gets_the_target_as_sent_and_the_identity_as_known() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let target = "/a/%2e%2e//b;x=1?q=%zz&r={'a'}|^";
    let answer = gateway
        .ask(format!("GET {target} HTTP/1.1\r\nhost: Shop.Example:8080\r\ncookie: a=1; b=\"2\"\r\naccept-encoding: br\r\n\r\n"))
        .await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert!(header(&answer.head, "date").is_some());
    let seen = origin.received();
    assert!(
        seen.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
        "{seen}"
    );
    for line in [
        "host: Shop.Example:8080",
        "cookie: a=1; b=\"2\"",
        "accept-encoding: br",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: Shop.Example:8080",
        "x-forwarded-port: 8080",
        "via: 1.1 sumun",
        "sumun-event: main",
    ] {
        assert!(
            seen.split("\r\n").any(|own| own == line),
            "{line} in {seen}"
        );
    }
}

#[tokio::test]
async fn absolute_form_becomes_origin_form_and_its_authority_wins() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    gateway
        .ask("GET http://good.example:81/p?q HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        .await;
    let seen = origin.received();
    assert!(
        seen.starts_with("GET /p?q HTTP/1.1\r\n") && seen.contains("host: good.example:81\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("evil"), "{seen}");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop_in_both_directions() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-hop, content-length\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nproxy-connection: keep-alive\r\nupgrade: h2\r\nset-cookie: a=1\r\n\
         set-cookie: b=2\r\ncontent-length: 2\r\nx-end: 1\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let answer = gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: x-hop, Host, content-length, cookie, authorization, \
             sumun-event, x-forwarded-for, forwarded\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\n\
             proxy-authorization: Basic eA==\r\nte: gzip\r\nupgrade: h2c\r\nhttp2-settings: x\r\ncookie: c=1\r\n\
             authorization: Bearer y\r\nx-end: 1\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-",
        "\r\nte:",
        "upgrade",
        "http2-settings",
        "\r\nconnection",
    ] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    for kept in [
        "host: a.example\r\n",
        "cookie: c=1\r\n",
        "authorization: Bearer y\r\n",
        "x-end: 1\r\n",
        "sumun-event: main\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
    ] {
        assert!(seen.contains(kept), "{kept} in {seen}");
    }
    for gone in ["x-hop", "keep-alive", "proxy-", "upgrade"] {
        assert!(!answer.head.contains(gone), "{gone} in {}", answer.head);
    }
    assert!(
        answer.has("set-cookie: a=1") && answer.has("set-cookie: b=2") && answer.has("x-end: 1")
    );
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn an_untrusted_client_cannot_say_who_it_is() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             x-forwarded-host: evil\r\nx-forwarded-user: root\r\nx_forwarded_for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
             x-real-ip: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\nsumun-session: forged\r\nSumun_Session: forged\r\nsumun-event: forged\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for gone in ["6.6.6.6", "evil", "root", "forged", "https"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn a_trusted_proxys_chain_is_appended_to() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| setup.trusted = vec!["loopback"]);
    gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: internal\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 10.0.0.1\r\n\
             x-forwarded-proto: https\r\nx-forwarded-host: shop.example\r\nforwarded: for=1.2.3.4\r\nx-forwarded-prefix: /p\r\n\
             via: 1.0 first\r\nsumun-session: forged\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for line in [
        "x-forwarded-for: 1.2.3.4, 10.0.0.1, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: shop.example",
        "x-forwarded-port: 443",
        "x-forwarded-prefix: /p",
        "forwarded: for=1.2.3.4",
        "forwarded: for=127.0.0.1;proto=https;host=\"shop.example\"",
        "via: 1.0 first",
        "via: 1.1 sumun",
        "host: internal",
    ] {
        assert!(
            seen.split("\r\n").any(|own| own == line),
            "{line} in {seen}"
        );
    }
    assert!(!seen.contains("forged"));
}

#[tokio::test]
async fn host_and_cookie_are_what_was_decided() {
    let origin = RawOrigin::answering(OK).await;
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\ncookie: ours=1; theirs=2\r\n\r\n";
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.host_header = HostHeader::Origin;
        setup.cookie = Cookie::Replaced(HeaderValue::from_static("theirs=2"));
    });
    gateway.ask(request).await;
    let seen = origin.received();
    assert!(
        seen.contains(&format!("host: {}\r\n", origin.address)),
        "{seen}"
    );
    assert!(
        seen.contains("cookie: theirs=2\r\n") && !seen.contains("ours"),
        "{seen}"
    );
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.host_header = HostHeader::Name(HeaderValue::from_static("b.example"));
        setup.cookie = Cookie::Removed;
        setup.origin.title_case_headers = true;
    });
    origin.received.lock().unwrap().clear();
    gateway.ask(request).await;
    let seen = origin.received();
    assert!(
        seen.contains("Host: b.example\r\n") && !seen.contains("ookie"),
        "{seen}"
    );
}

#[tokio::test]
async fn max_forwards_counts_down_and_ends_here_at_zero() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let ask =
        |left: u8| format!("OPTIONS * HTTP/1.1\r\nhost: a.example\r\nmax-forwards: {left}\r\n\r\n");
    assert_eq!(gateway.ask(ask(0)).await.status, 204);
    assert_eq!(origin.received(), "");
    assert_eq!(gateway.ask(ask(3)).await.status, 200);
    let seen = origin.received();
    assert!(
        seen.starts_with("OPTIONS * HTTP/1.1\r\n") && seen.contains("max-forwards: 2\r\n"),
        "{seen}"
    );
}

// ------------------------------------------------------- bodies and their ends

#[tokio::test]
async fn head_204_and_304_have_no_body_and_the_connection_serves_on() {
    for (method, head, keeps) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            true,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n",
            true,
        ),
        (
            "HEAD",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\n\r\n",
            true,
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", false),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", false),
    ] {
        let origin = RawOrigin::answering(head).await;
        let gateway = Gateway::before(origin.address);
        let mut raw = gateway.connect().await;
        for _ in 0..2 {
            raw.send(format!("{method} / HTTP/1.1\r\nhost: a.example\r\n\r\n"))
                .await;
            let answer = raw.answer_to(false).await;
            assert_eq!(
                answer.has("content-length: 1234"),
                keeps,
                "{method} {head}: {}",
                answer.head
            );
            assert!(
                !answer.head.contains("transfer-encoding"),
                "{}",
                answer.head
            );
        }
        assert_eq!(origin.connections(), 1, "{method} {head}");
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn an_answer_with_length_and_chunks_is_read_by_its_chunks_and_its_connection_ends() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    for _ in 0..2 {
        let answer = gateway.ask(GET).await;
        assert_eq!(answer.text(), "hello");
        assert!(!answer.head.contains("content-length"), "{}", answer.head);
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn answers_that_are_not_http_are_502() {
    for (name, bytes) in [
        (
            "differing lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        ),
        (
            "a list of differing lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nokk",
        ),
        (
            "a signed length",
            "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        ),
        (
            "another coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding in 1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("garbage", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        (
            "a folded header",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "NUL",
            "HTTP/1.1 200 OK\r\na: b\0\r\ncontent-length: 0\r\n\r\n",
        ),
    ] {
        let origin = RawOrigin::answering(bytes).await;
        let gateway = Gateway::before(origin.address);
        let answer = gateway.ask(GET).await;
        assert_eq!((answer.status, answer.text()), (502, "protocol"), "{name}");
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn equal_lengths_become_one() {
    for lines in [
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2, 2",
    ] {
        let origin = RawOrigin::answering(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok")).await;
        let answer = Gateway::before(origin.address).ask(GET).await;
        assert_eq!(
            answer.head.matches("content-length: 2\r\n").count(),
            1,
            "{}",
            answer.head
        );
        assert_eq!(answer.text(), "ok");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_only_a_head_may_say() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ntrailer: x-sum, set-cookie\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
         x-sum: 7\r\nset-cookie: evil=1\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let body = "2\r\nhi\r\n0\r\nx-sum: 9\r\nx-forwarded-for: 6.6.6.6\r\nsumun-session: forged\r\ncookie: x\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\ntrailer: x-sum, x-forwarded-for, sumun-session, cookie\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let answer = gateway.ask(format!("{head}{body}")).await;
    assert_eq!(answer.text(), "okx-sum: 7\r\n", "{answer:?}");
    let seen = origin.received();
    assert!(
        seen.contains("te: trailers\r\n") && seen.ends_with("0\r\nx-sum: 9\r\n\r\n"),
        "{seen}"
    );
    assert!(
        !seen.contains("forged") && !seen.contains("6.6.6.6"),
        "{seen}"
    );
    let plain = gateway.ask(GET).await;
    assert_eq!(plain.text(), "ok", "nobody asked for trailers");
}

#[tokio::test]
async fn continue_is_said_when_the_origin_takes_the_body_and_not_before() {
    let (head_came, came) = oneshot::channel::<()>();
    let head_came = Arc::new(Mutex::new(Some(head_came)));
    let origin = RawOrigin::with(move |mut raw, _, received| {
        let head_came = Arc::clone(&head_came);
        async move {
            let head = raw.head().await.unwrap();
            received.lock().unwrap().extend(head.into_bytes());
            head_came.lock().unwrap().take().unwrap().send(()).unwrap();
            let body = raw.take(4).await.unwrap();
            received.lock().unwrap().extend(body);
            raw.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(
        "POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-Continue\r\ncontent-length: 4\r\n\r\n",
    )
    .await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 100 "));
    bounded("the head", came).await.unwrap();
    raw.send("body").await;
    assert_eq!(raw.answer().await.status, 200);
    let seen = origin.received();
    assert!(
        seen.ends_with("\r\n\r\nbody") && !seen.contains("expect"),
        "{seen}"
    );
}

#[tokio::test]
async fn an_unreachable_origin_is_502_without_a_continue() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = Gateway::before(refused);
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.text()), (502, "connect"));
    let told = gateway
        .ask("POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(told.status, 502, "the body was never asked for");
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let told = String::from_utf8(gateway.tell("GET / HTTP/1.0\r\n\r\n").await).unwrap();
    assert!(
        told.starts_with("HTTP/1.0 200 OK\r\n") && told.ends_with("\r\n\r\nhello"),
        "{told}"
    );
    assert!(!told.contains("chunked"));
    assert!(origin.received().starts_with("GET / HTTP/1.1\r\n"));
    assert!(
        origin
            .received()
            .contains(&format!("host: {}\r\n", origin.address))
    );
}

#[tokio::test]
async fn a_cut_answer_never_looks_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let origin = RawOrigin::with(move |mut raw, _, _| async move {
            whole_request(&mut raw).await;
            raw.send(head).await;
        })
        .await;
        let gateway = Gateway::before(origin.address);
        let told = String::from_utf8(gateway.tell(GET).await).unwrap();
        assert!(!told.contains("0\r\n\r\n"), "{told}");
        assert!(told.contains("hello") || told.is_empty(), "{told}");
        // Where the end of the connection is the end of the body, it has to be a reset.
        let mut old = gateway.connect().await;
        old.send("GET / HTTP/1.0\r\nhost: a.example\r\n\r\n").await;
        let end = loop {
            match old.more().await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(fault) => break Err(fault.kind()),
            }
        };
        let short = header(&String::from_utf8_lossy(&old.buffer), "content-length").is_some();
        assert!(
            short || end == Err(std::io::ErrorKind::ConnectionReset),
            "{end:?}"
        );
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn sixty_four_megabytes_pass_both_ways_unchanged() {
    const SIZE: usize = 64 << 20;
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        let head = raw.head().await.unwrap();
        assert_eq!(
            header(&head, "content-length"),
            Some(SIZE.to_string().as_str())
        );
        raw.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
            .await;
        let (mut from, mut to) = raw.stream.split();
        to.write_all(&raw.buffer).await.unwrap();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let piece: Arc<Vec<u8>> = Arc::new(
        (0..1_u32 << 20)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect(),
    );
    let mut sent = Sha256::new();
    for number in 0..64_u8 {
        sent.update([number]);
        sent.update(&piece[1..]);
    }
    let upload = Arc::clone(&piece);
    let upload = tokio::spawn(async move {
        to.write_all(
            format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {SIZE}\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
        for number in 0..64_u8 {
            to.write_all(&[number]).await.unwrap();
            to.write_all(&upload[1..]).await.unwrap();
        }
        to
    });
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        head.push(bounded("the head", from.read_u8()).await.unwrap());
    }
    let mut got = Sha256::new();
    let mut left = SIZE;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let came = bounded("more", from.read(&mut buffer)).await.unwrap();
        assert!(came > 0 && came <= left);
        got.update(&buffer[..came]);
        left -= came;
    }
    assert!(got.finalize() == sent.finalize());
    drop(upload.await.unwrap());
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_origin_back() {
    const SIZE: usize = 64 << 20;
    let (stalled_at, mut stalls) = mpsc::unbounded_channel();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let stalled_at = stalled_at.clone();
        async move {
            raw.head().await.unwrap();
            raw.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
                .await;
            let piece = vec![7; 1 << 16];
            for number in 0..SIZE >> 16 {
                let writing = raw.stream.write_all(&piece);
                tokio::pin!(writing);
                if tokio::time::timeout(Duration::from_millis(500), &mut writing)
                    .await
                    .is_err()
                {
                    stalled_at.send(number << 16).unwrap();
                    writing.await.unwrap();
                }
            }
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    let written = bounded("the stall", stalls.recv())
        .await
        .expect("the origin wrote all of it");
    assert!(
        written < SIZE / 2,
        "{written} bytes were taken from the origin for a client that reads nothing"
    );
    let answer = raw.answer().await;
    assert!(answer.body.len() == SIZE && answer.body.iter().all(|byte| *byte == 7));
}

// ------------------------------------------------- the connections to the origin

#[tokio::test]
async fn connections_to_the_origin_are_used_again() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    for _ in 0..5 {
        assert_eq!(gateway.ask(GET).await.text(), "ok");
        assert_eq!(
            gateway
                .ask("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc")
                .await
                .text(),
            "ok"
        );
        assert_eq!(gateway.ask("POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await.text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
}

/// Answers the first request of each connection; the first connection dies at its second one.
async fn dies_at_the_second(last_words: &'static str) -> RawOrigin {
    RawOrigin::with(move |mut raw, number, received| async move {
        let mut turn = 0;
        while let Some(request) = whole_request(&mut raw).await {
            received.lock().unwrap().extend(request);
            if number == 0 && turn == 1 {
                raw.send(last_words).await;
                return;
            }
            turn += 1;
            raw.send(OK).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once_for_what_may_be_repeated() {
    for method in ["GET", "HEAD", "DELETE", "PUT"] {
        let origin = dies_at_the_second("").await;
        let gateway = Gateway::before(origin.address);
        gateway.ask(GET).await;
        let mut raw = gateway.connect().await;
        raw.send(format!(
            "{method} /again HTTP/1.1\r\nhost: a.example\r\ncookie: a=1\r\n\r\n"
        ))
        .await;
        assert_eq!(
            raw.answer_to(method != "HEAD").await.status,
            200,
            "{method}"
        );
        let seen = origin.received();
        assert_eq!(seen.matches("/again").count(), 2, "{seen}");
        assert_eq!(seen.matches("cookie: a=1\r\n").count(), 2, "{seen}");
        assert_eq!(
            seen.matches("x-forwarded-for: 127.0.0.1\r\n").count(),
            3,
            "{seen}"
        );
    }
}

#[tokio::test]
async fn what_may_not_be_repeated_is_502_on_a_stale_connection() {
    for (request, last_words) in [
        ("POST /again HTTP/1.1\r\nhost: a.example\r\n\r\n", ""),
        (
            "POST /again HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1\r\n\r\nx",
            "",
        ),
        (
            "PUT /again HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1\r\n\r\nx",
            "",
        ),
        // It had begun to answer: it has seen the request.
        (
            "GET /again HTTP/1.1\r\nhost: a.example\r\n\r\n",
            "HTTP/1.1 2",
        ),
    ] {
        let origin = dies_at_the_second(last_words).await;
        let gateway = Gateway::before(origin.address);
        gateway.ask(GET).await;
        let answer = gateway.ask(request).await;
        assert_eq!((answer.status, answer.text()), (502, "reset"), "{request}");
        assert_eq!(origin.received().matches("/again").count(), 1, "{request}");
    }
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.text()), (502, "reset"));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_silent_origin_is_504() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.first_byte = Duration::from_millis(100);
    });
    for request in [
        GET,
        "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1\r\n\r\nx",
    ] {
        let answer = gateway.ask(request).await;
        assert_eq!((answer.status, answer.text()), (504, "first_byte_timeout"));
    }
    gateway.until_idle().await;
}

#[tokio::test]
async fn an_upload_longer_than_the_first_byte_limit_is_not_cut() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.first_byte = Duration::from_millis(300);
    });
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 8\r\n\r\n")
        .await;
    for byte in 0..8 {
        // Slowness is the matter of this test, not a way to wait for something.
        tokio::time::sleep(Duration::from_millis(60)).await;
        raw.send([b'0' + byte]).await;
    }
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn an_origin_that_stops_in_the_middle_is_cut_off() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        raw.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.idle = Duration::from_millis(100);
    });
    let told = gateway.tell(GET).await;
    assert!(
        told.ends_with(b"hello"),
        "{}",
        String::from_utf8_lossy(&told)
    );
    gateway.until_idle().await;
}

/// An origin that never answers and tells when its connection has ended.
async fn patient() -> (RawOrigin, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let tell = tell.clone();
        async move {
            whole_request(&mut raw).await;
            tell.send("asked").unwrap();
            while raw.more().await.is_ok_and(|came| came > 0) {}
            tell.send("left").unwrap();
        }
    })
    .await;
    (origin, told)
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    for reset in [true, false] {
        let (origin, mut told) = patient().await;
        let gateway = Gateway::with(origin.address, |setup| {
            // A closed half is waited on for this long, a reset not at all.
            setup.server.half_close = if reset {
                Duration::from_secs(60)
            } else {
                Duration::from_millis(50)
            };
        });
        let mut raw = gateway.connect().await;
        raw.send(GET).await;
        assert_eq!(bounded("the request", told.recv()).await, Some("asked"));
        if reset {
            socket2::SockRef::from(&raw.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(raw);
        assert_eq!(
            bounded("the cancelling", told.recv()).await,
            Some("left"),
            "reset: {reset}"
        );
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_gets_its_answer() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(tokio::sync::Mutex::new(Some(gone)));
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let gone = Arc::clone(&gone);
        async move {
            whole_request(&mut raw).await;
            gone.lock().await.take().unwrap().await.unwrap();
            raw.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    raw.stream.shutdown().await.unwrap();
    go.send(()).unwrap();
    assert_eq!(raw.answer().await.text(), "ok");
    assert!(raw.rest().await.is_empty());
}

// ------------------------------------------------------------------- upgrades

#[tokio::test]
async fn a_websocket_passes_and_ends_with_either_side() {
    let origin = RawOrigin::with(|raw, _, _| async move {
        let mut socket = tokio_tungstenite::accept_async(raw.stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let (mut socket, answer) =
        tokio_tungstenite::connect_async(format!("ws://{}/chat", gateway.address))
            .await
            .unwrap();
    assert_eq!(answer.status().as_u16(), 101);
    for text in ["one", "two", "three"] {
        socket.send(text.into()).await.unwrap();
        let back = bounded("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back.into_text().unwrap().as_str(), text);
    }
    let large = vec![9_u8; 1 << 20];
    socket.send(large.clone().into()).await.unwrap();
    assert!(
        bounded("the echo", socket.next())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            == large
    );
    assert_eq!(gateway.in_flight.load(Ordering::SeqCst), 1);
    socket.close(None).await.unwrap();
    while bounded("the end", socket.next())
        .await
        .is_some_and(|message| message.is_ok())
    {}
    drop(socket);
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_tunnel_that_moves_nothing_is_ended() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        raw.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: Echo\r\n\r\nfirst",
        )
        .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.tunnel_idle = Duration::from_millis(100);
    });
    let told = gateway
        .tell("GET / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let text = String::from_utf8(told).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\nfirst"),
        "{text}"
    );
    assert!(
        text.contains("upgrade: Echo\r\n") && text.contains("connection: upgrade\r\n"),
        "{text}"
    );
    gateway.until_idle().await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_502() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    for ask in [
        "",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\nupgrade: other\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n",
    ] {
        let body = if ask.contains("length") { "x" } else { "" };
        let answer = gateway
            .ask(format!(
                "GET / HTTP/1.1\r\nhost: a.example\r\n{ask}\r\n{body}"
            ))
            .await;
        assert_eq!(
            (answer.status, answer.text()),
            (502, "unsolicited_upgrade"),
            "{ask}"
        );
    }
    let seen = origin.received();
    assert_eq!(seen.matches("upgrade: ").count(), 1, "{seen}");
    assert!(seen.contains("upgrade: other\r\n"), "{seen}");
}

// ------------------------------------------------------------------- the door

#[tokio::test]
async fn a_slow_head_is_ended_by_the_sweep() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.head = Duration::from_millis(400);
    });
    let mut raw = gateway.connect().await;
    raw.send("GET / HTTP/1.1\r\nhost: a").await;
    let told = String::from_utf8(raw.rest().await).unwrap();
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    assert!(
        gateway.connect().await.rest().await.is_empty(),
        "who said nothing is told nothing"
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_head_that_drips_gets_no_more_time() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.head = Duration::from_millis(400);
    });
    let raw = gateway.connect().await;
    let (mut from, mut to) = raw.stream.into_split();
    let drip = tokio::spawn(async move {
        to.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
            .await
            .unwrap();
        while to.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut told = Vec::new();
    let _ended_or_reset = bounded("the end", from.read_to_end(&mut told)).await;
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 408 "));
    drip.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_stalled_upload_is_408() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.keep_alive = Duration::from_millis(100);
        setup.server.body_idle = Duration::from_millis(100);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert_eq!(raw.answer().await.status, 200);
    assert!(raw.rest().await.is_empty());
    let told = gateway
        .tell("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    assert!(
        told.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&told)
    );
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_ended() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        let piece = vec![7; 1 << 16];
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            1_usize << 30
        );
        let _cut = raw.stream.write_all(head.as_bytes()).await;
        while raw.stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.body_idle = Duration::from_millis(200);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 200"));
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: bad host\r\ncontent-length: 500000\r\n\r\n")
        .await;
    raw.send(vec![b'x'; 500_000]).await;
    let told = String::from_utf8(raw.rest().await).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 400 ") && told.contains("connection: close"),
        "{told}"
    );
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET.repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(raw.answer().await.text(), "ok");
    }
    assert_eq!(origin.received().matches("GET / ").count(), 20);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_told_so() {
    let origin = RawOrigin::answering(OK).await;
    for (all, each) in [(2, 100), (100, 2)] {
        let places = Places::new(all, each, TrustedProxies::default());
        let seen = places.clone();
        let gateway = Gateway::with(origin.address, |setup| setup.places = places);
        let mut first = gateway.connect().await;
        let mut second = gateway.connect().await;
        for raw in [&mut first, &mut second] {
            raw.send(GET).await;
            assert_eq!(raw.answer().await.status, 200);
        }
        let told = gateway.tell("").await;
        assert!(
            told.starts_with(b"HTTP/1.1 503 "),
            "{}",
            String::from_utf8_lossy(&told)
        );
        drop(first);
        bounded("a free place", async {
            while seen.taken() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(gateway.ask(GET).await.status, 200);
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_closes_what_is_idle() {
    let (asked_tx, mut asked) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(false);
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let (asked, mut gone) = (asked_tx.clone(), gone.clone());
        async move {
            while let Some(request) = whole_request(&mut raw).await {
                if request.starts_with(b"GET /slow") {
                    asked.send(()).unwrap();
                    gone.wait_for(|gone| *gone).await.unwrap();
                }
                raw.send(OK).await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::before(origin.address);
    let mut idle = gateway.connect().await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.status, 200);
    let silent = gateway.connect().await;
    let mut running = gateway.connect().await;
    running
        .send("GET /slow HTTP/1.1\r\nhost: a.example\r\n\r\n")
        .await;
    bounded("the request", asked.recv()).await.unwrap();
    gateway.drain.send_replace(true);
    assert!(idle.rest().await.is_empty());
    assert!(silent.rest().await.is_empty());
    assert!(
        TcpStream::connect(gateway.address).await.is_err(),
        "nobody new is let in"
    );
    go.send_replace(true);
    let answer = running.answer().await;
    assert_eq!(answer.text(), "ok");
    assert!(answer.has("connection: close"), "{}", answer.head);
    assert!(running.rest().await.is_empty());
    gateway.thread.take().unwrap().join().unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let (origin, mut told) = patient().await;
    let mut gateway = Gateway::with(origin.address, |setup| {
        setup.server.drain = Duration::from_millis(100);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert_eq!(bounded("the request", told.recv()).await, Some("asked"));
    gateway.drain.send_replace(true);
    assert_eq!(bounded("the cancelling", told.recv()).await, Some("left"));
    assert!(raw.rest().await.is_empty());
    gateway.thread.take().unwrap().join().unwrap();
}

#[tokio::test]
async fn several_listeners_share_one_port() {
    let listeners = server::listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let addresses: Vec<_> = listeners
        .iter()
        .map(|one| one.local_addr().unwrap())
        .collect();
    assert_eq!(addresses.len(), 3);
    assert!(
        addresses
            .iter()
            .all(|one| *one == addresses[0] && one.port() != 0)
    );
}

#[tokio::test]
async fn the_body_of_a_get_keeps_its_framing() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let head = "GET / HTTP/1.1\r\nhost: a.example\r\n";
    gateway
        .ask(format!(
            "{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ))
        .await;
    let seen = origin.received();
    assert!(
        seen.contains("transfer-encoding: chunked\r\n") && seen.ends_with("3\r\nabc\r\n0\r\n\r\n"),
        "{seen}"
    );
    gateway
        .ask(format!("{head}content-length: 3\r\n\r\nabc"))
        .await;
    let seen = origin.received();
    assert!(
        seen.contains("content-length: 3\r\n") && seen.ends_with("\r\n\r\nabc"),
        "{seen}"
    );
    gateway
        .ask("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(origin.received().contains("content-length: 0\r\n"));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_passes_and_its_connection_is_not_used_again() {
    let origin = RawOrigin::with(|mut raw, number, _| async move {
        raw.head().await.unwrap();
        let status = if number == 0 { 413 } else { 200 };
        raw.send(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"
        ))
        .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100\r\n\r\nabc")
        .await;
    assert_eq!(raw.answer().await.status, 413);
    assert_eq!(gateway.ask(GET).await.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_stream_ends_it() {
    for reset in [true, false] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let origin = RawOrigin::with(move |mut raw, _, _| {
            let tell = tell.clone();
            async move {
                whole_request(&mut raw).await;
                raw.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\n:\r\n").await;
                while raw.more().await.is_ok_and(|came| came > 0) {}
                tell.send(()).unwrap();
            }
        })
        .await;
        let gateway = Gateway::with(origin.address, |setup| {
            setup.server.half_close = Duration::from_millis(100);
        });
        let mut raw = gateway.connect().await;
        raw.send(GET).await;
        raw.up_to(b":\r\n").await.unwrap();
        if reset {
            socket2::SockRef::from(&raw.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(raw);
        bounded("the end of the stream", told.recv()).await.unwrap();
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn an_https_origin_is_checked_against_its_name() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|came| came > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(OK.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    let known = [signed.cert.der().clone()];
    let anywhere = "127.0.0.1:1".parse().unwrap();
    for (url, roots, status) in [
        (format!("https://localhost:{port}"), &known[..], 200),
        (format!("https://127.0.0.1:{port}"), &known[..], 502),
        (format!("https://localhost:{port}"), &[], 502),
    ] {
        let Ok(settings) = OriginSettings::new(&url, roots) else {
            assert!(roots.is_empty(), "a machine without any root certificate");
            continue;
        };
        let gateway = Gateway::with(anywhere, |setup| setup.origin = settings);
        for _ in 0..2 {
            assert_eq!(gateway.ask(GET).await.status, status, "{url}");
        }
    }
}

#[test]
fn origins_that_cannot_be_are_named_with_a_remedy() {
    for url in [
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a/path",
        "http://a?q",
        "a:80",
        "",
    ] {
        let fault = OriginSettings::new(url, &[])
            .err()
            .unwrap_or_else(|| panic!("{url}"));
        assert!(fault.to_string().contains("write http://"), "{fault}");
    }
}

#[tokio::test]
async fn an_origin_that_takes_no_more_of_an_upload_is_504() {
    let (end, ended) = watch::channel(false);
    let origin = RawOrigin::with(move |raw, _, _| {
        let mut ended = ended.clone();
        async move {
            let _held_unread = raw;
            ended.wait_for(|ended| *ended).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.idle = Duration::from_millis(200);
    });
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let upload = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n",
            1_usize << 30
        );
        let _cut = to.write_all(head.as_bytes()).await;
        let piece = vec![7; 1 << 16];
        while to.write_all(&piece).await.is_ok() {}
    });
    let mut head = vec![0; 12];
    bounded("the answer", from.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(head, b"HTTP/1.1 504");
    drop(from);
    bounded("the end of the upload", upload).await.unwrap();
    gateway.until_idle().await;
    end.send_replace(true);
}

#[tokio::test]
async fn unused_connections_to_the_origin_lapse() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let tell = tell.clone();
        async move {
            whole_request(&mut raw).await;
            raw.send(OK).await;
            assert!(whole_request(&mut raw).await.is_none());
            tell.send(()).unwrap();
        }
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.pool_idle = Duration::from_millis(100);
    });
    assert_eq!(gateway.ask(GET).await.status, 200);
    bounded("the end of the connection", told.recv())
        .await
        .unwrap();
}
