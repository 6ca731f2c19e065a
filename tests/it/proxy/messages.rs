//! Messages that have more than one reading, or none: refused, and nothing of
//! them reaches the origin.

use super::{GET, Gateway, OK};
use crate::support::raw::RawOrigin;

/// Each with its name and the statuses that are right for it.
#[rustfmt::skip]
fn messages_with_two_readings() -> Vec<(&'static str, String, &'static [u16])> {
    let h = "host: a.example\r\n";
    let long = "x".repeat(40_000);
    vec![
        ("two lengths", format!("POST / HTTP/1.1\r\n{h}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), &[400]),
        ("a list of lengths", format!("POST / HTTP/1.1\r\n{h}content-length: 3, 3\r\n\r\nabc"), &[400]),
        ("a signed length", format!("POST / HTTP/1.1\r\n{h}content-length: +3\r\n\r\nabc"), &[400]),
        ("a hex length", format!("POST / HTTP/1.1\r\n{h}content-length: 0x3\r\n\r\nabc"), &[400]),
        ("an empty length", format!("POST / HTTP/1.1\r\n{h}content-length: \r\n\r\n"), &[400]),
        ("an overflowing length", format!("POST / HTTP/1.1\r\n{h}content-length: 99999999999999999999\r\n\r\n"), &[400]),
        ("gzip, chunked", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), &[501]),
        ("chunked, gzip", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("gzip", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: gzip\r\n\r\n"), &[400, 501]),
        ("chunked twice", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("chunked on two lines", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("identity and chunked", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[501]),
        ("a quoted coding", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("a coding with a tab", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("an empty coding", format!("POST / HTTP/1.1\r\n{h}transfer-encoding: \r\n\r\n"), &[400, 501]),
        ("a coding in 1.0", format!("POST / HTTP/1.0\r\n{h}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("a folded header", format!("GET / HTTP/1.1\r\n{h}a: b\r\n c\r\n\r\n"), &[400]),
        ("a space before the colon", format!("GET / HTTP/1.1\r\n{h}a : b\r\n\r\n"), &[400]),
        ("a space before Host", "GET / HTTP/1.1\r\n host: a.example\r\n\r\n".into(), &[400]),
        ("NUL in a value", format!("GET / HTTP/1.1\r\n{h}a: b\0c\r\n\r\n"), &[400]),
        ("NUL in a name", format!("GET / HTTP/1.1\r\n{h}a\0: b\r\n\r\n"), &[400]),
        ("a control byte in a value", format!("GET / HTTP/1.1\r\n{h}a: b\x01c\r\n\r\n"), &[400]),
        ("a bare CR", format!("GET / HTTP/1.1\r\n{h}a: b\rc: d\r\n\r\n"), &[400]),
        ("no name", format!("GET / HTTP/1.1\r\n{h}: b\r\n\r\n"), &[400]),
        ("no colon", format!("GET / HTTP/1.1\r\n{h}ab\r\n\r\n"), &[400]),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), &[400]),
        ("two Hosts", format!("GET / HTTP/1.1\r\n{h}host: b.example\r\n\r\n"), &[400]),
        ("the same Host twice", format!("GET / HTTP/1.1\r\n{h}{h}\r\n"), &[400]),
        ("an empty Host", "GET / HTTP/1.1\r\nhost: \r\n\r\n".into(), &[400]),
        ("a user in Host", "GET / HTTP/1.1\r\nhost: u@a.example\r\n\r\n".into(), &[400]),
        ("a path in Host", "GET / HTTP/1.1\r\nhost: a.example/x\r\n\r\n".into(), &[400]),
        ("a bad port in Host", "GET / HTTP/1.1\r\nhost: a.example:x\r\n\r\n".into(), &[400]),
        ("a port too large", "GET / HTTP/1.1\r\nhost: a.example:70000\r\n\r\n".into(), &[400]),
        ("two hosts in one", "GET / HTTP/1.1\r\nhost: a.example, b.example\r\n\r\n".into(), &[400]),
        ("a bad Host in 1.0", "GET / HTTP/1.0\r\nhost: a@b\r\n\r\n".into(), &[400]),
        ("a bad Host under absolute form", "GET http://a.example/ HTTP/1.1\r\nhost: a@b\r\n\r\n".into(), &[400]),
        ("no Host under absolute form", "GET http://a.example/ HTTP/1.1\r\n\r\n".into(), &[400]),
        ("a user in absolute form", format!("GET http://u@a.example/ HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("another scheme", format!("GET ftp://a.example/ HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("authority form", format!("GET a.example:80 HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("CONNECT", format!("CONNECT a.example:80 HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("CONNECT with a path", format!("CONNECT / HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("TRACE", format!("TRACE / HTTP/1.1\r\n{h}\r\n"), &[405]),
        ("GET *", format!("GET * HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("no slash", format!("GET index.html HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a fragment", format!("GET /a#b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a space in the target", format!("GET /a b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a control byte in the target", format!("GET /a\x01b HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("8-bit in the target", format!("GET /\u{e4} HTTP/1.1\r\n{h}\r\n"), &[400]),
        ("a long target", format!("GET /{} HTTP/1.1\r\n{h}\r\n", &long[..9000]), &[414]),
        ("a head too long", format!("GET / HTTP/1.1\r\n{h}a: {long}\r\n\r\n"), &[431]),
        ("too many headers", format!("GET / HTTP/1.1\r\n{h}{}\r\n", "a: b\r\n".repeat(200)), &[431]),
        ("another expectation", format!("POST / HTTP/1.1\r\n{h}expect: coffee\r\ncontent-length: 1\r\n\r\nx"), &[417]),
        ("a version of the future", format!("GET / HTTP/3.0\r\n{h}\r\n"), &[400]),
        ("no version", "GET /\r\n\r\n".into(), &[400]),
        ("a method of two words", format!("GE T / HTTP/1.1\r\n{h}\r\n"), &[400]),
    ]
}

#[tokio::test]
async fn every_message_with_two_readings_is_refused_and_nothing_of_it_reaches_the_origin() {
    let origin = RawOrigin::with(|mut raw, _, received| async move {
        while raw.more().await.is_ok_and(|came| came > 0) {
            received.lock().unwrap().append(&mut raw.buffer);
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    for (name, bytes, statuses) in messages_with_two_readings() {
        let told = gateway.tell(&bytes).await;
        let text = String::from_utf8_lossy(&told);
        let status: u16 = text.get(9..12).unwrap_or("0").parse().unwrap_or(0);
        assert!(statuses.contains(&status), "{name}: {text:?}");
        assert_eq!(
            text.matches("HTTP/1.1 ").count() + text.matches("HTTP/1.0 ").count(),
            1,
            "{name}: {text}"
        );
        assert_eq!(origin.received(), "", "{name}: the origin saw it");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn the_http2_preface_and_garbage_are_closed_without_reaching_the_origin() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let told = gateway.tell(bytes).await;
        assert!(
            told.is_empty() || told.starts_with(b"HTTP/1.1 400"),
            "{told:?}"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn length_beside_chunked_has_one_reading_and_ends_the_connection() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let origin = RawOrigin::answering(OK).await;
        let gateway = Gateway::before(origin.address);
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.example\r\n\r\n";
        let told = gateway
            .tell(format!(
                "POST / HTTP/1.1\r\nhost: a.example\r\n{lines}\r\n\r\n0\r\n\r\n{smuggled}"
            ))
            .await;
        let text = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        let seen = origin.received();
        assert!(
            !seen.contains("content-length") && !seen.contains("smuggled"),
            "{seen}"
        );
        assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_bad_chunk_is_the_clients_fault_and_the_origins_connection_is_not_used_again() {
    let chunks = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\nhello\n0\n\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "\r\nhello\r\n",
    ];
    for chunk in chunks {
        let origin = RawOrigin::answering(OK).await;
        let gateway = Gateway::before(origin.address);
        let told = gateway
            .tell(format!(
                "POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
            ))
            .await;
        let text = String::from_utf8_lossy(&told).into_owned();
        assert!(text.starts_with("HTTP/1.1 400"), "{chunk:?}: {text}");
        assert!(text.contains("connection: close"), "{chunk:?}: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{chunk:?}");
        assert_eq!(gateway.ask(GET).await.status, 200);
        assert!(
            origin.received().starts_with("GET "),
            "{chunk:?}: a whole request was made of it"
        );
        assert_eq!(origin.connections(), 2, "{chunk:?}");
    }
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: bad host\r\ncontent-length: 500000\r\n\r\n")
        .await;
    raw.send(vec![b'x'; 500_000]).await;
    let told = String::from_utf8(raw.rest().await).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 400 ") && told.contains("connection: close"),
        "{told}"
    );
}
