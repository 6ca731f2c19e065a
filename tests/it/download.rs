//! What takes long: downloads, quiet sockets, large bodies. Their sessions
//! stay as long as they last, and every byte arrives.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Ask, BOUND, ByHand, Reply, Seen, Site, noise, some, until};

#[tokio::test]
async fn a_long_download_keeps_its_session_and_its_end_lets_it_lapse() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"2m\"").await;
    let mut visitor = hand.visitor_inside().await;
    let parts = hand.origin.answers_once_in_parts();
    let mut download = visitor.begin(Ask::page("/film.mp4")).await.into_body();
    for minute in 0..10_u8 {
        parts.send(Bytes::from(vec![minute; 10])).unwrap();
        assert_eq!(some(&mut download).await[..], [minute; 10]);
        hand.pass_seconds(60).await;
        assert_eq!(hand.view().snapshot.sessions, 1, "minute {minute}");
    }
    drop(parts);
    assert!(download.frame().await.is_none());
    hand.pass_seconds(140).await;
    assert_eq!(hand.view().snapshot.sessions, 0);
}

#[tokio::test]
async fn a_quiet_websocket_keeps_its_session_and_its_end_lets_it_lapse() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"2m\"").await;
    let visitor = hand.visitor_inside().await;
    hand.origin.answers(|_| Reply::echo());
    let mut socket = visitor.socket("/ws").await;
    let session = visitor.pass().session.to_string();
    assert_eq!(hand.origin.last().header("sumun-session"), Some(&*session));
    hand.pass_seconds(600).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
    socket.send(Message::text("still here?")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("still here?")
    );
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    until("the end of the session", async || {
        hand.pass_seconds(10).await;
        (hand.view().snapshot.sessions == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_websocket_ends_with_its_session() {
    let site = Site::with("limit = 1").await;
    let visitor = site.filled_by_one().await;
    site.origin.answers(|_| Reply::echo());
    let mut socket = visitor.socket("/ws").await;
    let session = visitor.pass().session;
    assert!(site.ledger().desk.end(session).await.unwrap());
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(BOUND, ended)
        .await
        .expect("still open");
}

#[tokio::test]
async fn a_websocket_without_a_pass_passes_unsessioned_while_it_is_calm() {
    let site = Site::with("limit = 1").await;
    site.origin.answers(|_| Reply::echo());
    let mut socket = site.visitor().socket("/ws").await;
    socket.send(Message::text("x")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("x"));
    assert_eq!(site.origin.last().header("sumun-session"), None);
}

#[tokio::test]
async fn sixty_four_megabytes_arrive_unchanged_through_the_gate() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let film = noise(64 << 20);
    let digest = Sha256::digest(&film);
    site.origin
        .answers(move |_| Reply::text(film.clone()).with("etag", "\"film\""));
    let answer = visitor.open("/film.mp4").await;
    answer.must_come_from_the_origin();
    assert_eq!(answer.header("content-length"), Some("67108864"));
    assert_eq!(answer.header("etag"), Some("\"film\""));
    assert_eq!(Sha256::digest(&answer.body), digest);
}

#[tokio::test]
async fn sixteen_megabytes_of_a_form_arrive_unchanged() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let form = "a=".to_owned() + &"0123456789abcdef".repeat(1 << 20);
    let answer = visitor.send(Ask::form("/upload", &form)).await;
    answer.must_come_from_the_origin();
    assert!(site.origin.last().body == form.as_bytes());
}

fn ranged(seen: &Seen) -> Reply {
    assert_eq!(seen.header("if-range"), Some("\"film\""));
    match seen.header("range") {
        Some("bytes=2-5") => Reply::text("2345")
            .status(206)
            .with("content-range", "bytes 2-5/10")
            .with("accept-ranges", "bytes"),
        Some(_) => Reply::text("")
            .status(416)
            .with("content-range", "bytes */10"),
        None => Reply::text("0123456789"),
    }
}

#[tokio::test]
async fn ranges_are_between_visitor_and_origin() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    site.origin.answers(ranged);
    let ask = |range: &str| {
        Ask::page("/film.mp4")
            .with("range", range)
            .with("if-range", "\"film\"")
    };
    let part = visitor.send(ask("bytes=2-5")).await;
    assert_eq!((part.status, &part.body[..]), (206, &b"2345"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 2-5/10"));
    let beyond = visitor.send(ask("bytes=20-")).await;
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */10"))
    );
}

#[tokio::test]
async fn what_was_not_modified_stays_so() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    site.origin.answers(|seen| {
        assert_eq!(seen.header("if-none-match"), Some("\"x\""));
        Reply::text("").status(304).with("etag", "\"x\"")
    });
    let answer = visitor
        .send(Ask::page("/").with("if-none-match", "\"x\""))
        .await;
    assert_eq!((answer.status, answer.body.len()), (304, 0));
}

#[tokio::test]
async fn a_visitor_who_leaves_a_download_lets_its_session_lapse() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"1m\"").await;
    let mut visitor = hand.visitor_inside().await;
    let parts = hand.origin.answers_once_in_parts();
    let mut download = visitor.begin(Ask::page("/film.mp4")).await.into_body();
    parts.send(Bytes::from_static(b"beginning")).unwrap();
    some(&mut download).await;
    drop(download);
    tokio::time::timeout(BOUND, parts.closed())
        .await
        .expect("the origin still sends");
    until("the end of the session", async || {
        hand.pass(Duration::from_secs(10)).await;
        (hand.view().snapshot.sessions == 0).then_some(())
    })
    .await;
}
