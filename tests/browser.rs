//! A real browser in line: headless Chromium against the whole server, with a
//! small site behind it. What is asserted is what a visitor would see, what
//! the browser kept, and what reached the site.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sumun::config::Config;
use sumun::run::{Listeners, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Nothing here takes that long; it only turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Looks until there is something to see.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(BOUND, looking)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

// ------------------------------------------------------------------ the site

/// A request that reached the site.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: Method,
    target: String,
    referrer: Option<String>,
}

/// The site behind the gateway: every page is a heading with its own path.
#[derive(Clone)]
struct Site {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&site.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request: Request<Incoming>| {
                    let page = page(&request, &seen);
                    async { Ok::<_, Infallible>(page) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        site
    }

    fn asked_for(&self, target: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.target == target)
            .cloned()
            .collect()
    }
}

/// `/start?to=…` links there, `/form` holds a form; the others are tickets to see.
fn page(request: &Request<Incoming>, seen: &Mutex<Vec<Seen>>) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let referrer = request.headers().get(header::REFERER);
    seen.lock().unwrap().push(Seen {
        method: request.method().clone(),
        target: uri.to_string(),
        referrer: referrer.map(|value| value.to_str().unwrap().to_owned()),
    });
    let within = match uri.path() {
        "/start" => {
            let to = uri
                .query()
                .unwrap_or_default()
                .replace("to=", "")
                .replace("%23", "#");
            format!("<a id=link href=\"{to}\">to the tickets</a>")
        }
        "/form" => "<form method=post action=/order><input name=seat value=7>\
            <button id=send>Order</button></form>"
            .to_owned(),
        path => format!("<h1 id=site>{path}</h1>"),
    };
    let html = format!(
        "<!doctype html><meta charset=utf-8><link rel=icon href=\"data:,\"><title>The site</title>{within}"
    );
    let mut answer = Response::new(Full::from(html));
    let html = header::HeaderValue::from_static("text/html");
    answer.headers_mut().insert(header::CONTENT_TYPE, html);
    answer
}

// --------------------------------------------------------------- the gateway

struct Gateway {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    state: Arc<tempfile::TempDir>,
    site: Site,
    event: String,
}

impl Gateway {
    /// One slot in front of the site; `/start` and `/form` are outside the line.
    async fn before(site: &Site, event: &str) -> Self {
        let state = Arc::new(tempfile::tempdir().unwrap());
        Self::at("127.0.0.1:0".parse().unwrap(), state, site, event).await
    }

    async fn at(
        address: SocketAddr,
        state: Arc<tempfile::TempDir>,
        site: &Site,
        event: &str,
    ) -> Self {
        let text = format!(
            "listen = \"{address}\"\norigin = \"http://{}\"\nstate_dir = {:?}\n\
             drain_delay = \"0s\"\ndrain_timeout = \"2s\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [[event]]\nid = \"main\"\nname = \"Spring sale\"\nlimit = 1\n\
             exclude = [\"/start\", \"/form\"]\n{event}\n",
            site.address,
            state.path().display().to_string(),
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
            state,
            site: site.clone(),
            event: event.to_owned(),
        }
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }

