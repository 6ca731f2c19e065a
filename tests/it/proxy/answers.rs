//! Answers: how they are framed, what is none, and what a cut one looks like.

use std::time::Duration;

use super::{GET, Gateway};
use crate::support::raw::{RawOrigin, header, whole_request};

#[tokio::test]
async fn head_204_and_304_have_no_body_and_the_connection_serves_on() {
    for (method, head, keeps) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            true,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n",
            true,
        ),
        (
            "HEAD",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\n\r\n",
            true,
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", false),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", false),
    ] {
        let origin = RawOrigin::answering(head).await;
        let gateway = Gateway::before(origin.address);
        let mut raw = gateway.connect().await;
        for _ in 0..2 {
            raw.send(format!("{method} / HTTP/1.1\r\nhost: a.example\r\n\r\n"))
                .await;
            let answer = raw.answer_to(false).await;
            assert_eq!(
                answer.has("content-length: 1234"),
                keeps,
                "{method} {head}: {}",
                answer.head
            );
            assert!(
                !answer.head.contains("transfer-encoding"),
                "{}",
                answer.head
            );
        }
        assert_eq!(origin.connections(), 1, "{method} {head}");
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn an_answer_with_length_and_chunks_is_read_by_its_chunks_and_its_connection_ends() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    for _ in 0..2 {
        let answer = gateway.ask(GET).await;
        assert_eq!(answer.text(), "hello");
        assert!(!answer.head.contains("content-length"), "{}", answer.head);
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn answers_that_are_not_http_are_502() {
    for (name, bytes) in [
        (
            "differing lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        ),
        (
            "a list of differing lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nokk",
        ),
        (
            "a signed length",
            "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        ),
        (
            "another coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding in 1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("garbage", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        (
            "a folded header",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "NUL",
            "HTTP/1.1 200 OK\r\na: b\0\r\ncontent-length: 0\r\n\r\n",
        ),
    ] {
        let origin = RawOrigin::answering(bytes).await;
        let gateway = Gateway::before(origin.address);
        let answer = gateway.ask(GET).await;
        assert_eq!((answer.status, answer.text()), (502, "protocol"), "{name}");
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn equal_lengths_become_one() {
    for lines in [
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2, 2",
    ] {
        let origin = RawOrigin::answering(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok")).await;
        let answer = Gateway::before(origin.address).ask(GET).await;
        assert_eq!(
            answer.head.matches("content-length: 2\r\n").count(),
            1,
            "{}",
            answer.head
        );
        assert_eq!(answer.text(), "ok");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_only_a_head_may_say() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ntrailer: x-sum, set-cookie\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
         x-sum: 7\r\nset-cookie: evil=1\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let body = "2\r\nhi\r\n0\r\nx-sum: 9\r\nx-forwarded-for: 6.6.6.6\r\nsumun-session: forged\r\ncookie: x\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\ntrailer: x-sum, x-forwarded-for, sumun-session, cookie\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let answer = gateway.ask(format!("{head}{body}")).await;
    assert_eq!(answer.text(), "okx-sum: 7\r\n", "{answer:?}");
    let seen = origin.received();
    assert!(
        seen.contains("te: trailers\r\n") && seen.ends_with("0\r\nx-sum: 9\r\n\r\n"),
        "{seen}"
    );
    assert!(
        !seen.contains("forged") && !seen.contains("6.6.6.6"),
        "{seen}"
    );
    let plain = gateway.ask(GET).await;
    assert_eq!(plain.text(), "ok", "nobody asked for trailers");
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(origin.address);
    let told = String::from_utf8(gateway.tell("GET / HTTP/1.0\r\n\r\n").await).unwrap();
    assert!(
        told.starts_with("HTTP/1.0 200 OK\r\n") && told.ends_with("\r\n\r\nhello"),
        "{told}"
    );
    assert!(!told.contains("chunked"));
    assert!(origin.received().starts_with("GET / HTTP/1.1\r\n"));
    assert!(
        origin
            .received()
            .contains(&format!("host: {}\r\n", origin.address))
    );
}

#[tokio::test]
async fn a_cut_answer_never_looks_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let origin = RawOrigin::with(move |mut raw, _, _| async move {
            whole_request(&mut raw).await;
            raw.send(head).await;
        })
        .await;
        let gateway = Gateway::before(origin.address);
        let told = String::from_utf8(gateway.tell(GET).await).unwrap();
        assert!(!told.contains("0\r\n\r\n"), "{told}");
        assert!(told.contains("hello") || told.is_empty(), "{told}");
        // Where the end of the connection is the end of the body, it has to be a reset.
        let mut old = gateway.connect().await;
        old.send("GET / HTTP/1.0\r\nhost: a.example\r\n\r\n").await;
        let end = loop {
            match old.more().await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(fault) => break Err(fault.kind()),
            }
        };
        let short = header(&String::from_utf8_lossy(&old.buffer), "content-length").is_some();
        assert!(
            short || end == Err(std::io::ErrorKind::ConnectionReset),
            "{end:?}"
        );
        gateway.until_idle().await;
    }
}

#[tokio::test]
async fn an_origin_that_stops_in_the_middle_is_cut_off() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        whole_request(&mut raw).await;
        raw.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.idle = Duration::from_millis(100);
    });
    let told = gateway.tell(GET).await;
    assert!(
        told.ends_with(b"hello"),
        "{}",
        String::from_utf8_lossy(&told)
    );
    gateway.until_idle().await;
}
