//! The admin door over real sockets: the whole server in this process, an
//! origin that says yes to everything, and a client that speaks plain HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sumun::config::Config;
use sumun::metrics;
use sumun::room::snapshot::Rules;
use sumun::run::{Listeners, Running, run};
use tokio::sync::{mpsc, oneshot};

/// Nothing here takes that long; it only turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(30);

const EVENT: &str = "[[event]]\nid = \"main\"\nlimit = 500\n";

// ---------------------------------------------------------------- the server

/// A running server; dropping it stops it and waits.
struct Server {
    admin: SocketAddr,
    public: SocketAddr,
    metrics: Option<SocketAddr>,
    running: Running,
    token: Option<&'static str>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// One event of the file, `main`, with a limit of 500.
    fn start() -> Self {
        Self::with(EVENT)
    }

    fn with(rest: &str) -> Self {
        Self::at(None, rest)
    }

    /// Keeping its state in `dir`.
    fn at(dir: Option<&Path>, rest: &str) -> Self {
        let text = format!(
            "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstate_dir = {:?}\n\
             drain_delay = \"0s\"\ndrain_timeout = \"1s\"\n{rest}",
            origin(),
            dir.map(|dir| dir.display().to_string()).unwrap_or_default(),
        );
        // The ports are the system's choice, whatever the file may say.
        let mut config = Config::parse(&text, std::iter::empty()).unwrap();
        config.admin.listen.set_port(0);
        if let Some(metrics) = &mut config.metrics.listen {
            metrics.set_port(0);
        }
        let listeners = Listeners::open(&config).unwrap();
        let admin = listeners.admin_address().unwrap();
        let public = listeners.public_address().unwrap();
        let metrics = listeners.metrics.as_ref().map(|l| l.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let (_reload, reloads) = mpsc::channel(1);
            let shutdown = async {
                let _ = stopped.await;
            };
            let run = run(config, listeners, reloads, shutdown, move |running| {
                tell.send(running).unwrap();
            });
            runtime.block_on(run).unwrap();
        });
        Self {
            admin,
            public,
            metrics,
            running: told.recv_timeout(BOUND).unwrap(),
            token: None,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server broke off");
        }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let call = Call::new(self.admin, method, path);
        match self.token {
            Some(token) => call.header("Authorization", &format!("Bearer {token}")),
            None => call,
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send()
    }

    fn status(&self, event: &str) -> Value {
        self.get(&format!("/v1/events/{event}/status")).ok()
    }