    /// Stops; what it knew is in `state_dir`.
    fn stopped(mut self) -> Stopped {
        self.end();
        Stopped {
            address: self.address,
            state: Arc::clone(&self.state),
            site: self.site.clone(),
            event: self.event.clone(),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is left of a gateway that stopped.
struct Stopped {
    address: SocketAddr,
    state: Arc<tempfile::TempDir>,
    site: Site,
    event: String,
}

impl Stopped {
    async fn start(self) -> Gateway {
        Gateway::at(self.address, self.state, &self.site, &self.event).await
    }

    /// Answers in the gateway's stead, with these bytes or none, until
    /// `polls` polls were so answered.
    async fn answer_instead(&self, polls: usize, bytes: &[u8]) {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(self.address),
            socket2::Type::STREAM,
            None,
        )
        .unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(16).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let answered = AtomicUsize::new(0);
        let answering = async {
            while answered.load(Ordering::SeqCst) < polls {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                if head
                    .get(..length)
                    .unwrap()
                    .starts_with(b"POST /__sumun/v1/status")
                {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.write_all(bytes).await;
            }
        };
        tokio::time::timeout(BOUND, answering)
            .await
            .expect("polls while the gateway was away");
    }
}

// --------------------------------------------------------- the other visitor

/// The visitor who is inside already, by plain HTTP.
struct Other {
    address: SocketAddr,
    cookie: String,
}

impl Other {
    /// Takes the only slot, and shows itself once more so that the session
    /// outlives its proving time.
    async fn enter(gateway: &Gateway) -> Self {
        let mut other = Self {
            address: gateway.address,
            cookie: String::new(),
        };
        let (status, headers) = other.ask(Method::GET, "/tickets").await;
        assert_eq!(
            (status, &headers["sumun-status"]),
            (StatusCode::OK, &"enter".parse().unwrap())
        );
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        other.cookie = cookie.split(';').next().unwrap().to_owned();
        let (status, _) = other.ask(Method::GET, "/tickets").await;
        assert_eq!(status, StatusCode::OK);
        other
    }

    /// Leaves: the slot is free.
    async fn complete(&self) {
        let (status, _) = self.ask(Method::POST, "/__sumun/v1/complete").await;
        assert_eq!(status, StatusCode::OK);
    }

    async fn ask(&self, method: Method, target: &str) -> (StatusCode, HeaderMap) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, self.address.to_string())
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, &self.cookie)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        (head.status, head.headers)
    }
}

// --------------------------------------------------------------- the browser

/// A process group that ends with the test: the driver and its browser.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

struct Browser {
    client: Client,
    // Fields end in this order: the profile goes after the browser.
    _driver: Driver,
    _profile: tempfile::TempDir,
}

/// How the browser differs from an ordinary one.
#[derive(Clone, Copy)]
struct Manner {
    languages: &'static str,
    script: bool,
}

const ENGLISH: Manner = Manner {
    languages: "en-US,en",
    script: true,
};

impl Browser {
    async fn open(manner: Manner) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Driver(
            Command::new("chromedriver")
                .arg("--port=0")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("chromedriver; tests/run installs it"),
        );
        let mut lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .find_map(|line| {
                let port = line.ok()?.split_once("successfully on port ")?.1.to_owned();
                Some(port.trim_end_matches('.').to_owned())
            })
            .expect("the driver says its port");
        // Nobody else reads what it says; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--accept-lang={}", manner.languages),
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let scripts = if manner.script { 1 } else { 2 };
        let Value::Object(capabilities) = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": { "profile.managed_default_content_settings.javascript": scripts },
            },
        }) else {
            panic!("an object")
        };
        let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
        connector.enforce_http(false);
        let client = ClientBuilder::new(connector)
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        Self {
            client,
            _driver: driver,
            _profile: profile,
        }
    }

    async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    async fn click(&self, id: &str) {
        let link = self.client.find(Locator::Id(id)).await.unwrap();
        link.click().await.unwrap();
    }

    /// The text of an element, if there is one that can be seen. A page that
    /// goes away under our eyes is none.
    async fn text(&self, id: &str) -> Option<String> {
        let element = self.client.find(Locator::Id(id)).await.ok()?;
        let visible = element.is_displayed().await.ok()?;
        let text = element.text().await.ok()?;
        visible.then_some(text)
    }

    async fn says(&self, id: &str, text: &str) {
        until(&format!("{text:?} in #{id}"), async || {
            (self.text(id).await? == text).then_some(())
        })
        .await;
    }

    /// Waits for a page of the site: the visitor is inside.
    async fn is_inside(&self, path: &str) {
        self.says("site", path).await;
    }

    async fn url(&self) -> String {
        self.client.current_url().await.unwrap().into()
    }

    async fn evaluate(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.client.execute(&script, vec![]).await.unwrap()
    }

    /// The number of the place that this tab's page holds.
    async fn number_on_page(&self) -> u64 {
        let source = self.client.source().await.unwrap();
        let (_, after) = source.split_once("\"ticket\":\"").expect("a ticket");
        number(after.split('"').next().unwrap())
    }

    /// The number of the place that the browser's cookie holds.
    async fn number_in_cookie(&self) -> u64 {
        let cookie = self.client.get_named_cookie("sumun_main").await.unwrap();
        number(cookie.value())
    }

    async fn log(&self, kind: &'static str) -> Vec<Value> {
        let Value::Array(entries) = self.client.issue_cmd(Log(kind)).await.unwrap() else {
            panic!("a list of entries")
        };
        entries
    }

    async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

