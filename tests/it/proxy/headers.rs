//! What is taken off a message on its way, and what is put on it.

use http::header::HeaderValue;
use sumun::origin::{Cookie, HostHeader};

use super::{Gateway, OK};
use crate::support::raw::{RawOrigin, header};

#[tokio::test]
async fn the_origin_gets_the_target_as_sent_and_the_identity_as_known() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let target = "/a/%2e%2e//b;x=1?q=%zz&r={'a'}|^";
    let answer = gateway
        .ask(format!("GET {target} HTTP/1.1\r\nhost: Shop.Example:8080\r\ncookie: a=1; b=\"2\"\r\naccept-encoding: br\r\n\r\n"))
        .await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert!(header(&answer.head, "date").is_some());
    let seen = origin.received();
    assert!(
        seen.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
        "{seen}"
    );
    for line in [
        "host: Shop.Example:8080",
        "cookie: a=1; b=\"2\"",
        "accept-encoding: br",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: Shop.Example:8080",
        "x-forwarded-port: 8080",
        "via: 1.1 sumun",
        "sumun-event: main",
    ] {
        assert!(
            seen.split("\r\n").any(|own| own == line),
            "{line} in {seen}"
        );
    }
}

#[tokio::test]
async fn absolute_form_becomes_origin_form_and_its_authority_wins() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    gateway
        .ask("GET http://good.example:81/p?q HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        .await;
    let seen = origin.received();
    assert!(
        seen.starts_with("GET /p?q HTTP/1.1\r\n") && seen.contains("host: good.example:81\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("evil"), "{seen}");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop_in_both_directions() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-hop, content-length\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nproxy-connection: keep-alive\r\nupgrade: h2\r\nset-cookie: a=1\r\n\
         set-cookie: b=2\r\ncontent-length: 2\r\nx-end: 1\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let answer = gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: x-hop, Host, content-length, cookie, authorization, \
             sumun-event, x-forwarded-for, forwarded\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\n\
             proxy-authorization: Basic eA==\r\nte: gzip\r\nupgrade: h2c\r\nhttp2-settings: x\r\ncookie: c=1\r\n\
             authorization: Bearer y\r\nx-end: 1\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-",
        "\r\nte:",
        "upgrade",
        "http2-settings",
        "\r\nconnection",
    ] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    for kept in [
        "host: a.example\r\n",
        "cookie: c=1\r\n",
        "authorization: Bearer y\r\n",
        "x-end: 1\r\n",
        "sumun-event: main\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
    ] {
        assert!(seen.contains(kept), "{kept} in {seen}");
    }
    for gone in ["x-hop", "keep-alive", "proxy-", "upgrade"] {
        assert!(!answer.head.contains(gone), "{gone} in {}", answer.head);
    }
    assert!(
        answer.has("set-cookie: a=1") && answer.has("set-cookie: b=2") && answer.has("x-end: 1")
    );
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn an_untrusted_client_cannot_say_who_it_is() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             x-forwarded-host: evil\r\nx-forwarded-user: root\r\nx_forwarded_for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
             x-real-ip: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\nsumun-session: forged\r\nSumun_Session: forged\r\nsumun-event: forged\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for gone in ["6.6.6.6", "evil", "root", "forged", "https"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn a_trusted_proxys_chain_is_appended_to() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| setup.trusted = vec!["loopback"]);
    gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: internal\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 10.0.0.1\r\n\
             x-forwarded-proto: https\r\nx-forwarded-host: shop.example\r\nforwarded: for=1.2.3.4\r\nx-forwarded-prefix: /p\r\n\
             via: 1.0 first\r\nsumun-session: forged\r\n\r\n",
        )
        .await;
    let seen = origin.received();
    for line in [
        "x-forwarded-for: 1.2.3.4, 10.0.0.1, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: shop.example",
        "x-forwarded-port: 443",
        "x-forwarded-prefix: /p",
        "forwarded: for=1.2.3.4",
        "forwarded: for=127.0.0.1;proto=https;host=\"shop.example\"",
        "via: 1.0 first",
        "via: 1.1 sumun",
        "host: internal",
    ] {
        assert!(
            seen.split("\r\n").any(|own| own == line),
            "{line} in {seen}"
        );
    }
    assert!(!seen.contains("forged"));
}

#[tokio::test]
async fn host_and_cookie_are_what_was_decided() {
    let origin = RawOrigin::answering(OK).await;
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\ncookie: ours=1; theirs=2\r\n\r\n";
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.host_header = HostHeader::Origin;
        setup.cookie = Cookie::Replaced(HeaderValue::from_static("theirs=2"));
    });
    gateway.ask(request).await;
    let seen = origin.received();
    assert!(
        seen.contains(&format!("host: {}\r\n", origin.address)),
        "{seen}"
    );
    assert!(
        seen.contains("cookie: theirs=2\r\n") && !seen.contains("ours"),
        "{seen}"
    );
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.host_header = HostHeader::Name(HeaderValue::from_static("b.example"));
        setup.cookie = Cookie::Removed;
        setup.origin.title_case_headers = true;
    });
    origin.received.lock().unwrap().clear();
    gateway.ask(request).await;
    let seen = origin.received();
    assert!(
        seen.contains("Host: b.example\r\n") && !seen.contains("ookie"),
        "{seen}"
    );
}

#[tokio::test]
async fn max_forwards_counts_down_and_ends_here_at_zero() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let ask =
        |left: u8| format!("OPTIONS * HTTP/1.1\r\nhost: a.example\r\nmax-forwards: {left}\r\n\r\n");
    assert_eq!(gateway.ask(ask(0)).await.status, 204);
    assert_eq!(origin.received(), "");
    assert_eq!(gateway.ask(ask(3)).await.status, 200);
    let seen = origin.received();
    assert!(
        seen.starts_with("OPTIONS * HTTP/1.1\r\n") && seen.contains("max-forwards: 2\r\n"),
        "{seen}"
    );
}
