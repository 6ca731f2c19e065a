//! One exchange of HTTP/2 that stalls, or is given up: it ends by itself, and no
//! other one notices.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;

use crate::encrypted::{Streams, ask, get, text, two};
use crate::support::raw::Raw;
use crate::support::{Plan, Reply, Site, bounded};

/// A site that waits for nobody longer than a second.
async fn hasty() -> Site {
    Plan::event("")
        .tables("[timeouts]\nidle = \"1s\"\nhead = \"1s\"")
        .open()
        .await
}

async fn connect(site: &Site) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(site.door).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

/// Others on the same connection are served until this is over.
async fn meanwhile<T>(others: &mut Streams, it: impl Future<Output = T>) -> T {
    let mut it = std::pin::pin!(it);
    loop {
        let answer = async {
            let answer = ask(others, get("http://shop.example/"), "").await;
            assert_eq!(answer.status(), 200);
            assert_eq!(text(answer).await, "four");
        };
        tokio::select! {
            over = &mut it => return over,
            () = answer => {}
        }
        tokio::task::yield_now().await;
    }
}

/// Takes nothing until the stream ends.
async fn end_of(mut body: RecvStream) -> Option<Reason> {
    let ended = async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(fault)) => return fault.reason(),
                None => return None,
            }
        }
    };
    bounded("the end of the stream", ended).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_of_an_answer_loses_it_alone() {
    let site = hasty().await;
    site.origin.answers(|seen| match seen.target.as_str() {
        "/large" => Reply::text(vec![b'x'; 4 << 20]),
        _ => Reply::text("four"),
    });
    let mut others = two(TcpStream::connect(site.door).await.unwrap()).await;
    let mut send = connect(&site).await;
    let large = get("http://shop.example/large").body(()).unwrap();
    let (answer, _) = send.send_request(large, true).unwrap();
    // The window is never made larger: what fits into it comes, and no more.
    let body = answer.await.unwrap().into_body();
    let ended = meanwhile(&mut others, end_of(body)).await;
    assert_eq!(ended, Some(Reason::CANCEL));
    // The connection serves on.
    let small = get("http://shop.example/").body(()).unwrap();
    let (answer, _) = send.send_request(small, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

/// A request whose body never ends, and what became of it.
async fn half_sent(site: &Site, target: &str) -> (SendStream<Bytes>, Option<Reason>) {
    let mut send = connect(site).await;
    let request = Request::post(target)
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"{\"half\""), false)
        .unwrap();
    let answer = bounded("an answer, or none", answer).await;
    (body, answer.err().and_then(|fault| fault.reason()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_no_more_of_a_body_is_not_waited_for() {
    let site = hasty().await;
    site.origin.answers(|_| Reply::text("four"));
    let mut others = two(TcpStream::connect(site.door).await.unwrap()).await;
    for target in [
        "http://shop.example/upload",
        "http://shop.example/__sumun/v1/enter",
    ] {
        let (_body, ended) = meanwhile(&mut others, half_sent(&site, target)).await;
        assert_eq!(ended, Some(Reason::CANCEL), "{target}");
    }
    let seen = site.origin.seen();
    // The origin takes a body that breaks off for none.
    assert!(seen.iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_only_begun_does_not_hold_a_connection() {
    let site = hasty().await;
    let mut raw = Raw::connect(site.door).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // SETTINGS, and HEADERS of stream 1 (`:method: GET`) without an end.
    raw.send(b"\0\0\0\x04\0\0\0\0\0").await;
    raw.send(b"\0\0\x01\x01\x01\0\0\0\x01\x82").await;
    let _frames = raw.rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_given_up_does_not_look_whole() {
    let site = hasty().await;
    site.origin.answers(|_| Reply::text("four"));
    let mut send = connect(&site).await;
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let request = Request::post("http://shop.example/upload")
            .body(())
            .unwrap();
        let (_answer, mut body) = send.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        // When this is answered, the half is on its way to the origin.
        let other = get("http://shop.example/other").body(()).unwrap();
        let (answer, _) = send.send_request(other, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        body.send_reset(reason);
    }
    let whole = Request::post("http://shop.example/whole").body(()).unwrap();
    let (answer, mut body) = send.send_request(whole, false).unwrap();
    body.send_data(Bytes::from_static(b"all"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let bodies: Vec<Bytes> = site
        .origin
        .seen()
        .into_iter()
        .map(|seen| seen.body)
        .filter(|body| !body.is_empty())
        .collect();
    assert_eq!(bodies, ["all"]);
}