    /// Waits until the status of an event is as wanted, and returns it.
    fn until(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the status of {event}"), || {
            let status = self.status(event);
            wanted(&status).then_some(status)
        })
    }

    /// The rules that the store guards, as this gateway last saw them.
    fn rules(&self, event: &str) -> Rules {
        let site = self.running.reception.site.load();
        let view = site.ledgers.get(event).unwrap().view().unwrap();
        view.snapshot.meta.rules.clone()
    }

    /// A visitor's navigation at the public door.
    fn visit(&self, cookie: Option<&str>) -> Answer {
        let call = Call::new(self.public, "GET", "/")
            .header("Accept", "text/html")
            .header("Sec-Fetch-Dest", "document");
        match cookie {
            Some(cookie) => call.header("Cookie", cookie).send(),
            None => call.send(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// An origin that answers 200 to everything and repeats the session that it
/// was told, until the test is over.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.extend(byte);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let session = head
                    .lines()
                    .find_map(|line| line.strip_prefix("sumun-session: "))
                    .unwrap_or_default();
                let length = session.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{session}"
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

/// Asks again until there is an answer.
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let answer = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    runtime.block_on(bounded(what, answer))
}

async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

// ---------------------------------------------------------------- the client

struct Call {
    to: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Call {
    fn new(to: SocketAddr, method: &str, path: &str) -> Self {
        Self {
            to,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A header; `Host` replaces the usual one.
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn json(self, body: &Value) -> Answer {
        self.text(&body.to_string())
    }

    fn text(self, body: &str) -> Answer {
        self.header("Content-Type", "application/json").raw(body)
    }

    fn raw(mut self, body: &str) -> Answer {
        body.as_bytes().clone_into(&mut self.body);
        self.send()
    }

    fn send(self) -> Answer {
        let mut stream = TcpStream::connect(self.to).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            self.method, self.path
        );
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            head.push_str(&["Host: ", &self.to.to_string(), "\r\n"].concat());
        }
        for (name, value) in &self.headers {
            head.push_str(&[name, ": ", value, "\r\n"].concat());
        }
        if !self.body.is_empty() {
            let length = self.body.len().to_string();
            head.push_str(&["Content-Length: ", &length, "\r\n"].concat());
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // A refusal may come, and the connection close, before all is sent.
        let _ = stream.write_all(&self.body);
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap();
        Answer {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers
                .lines()
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|fault| panic!("{fault}: {} {:?}", self.status, self.body))
    }

    /// The document of a call that went well.
    fn ok(&self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.body
        );
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        self.value()
    }

    /// A refusal: its status and its field.
    fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.value();
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        assert!(
            problem.as_object().unwrap().contains_key("field"),
            "{problem}"
        );
        problem
    }

    fn refused_for(&self, status: u16, field: &str) -> Value {
        let problem = self.refused(status);
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }

    /// The cookie that was set.
    fn cookie(&self) -> String {
        let set = self.header("set-cookie").unwrap_or_else(|| {
            panic!(
                "no cookie: {} {:?} {}",
                self.status, self.headers, self.body
            )
        });
        set.split(';').next().unwrap().to_owned()
    }
}

/// The claims inside a cookie's token.
fn claims(cookie: &str) -> Value {
    let (_, token) = cookie.split_once('=').unwrap();
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

// ---------------------------------------------------------------- events

#[test]
fn an_event_of_the_file_is_shown_with_everything_about_it() {
    let server = Server::start();
    server.until("main", |status| status["status"] == "OPEN");
    let answer = server.get("/v1/events/main");
    let event = answer.ok();
    assert_eq!(answer.header("etag"), Some("\"0\""));
    assert_eq!(event["eventId"], "main");
    assert_eq!(event["name"], "main");
    assert_eq!(event["limitCnt"], 500);
    assert_eq!(event["mode"], "auto");
    assert_eq!(event["status"], "OPEN");
    assert_eq!(event["source"], "FILE");
    assert_eq!(event["overrides"], json!({}));
    assert_eq!(event["version"], 0);
    assert_eq!(event["generation"], 0);
    assert_eq!(event["sessionIdle"], "10m");
    assert_eq!(event["paths"], json!(["/"]));
    for unknown in ["createdAt", "updatedAt", "admitPerSecond"] {
        assert!(event.as_object().unwrap().contains_key(unknown));
        assert_eq!(event[unknown], Value::Null);
    }
}

#[test]
fn a_changed_limit_is_an_override_and_in_force_at_the_store() {
    let server = Server::start();
    let path = "/v1/events/main/limit";
    let answer = server.call("PUT", path).json(&json!({ "limitCnt": 7 }));
    let event = answer.ok();
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(event["limitCnt"], 7);
    assert_eq!(event["overrides"], json!({ "limitCnt": 7 }));
    assert_eq!(event["source"], "FILE");
    assert_eq!(event["version"], 1);
    assert!(event["updatedAt"].as_str().unwrap().ends_with('Z'));
    let site = server.running.reception.site.load();
    let ledger = site.ledgers.get("main").unwrap();
    assert_eq!(ledger.settings.load().limit, Some(7));
    server.until("main", |status| status["limitCnt"] == 7);
    assert_eq!(server.rules("main").limit, Some(7));

    // Back to the file, by null or by deleting what was overridden.
    let event = server
        .call("PUT", path)
        .json(&json!({ "limitCnt": null }))
        .ok();
    assert_eq!(
        (&event["limitCnt"], &event["version"]),
        (&json!(500), &json!(2))
    );
    assert_eq!(event["overrides"], json!({}));
    server
        .call("PUT", path)
        .json(&json!({ "limitCnt": 8 }))
        .ok();
    assert_eq!(server.call("DELETE", "/v1/events/main").send().status, 204);
    let event = server.get("/v1/events/main").ok();
    assert_eq!(
        (&event["limitCnt"], &event["version"]),
        (&json!(500), &json!(4))
    );
    assert_eq!(event["overrides"], json!({}));
    server.until("main", |status| status["limitCnt"] == 500);
    assert_eq!(server.call("DELETE", "/v1/events/main").send().status, 204);
}

#[test]
fn the_limit_call_takes_a_limit_alone() {
    let server = Server::start();
    let put = |body: Value| server.call("PUT", "/v1/events/main/limit").json(&body);
    put(json!({ "limitCnt": 0 })).refused_for(400, "limitCnt");
    put(json!({ "limitCnt": "7" })).refused_for(400, "limitCnt");
    put(json!({ "limitCnt": 7, "mode": "off" })).refused_for(400, "mode");
    put(json!({})).refused_for(400, "limitCnt");
    let other = server.call("PUT", "/v1/events/other/limit");
    other.json(&json!({ "limitCnt": 7 })).refused(404);
}

#[test]
fn a_patch_changes_what_it_names_and_null_takes_an_override_back() {
    let server = Server::start();
    let patch = |body: Value| server.call("PATCH", "/v1/events/main").json(&body);
    let event =
        patch(json!({ "mode": "queue", "queueWhen": { "inFlight": 9, "sessions": 4 } })).ok();
    assert_eq!(event["status"], "QUEUEING");
    assert_eq!(event["queueWhen"]["inFlight"], 9);
    let event =
        patch(json!({ "queueWhen": { "inFlight": null }, "message": "곧 시작합니다" })).ok();
    let overrides =
        json!({ "mode": "queue", "queueWhen": { "sessions": 4 }, "message": "곧 시작합니다" });
    assert_eq!(event["overrides"], overrides);
    for (mode, status) in [
        ("pause", "PAUSED"),
        ("closed", "CLOSED"),
        ("off", "OPEN"),
        ("shadow", "OPEN"),
    ] {
        assert_eq!(patch(json!({ "mode": mode })).ok()["status"], status);
        assert_eq!(server.status("main")["status"], status);
    }
    let merge = server.call("PATCH", "/v1/events/main");
    let merge = merge.header("Content-Type", "application/merge-patch+json");
    assert_eq!(merge.raw("{\"mode\":null}").ok()["mode"], "auto");
    // What changes nothing is no new version.
    let version = patch(json!({})).ok()["version"].clone();
    assert_eq!(
        patch(json!({ "mode": "auto", "limitCnt": 500 })).ok()["version"],
        version
    );
}

#[test]
fn an_event_can_be_read_edited_and_written_back_and_keeps_only_what_differs() {
    let server = Server::with(
        "[[event]]\nid = \"main\"\nlimit = 500\nsession_idle = \"300s\"\nadmit_per_second = 50\n\
         [event.bypass]\naddresses = [\"203.0.113.7\"]\nsecret = \"open sesame, it is me\"\n",
    );
    let mut event = server.get("/v1/events/main").ok();
    assert!(!event.to_string().contains("sesame"));
    let put = |event: &Value| server.call("PUT", "/v1/events/main").json(event).ok();
    assert_eq!(put(&event)["version"], 0);
    event["limitCnt"] = json!(3);
    event["queueWhen"]["latencyP95"] = json!("800ms");
    let written = put(&event);
    assert_eq!(
        written["overrides"],
        json!({ "limitCnt": 3, "queueWhen": { "latencyP95": "800ms" } })
    );
    // Whatever is not named is not overridden any more.
    assert_eq!(
        put(&json!({ "mode": "off" }))["overrides"],
        json!({ "mode": "off" })
    );
    assert_eq!(put(&json!({ "sessionIdle": "5m" }))["overrides"], json!({}));
    // Staff still get past: the secret was never touched.
    let site = server.running.reception.site.load();
    let settings = site.ledgers.get("main").unwrap().settings.load_full();
    assert!(
        settings
            .bypass
            .secret
            .as_ref()
            .unwrap()
            .is(b"open sesame, it is me")
    );
}

#[test]
fn an_event_is_made_changed_deleted_and_made_again() {
    let server = Server::start();
    let concert =
        json!({ "eventId": "concert", "name": "Concert", "limitCnt": 5, "paths": ["/concert"] });
    let made = server.call("POST", "/v1/events").json(&concert);
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), Some("/v1/events/concert"));
    assert_eq!(made.header("etag"), Some("\"1\""));
    let event = made.ok();
    assert_eq!(event["source"], "API");
    assert_eq!(
        event["overrides"],
        json!({ "name": "Concert", "limitCnt": 5, "paths": ["/concert"] })
    );
    assert_eq!(event["createdAt"], event["updatedAt"]);
    assert!(event["createdAt"].is_string());
    server.until("concert", |status| status["limitCnt"] == 5);

    server
        .call("POST", "/v1/events")
        .json(&concert)
        .refused(409);
    let event = server
        .call("PUT", "/v1/events/concert")
        .json(&json!({ "limitCnt": 6 }))
        .ok();
    assert_eq!(event["paths"], json!([]));
    assert_eq!(event["version"], 2);

    assert_eq!(
        server.call("DELETE", "/v1/events/concert").send().status,
        204
    );
    for gone in ["/v1/events/concert", "/v1/events/concert/status"] {
        server.get(gone).refused(404);
    }
    server
        .call("DELETE", "/v1/events/concert")
        .send()
        .refused(404);
    server
        .call("PUT", "/v1/events/concert")
        .json(&json!({}))
        .refused(404);
    server
        .call("PATCH", "/v1/events/concert")
        .json(&json!({}))
        .refused(404);
    let again = server.call("POST", "/v1/events").json(&concert).ok();
    assert_eq!(again["version"], 4);
}

#[test]
fn an_event_of_the_file_cannot_be_made_again() {
    let server = Server::start();
    let post = |body: Value| server.call("POST", "/v1/events").json(&body);
    post(json!({ "eventId": "main" })).refused(409);
    post(json!({})).refused_for(400, "eventId");
    post(json!({ "eventId": "Main" })).refused_for(400, "eventId");
    post(json!({ "eventId": 7 })).refused_for(400, "eventId");
    let put = server.call("PUT", "/v1/events/main");
    put.json(&json!({ "eventId": "other" }))
        .refused_for(400, "eventId");
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let server = Server::start();
    let bad = json!({
        "eventId": "a", "limitCnt": 0, "sesionIdle": "5m", "paths": ["/a/../b"],
        "queueWhen": { "latencyP95": "fast" }, "bypass": { "secret": "x" },
    });
    let problem = server.call("POST", "/v1/events").json(&bad).refused(400);
    let fields: BTreeSet<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    let expected = [
        "limitCnt",
        "sesionIdle",
        "paths[0]",
        "queueWhen.latencyP95",
        "bypass.secret",
    ];
    assert_eq!(fields, BTreeSet::from(expected));
    assert!(
        problem["errors"].to_string().contains("did you mean"),
        "{problem}"
    );
    server.get("/v1/events/a").refused(404);
    let patch = server
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "sessionIdle": "2h" }));
    patch.refused_for(400, "sessionIdle");
}