/// The number in a ticket.
fn number(ticket: &str) -> u64 {
    let claims = ticket.split('.').nth(1).expect("a token of three parts");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["num"].as_u64().expect("a ticket's number")
}

/// Chromium's own command: the log of this kind since it was last asked for.
#[derive(Debug)]
struct Log(&'static str);

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session_id: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session_id.unwrap()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": self.0 }).to_string()))
    }
}

// ----------------------------------------------------------------- the cases

#[tokio::test]
async fn a_browser_waits_at_its_address_and_enters_there_by_itself() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    browser
        .go(&gateway.url("/start?to=/tickets?seat=7%23row"))
        .await;
    let referrer = browser.url().await;
    browser.click("link").await;
    browser.says("heading", "You are in line").await;
    browser.says("place", "1").await;
    assert_eq!(browser.client.title().await.unwrap(), "(1) Spring sale");
    assert_eq!(
        browser.evaluate("document.documentElement.lang").await,
        "en"
    );
    let here = gateway.url("/tickets?seat=7#row");
    assert_eq!(browser.url().await, here);
    assert_eq!(browser.evaluate("document.referrer").await, *referrer);
    assert_eq!(site.asked_for("/tickets?seat=7"), []);

    other.complete().await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, here);
    let visits = site.asked_for("/tickets?seat=7");
    let [visit] = visits.as_slice() else {
        panic!("one visit: {visits:?}")
    };
    assert_eq!(visit.method, Method::GET);
    // The site learns where the visitor came from, as if there had been no line.
    assert_eq!(visit.referrer.as_ref(), Some(&referrer));
    assert_eq!(browser.evaluate("document.referrer").await, *referrer);
    // The waiting left nothing in the history: one step back is the link.
    browser.client.back().await.unwrap();
    browser.says("link", "to the tickets").await;
    browser.close().await;
}

#[tokio::test]
async fn a_korean_browser_reads_korean() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let _other = Other::enter(&gateway).await;
    let browser = Browser::open(Manner {
        languages: "ko-KR,ko",
        ..ENGLISH
    })
    .await;
    browser.go(&gateway.url("/tickets")).await;
    browser.says("heading", "접속 대기 중입니다").await;
    assert_eq!(
        browser.evaluate("document.documentElement.lang").await,
        "ko"
    );
    assert_eq!(browser.client.title().await.unwrap(), "(1) Spring sale");
    browser.close().await;
}

#[tokio::test]
async fn a_reload_and_a_second_tab_keep_the_place_and_both_enter() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&gateway.url("/tickets?tab=1")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;
    assert_eq!(browser.number_in_cookie().await, place);

    browser.client.refresh().await.unwrap();
    browser.says("place", "1").await;
    assert_eq!(browser.number_on_page().await, place);

    let first = browser.client.window().await.unwrap();
    let second = browser.client.new_window(true).await.unwrap().handle;
    browser
        .client
        .switch_to_window(second.clone())
        .await
        .unwrap();
    browser.go(&gateway.url("/tickets?tab=2")).await;
    browser.says("place", "1").await;
    assert_eq!(browser.number_on_page().await, place);
    assert_eq!(browser.number_in_cookie().await, place);
    // Nobody stands behind: the second tab took no place of its own.
    browser.says("behind", "0").await;

    other.complete().await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, gateway.url("/tickets?tab=2"));
    browser.client.switch_to_window(first).await.unwrap();
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, gateway.url("/tickets?tab=1"));
    browser.close().await;
}

