//! A visitor: a small HTTP client with a cookie jar of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;
use sumun::token::{Pass, Ticket, Token, Verdict};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::site::ring;
use super::{Answer, BOUND, append, bounded, claims, connect, until};

/// A request, before it has a visitor's cookies.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    fn new(method: Method, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut ask = Self {
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        for (name, value) in headers {
            ask = ask.with(name, value);
        }
        ask
    }

    /// A person opens a page.
    pub(crate) fn page(path: &str) -> Self {
        let headers = [
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("accept", "text/html,*/*;q=0.8"),
        ];
        Self::new(Method::GET, path, &headers)
    }

    /// A person sends a form.
    pub(crate) fn form(path: &str, body: &str) -> Self {
        Self {
            method: Method::POST,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Self::page(path)
        }
        .with("content-type", "application/x-www-form-urlencoded")
    }

    /// A page's script asks.
    pub(crate) fn fetch(path: &str) -> Self {
        let headers = [
            ("sec-fetch-dest", "empty"),
            ("sec-fetch-mode", "cors"),
            ("accept", "application/json"),
        ];
        Self::new(Method::GET, path, &headers)
    }

    /// A page's image.
    pub(crate) fn image(path: &str) -> Self {
        let headers = [("sec-fetch-dest", "image"), ("accept", "image/*")];
        Self::new(Method::GET, path, &headers)
    }

    /// A browser asks whether a script of another origin may.
    pub(crate) fn preflight(path: &str) -> Self {
        let headers = [
            ("access-control-request-method", "PUT"),
            ("origin", "https://elsewhere.example"),
        ];
        Self::new(Method::OPTIONS, path, &headers)
    }

    /// A browser fetches ahead.
    pub(crate) fn prefetch(path: &str) -> Self {
        Self::page(path).with("sec-purpose", "prefetch")
    }

    /// A search engine looks.
    pub(crate) fn crawler(path: &str) -> Self {
        Self::page(path).with("user-agent", "Mozilla/5.0 (compatible; Yeti/1.1)")
    }

    /// A WebSocket is asked for.
    pub(crate) fn upgrade(path: &str) -> Self {
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Self::new(Method::GET, path, &headers)
    }

    /// The same without a header of its own: what the visitor always sends is all.
    pub(crate) fn bare(mut self) -> Self {
        self.headers.clear();
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }
}

/// Somebody with a browser.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    door: SocketAddr,
    host: String,
    headers: HeaderMap,
    /// The jar; only names and values.
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub(crate) fn at(door: SocketAddr) -> Self {
        Self {
            door,
            host: "shop.example".to_owned(),
            headers: HeaderMap::new(),
            cookies: BTreeMap::new(),
        }
    }

    /// The same person at another door.
    pub(crate) fn moved_to(&self, door: SocketAddr) -> Self {
        Self {
            door,
            ..self.clone()
        }
    }

    /// Asks for this host.
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sends this with each request.
    pub(crate) fn always(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Holds this cookie.
    pub(crate) fn holding(mut self, name: &str, value: &str) -> Self {
        self.cookies.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Somebody who walks in.
    pub(crate) async fn inside(mut self) -> Self {
        self.open("/").await.must_come_from_the_origin();
        self
    }

    /// Somebody who takes a ticket.
    pub(crate) async fn in_line(mut self) -> Self {
        self.open("/").await.must_be_a_waiting_page();
        self
    }

    /// Opens a page.
    pub(crate) async fn open(&mut self, path: &str) -> Answer {
        self.send(Ask::page(path)).await
    }

    /// Opens a page again and again until the origin answers.
    pub(crate) async fn open_until_inside(&mut self, path: &str) -> Answer {
        until("getting in", async || {
            let answer = self.open(path).await;
            answer.is_from_origin().then_some(answer)
        })
        .await
    }

    /// Sends a request again and again until the origin answers; may be spawned.
    pub(crate) async fn send_until_answered(mut self, ask: Ask) -> Answer {
        let asking = async {
            loop {
                let answer = self.send(ask.clone()).await;
                if answer.is_from_origin() {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        bounded("an answer of the origin", asking).await
    }

    /// Sends a request and keeps the cookies of its answer.
    pub(crate) async fn send(&mut self, ask: Ask) -> Answer {
        let response = self.begin(ask).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(BOUND, body.collect()).await;
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.expect("no end").expect("cut off").to_bytes(),
        }
    }

    /// Sends a request and leaves the body of its answer to be read.
    pub(crate) async fn begin(&mut self, ask: Ask) -> http::Response<Incoming> {
        let mut line = connect(self.door).await;
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = ask.method;
        *request.uri_mut() = ask.path.parse().unwrap();
        *request.headers_mut() = ask.headers;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.host.parse().unwrap());
        }
        if let Some(held) = self.held() {
            headers.insert(header::COOKIE, held);
        }
        let response = tokio::time::timeout(BOUND, line.send_request(request))
            .await
            .expect("no answer in time")
            .expect("no answer");
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.keep(response.headers());
        }
        response
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.to_ascii_lowercase().contains("max-age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Opens a WebSocket.
    pub(crate) async fn socket(&self, path: &str) -> WebSocketStream<TcpStream> {
        let url = format!("ws://{}{path}", self.host);
        let mut request = url.into_client_request().unwrap();
        if let Some(held) = self.held() {
            request.headers_mut().insert(header::COOKIE, held);
        }
        let stream = TcpStream::connect(self.door).await.expect("no door");
        let opened = tokio_tungstenite::client_async(request, stream).await;
        opened.expect("no socket").0
    }

    /// The cookies, as a browser sends them.
    fn held(&self) -> Option<HeaderValue> {
        let pairs = self.cookies.iter();
        let pairs: Vec<String> = pairs.map(|(n, v)| format!("{n}={v}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; ").parse().unwrap())
    }

    /// What the token in our cookie claims, whoever signed it.
    pub(crate) fn claims(&self) -> Value {
        claims(self.token())
    }

    /// The token in our cookie of the event `main`.
    pub(crate) fn token(&self) -> &str {
        let ours = ["sumun_main", "__Host-sumun_main"];
        ours.iter()
            .find_map(|name| self.cookies.get(*name))
            .unwrap_or_else(|| panic!("holds nothing: {:?}", self.cookies))
    }

    fn read(&self) -> Token {
        match ring(&["a", "b"]).verify(self.token()) {
            Verdict::Good(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// The ticket in the cookie.
    pub(crate) fn ticket(&self) -> Ticket {
        match self.read() {
            Token::Ticket(ticket) => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }

    /// The pass in the cookie.
    pub(crate) fn pass(&self) -> Pass {
        match self.read() {
            Token::Pass(pass) => pass,
            other => panic!("no pass: {other:?}"),
        }
    }

    /// Holds this token as the cookie of `main`, well signed.
    pub(crate) fn hold(&mut self, token: &Token) {
        let text = ring(&["a"]).sign(token, &[]).unwrap();
        self.cookies.insert("sumun_main".to_owned(), text);
    }
}