#[test]
fn a_path_belongs_to_one_event_and_a_clash_is_no_reason_to_refuse_the_rest() {
    let server = Server::with(&format!(
        "{EVENT}[[event]]\nid = \"sale\"\npaths = [\"/sale\"]\n"
    ));
    let post = |body: Value| server.call("POST", "/v1/events").json(&body);
    let problem =
        post(json!({ "eventId": "b", "paths": ["/b", "/sale/"] })).refused_for(400, "paths");
    assert!(
        problem["detail"].as_str().unwrap().contains("sale"),
        "{problem}"
    );
    post(json!({ "eventId": "b", "paths": ["/b"] })).ok();
    let put = server.call("PATCH", "/v1/events/b");
    put.json(&json!({ "paths": ["/"] }))
        .refused_for(400, "paths");
}

#[test]
fn events_are_listed_in_pages() {
    let server = Server::start();
    for id in ["b", "a", "z"] {
        server
            .call("POST", "/v1/events")
            .json(&json!({ "eventId": id }))
            .ok();
    }
    let page = |query: &str| {
        let list = server.get(&format!("/v1/events{query}")).ok();
        let items = list["items"].as_array().unwrap().iter();
        let ids: Vec<String> = items
            .map(|e| e["eventId"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), list["next"].clone())
    };
    assert_eq!(page(""), ("a b main z".to_owned(), Value::Null));
    assert_eq!(page("?limit=2"), ("a b".to_owned(), json!("b")));
    assert_eq!(page("?limit=2&after=b"), ("main z".to_owned(), Value::Null));
    assert_eq!(page("?after=zz"), (String::new(), Value::Null));
    server.get("/v1/events?limit=0").refused_for(400, "limit");
    server.get("/v1/events?page=2").refused_for(400, "page");
}

