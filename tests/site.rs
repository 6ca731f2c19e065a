//! A whole site behind a real nginx, asked for directly and through the
//! gateway with its gate open: bytes, status and headers must be the same, but
//! for the differences named here. A large file costs time, not memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use sumun::config::Config;
use sumun::run::{Listeners, run};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Nothing here takes that long; it only turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(300);

async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

// ------------------------------------------------------------------ the site

const MB: u64 = 1 << 20;

/// The large file: 1 GB, most of it holes on the disk.
const LARGE: u64 = 1024 * MB;

/// What is written at the beginning of each megabyte; no two are the same.
const MARK_BYTES: usize = 4096;

/// The bytes of the large file's megabyte of this index.
fn megabyte(index: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(MB).unwrap()];
    for (place, byte) in bytes.iter_mut().take(MARK_BYTES).enumerate() {
        let mixed = (index * 31 + place as u64).wrapping_mul(2_654_435_761);
        *byte = u8::try_from((mixed >> 13) & 0xff).unwrap();
    }
    bytes
}

/// Bytes in which a place cannot be mistaken for another.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state & 0xff).unwrap()
    };
    std::iter::repeat_with(step).take(length).collect()
}

fn write_site(root: &Path) {
    let pages = root.join("pages");
    fs::create_dir_all(&pages).unwrap();
    for page in ["index.html", "pages/tickets.html", "pages/예매.html"] {
        let mut html = "<!doctype html><meta charset=utf-8>\
            <link rel=stylesheet href=/site.css><script src=/site.js></script>"
            .to_owned();
        for row in 0..400 {
            let _ = writeln!(html, "<p>{page}: row {row}, 좌석 {row}</p>");
        }
        fs::write(root.join(page), html).unwrap();
    }
    fs::write(root.join("site.css"), "p { color: #123 }\n".repeat(300)).unwrap();
    fs::write(root.join("site.js"), "console.log('here');\n".repeat(300)).unwrap();
    fs::write(root.join("empty.txt"), "").unwrap();
    fs::write(root.join("poster.png"), noise(300_000)).unwrap();
    let large = fs::File::create(root.join("large.bin")).unwrap();
    large.set_len(LARGE).unwrap();
    for index in 0..LARGE / MB {
        let bytes = megabyte(index);
        large
            .write_all_at(&bytes[..MARK_BYTES], index * MB)
            .unwrap();
    }
}

struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    async fn open() -> Self {
        // Its workers may have given up the right to read another's folder.
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("site");
        write_site(&root);
        for _ in 0..5 {
            if let Some((process, address)) = start_nginx(folder.path()).await {
                return Self {
                    process,
                    address,
                    _folder: folder,
                };
            }
        }
        let said = fs::read_to_string(folder.path().join("error.log"));
        panic!("nginx does not start: {said:?}");
    }
}