#[tokio::test]
async fn the_page_outlives_cut_connections_foreign_errors_and_a_restart() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&gateway.url("/tickets?seat=7")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;

    let stopped = gateway.stopped();
    // Cut off; a load balancer's error page; our own "ask again".
    stopped.answer_instead(1, b"").await;
    let interrupted = "The connection is interrupted. Your place is kept; trying again.";
    browser.says("note", interrupted).await;
    let page = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 13\r\ncontent-type: text/html\r\n\
                 connection: close\r\n\r\n<h1>502</h1>\n";
    stopped.answer_instead(1, page).await;
    let mut away =
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n".to_owned();
    let problem = r#"{"type":"urn:sumun:away","status":503,"detail":"","field":null}"#;
    let _ = write!(
        away,
        "content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    stopped.answer_instead(1, away.as_bytes()).await;
    assert_eq!(browser.text("place").await.as_deref(), Some("1"));

    let _gateway = stopped.start().await;
    until("the page's connection", async || {
        browser.text("note").await.is_none().then_some(())
    })
    .await;
    assert_eq!(browser.text("place").await.as_deref(), Some("1"));
    assert_eq!(browser.number_in_cookie().await, place);
    assert_eq!(site.asked_for("/tickets?seat=7"), []);
    other.complete().await;
    browser.is_inside("/tickets").await;
    browser.close().await;
}

#[tokio::test]
async fn a_form_sent_while_busy_is_said_to_be_unsent_and_is_never_sent_again() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&gateway.url("/form")).await;
    browser.click("send").await;
    until("the word that the form was not sent", async || {
        let box_of = Locator::Css(".warn h2");
        let said = browser.client.find(box_of).await.ok()?.text().await.ok()?;
        (said == "Your form was not sent").then_some(())
    })
    .await;
    assert_eq!(browser.url().await, gateway.url("/order"));
    other.complete().await;
    browser.is_inside("/order").await;
    let methods: Vec<Method> = site
        .asked_for("/order")
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(methods, [Method::GET]);
    // Back is the form, to be sent again by the visitor.
    browser.client.back().await.unwrap();
    browser.says("send", "Order").await;
    browser.close().await;
}

#[tokio::test]
async fn without_script_the_page_refreshes_itself_and_gets_in() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(Manner {
        script: false,
        ..ENGLISH
    })
    .await;
    browser.go(&gateway.url("/tickets?seat=7")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;
    let notice = browser.client.find(Locator::Css("footer noscript p"));
    let notice = notice.await.unwrap().text().await.unwrap();
    assert!(notice.contains("seconds"), "{notice:?}");
    assert_eq!(browser.number_in_cookie().await, place);
    other.complete().await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, gateway.url("/tickets?seat=7"));
    browser.close().await;
}

#[tokio::test]
async fn a_place_to_wait_leads_to_the_path_that_was_asked_for() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    let wait = gateway.url("/__sumun/wait?event=main&return=/done%3Fa%3D1%26b%3D2");
    browser.go(&wait).await;
    browser.says("place", "1").await;
    assert_eq!(browser.url().await, wait);
    other.complete().await;
    browser.is_inside("/done").await;
    assert_eq!(browser.url().await, gateway.url("/done?a=1&b=2"));
    // Who is inside is sent on at once.
    browser.go(&wait).await;
    browser.is_inside("/done").await;
    browser.close().await;
}

#[tokio::test]
async fn the_waiting_page_asks_nobody_else_and_the_console_stays_empty() {
    let site = Site::open().await;
    let gateway = Gateway::before(&site, "waiting_status = 200").await;
    let other = Other::enter(&gateway).await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&gateway.url("/tickets")).await;
    browser.says("place", "1").await;
    other.complete().await;
    browser.is_inside("/tickets").await;
    // Errors, refusals by the policy, and warnings all stand in this log.
    let said = browser.log("browser").await;
    assert!(said.is_empty(), "{said:#?}");
    let mut polls = 0;
    for entry in browser.log("performance").await {
        let text = entry["message"].as_str().unwrap();
        let event: Value = serde_json::from_str(text).unwrap();
        if event["message"]["method"] != "Network.requestWillBeSent" {
            continue;
        }
        let request = &event["message"]["params"];
        // The browser's own new tab, before the page.
        if request["documentURL"]
            .as_str()
            .unwrap()
            .starts_with("chrome:")
        {
            continue;
        }
        let asked = request["request"]["url"].as_str().unwrap();
        polls += usize::from(asked == gateway.url("/__sumun/v1/status"));
        let ours = asked.starts_with(&gateway.url("/"));
        // Neither leaves the browser: the empty icon, and the timer's worker.
        let inside = asked.starts_with("data:,") || asked.starts_with("blob:");
        assert!(ours || inside, "{asked}");
    }
    assert!(polls > 0, "the page has polled");
    browser.close().await;
}
