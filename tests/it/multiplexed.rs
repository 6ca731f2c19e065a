//! HTTP/2 by prior knowledge: what it may say, what has no body, and its end.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::StreamBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::encrypted::{ask, get, text, two};
use crate::support::raw::RawOrigin;
use crate::support::{Plan, Reply, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_by_prior_knowledge_and_only_where_it_may_be() {
    let site = Plan::event("").open().await;
    let mut known = two(TcpStream::connect(site.door).await.unwrap()).await;
    let answer = ask(&mut known, get("http://shop.example/"), "").await;
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    // `Host` that says something else than `:authority` (RFC 9113 §8.3.1).
    let other = get("http://shop.example/").header("host", "evil.example");
    assert_eq!(ask(&mut known, other, "").await.status(), 400);
    assert_eq!(
        ask(
            &mut known,
            Request::builder()
                .method("TRACE")
                .uri("http://shop.example/"),
            ""
        )
        .await
        .status(),
        405
    );

    let site = Plan::event("").top("http2 = false").open().await;
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "no frame of HTTP/2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_body_in_http_2_has_none() {
    let site = Plan::event("").open().await;
    site.origin.answers(|seen| match seen.target.as_str() {
        "/none" => Reply::text("").status(204),
        "/same" => Reply::text("").status(304).with("etag", "\"a\""),
        "/parts" => Reply::parts().0,
        _ => Reply::text("four"),
    });
    let mut known = two(TcpStream::connect(site.door).await.unwrap()).await;
    let head = |target: &str| Request::builder().method("HEAD").uri(target);
    for (request, status, length) in [
        (head("http://shop.example/"), 200, Some("4")),
        (head("http://shop.example/__sumun/readyz"), 200, None),
        (head("http://shop.example/parts"), 200, Some("untold")),
        (
            head("http://shop.example/").header("expect", "100-continue"),
            417,
            Some("18"),
        ),
        (get("http://shop.example/none"), 204, None),
        (get("http://shop.example/same"), 304, None),
    ] {
        let answer = ask(&mut known, request, "").await;
        assert_eq!(answer.status(), status);
        let told = answer
            .headers()
            .get("content-length")
            .map(|told| told.to_str().unwrap());
        if length.is_some() || status == 204 {
            assert_eq!(told, length.filter(|length| *length != "untold"));
        }
        // The client's side of HTTP/2 fails a body that must not be there.
        assert_eq!(text(answer).await, "");
    }
    // A body needs no header to be one, whatever the method.
    let body = StreamBody::new(futures_util::stream::iter([Ok::<
        _,
        std::convert::Infallible,
    >(
        hyper::body::Frame::data(Bytes::from_static(b"asked")),
    )]));
    let stream = TcpStream::connect(site.door).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut send, connection) = shaken.await.unwrap();
    tokio::spawn(connection);
    let answer = send
        .send_request(get("http://shop.example/").body(body).unwrap())
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(site.origin.last().body, "asked");
    // Two readings of a length are none.
    let lengths = Request::post("http://shop.example/")
        .header("content-length", "2")
        .header("content-length", "02");
    assert_eq!(ask(&mut known, lengths, "ab").await.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_requests_of_http_2_finish() {
    let mut site = Plan::event("").open().await;
    let (open, gate) = tokio::sync::watch::channel(false);
    site.origin.answers(move |_| Reply::page().behind(&gate));
    let mut known = two(TcpStream::connect(site.door).await.unwrap()).await;
    let running = tokio::spawn(async move {
        ask(&mut known, get("http://shop.example/"), "")
            .await
            .status()
    });
    until("the request is at the origin", async || {
        (!site.origin.seen().is_empty()).then_some(())
    })
    .await;
    site.begin_stop();
    until("nobody is let in any more", async || {
        TcpStream::connect(site.door).await.err()
    })
    .await;
    open.send(true).unwrap();
    assert_eq!(running.await.unwrap(), 200);
    site.ended().await;
}

/// Others end with the answer; in HTTP/2 the rest of the upload is declined without
/// an error (RFC 9113 §8.1), and the connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_origin_refuses_gets_the_whole_answer() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        raw.head().await.unwrap();
        raw.send(
            "HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\n",
        )
        .await;
        raw.send("too much").await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let server = Plan::event("").start_before(origin.address).await;
    let mut known = two(TcpStream::connect(server.door).await.unwrap()).await;
    for _ in 0..2 {
        let upload = Request::put("http://shop.example/up");
        let answer = ask(&mut known, upload, vec![b'x'; 2 << 20]).await;
        assert_eq!(answer.status(), 413);
        assert_eq!(text(answer).await, "too much");
    }
}
