//! A WebSocket in a stream of HTTP/2 (RFC 8441): it opens, is decided, lives and ends
//! as one of HTTP/1.1.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::encrypted::{Streams, ask, get, text, two};
use crate::support::raw::{RawOrigin, whole_request};
use crate::support::{Ask, Call, Plan, Reply, Site, bounded, until};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A connection of HTTP/2 on which a WebSocket may be asked for: the client has seen
/// that it may.
async fn known(door: std::net::SocketAddr) -> Streams {
    let mut known = two(TcpStream::connect(door).await.unwrap()).await;
    let answer = ask(&mut known, get("http://shop.example/__sumun/livez"), "").await;
    assert_eq!(answer.status(), 200);
    known
}

fn connect(protocol: &'static str, target: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://shop.example{target}"))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("origin", "http://shop.example")
}

async fn send(known: &mut Streams, request: http::request::Builder) -> Response<Incoming> {
    let request = request.body(Full::<Bytes>::default()).unwrap();
    bounded("an answer", known.send_request(request))
        .await
        .unwrap()
}

async fn socket(answer: Response<Incoming>) -> Socket {
    assert_eq!(answer.status(), 200);
    let upgraded = hyper::upgrade::on(answer).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

async fn open(known: &mut Streams, request: http::request::Builder) -> Socket {
    socket(send(known, request).await).await
}

async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(text.into()).await.unwrap();
    let back = bounded("the echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(back.into_text().unwrap().as_str(), text);
}

/// Waits until the other side has ended it.
async fn ends(socket: &mut Socket) {
    let ended = async { while socket.next().await.is_some_and(|message| message.is_ok()) {} };
    bounded("the end of the socket", ended).await;
}

async fn echoing(plan: Plan) -> Site {
    let site = plan.open().await;
    site.origin.answers(|seen| match seen.header("upgrade") {
        Some(_) => Reply::echo(),
        None => Reply::page(),
    });
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_opens_in_a_stream_and_the_origin_sees_an_upgrade() {
    let site = echoing(Plan::event("")).await;
    let mut known = known(site.door).await;
    let answer = send(&mut known, connect("websocket", "/chat?room=1")).await;
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(answer.headers().get(name), None, "{name}");
    }
    assert_eq!(answer.headers()["x-origin"], "yes");
    let mut one = socket(answer).await;
    let seen = site.origin.last();
    assert_eq!(
        (seen.method.as_str(), &*seen.target),
        ("GET", "/chat?room=1")
    );
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("host", "shop.example"),
        ("via", "2.0 sumun"),
        ("sumun-client", "upgrade"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    echoes(&mut one, "one").await;
    // Another one and a page share the connection.
    let mut other = open(&mut known, connect("WebSocket", "/chat")).await;
    let large = "x".repeat(1 << 20);
    echoes(&mut other, &large).await;
    let page = ask(&mut known, get("http://shop.example/"), "").await;
    assert_eq!(page.status(), 200);
    echoes(&mut one, "two").await;
    one.close(None).await.unwrap();
    ends(&mut one).await;
    echoes(&mut other, "three").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_is_told_so() {
    let site = Plan::event("").open().await;
    site.origin.answers(|seen| match seen.target.as_str() {
        "/locked" => Reply::text("no").status(403),
        _ => Reply::page(),
    });
    let mut known = known(site.door).await;
    for (protocol, target, status) in [
        ("connect-udp", "/", 501),
        ("websocket", "/locked", 403),
        // To this client a success is a WebSocket.
        ("websocket", "/a-page", 502),
        ("websocket", "/__sumun/readyz", 400),
    ] {
        let answer = send(&mut known, connect(protocol, target)).await;
        assert_eq!(answer.status(), status, "{protocol} {target}");
    }
    // What is counted, and stands in the log, is what the client got.
    let metrics = Call::new(site.admin, "GET", "/metrics").send();
    let labels = "{event=\"none\",decision=\"api\",code=\"400\"}";
    let line = format!("sumun_http_requests_total{labels} 1");
    assert!(metrics.text().lines().any(|shown| shown == line));
    let reached: Vec<String> = site.origin.seen().into_iter().map(|s| s.target).collect();
    assert_eq!(reached, ["/locked", "/a-page"]);
    let plain = Request::builder()
        .method(Method::CONNECT)
        .uri("shop.example:80");
    assert_eq!(send(&mut known, plain).await.status(), 405);
    let page = ask(&mut known, get("http://shop.example/"), "").await;
    assert_eq!(page.status(), 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_counts_as_a_connection_of_its_own() {
    let plan = Plan::event("").tables("[limits]\nconnections = 8\n");
    let site = echoing(plan).await;
    let mut known = known(site.door).await;
    let mut open = Vec::new();
    let refused = loop {
        let answer = send(&mut known, connect("websocket", "/chat")).await;
        if answer.status() != 200 {
            break answer.status();
        }
        open.push(socket(answer).await);
        assert!(open.len() < 8);
    };
    assert_eq!((refused.as_u16(), open.is_empty()), (503, false));
    let page = ask(&mut known, get("http://shop.example/"), "").await;
    assert_eq!(page.status(), 200, "the connection goes on");
    let mut one = open.pop().unwrap();
    one.close(None).await.unwrap();
    ends(&mut one).await;
    drop(one);
    until("its place is free again", async || {
        let answer = send(&mut known, connect("websocket", "/chat")).await;
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_did_not_understand_opens_nothing() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        raw.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let server = Plan::event("").start_before(origin.address).await;
    let mut known = known(server.door).await;
    let answer = send(&mut known, connect("websocket", "/")).await;
    assert_eq!(answer.status(), 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_decides_it_as_an_upgrade_and_it_ends_with_its_session() {
    let site = echoing(Plan::event("limit = 1")).await;
    let mut inside = site.visitor_inside().await;
    let pass = format!("sumun_main={}", inside.token());
    site.until_busy().await;
    let mut known = known(site.door).await;
    let refused = send(&mut known, connect("websocket", "/chat")).await;
    assert_eq!(refused.status(), 503);
    assert!(!text(refused).await.is_empty());
    let asked = connect("websocket", "/chat").header("cookie", pass);
    let mut socket = open(&mut known, asked).await;
    echoes(&mut socket, "inside").await;
    let session = inside.pass().session.to_string();
    assert_eq!(site.origin.last().header("sumun-session"), Some(&*session));
    let complete = Ask::fetch("/__sumun/v1/complete").method(Method::POST);
    assert_eq!(inside.send(complete).await.status, 200);
    ends(&mut socket).await;
}

/// The connection's own limit for doing nothing is not that of its tunnels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_websocket_outlives_idle_connections() {
    let hasty = "[timeouts]\nidle = \"1s\"\nhead = \"1s\"";
    let site = echoing(Plan::event("").tables(hasty)).await;
    let mut known = known(site.door).await;
    let mut socket = open(&mut known, connect("websocket", "/chat")).await;
    echoes(&mut socket, "before").await;
    for _ in 0..5 {
        let other = known_until_closed(site.door);
        bounded("the end of an idle connection", other).await;
    }
    echoes(&mut socket, "after").await;
}

/// A connection that does nothing after a first answer, until it is ended.
async fn known_until_closed(door: std::net::SocketAddr) {
    let mut idle = known(door).await;
    until("the end", async || {
        std::future::poll_fn(|context| match idle.poll_ready(context) {
            std::task::Poll::Ready(Err(_)) => std::task::Poll::Ready(Some(())),
            _ => std::task::Poll::Ready(None),
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_it() {
    let mut site = echoing(Plan::event("").top("drain_timeout = \"1s\"")).await;
    let mut known = known(site.door).await;
    let mut socket = open(&mut known, connect("websocket", "/chat")).await;
    echoes(&mut socket, "before").await;
    site.begin_stop();
    ends(&mut socket).await;
    site.ended().await;
}
