//! Connections to the origin are used again; what a stale one costs.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{GET, Gateway, OK};
use crate::support::bounded;
use crate::support::raw::{RawOrigin, whole_request};

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