#[test]
fn who_changed_an_event_in_between_is_not_overwritten() {
    let server = Server::start();
    let patch = |version: &str, limit: u64| {
        let call = server
            .call("PATCH", "/v1/events/main")
            .header("If-Match", version);
        call.json(&json!({ "limitCnt": limit }))
    };
    assert_eq!(patch("\"0\"", 5).ok()["version"], 1);
    let stale = patch("\"0\"", 6);
    stale.refused(412);
    assert_eq!(stale.header("etag"), Some("\"1\""));
    assert_eq!(patch("\"7\", \"1\"", 6).ok()["version"], 2);
    assert_eq!(patch("*", 7).ok()["version"], 3);
    patch("W/\"3\"", 8).refused(412);
    patch("3", 8).refused(400);
    let put = server
        .call("PUT", "/v1/events/main")
        .header("If-Match", "\"1\"");
    put.json(&json!({})).refused(412);
    let limit = server
        .call("PUT", "/v1/events/main/limit")
        .header("If-Match", "\"1\"");
    limit.json(&json!({ "limitCnt": 9 })).refused(412);
    let delete = server
        .call("DELETE", "/v1/events/main")
        .header("If-Match", "\"1\"");
    delete.send().refused(412);
    let other = server
        .call("DELETE", "/v1/events/other")
        .header("If-Match", "\"1\"");
    other.send().refused(404);
    assert_eq!(server.get("/v1/events/main").ok()["limitCnt"], 7);
}

