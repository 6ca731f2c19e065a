//! Clients that send in a row, close their half, or leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::{GET, Gateway, OK, patient};
use crate::support::bounded;
use crate::support::raw::{RawOrigin, whole_request};

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET.repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(raw.answer().await.text(), "ok");
    }
    assert_eq!(origin.received().matches("GET / ").count(), 20);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    for reset in [true, false] {
        let (origin, mut told) = patient().await;
        let gateway = Gateway::with(origin.address, |setup| {
            // A closed half is waited on for this long, a reset not at all.
            setup.server.half_close = if reset {
                Duration::from_secs(60)
            } else {
                Duration::from_millis(50)
            };
        });
        let mut raw = gateway.connect().await;
        raw.send(GET).await;
        assert_eq!(bounded("the request", told.recv()).await, Some("asked"));
        if reset {
            socket2::SockRef::from(&raw.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(raw);
        assert_eq!(
            bounded("the cancelling", told.recv()).await,
            Some("left"),
            "reset: {reset}"
        );
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_gets_its_answer() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(tokio::sync::Mutex::new(Some(gone)));
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let gone = Arc::clone(&gone);
        async move {
            whole_request(&mut raw).await;
            gone.lock().await.take().unwrap().await.unwrap();
            raw.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    raw.stream.shutdown().await.unwrap();
    go.send(()).unwrap();
    assert_eq!(raw.answer().await.text(), "ok");
    assert!(raw.rest().await.is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_stream_ends_it() {
    for reset in [true, false] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let origin = RawOrigin::with(move |mut raw, _, _| {
            let tell = tell.clone();
            async move {
                whole_request(&mut raw).await;
                raw.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\n:\r\n").await;
                while raw.more().await.is_ok_and(|came| came > 0) {}
                tell.send(()).unwrap();
            }
        })
        .await;
        let gateway = Gateway::with(origin.address, |setup| {
            setup.server.half_close = Duration::from_millis(100);
        });
        let mut raw = gateway.connect().await;
        raw.send(GET).await;
        raw.up_to(b":\r\n").await.unwrap();
        if reset {
            socket2::SockRef::from(&raw.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(raw);
        bounded("the end of the stream", told.recv()).await.unwrap();
        gateway.until_idle().await;
    }
}
