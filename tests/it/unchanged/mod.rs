//! A whole site behind a real nginx, asked for directly and through the
//! gateway with its gate open: bytes, status and headers must be the same, but
//! for the differences named here. A large file costs time, not memory.

mod nginx;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use crate::support::process::{Doors, Process};
use crate::support::{Plan, Server, bounded, connect, noise, until};
use nginx::{LARGE, MB, Nginx, megabyte};

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
        let answer = connect::<Empty<Bytes>>(address)
            .await
            .send_request(request)
            .await
            .unwrap();
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

/// The site, and a gateway before it with room for all.
struct World {
    nginx: Nginx,
    gateway: Server,
}

impl World {
    async fn open() -> Self {
        let nginx = Nginx::open().await;
        let gateway = Plan::event("limit = 500").start_before(nginx.address).await;
        Self { nginx, gateway }
    }

    /// Asks both, and gives the answer if it is the same.
    async fn same(&self, question: Question, status: u16) -> Answer {
        let direct = ask(self.nginx.address, &question).await;
        let through = ask(self.gateway.door, &question).await;
        assert!(through.get("date").is_some(), "{question:?}");
        assert_eq!(direct.status.as_u16(), status, "{question:?}");
        let (direct, through) = (direct.without_hops(), through.without_hops());
        assert_eq!(through.headers, direct.headers, "{question:?}");
        assert_eq!(through.status, direct.status, "{question:?}");
        assert!(through.body == direct.body, "{question:?}: other bytes");
        direct
    }
}

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
    let through = ask(world.gateway.door, &several).await;
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
    let mut through = ask(world.gateway.door, &opened).await.without_hops();
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

/// The memory of a process, in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_gigabyte_comes_through_whole_and_is_kept_nowhere_on_the_way() {
    let nginx = Nginx::open().await;
    // A process of its own: what grows beside it in the tests does not count.
    let folder = tempfile::tempdir().unwrap();
    let (doors, file) = (Doors::free(), folder.path().join("gateway.toml"));
    fs::write(&file, doors.file(nginx.address, "limit = 500")).unwrap();
    let gateway = Process::run(&file, doors);
    until("the gateway", async || gateway.is_ready().then_some(())).await;
    let request = get("/large.bin").request("site.example");
    let mut sender = connect(doors.public).await;
    let answer = bounded("the head", sender.send_request(request)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-length"], LARGE.to_string());
    let growth = bounded(
        "the large file",
        read_large(answer.into_body(), gateway.id()),
    )
    .await;
    assert!(growth < 64 * MB, "the gateway grew by {growth} bytes");
}

/// Reads the large file slowly enough for a gateway that would hold it, and
/// compares every byte. Gives by how much the gateway grew at most.
async fn read_large(mut body: Incoming, gateway: u32) -> u64 {
    let before = resident(gateway);
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
                growth = growth.max(resident(gateway).saturating_sub(before));
            }
        }
    }
    assert_eq!((index, at), (LARGE / MB, 0), "the file's whole length");
    growth
}