#[test]
fn changes_made_at_once_all_happen() {
    let server = Server::start();
    let keys = ["limitCnt", "waitingMax", "joinsPerAddressPerMinute"];
    std::thread::scope(|scope| {
        for key in keys {
            let server = &server;
            scope.spawn(move || {
                for value in 1..=10 {
                    server
                        .call("PATCH", "/v1/events/main")
                        .json(&json!({ key: value }))
                        .ok();
                }
            });
        }
    });
    let event = server.get("/v1/events/main").ok();
    assert_eq!(event["version"], 30);
    assert_eq!(
        event["overrides"],
        json!({ "limitCnt": 10, "waitingMax": 10, "joinsPerAddressPerMinute": 10 })
    );
}

#[test]
fn what_the_api_changed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::at(Some(dir.path()), EVENT);
    server
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "limitCnt": 9 }))
        .ok();
    server
        .call("POST", "/v1/events")
        .json(&json!({ "eventId": "a", "limitCnt": 3 }))
        .ok();
    server
        .call("POST", "/v1/events")
        .json(&json!({ "eventId": "b" }))
        .ok();
    server.call("DELETE", "/v1/events/b").send();
    let before = server.get("/v1/events/main").ok();
    server.stop();

    let server = Server::at(Some(dir.path()), EVENT);
    let after = server.get("/v1/events/main").ok();
    for member in ["limitCnt", "overrides", "version", "updatedAt", "source"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(server.get("/v1/events/a").ok()["limitCnt"], 3);
    server.get("/v1/events/b").refused(404);
    server.until("main", |status| status["limitCnt"] == 9);
}

// ---------------------------------------------------------------- status and levers

