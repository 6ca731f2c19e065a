//! Trailers from end to end, bodies both ways at once, and what a client of gRPC
//! gets instead of an answer.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};

use super::origin::Two;
use super::{ask, before, client, get, read, whole};
use crate::support::raw::{Raw, RawOrigin, whole_request};
use crate::support::{Ask, Plan, Reply, Site, bounded, until};

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, value.parse().unwrap());
    trailers
}

/// A call of gRPC.
fn call(path: &str) -> Request<()> {
    Request::post(format!("http://shop.example{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_both_ways_at_once_and_ends_with_its_trailers() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut up) = ready.send_request(call("/shop.Shop/Talk"), false).unwrap();
    let mut stream = origin.next().await;
    assert_eq!(stream.request.headers()["te"], "trailers");
    // The answer's head comes before anything of the request.
    let head = Response::builder().header("content-type", "application/grpc+proto");
    let head = head.body(()).unwrap();
    let mut down = stream.respond.send_response(head, false).unwrap();
    let (_head, mut body) = bounded("a head", answer).await.unwrap().into_parts();
    for word in ["one", "two", "three"] {
        up.send_data(Bytes::from(word), false).unwrap();
        let came = bounded("a word", stream.request.body_mut().data()).await;
        down.send_data(came.unwrap().unwrap(), false).unwrap();
        let echo = bounded("an echo", body.data()).await;
        assert_eq!(echo.unwrap().unwrap(), word);
    }
    let mut sent = trailers("checksum", "1");
    // What only a head may say is taken out (RFC 9110 §6.5.1).
    sent.insert("host", "evil.example".parse().unwrap());
    up.send_trailers(sent).unwrap();
    assert!(read(stream.request.body_mut()).await.unwrap().is_empty());
    let came = stream.request.body_mut().trailers().await.unwrap();
    assert_eq!(came, Some(trailers("checksum", "1")));
    down.send_trailers(trailers("grpc-status", "5")).unwrap();
    assert!(read(&mut body).await.unwrap().is_empty());
    let came = body.trailers().await.unwrap();
    assert_eq!(came, Some(trailers("grpc-status", "5")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_trailers_only_and_one_that_needs_no_more_of_the_request_are_whole() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, _up) = ready.send_request(call("/shop.Shop/No"), false).unwrap();
    let mut stream = origin.next().await;
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "12")
        .body(())
        .unwrap();
    stream.respond.send_response(head, true).unwrap();
    // The rest of the request is declined "without an error" (RFC 9113 §8.1).
    drop(stream);
    let (answer, _) = whole(answer).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "12");
    assert!(answer.body().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_cross_to_http_1_1_and_back_where_they_are_welcome() {
    // From an origin of HTTP/2 to a client of HTTP/1.1.
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    for (te, comes) in [("te: trailers\r\nconnection: te\r\n", true), ("", false)] {
        let mut raw = Raw::connect(server.door).await;
        raw.send(format!("GET / HTTP/1.1\r\nhost: shop.example\r\n{te}\r\n"))
            .await;
        let mut stream = origin.next().await;
        assert_eq!(stream.request.headers().contains_key("te"), comes);
        let head = Response::builder().header("trailer", "checksum");
        let head = head.body(()).unwrap();
        let mut down = stream.respond.send_response(head, false).unwrap();
        down.send_data(Bytes::from_static(b"page"), false).unwrap();
        down.send_trailers(trailers("checksum", "7")).unwrap();
        while !raw.buffer.ends_with(b"\r\n\r\n")
            || !raw.buffer.windows(5).any(|five| five == b"\r\n0\r\n")
        {
            raw.more().await.unwrap();
        }
        let text = String::from_utf8(raw.buffer).unwrap();
        assert_eq!(text.contains("checksum: 7"), comes, "{text}");
    }
    // From an origin of HTTP/1.1 to a client of HTTP/2, and the request's to it.
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        while let Some(request) = whole_request(&mut raw).await {
            let text = String::from_utf8(request).unwrap();
            let sum = if text.contains("checksum: 3") {
                "kept"
            } else {
                "lost"
            };
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n";
            raw.send(format!("{head}4\r\npage\r\n0\r\nsum: {sum}\r\n\r\n"))
                .await;
        }
    })
    .await;
    let server = Plan::event("").start_before(origin.address).await;
    let client = client(server.door).await;
    let mut ready = client.clone().ready().await.unwrap();
    let request = Request::post("http://shop.example/up")
        .header("te", "trailers")
        .header("trailer", "checksum")
        .body(())
        .unwrap();
    let (answer, mut up) = ready.send_request(request, false).unwrap();
    up.send_data(Bytes::from_static(b"body"), false).unwrap();
    up.send_trailers(trailers("checksum", "3")).unwrap();
    let (answer, came) = whole(answer).await.unwrap();
    assert_eq!(answer.body(), "page");
    assert_eq!(came, trailers("sum", "kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_grpc_gets_our_refusals_as_its_status() {
    let origin = Two::open(100).await;
    let queueing = Plan::event("mode = \"queue\"").top("origin_http2 = true");
    let server = queueing.start_before(origin.address).await;
    let line = client(server.door).await;
    let refused = |answer: &Response<Bytes>, status: &str| {
        let headers = answer.headers();
        assert_eq!(answer.status(), 200);
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["grpc-status"], status);
        assert!(answer.body().is_empty());
    };
    let (answer, _) = whole(ask(&line, call("/shop.Shop/Buy")).await)
        .await
        .unwrap();
    refused(&answer, "14");
    assert_eq!(answer.headers()["grpc-message"], "Visitors are queueing");
    assert_eq!(answer.headers()["sumun-status"], "wait");
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "10000");
    // Others get what they always got.
    let mut other = get("/api");
    other
        .headers_mut()
        .insert("accept", "application/json".parse().unwrap());
    let (answer, _) = whole(ask(&line, other).await).await.unwrap();
    assert_eq!(answer.status(), 503);

    let server = before(&origin, "").await;
    let calm = client(server.door).await;
    let answer = ask(&calm, call("/shop.Shop/Buy")).await;
    origin
        .next()
        .await
        .respond
        .send_reset(Reason::INTERNAL_ERROR);
    let (answer, _) = whole(answer).await.unwrap();
    refused(&answer, "14");
    assert_eq!(
        answer.headers()["grpc-message"],
        "The site cannot be reached"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_session_that_asks_too_much_may_be_repeated_later() {
    let site = Site::with("session_requests_in_flight = 1").await;
    let visitor = site.visitor_inside().await;
    let (open, gate) = tokio::sync::watch::channel(false);
    site.origin.answers(move |_| Reply::page().behind(&gate));
    let held = tokio::spawn(visitor.clone().send_until_answered(Ask::page("/held")));
    until("one in flight", async || {
        (site.origin.last().target == "/held").then_some(())
    })
    .await;
    let mut call = call("/shop.Shop/Buy");
    let cookie = format!("sumun_main={}", visitor.token());
    call.headers_mut().insert("cookie", cookie.parse().unwrap());
    let line = client(site.door).await;
    let (answer, _) = whole(ask(&line, call).await).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "5000");
    assert_eq!(answer.headers()["sumun-status"], "block");
    open.send(true).unwrap();
    held.await.unwrap().must_come_from_the_origin();
}
