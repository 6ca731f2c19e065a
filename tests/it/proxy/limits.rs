//! The limits of the door: time for a head, for silence, and places.

use std::time::Duration;

use sumun::server;
use sumun::server::Places;
use sumun::visitor::address::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{GET, Gateway, OK};
use crate::support::bounded;
use crate::support::raw::{RawOrigin, whole_request};

#[tokio::test]
async fn a_slow_head_is_ended_by_the_sweep() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.head = Duration::from_millis(400);
    });
    let mut raw = gateway.connect().await;
    raw.send("GET / HTTP/1.1\r\nhost: a").await;
    let told = String::from_utf8(raw.rest().await).unwrap();
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    assert!(
        gateway.connect().await.rest().await.is_empty(),
        "who said nothing is told nothing"
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_head_that_drips_gets_no_more_time() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.head = Duration::from_millis(400);
    });
    let raw = gateway.connect().await;
    let (mut from, mut to) = raw.stream.into_split();
    let drip = tokio::spawn(async move {
        to.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
            .await
            .unwrap();
        while to.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut told = Vec::new();
    let _ended_or_reset = bounded("the end", from.read_to_end(&mut told)).await;
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 408 "));
    drip.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_stalled_upload_is_408() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.keep_alive = Duration::from_millis(100);
        setup.server.body_idle = Duration::from_millis(100);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert_eq!(raw.answer().await.status, 200);
    assert!(raw.rest().await.is_empty());
    let told = gateway
        .tell("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    assert!(
        told.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&told)
    );
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_ended() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        let piece = vec![7; 1 << 16];
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            1_usize << 30
        );
        let _cut = raw.stream.write_all(head.as_bytes()).await;
        while raw.stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.server.body_idle = Duration::from_millis(200);
    });
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 200"));
    gateway.until_idle().await;
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_told_so() {
    let origin = RawOrigin::answering(OK).await;
    for (all, each) in [(2, 100), (100, 2)] {
        let places = Places::new(all, each, TrustedProxies::default());
        let seen = places.clone();
        let gateway = Gateway::with(origin.address, |setup| setup.places = places);
        let mut first = gateway.connect().await;
        let mut second = gateway.connect().await;
        for raw in [&mut first, &mut second] {
            raw.send(GET).await;
            assert_eq!(raw.answer().await.status, 200);
        }
        let told = gateway.tell("").await;
        assert!(
            told.starts_with(b"HTTP/1.1 503 "),
            "{}",
            String::from_utf8_lossy(&told)
        );
        drop(first);
        bounded("a free place", async {
            while seen.taken() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(gateway.ask(GET).await.status, 200);
    }
}

#[tokio::test]
async fn several_listeners_share_one_port() {
    let listeners = server::listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let addresses: Vec<_> = listeners
        .iter()
        .map(|one| one.local_addr().unwrap())
        .collect();
    assert_eq!(addresses.len(), 3);
    assert!(
        addresses
            .iter()
            .all(|one| *one == addresses[0] && one.port() != 0)
    );
}