#[test]
fn the_status_of_an_idle_event_is_whole_and_says_null_where_nothing_is_known() {
    let server =
        Server::with("[[event]]\nid = \"main\"\nlimit = 5\n[event.queue_when]\nin_flight = 10\n");
    let status = server.until("main", |status| status["status"] == "OPEN");
    assert_eq!(status["gateways"][0]["present"], true);
    assert_eq!(status["gate"], "open");
    assert_eq!(status["storeUp"], true);
    assert_eq!(status["limitCnt"], 5);
    for count in ["sessions", "ghosts", "waiting", "offers"] {
        assert_eq!(status["counts"][count], 0, "{count}");
    }
    assert_eq!(status["counts"]["called"], status["counts"]["issued"]);
    let in_flight = &status["signals"]["inFlight"];
    assert_eq!(
        (&in_flight["load"], &in_flight["threshold"]),
        (&json!(0.0), &json!(10.0))
    );
    assert_eq!(in_flight["pressure"], 0.0);
    assert_eq!(
        status["signals"]["latencyP95"],
        json!({ "load": null, "threshold": null, "pressure": null })
    );
    assert_eq!(status["signals"].as_object().unwrap().len(), 6);
    assert_eq!(
        status["estimate"],
        json!({ "seconds": 0.0, "low": 0.0, "high": 0.0 })
    );
    assert_eq!(
        (&status["pace"], &status["recovery"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(status["showRate"], 1.0);
    assert_eq!(status["configsAgree"], true);
    assert_eq!(status["gateways"][0]["keys"].as_array().unwrap().len(), 1);
    assert!(
        status["gateways"][0]["seen"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        (&status["totals"]["begun"], &status["totals"]["closed"]),
        (&json!(0), &json!(0))
    );
    assert!(status["totals"]["since"].is_string());
    server
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "mode": "pause" }))
        .ok();
    assert_eq!(server.status("main")["estimate"]["seconds"], Value::Null);
    server.get("/v1/events/other/status").refused(404);
}

#[test]
fn a_session_ended_by_the_operator_frees_its_slot() {
    let server = Server::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    let first = server.visit(None);
    assert_eq!(
        (first.status, first.body.len()),
        (200, 32),
        "{}",
        first.body
    );
    let status = server.until("main", |status| status["counts"]["sessions"] == 1);
    assert_eq!(status["status"], "QUEUEING");
    assert_eq!(status["totals"]["begun"], 1);

    let path = format!("/v1/events/main/sessions/{}", first.body);
    let ended = server.call("DELETE", &path).send();
    assert_eq!((ended.status, ended.body.as_str()), (204, ""));
    let status = server.until("main", |status| status["counts"]["sessions"] == 0);
    assert_eq!(status["totals"]["closed"], 1);
    let next = server.visit(None);
    assert_eq!((next.status, next.body.len()), (200, 32), "{}", next.body);
    assert_ne!(next.body, first.body);
    assert_eq!(server.call("DELETE", &path).send().status, 204);
    let revoked = "sumun_sessions_ended_total{event=\"main\",reason=\"revoked\"} 1";
    assert!(server.get("/metrics").body.contains(revoked));

    for bad in ["1234", "+0000000000000000000000000000000", "%ff"] {
        let path = format!("/v1/events/main/sessions/{bad}");
        server.call("DELETE", &path).send().refused(404);
    }
}

#[test]
fn a_reset_voids_every_place_and_keeps_the_sessions() {
    let server = Server::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    assert_eq!(server.visit(None).status, 200);
    let place = server.visit(None);
    assert_eq!(place.status, 503);
    let before = server.until("main", |status| status["counts"]["waiting"] == 1);
    let reset = |body: Value| server.call("POST", "/v1/events/main/reset").json(&body);
    reset(json!({})).refused_for(400, "confirm");
    reset(json!({ "confirm": "other" })).refused_for(400, "confirm");
    reset(json!({ "confirm": "main", "force": true })).refused_for(400, "force");
    assert_eq!(server.status("main")["counts"]["waiting"], 1);

    let done = reset(json!({ "confirm": "main" })).ok();
    assert_eq!(done["eventId"], "main");
    assert_ne!(done["generation"], before["generation"]);
    let after = server.until("main", |status| status["generation"] == done["generation"]);
    assert_eq!(
        (&after["counts"]["waiting"], &after["counts"]["sessions"]),
        (&json!(0), &json!(1))
    );
    // The old place is worth nothing: the visitor gets a new one.
    let again = server.visit(Some(&place.cookie()));
    assert_ne!(
        claims(&again.cookie())["num"],
        claims(&place.cookie())["num"]
    );
    let other = server.call("POST", "/v1/events/other/reset");
    other.json(&json!({ "confirm": "other" })).refused(404);
}

// ---------------------------------------------------------------- health and metrics

#[test]
fn health_and_metrics_need_no_token() {
    let mut server = Server::with(&format!(
        "{EVENT}[admin]\ntoken = \"a token of some length\"\n"
    ));
    for (path, body) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(server.get("/metrics").status, 200);
    server.get("/v1/events").refused(401);
    server.token = Some("a token of some length");
    server.get("/v1/events").ok();
    server.running.reception.set_draining();
    assert_eq!(server.get("/healthz").status, 200);
    server.get("/readyz").refused(503);
}

#[test]
fn metrics_are_in_the_text_format_and_every_family_is_described() {
    let server = Server::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    assert_eq!(server.visit(None).status, 200);
    server.until("main", |status| status["counts"]["sessions"] == 1);
    let answer = server.get("/metrics");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let families = families(&answer.body);
    let known: BTreeSet<&str> = metrics::ALL.iter().map(|name| name.name).collect();
    // The process's own families are the library's.
    let ours = families
        .iter()
        .filter(|(family, _)| !family.starts_with("process_"));
    for (family, described) in ours {
        assert!(known.contains(family.as_str()), "{family}");
        assert!(described, "{family} has no HELP");
    }
    // What is counted by kind, result or cause appears with the first of it.
    let at_once: BTreeSet<&str> = known
        .iter()
        .copied()
        .filter(|name| !families.contains_key(*name))
        .collect();
    for name in &at_once {
        assert!(APPEAR_LATER.contains(name), "{name} is missing");
    }
}

/// Families without a series until something has happened.
const APPEAR_LATER: [&str; 14] = [
    "sumun_http_requests_total",
    "sumun_http_request_duration_seconds",
    "sumun_http_requests_in_flight",
    "sumun_origin_first_byte_seconds",
    "sumun_origin_failures_total",
    "sumun_refusals_total",
    "sumun_wait_duration_seconds",
    "sumun_estimate_error_ratio",
    "sumun_polls_total",
    "sumun_gate_transitions_total",
    "sumun_store_operation_duration_seconds",
    "sumun_store_failures_total",
    "sumun_store_recoveries_total",
    "sumun_restored_total",
];

/// Each family of a text, and whether it has HELP. Every line must be one of
/// the format's.
fn families(text: &str) -> BTreeMap<String, bool> {
    let mut families = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!text.is_empty());
            helped.insert(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            name.clone_into(&mut family);
            families.insert(family.clone(), helped.contains(name));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let number = value.parse::<f64>();
            assert!(
                number.is_ok() || ["+Inf", "-Inf"].contains(&value),
                "{line}"
            );
            let name = series.split('{').next().unwrap();
            let rest = name.strip_prefix(family.as_str());
            let suffixes = ["", "_bucket", "_sum", "_count"];
            assert!(rest.is_some_and(|rest| suffixes.contains(&rest)), "{line}");
        }
    }
    families
}

