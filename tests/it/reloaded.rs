//! What a reload changes, key by key, and that nobody notices it.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::encrypted::{Authority, ask, get, section, two};
use crate::handover::clients;
use crate::support::crowd::Crowd;
use crate::support::process::{Doors, Process};
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{Ask, Call, Origin, Plan, Reply, Site, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";

async fn raw(site: &Site, request: &str) -> RawAnswer {
    let mut raw = Raw::connect(site.door).await;
    raw.send(request).await;
    raw.answer().await
}

/// Each change is one group of keys; the last ones stay.
const CHANGES: [&str; 9] = [
    "[timeouts]\nconnect = \"4s\"\nfirst_byte = \"50s\"\nidle = \"50s\"\nhead = \"9s\"\n",
    "[limits]\nconnections = 5000\nconnections_per_address = 400\nheader_bytes = \"16KB\"\n",
    "trusted_proxies = [\"10.0.0.0/8\"]\nclient_address_header = \"X-Who\"\nproxy_protocol = true\n",
    "request_id_header = \"X-Request-Id\"\nforward_token = true\norigin_host = \"origin\"\n",
    "[api]\nkeys = [{ id = \"shop\", secret = \"sixteen letters and more\" }]\ncors_origins = [\"https://a.example\"]\n",
    "drain_delay = \"1s\"\ndrain_timeout = \"3s\"\npass_hosts = [\"b.example\"]\n",
    "[signing]\nkeys = [{ id = \"b\", secret = \"0123456789abcdef0123456789abcdef\" }]\n",
    "[log]\nlevel = \"info\"\naccess = true\naccess_format = \"combined\"\naccess_sample = 0.5\n",
    "[origin_pool]\nconnections = 500\n[origin_health]\neject_after = 3\n",
];

/// Puts a file with these lines for the whole gateway, which may begin with tables, in
/// the place of the last one, in one step: it is read again once.
fn write(file: &Path, doors: Doors, origin: &Origin, lines: &str) {
    put(file, &text(doors, origin, lines));
}

fn put(file: &Path, text: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file).unwrap();
}

fn text(doors: Doors, origin: &Origin, lines: &str) -> String {
    let (top, tables) = if lines.starts_with('[') {
        ("", lines)
    } else {
        (lines, "")
    };
    let (open, close) = ("[admin]", "[[event]]");
    let text = doors
        .file(origin.address, "")
        .replacen(open, &format!("{top}{open}"), 1)
        .replacen(close, &format!("{tables}{close}"), 1);
    if top.contains("drain_delay") {
        let usual = "drain_delay = \"0s\"\ndrain_timeout = \"2s\"\n";
        return text.replacen(usual, "", 1);
    }
    text
}