/// Starts nginx on a port that was free a moment ago; `None` if it was taken.
async fn start_nginx(prefix: &Path) -> Option<(Child, SocketAddr)> {
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    // nginx zips nothing for requests with `Via` unless told to (gzip_proxied).
    let conf = format!(
        "daemon off; master_process off; worker_processes 1;\n\
         pid nginx.pid; error_log error.log warn;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
           types {{ text/html html; text/css css; text/javascript js; image/png png; text/plain txt; }}\n\
           default_type application/octet-stream;\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_timeout 30s;\n\
           client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
           uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
           gzip on; gzip_proxied any; gzip_min_length 256; gzip_vary on; gzip_types text/css text/javascript;\n\
           etag on;\n\
           server {{\n\
             listen {address}; root site; charset utf-8;\n\
             location / {{ add_header X-Two one always; add_header X-Two two always; }}\n\
             location = /site.css {{ add_header Cache-Control \"public, max-age=600\"; }}\n\
             location /old/ {{ return 301 /pages/tickets.html?from=old; }}\n\
             location = /nothing {{ return 204; }}\n\
             location = /cookies {{ add_header Set-Cookie \"a=1; Path=/\"; add_header Set-Cookie \"b=2; HttpOnly\"; return 200 \"two cookies\"; }}\n\
             location = /broken {{ return 500 \"broken\"; }}\n\
           }}\n\
         }}\n"
    );
    fs::write(prefix.join("nginx.conf"), conf).unwrap();
    let mut process = Command::new("nginx")
        .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
        .arg(prefix)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx; tests/run installs it");
    bounded("nginx", async {
        loop {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).await.is_ok() {
                return Some((process, address));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

// --------------------------------------------------------------- the gateway

struct Gateway {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gateway {
    /// The whole server, with one event for the whole site and room for all.
    async fn before(origin: SocketAddr) -> Self {
        let text = format!(
            "listen = \"127.0.0.1:0\"\norigin = \"http://{origin}\"\nstate_dir = \"\"\n\
             drain_delay = \"0s\"\ndrain_timeout = \"2s\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\naccess = false\n\
             [[event]]\nid = \"main\"\nlimit = 500\n"
        );
        let config = Config::parse(&text, std::iter::empty())
            .unwrap_or_else(|faults| panic!("{:?}", faults.into_iter().collect::<Vec<_>>()));
        let listeners = Listeners::open(&config).unwrap();
        let address = listeners.public_address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let control = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let (_reload, reloads) = mpsc::channel(1);
            let stopped = async {
                let _ = stopped.await;
            };
            let running = run(config, listeners, reloads, stopped, |_| {
                let _ = ready.send(());
            });
            control.block_on(running).unwrap();
        });
        is_ready.await.unwrap();
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

// ---------------------------------------------------------------- the asking

/// One question to the site.
#[derive(Debug, Clone)]
struct Question {
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
}

fn get(target: &str) -> Question {
    Question {
        method: Method::GET,
        target: target.to_owned(),
        headers: vec![],
    }
}

impl Question {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(mut self) -> Self {
        self.method = Method::HEAD;
        self
    }

    fn request(&self, host: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.target)
            .header(header::HOST, host);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Empty::new()).unwrap()
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    /// In their order, as they were sent.
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(found, _)| found == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Takes out what a gateway has to say for itself: the connection's own
    /// headers, and the second in which the answer was made.
    fn without_hops(mut self) -> Self {
        self.headers.retain(|(name, _)| {
            !matches!(
                name.as_str(),
                "connection" | "keep-alive" | "transfer-encoding" | "date"
            )
        });
        self.headers.sort();
        self
    }
}

/// One connection, one question, the whole answer.
async fn ask(address: SocketAddr, question: &Question) -> Answer {
    let request = question.request("site.example");
    let asked = async {
        let answer = connect(address).await.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8(value.as_bytes().to_vec()).unwrap();
            (name.as_str().to_owned(), value)
        });
        Answer {
            status: head.status,
            headers: headers.collect(),
            body: body.collect().await.unwrap().to_bytes(),
        }
    };
    bounded(&question.target, asked).await
}

struct World {
    nginx: Nginx,
    gateway: Gateway,
}

impl World {
    async fn open() -> Self {
        let nginx = Nginx::open().await;
        let gateway = Gateway::before(nginx.address).await;
        Self { nginx, gateway }
    }

    /// Asks both, and gives the answer if it is the same.
    async fn same(&self, question: Question, status: u16) -> Answer {
        let direct = ask(self.nginx.address, &question).await;
        let through = ask(self.gateway.address, &question).await;
        assert!(through.get("date").is_some(), "{question:?}");
        assert_eq!(direct.status.as_u16(), status, "{question:?}");
        let (direct, through) = (direct.without_hops(), through.without_hops());
        assert_eq!(through.headers, direct.headers, "{question:?}");
        assert_eq!(through.status, direct.status, "{question:?}");
        assert!(through.body == direct.body, "{question:?}: other bytes");
        direct
    }
}

// ----------------------------------------------------------------- the cases

const FILES: &[&str] = &[
    "/",
    "/pages/tickets.html",
    "/pages/%EC%98%88%EB%A7%A4.html",
    "/site.css",
    "/site.js",
    "/poster.png",
    "/empty.txt",
];

#[tokio::test]
async fn every_page_and_asset_comes_through_as_it_is_whole_zipped_and_as_head() {
    let world = World::open().await;
    for file in FILES {
        world.same(get(file), 200).await;
        world.same(get(file).head(), 200).await;
        let zipped = get(file).with("accept-encoding", "gzip");
        let zipped = world.same(zipped, 200).await;
        let is_text = ["/", ".html", ".css", ".js"]
            .iter()
            .any(|ending| file.ends_with(ending));
        let encoding = zipped.get("content-encoding");
        assert_eq!(encoding, is_text.then_some("gzip"), "{file}");
        assert_eq!(zipped.body.starts_with(&[0x1f, 0x8b]), is_text, "{file}");
    }
    let odd = [("/old/page", 301), ("/nothing", 204), ("/cookies", 200)];
    for (target, status) in odd.into_iter().chain([("/missing", 404), ("/broken", 500)]) {
        world.same(get(target), status).await;
        world.same(get(target).head(), status).await;
    }
}

#[tokio::test]
async fn what_the_browser_has_already_is_answered_not_modified() {
    let world = World::open().await;
    for file in FILES {
        let whole = world.same(get(file), 200).await;
        let etag = whole.get("etag").expect("an etag");
        let changed = whole.get("last-modified").expect("a moment");
        world.same(get(file).with("if-none-match", etag), 304).await;
        let known = get(file).with("if-none-match", format!("\"other\", {etag}"));
        world.same(known.head(), 304).await;
        world
            .same(get(file).with("if-modified-since", changed), 304)
            .await;
        let other = get(file).with("if-none-match", "\"other\"");
        world.same(other, 200).await;
        world
            .same(get(file).with("if-match", "\"other\""), 412)
            .await;
        let long_ago = "Thu, 01 Jan 2015 00:00:00 GMT";
        let changed_since = get(file).with("if-unmodified-since", long_ago);
        world.same(changed_since, 412).await;
    }
}

#[tokio::test]
async fn parts_come_through_single_several_from_the_end_and_beyond_it() {
    let world = World::open().await;
    let part = |range: &str| get("/poster.png").with("range", format!("bytes={range}"));
    let whole = noise(300_000);
    for (range, expected) in [
        ("0-0", &whole[..1]),
        ("1000-1999", &whole[1000..2000]),
        ("299000-", &whole[299_000..]),
        ("-500", &whole[299_500..]),
        ("200000-999999", &whole[200_000..]),
    ] {
        let answer = world.same(part(range), 206).await;
        assert!(answer.body == expected, "{range}");
        world.same(part(range).head(), 206).await;
    }
    // nginx numbers the boundaries of its parts: those differ between two answers.
    let several = part("0-99,1000-1099,-100");
    let direct = ask(world.nginx.address, &several).await;
    let through = ask(world.gateway.address, &several).await;
    assert_eq!(through.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(parts(&through), parts(&direct));
    assert_eq!(through.get("content-length"), direct.get("content-length"));

    world.same(part("300000-"), 416).await;
    let etag = world.same(get("/poster.png"), 200).await;
    let etag = etag.get("etag").unwrap();
    world.same(part("0-9").with("if-range", etag), 206).await;
    let outdated = part("0-9").with("if-range", "\"other\"");
    world.same(outdated, 200).await;
    // Deep in the large file.
    let deep = get("/large.bin").with("range", "bytes=734003200-734003455");
    let deep = world.same(deep, 206).await;
    assert!(deep.body == megabyte(700)[..256]);
}

/// A multipart body with its boundary replaced.
fn parts(answer: &Answer) -> Vec<u8> {
    let boundary = answer
        .get("content-type")
        .and_then(|kind| kind.strip_prefix("multipart/byteranges; boundary="))
        .expect("several parts");
    let body = answer.body.to_vec();
    let (boundary, mut rest) = (boundary.as_bytes(), body.as_slice());
    let mut replaced = Vec::new();
    while let Some(at) = rest
        .windows(boundary.len())
        .position(|window| window == boundary)
    {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(b"BOUNDARY");
        rest = &rest[at + boundary.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

#[tokio::test]
async fn a_page_that_a_visitor_opens_differs_by_the_pass_alone() {
    let world = World::open().await;
    let opened = get("/pages/tickets.html").with("accept", "text/html");
    let direct = ask(world.nginx.address, &opened).await.without_hops();
    let mut through = ask(world.gateway.address, &opened).await.without_hops();
    let pass = through.get("set-cookie").expect("a pass").to_owned();
    assert!(pass.starts_with("sumun_main="), "{pass}");
    assert_eq!(through.get("cache-control"), Some("private"));
    assert_eq!(through.get("sumun-status"), Some("enter"));
    through.headers.retain(|(name, _)| {
        !matches!(
            name.as_str(),
            "set-cookie" | "cache-control" | "sumun-status"
        )
    });
    assert_eq!(through, direct);
    // With the pass there is no difference at all.
    let cookie = pass.split(';').next().unwrap();
    world.same(opened.with("cookie", cookie), 200).await;
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_gigabyte_comes_through_whole_and_is_kept_nowhere_on_the_way() {
    let world = World::open().await;
    let request = get("/large.bin").request("site.example");
    let mut sender = connect(world.gateway.address).await;
    let answer = bounded("the head", sender.send_request(request)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-length"], LARGE.to_string());
    let growth = bounded("the large file", read_large(answer.into_body())).await;
    assert!(growth < 64 * MB, "the process grew by {growth} bytes");
}

/// Reads the large file slowly enough for a gateway that would hold it, and
/// compares every byte. Gives by how much this process grew at most.
async fn read_large(mut body: Incoming) -> u64 {
    let before = resident();
    let mut growth = 0;
    let (mut index, mut expected, mut at) = (0, megabyte(0), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        let mut data = data.as_ref();
        while !data.is_empty() {
            let length = data.len().min(expected.len() - at);
            let (now, later) = data.split_at(length);
            assert!(
                now == &expected[at..at + length],
                "other bytes in megabyte {index}"
            );
            (data, at) = (later, at + length);
            if at < expected.len() {
                continue;
            }
            (index, at) = (index + 1, 0);
            expected = megabyte(index);
            if index % 64 == 0 {
                // The reader dawdles: what is not asked for must stay at nginx.
                tokio::time::sleep(Duration::from_millis(100)).await;
                growth = growth.max(resident().saturating_sub(before));
            }
        }
    }
    assert_eq!((index, at), (LARGE / MB, 0), "the file's whole length");
    growth
}