#[test]
fn a_door_of_their_own_shows_metrics_and_health_and_nothing_else() {
    let server = Server::with(&format!("{EVENT}[metrics]\nlisten = \"127.0.0.1:9191\"\n"));
    let metrics = server.metrics.unwrap();
    let get = |path: &str| {
        Call::new(metrics, "GET", path)
            .header("Host", "sumun.monitoring.svc:9091")
            .send()
    };
    let answer = get("/metrics");
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("no-store"))
    );
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/readyz").status, 200);
    get("/v1/events").refused(404);
    let post = Call::new(metrics, "POST", "/metrics").send();
    post.refused(405);
}

// ---------------------------------------------------------------- the rules of the door

#[test]
fn only_the_whole_token_opens_the_door() {
    let server = Server::with(&format!(
        "{EVENT}[admin]\ntoken = \"a token of some length\"\n"
    ));
    let with = |value: &str| {
        server
            .call("GET", "/v1/events")
            .header("Authorization", value)
            .send()
    };
    with("Bearer a token of some length").ok();
    with("bearer a token of some length").ok();
    for wrong in [
        "Bearer a token of some lengt",
        "Bearer",
        "Basic YTpi",
        "a token of some length",
    ] {
        let answer = with(wrong);
        answer.refused(401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
    }
    // Without the token nobody learns which paths there are.
    server.get("/nowhere").refused(401);
    server.call("DELETE", "/v1/events/main").send().refused(401);
    let twice = server
        .call("GET", "/v1/events")
        .header("Authorization", "Bearer a token of some length");
    twice
        .header("Authorization", "Bearer x")
        .send()
        .refused(401);
}

#[test]
fn a_name_that_is_not_the_doors_own_is_misdirected() {
    let server = Server::start();
    let port = server.admin.port();
    let at = |host: &str| server.call("GET", "/v1/events").header("Host", host).send();
    for own in [
        format!("localhost:{port}"),
        "LOCALHOST".into(),
        "127.0.0.1".into(),
        format!("[::1]:{port}"),
    ] {
        at(&own).ok();
    }
    for foreign in [
        "evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "",
        "a b",
    ] {
        at(foreign).refused(421);
    }
    server
        .call("GET", "/metrics")
        .header("Host", "evil.example")
        .send()
        .refused(421);
    let absolute = server.call("GET", "http://evil.example/v1/events");
    absolute.send().refused(421);
    let two = server.call("GET", "/v1/events").header("Host", "localhost");
    two.header("Host", "evil.example").send().refused(421);
}

#[test]
fn a_page_of_another_site_is_refused() {
    let server = Server::start();
    let with =
        |name: &str, value: &str| server.call("GET", "/v1/events").header(name, value).send();
    with("Origin", &format!("http://{}", server.admin)).ok();
    with("Sec-Fetch-Site", "same-origin").ok();
    with("Sec-Fetch-Site", "none").ok();
    for origin in ["https://evil.example", "http://127.0.0.1:1", "null", ""] {
        with("Origin", origin).refused(403);
    }
    for site in ["cross-site", "same-site", "x"] {
        with("Sec-Fetch-Site", site).refused(403);
    }
    let write = server
        .call("PATCH", "/v1/events/main")
        .header("Origin", "https://evil.example");
    write.json(&json!({ "mode": "off" })).refused(403);
    assert_eq!(server.get("/v1/events/main").ok()["mode"], "auto");
}

#[test]
fn a_body_is_json_of_bounded_size() {
    let server = Server::start();
    let patch = || server.call("PATCH", "/v1/events/main");
    patch().raw("{}").refused(415);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "",
    ] {
        patch().header("Content-Type", kind).raw("{}").refused(415);
    }
    let utf8 = patch().header("Content-Type", "Application/JSON; charset=utf-8");
    utf8.raw("{}").ok();
    let put = server.call("PUT", "/v1/events/main");
    put.header("Content-Type", "application/merge-patch+json")
        .raw("{}")
        .refused(415);
    let delete = server
        .call("DELETE", "/v1/events/main")
        .header("Content-Type", "text/plain");
    delete.raw("x").refused(415);

    let problem = patch().text("{\n  \"mode\": off }").refused(400);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 2 column"),
        "{problem}"
    );
    for bad in ["", "[]", "null", "\"a\"", "{} {}"] {
        patch().text(bad).refused(400);
    }
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    patch().text(&deep).refused(400);
    let large = format!("{{\"message\":\"{}\"}}", "x".repeat(64 * 1024));
    patch().text(&large).refused(413);
    let fits = format!("{{\"message\":\"x\"{}}}", " ".repeat(60 * 1024));
    patch().text(&fits).ok();
}