async fn changes_under_load(authority: Option<&Authority>) {
    let origin = Origin::open().await;
    origin.answers(|seen| match seen.target.as_str() {
        "/slow" => Reply::page().after(Duration::from_secs(1)),
        _ => Reply::page(),
    });
    let files = authority.map(|authority| authority.sign("site", &["shop.example"]));
    let tls = files.map_or_else(String::new, |files| section(&files));
    let folder = tempfile::tempdir().unwrap();
    let (file, doors) = (folder.path().join("gateway.toml"), Doors::free());
    write(&file, doors, &origin, &tls);
    let process = Process::run(&file, doors);
    until("the process is ready", async || {
        process.is_ready().then_some(())
    })
    .await;
    let crowd = Crowd::begin(doors.public, clients(authority));
    crowd.goes_on(3).await;
    for (count, change) in CHANGES.into_iter().enumerate() {
        let lines = match change.strip_prefix('[') {
            Some(_) => format!("{change}{tls}"),
            None => change.to_owned(),
        };
        write(&file, doors, &origin, &lines);
        until("the reload", async || {
            let told = process.said("the file was read again").len();
            (told > count && process.shows("sumun_config_last_reload_successful 1")).then_some(())
        })
        .await;
        crowd.goes_on(2).await;
    }
    crowd.ends_without_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_group_of_keys_changes_under_load_and_no_request_fails() {
    changes_under_load(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_group_of_keys_changes_under_tls_and_no_request_fails() {
    changes_under_load(Some(&Authority::new())).await;
}

#[tokio::test]
async fn whom_to_believe_and_what_the_origin_sees_changes_on_a_kept_connection() {
    let mut site = Plan::event("").open().await;
    let mut kept = Raw::connect(site.door).await;
    let request = "GET / HTTP/1.1\r\nhost: shop.example\r\nx-who: 192.0.2.7\r\n\
                   sumun-token: kept\r\n\r\n";
    kept.send(request).await;
    assert_eq!(kept.answer().await.status, 200);
    let seen = site.origin.last();
    assert_eq!(seen.header("host"), Some("shop.example"));
    assert_eq!(seen.header("sumun-token"), None);
    let plan = Plan::event("").top(
        "client_address_header = \"X-Who\"\nrequest_id_header = \"X-Request-Id\"\n\
         forward_token = true\norigin_host = \"origin\"",
    );
    site.rewrite(plan).await;
    until("the change", async || {
        kept.send(request).await;
        let answer = kept.answer().await;
        assert_eq!(answer.status, 200);
        answer.head.contains("x-request-id: ").then_some(())
    })
    .await;
    let seen = until("the origin to be called otherwise", async || {
        kept.send(request).await;
        assert_eq!(kept.answer().await.status, 200);
        let seen = site.origin.last();
        (seen.header("host") != Some("shop.example")).then_some(seen)
    })
    .await;
    assert_eq!(seen.header("host"), Some(&*site.origin.address.to_string()));
    assert_eq!(seen.header("sumun-token"), Some("kept"));
    assert_eq!(
        seen.header("sumun-client"),
        site.origin.last().header("sumun-client")
    );
    let told = seen.header("x-forwarded-for").unwrap();
    assert!(told.contains("127.0.0.1"), "{told}");
}

#[tokio::test]
async fn limits_and_timeouts_are_those_of_the_file_for_who_comes_then() {
    let mut site = Plan::event("").open().await;
    let mut kept = Raw::connect(site.door).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: shop.example\r\nx: {}\r\n\r\n",
        "x".repeat(3_000)
    );
    kept.send(&long).await;
    assert_eq!(kept.answer().await.status, 200);
    let plan = Plan::event("")
        .tables("[limits]\nheader_bytes = \"2KB\"\n[timeouts]\nfirst_byte = \"10ms\"");
    site.rewrite(plan).await;
    until("shorter heads", async || {
        (raw(&site, &long).await.status == 431).then_some(())
    })
    .await;
    // Who was there before may go on as before.
    kept.send(&long).await;
    assert_eq!(kept.answer().await.status, 200);
    site.origin
        .answers(|_| Reply::page().after(Duration::from_secs(60)));
    until("less patience", async || {
        (raw(&site, GET).await.status == 504).then_some(())
    })
    .await;

    site.origin.answers(|_| Reply::page());
    site.rewrite(
        Plan::event("")
            .top("trusted_proxies = []")
            .tables("[limits]\nconnections_per_address = 1"),
    )
    .await;
    until("less room", async || {
        let mut held = Raw::connect(site.door).await;
        held.send(GET).await;
        let room = held.answer().await.status == 200;
        let mut other = Raw::connect(site.door).await;
        other.send(GET).await;
        (room && other.answer().await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn hosts_that_pass_change_though_nothing_else_does() {
    let plan = || Plan::event("hosts = [\"shop.example\"]");
    let mut site = plan().open().await;
    let other = "GET / HTTP/1.1\r\nhost: b.example\r\n\r\n";
    assert_eq!(raw(&site, GET).await.status, 200);
    assert_eq!(raw(&site, other).await.status, 421);
    site.rewrite(plan().top("pass_hosts = [\"b.example\"]"))
        .await;
    until("the host to pass", async || {
        (raw(&site, other).await.status == 200).then_some(())
    })
    .await;
    site.rewrite(plan()).await;
    until("the host to be unknown", async || {
        (raw(&site, other).await.status == 421).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_of_programs_and_of_tokens_change() {
    let mut site = Plan::event("limit = 5").open().await;
    let enter = async || {
        let ask = Ask::fetch("/__sumun/v1/enter")
            .method(Method::POST)
            .with("authorization", "Bearer sixteen letters and more")
            .with("origin", "https://a.example")
            .body(&json!({ "eventId": "main", "id": "somebody" }).to_string());
        site.visitor()
            .send(ask.with("content-type", "application/json"))
            .await
    };
    assert_eq!(enter().await.status, 200, "without keys anybody may");
    let plan = Plan::event("limit = 5").tables(
        "[api]\nkeys = [{ id = \"shop\", secret = \"another of sixteen letters\" }]\n\
         cors_origins = [\"https://a.example\"]",
    );
    let mut other = plan.clone();
    site.rewrite(plan).await;
    let refused = async || {
        let ask = Ask::fetch("/__sumun/v1/enter")
            .method(Method::POST)
            .with("content-type", "application/json")
            .with("authorization", "Bearer sixteen letters and more")
            .body(&json!({ "eventId": "main", "id": "somebody" }).to_string());
        (site.visitor().send(ask).await.status == 401).then_some(())
    };
    until("the keys", refused).await;
    other = other.keys(&["b", "a"]);
    let inside = site.visitor_inside().await;
    let number = |site: &Site| {
        let answer = Call::new(site.door, "GET", "/__sumun/v1/keys").send();
        answer.text().matches("\"kid\"").count()
    };
    assert_eq!(number(&site), 1);
    site.rewrite(other.clone()).await;
    until("the second key", async || {
        (number(&site) == 2).then_some(())
    })
    .await;
    let mut known = inside.clone();
    known.open("/").await.must_come_from_the_origin();
    // What the old key signed is nobody's when it is gone.
    site.rewrite(other.keys(&["b"])).await;
    until("the old key to go", async || {
        (number(&site) == 1).then_some(())
    })
    .await;
    until("its passes to be unknown", async || {
        (inside.clone().open("/").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_and_the_proxies_header_come_and_go() {
    let mut site = Plan::event("").open().await;
    let mut stream = two(tokio::net::TcpStream::connect(site.door).await.unwrap()).await;
    assert_eq!(
        ask(&mut stream, get("http://shop.example/"), "")
            .await
            .status(),
        200
    );
    site.rewrite(Plan::event("").top("http2 = false\nproxy_protocol = true"))
        .await;
    let announced = "PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n\
        GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
    until("the header to be read", async || {
        let mut raw = Raw::connect(site.door).await;
        raw.send(announced).await;
        raw.rest().await.starts_with(b"HTTP/1.1 200").then_some(())
    })
    .await;
    assert_eq!(
        site.origin.last().header("x-forwarded-for"),
        Some("192.0.2.7")
    );
    // A connection that stands goes on.
    assert_eq!(
        ask(&mut stream, get("http://shop.example/"), "")
            .await
            .status(),
        200
    );
    let mut raw = Raw::connect(site.door).await;
    raw.send("PROXY UNKNOWN\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await;
    assert!(!raw.rest().await.starts_with(&[0, 0]), "no frame of HTTP/2");
}

/// A process of a file, with a token at its admin door.
struct Told {
    process: Process,
    origin: Origin,
    doors: Doors,
    folder: tempfile::TempDir,
}

const TOKEN: &str = "the operator's token";

impl Told {
    async fn begin() -> Self {
        let origin = Origin::open().await;
        let folder = tempfile::tempdir().unwrap();
        let (file, doors) = (folder.path().join("gateway.toml"), Doors::free());
        write(&file, doors, &origin, "");
        let process = Process::run(&file, doors);
        until("the process is ready", async || {
            process.is_ready().then_some(())
        })
        .await;
        Self {
            process,
            origin,
            doors,
            folder,
        }
    }

    /// Another file with these lines and that token.
    fn writes(&self, lines: &str) {
        let with = format!("[admin]\ntoken = {TOKEN:?}\n");
        let text = text(self.doors, &self.origin, lines).replace("[admin]\n", &with);
        put(&self.folder.path().join("gateway.toml"), &text);
    }

    fn call(&self, token: &str) -> u16 {
        let call = Call::new(self.doors.admin, "GET", "/v1/events");
        let call = call.header("Authorization", &format!("Bearer {token}"));
        call.send().status
    }

    /// Waits until the old configuration was said to stay so often.
    async fn faults(&self, count: usize) {
        until("the faults", async || {
            let told = self.process.said("the old configuration stays").len();
            (told == count).then_some(())
        })
        .await;
        self.last_reload_was("0").await;
    }

    async fn last_reload_was(&self, good: &str) {
        let line = format!("sumun_config_last_reload_successful {good}");
        until("the metric", async || {
            self.process.shows(&line).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_log_and_the_operators_token_change_and_what_waits_is_named() {
    let told = Told::begin().await;
    assert_eq!(told.call("another"), 200, "none is asked for");
    let access = told.folder.path().join("access.log");
    told.writes(&format!(
        "[log]\nformat = \"human\"\naccess_file = {access:?}\n[store]\ntimeout = \"1s\"\n"
    ));
    let said = async || told.process.said("after a restart").pop();
    let waiting = until("what waits", said).await;
    assert_eq!(waiting["fields"]["keys"], "log.format, store.timeout");
    until("the new file", async || {
        assert_eq!(told.process.open("/two").await, 200);
        let lines = std::fs::read_to_string(&access).ok()?;
        lines.contains("/two").then_some(())
    })
    .await;
    assert_eq!((told.call(TOKEN), told.call("another")), (200, 401));

    let file = told.folder.path().join("gateway.toml");
    write(
        &file,
        told.doors,
        &told.origin,
        "[log]\nlevel = \"error\"\n",
    );
    until("no token to be asked for", async || {
        (told.call("another") == 200).then_some(())
    })
    .await;
    told.last_reload_was("1").await;
    // Neither that reload nor a request is worth a line.
    let lines = told.process.access().len();
    until("the log of requests to move back", async || {
        assert_eq!(told.process.open("/three").await, 200);
        let written = std::fs::read_to_string(&access).unwrap();
        assert_eq!(told.process.open("/four").await, 200);
        let still = std::fs::read_to_string(&access).unwrap();
        (written == still).then_some(())
    })
    .await;
    assert_eq!(told.process.access().len(), lines);
    assert_eq!(told.process.said("the file was read again").len(), 1);
}

#[tokio::test]
async fn a_file_with_faults_changes_nothing_and_all_of_them_are_told() {
    let told = Told::begin().await;
    told.writes("[timeouts]\nidle = \"50s\"\n");
    until("the token", async || {
        (told.call("another") == 401).then_some(())
    })
    .await;
    let file = told.folder.path().join("gateway.toml");
    let faults = "[log]\naccess = 7\n[timeouts]\nidle = \"never\"\n[limits]\nconnections = 0\n";
    write(&file, told.doors, &told.origin, faults);
    told.faults(3).await;
    assert_eq!((told.call(TOKEN), told.call("another")), (200, 401));

    // Nor does one that is sound and cannot be put in force.
    let broken = told.folder.path().join("ca.pem");
    std::fs::write(&broken, "no certificate").unwrap();
    let secure = format!("[limits]\nheader_bytes = \"1KB\"\n[origin_tls]\nca_file = {broken:?}\n");
    let plain = text(told.doors, &told.origin, &secure);
    put(&file, &plain.replace("http://127", "https://127"));
    told.faults(4).await;
    assert_eq!((told.call(TOKEN), told.call("another")), (200, 401));
    let long = Ask::fetch("/three").with("x", &"x".repeat(2_000));
    assert_eq!(told.process.send(long).await, 200);

    write(&file, told.doors, &told.origin, "");
    told.last_reload_was("1").await;
    assert_eq!(told.call("another"), 200);
}
