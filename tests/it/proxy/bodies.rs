//! Bodies: large, slow and early ones, in both directions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::{GET, Gateway, OK};
use crate::support::bounded;
use crate::support::raw::{RawOrigin, find, header};

#[tokio::test]
async fn the_body_of_a_get_keeps_its_framing() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::before(origin.address);
    let head = "GET / HTTP/1.1\r\nhost: a.example\r\n";
    gateway
        .ask(format!(
            "{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ))
        .await;
    let seen = origin.received();
    assert!(
        seen.contains("transfer-encoding: chunked\r\n") && seen.ends_with("3\r\nabc\r\n0\r\n\r\n"),
        "{seen}"
    );
    gateway
        .ask(format!("{head}content-length: 3\r\n\r\nabc"))
        .await;
    let seen = origin.received();
    assert!(
        seen.contains("content-length: 3\r\n") && seen.ends_with("\r\n\r\nabc"),
        "{seen}"
    );
    gateway
        .ask("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(origin.received().contains("content-length: 0\r\n"));
}

#[tokio::test]
async fn continue_is_said_when_the_origin_takes_the_body_and_not_before() {
    let (head_came, came) = oneshot::channel::<()>();
    let head_came = Arc::new(Mutex::new(Some(head_came)));
    let origin = RawOrigin::with(move |mut raw, _, received| {
        let head_came = Arc::clone(&head_came);
        async move {
            let head = raw.head().await.unwrap();
            received.lock().unwrap().extend(head.into_bytes());
            head_came.lock().unwrap().take().unwrap().send(()).unwrap();
            let body = raw.take(4).await.unwrap();
            received.lock().unwrap().extend(body);
            raw.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(
        "POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-Continue\r\ncontent-length: 4\r\n\r\n",
    )
    .await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 100 "));
    bounded("the head", came).await.unwrap();
    raw.send("body").await;
    assert_eq!(raw.answer().await.status, 200);
    let seen = origin.received();
    assert!(
        seen.ends_with("\r\n\r\nbody") && !seen.contains("expect"),
        "{seen}"
    );
}

#[tokio::test]
async fn sixty_four_megabytes_pass_both_ways_unchanged() {
    const SIZE: usize = 64 << 20;
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        let head = raw.head().await.unwrap();
        assert_eq!(
            header(&head, "content-length"),
            Some(SIZE.to_string().as_str())
        );
        raw.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
            .await;
        let (mut from, mut to) = raw.stream.split();
        to.write_all(&raw.buffer).await.unwrap();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let piece: Arc<Vec<u8>> = Arc::new(
        (0..1_u32 << 20)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect(),
    );
    let mut sent = Sha256::new();
    for number in 0..64_u8 {
        sent.update([number]);
        sent.update(&piece[1..]);
    }
    let upload = Arc::clone(&piece);
    let upload = tokio::spawn(async move {
        to.write_all(
            format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {SIZE}\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
        for number in 0..64_u8 {
            to.write_all(&[number]).await.unwrap();
            to.write_all(&upload[1..]).await.unwrap();
        }
        to
    });
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        head.push(bounded("the head", from.read_u8()).await.unwrap());
    }
    let mut got = Sha256::new();
    let mut left = SIZE;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let came = bounded("more", from.read(&mut buffer)).await.unwrap();
        assert!(came > 0 && came <= left);
        got.update(&buffer[..came]);
        left -= came;
    }
    assert!(got.finalize() == sent.finalize());
    drop(upload.await.unwrap());
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_origin_back() {
    const SIZE: usize = 64 << 20;
    let (stalled_at, mut stalls) = mpsc::unbounded_channel();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let stalled_at = stalled_at.clone();
        async move {
            raw.head().await.unwrap();
            raw.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
                .await;
            let piece = vec![7; 1 << 16];
            for number in 0..SIZE >> 16 {
                let writing = raw.stream.write_all(&piece);
                tokio::pin!(writing);
                if tokio::time::timeout(Duration::from_millis(500), &mut writing)
                    .await
                    .is_err()
                {
                    stalled_at.send(number << 16).unwrap();
                    writing.await.unwrap();
                }
            }
        }
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send(GET).await;
    let written = bounded("the stall", stalls.recv())
        .await
        .expect("the origin wrote all of it");
    assert!(
        written < SIZE / 2,
        "{written} bytes were taken from the origin for a client that reads nothing"
    );
    let answer = raw.answer().await;
    assert!(answer.body.len() == SIZE && answer.body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn an_upload_longer_than_the_first_byte_limit_is_not_cut() {
    let origin = RawOrigin::answering(OK).await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.first_byte = Duration::from_millis(300);
    });
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 8\r\n\r\n")
        .await;
    for byte in 0..8 {
        // Slowness is the matter of this test, not a way to wait for something.
        tokio::time::sleep(Duration::from_millis(60)).await;
        raw.send([b'0' + byte]).await;
    }
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_passes_and_its_connection_is_not_used_again() {
    let origin = RawOrigin::with(|mut raw, number, _| async move {
        raw.head().await.unwrap();
        let status = if number == 0 { 413 } else { 200 };
        raw.send(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"
        ))
        .await;
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::before(origin.address);
    let mut raw = gateway.connect().await;
    raw.send("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100\r\n\r\nabc")
        .await;
    assert_eq!(raw.answer().await.status, 413);
    assert_eq!(gateway.ask(GET).await.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn an_origin_that_takes_no_more_of_an_upload_is_504() {
    let (end, ended) = watch::channel(false);
    let origin = RawOrigin::with(move |raw, _, _| {
        let mut ended = ended.clone();
        async move {
            let _held_unread = raw;
            ended.wait_for(|ended| *ended).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.idle = Duration::from_millis(200);
    });
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let upload = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n",
            1_usize << 30
        );
        let _cut = to.write_all(head.as_bytes()).await;
        let piece = vec![7; 1 << 16];
        while to.write_all(&piece).await.is_ok() {}
    });
    let mut head = vec![0; 12];
    bounded("the answer", from.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(head, b"HTTP/1.1 504");
    drop(from);
    bounded("the end of the upload", upload).await.unwrap();
    gateway.until_idle().await;
    end.send_replace(true);
}