#[test]
fn unknown_paths_events_and_methods_are_told_as_problems() {
    let server = Server::start();
    for path in [
        "/",
        "/v1",
        "/v1/events/",
        "/v1/event",
        "/__sumun/readyz",
        "/v1/events/main/limits",
    ] {
        server.get(path).refused(404);
    }
    for event in ["other", "Main", "%00", "%ff", "..", "main%2Flimit"] {
        server.get(&format!("/v1/events/{event}")).refused(404);
    }
    let allowed = |method: &str, path: &str| {
        let answer = server
            .call(method, path)
            .header("Content-Type", "application/json")
            .send();
        answer.refused(405);
        let allow = answer.header("allow").unwrap();
        allow
            .split(',')
            .map(|m| m.trim().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let set = |methods: &[&str]| {
        methods
            .iter()
            .map(|m| (*m).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        allowed("DELETE", "/v1/events"),
        set(&["GET", "HEAD", "POST"])
    );
    assert_eq!(
        allowed("POST", "/v1/events/main"),
        set(&["GET", "HEAD", "PUT", "PATCH", "DELETE"])
    );
    assert_eq!(allowed("PUT", "/metrics"), set(&["GET", "HEAD"]));
    assert_eq!(allowed("GET", "/v1/events/main/reset"), set(&["POST"]));
    assert_eq!(allowed("TRACE", "/v1/events/main/limit"), set(&["PUT"]));
}

#[test]
fn head_says_what_get_would_without_a_body() {
    let server = Server::start();
    for path in [
        "/v1/events",
        "/v1/events/main",
        "/v1/events/main/status",
        "/healthz",
        "/metrics",
    ] {
        let (head, get) = (server.call("HEAD", path).send(), server.get(path));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let missing = server.call("HEAD", "/v1/events/other").send();
    assert_eq!((missing.status, missing.body.as_str()), (404, ""));
}
