//! Upgrades, and the tunnels they become.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};

use super::Gateway;
use crate::support::bounded;
use crate::support::raw::{RawOrigin, whole_request};

#[tokio::test]
async fn a_websocket_passes_and_ends_with_either_side() {
    let origin = RawOrigin::with(|raw, _, _| async move {
        let mut socket = tokio_tungstenite::accept_async(raw.stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let (mut socket, answer) =
        tokio_tungstenite::connect_async(format!("ws://{}/chat", gateway.address))
            .await
            .unwrap();
    assert_eq!(answer.status().as_u16(), 101);
    for text in ["one", "two", "three"] {
        socket.send(text.into()).await.unwrap();
        let back = bounded("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back.into_text().unwrap().as_str(), text);
    }
    let large = vec![9_u8; 1 << 20];
    socket.send(large.clone().into()).await.unwrap();
    assert!(
        bounded("the echo", socket.next())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            == large
    );
    assert_eq!(gateway.in_flight.load(Ordering::SeqCst), 1);
    socket.close(None).await.unwrap();
    while bounded("the end", socket.next())
        .await
        .is_some_and(|message| message.is_ok())
    {}
    drop(socket);
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_tunnel_that_moves_nothing_is_ended() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        raw.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: Echo\r\n\r\nfirst",
        )
        .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.tunnel_idle = Duration::from_millis(100);
    });
    let told = gateway
        .tell("GET / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let text = String::from_utf8(told).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\nfirst"),
        "{text}"
    );
    assert!(
        text.contains("upgrade: Echo\r\n") && text.contains("connection: upgrade\r\n"),
        "{text}"
    );
    gateway.until_idle().await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_502() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    for ask in [
        "",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\nupgrade: other\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n",
    ] {
        let body = if ask.contains("length") { "x" } else { "" };
        let answer = gateway
            .ask(format!(
                "GET / HTTP/1.1\r\nhost: a.example\r\n{ask}\r\n{body}"
            ))
            .await;
        assert_eq!(
            (answer.status, answer.text()),
            (502, "unsolicited_upgrade"),
            "{ask}"
        );
    }
    let seen = origin.received();
    assert_eq!(seen.matches("upgrade: ").count(), 1, "{seen}");
    assert!(seen.contains("upgrade: other\r\n"), "{seen}");
}
