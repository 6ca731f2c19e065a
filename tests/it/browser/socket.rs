//! A WebSocket of a real browser: under TLS it opens one in its connection of HTTP/2
//! where the server lets it (RFC 8441).

use serde_json::json;

use super::driver::{Browser, ENGLISH};
use crate::encrypted::shop;
use crate::support::{Reply, until};

/// Opens a socket, says a word, and keeps what came back, or that it failed.
const TALK: &str = "(() => { window.heard = null;
    const socket = new WebSocket(`wss://${location.host}/chat`);
    socket.onopen = () => socket.send('four words of greeting');
    socket.onmessage = (message) => { window.heard = message.data; socket.close(); };
    socket.onerror = () => { window.heard = 'an error'; };
    return true; })()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_opens_its_websocket_within_http_2() {
    let (_authority, site) = shop("", "").await;
    site.origin.answers(|seen| match seen.header("upgrade") {
        Some(_) => Reply::echo(),
        None => Reply::page(),
    });
    let browser = Browser::open(ENGLISH).await;
    browser.go(&format!("https://{}/", site.door)).await;
    assert_eq!(browser.evaluate(TALK).await, json!(true));
    let heard = until("the echo", async || {
        let heard = browser.evaluate("window.heard").await;
        (!heard.is_null()).then_some(heard)
    })
    .await;
    assert_eq!(heard, "four words of greeting");
    let seen = site.origin.seen();
    let socket = seen.iter().find(|seen| seen.target == "/chat").unwrap();
    assert_eq!(socket.header("upgrade"), Some("websocket"));
    assert_eq!(socket.header("via"), Some("2.0 sumun"), "by HTTP/2");
    assert!(
        socket.header("sumun-session").is_some(),
        "with the page's pass"
    );
    browser.close().await;
}
