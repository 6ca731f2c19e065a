//! The drain: what runs finishes, what is idle is closed, and it ends.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::{GET, Gateway, OK, patient};
use crate::support::raw::{Raw, RawOrigin, whole_request};
use crate::support::{bounded, until};

#[tokio::test]
async fn a_drain_finishes_what_runs_and_closes_what_is_idle() {
    let (asked_tx, mut asked) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(false);
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let (asked, mut gone) = (asked_tx.clone(), gone.clone());
        async move {
            while let Some(request) = whole_request(&mut raw).await {
                if request.starts_with(b"GET /slow") {
                    asked.send(()).unwrap();
                    gone.wait_for(|gone| *gone).await.unwrap();
                }
                raw.send(OK).await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::before(origin.address);
    let mut idle = gateway.connect().await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.status, 200);
    let silent = gateway.connect().await;
    let mut running = gateway.connect().await;
    running
        .send("GET /slow HTTP/1.1\r\nhost: a.example\r\n\r\n")
        .await;
    bounded("the request", asked.recv()).await.unwrap();
    gateway.drain.send_replace(true);
    assert!(idle.rest().await.is_empty());
    assert!(silent.rest().await.is_empty());
    assert!(
        TcpStream::connect(gateway.address).await.is_err(),
        "nobody new is let in"
    );
    go.send_replace(true);
    let answer = running.answer().await;
    assert_eq!(answer.text(), "ok");
    assert!(answer.has("connection: close"), "{}", answer.head);
    assert!(running.rest().await.is_empty());
    gateway.thread.take().unwrap().join().unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let (origin, mut told) = patient().await;
    let mut gateway = Gateway::with(origin.address, |setup| {
        setup.server.drain = Duration::from_millis(100);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert_eq!(bounded("the request", told.recv()).await, Some("asked"));
    gateway.drain.send_replace(true);
    assert_eq!(bounded("the cancelling", told.recv()).await, Some("left"));
    assert!(raw.rest().await.is_empty());
    gateway.thread.take().unwrap().join().unwrap();
}

/// The kernel resets what a listener has in its queue when it closes.
#[tokio::test]
async fn whoever_is_in_the_queue_when_the_drain_begins_is_served() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        while whole_request(&mut raw).await.is_some() {
            raw.send(OK).await;
        }
    })
    .await;
    let (go, begin) = std::sync::mpsc::channel::<()>();
    let mut gateway = Gateway::after(begin, origin.address, |setup| {
        setup.server.sweep = Duration::from_mins(1);
    });
    let mut asking = Vec::new();
    let mut silent = Vec::new();
    for _ in 0..32 {
        let mut raw = gateway.connect().await;
        raw.send(GET).await;
        asking.push(raw);
        silent.push(gateway.connect().await);
    }
    gateway.drain.send_replace(true);
    go.send(()).unwrap();
    until("the door to shut", async || {
        TcpStream::connect(gateway.address).await.err()
    })
    .await;
    let served = async |mut raw: Raw| {
        let answer = raw.answer().await;
        assert_eq!(answer.text(), "ok");
        assert!(answer.has("connection: close"), "{}", answer.head);
        assert!(raw.rest().await.is_empty());
    };
    // Who has just come is about to ask.
    for mut raw in silent {
        raw.send(GET).await;
        served(raw).await;
    }
    for raw in asking {
        served(raw).await;
    }
    gateway.thread.take().unwrap().join().unwrap();
}
