//! Who gets a request, and what becomes of it when an origin is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{EAGER, Gateway, Here, LASTING, gone, named};
use crate::support::raw::{Raw, RawOrigin, whole_request};
use crate::support::{Ask, Origin, Reply, Visitor, until};

#[tokio::test]
async fn those_that_have_as_little_to_do_take_turns() {
    let origins = [
        Origin::open().await,
        Origin::open().await,
        Origin::open().await,
    ];
    let addresses = origins.each_ref().map(|origin| origin.address);
    let gateway = Gateway::before(&addresses, "").await;
    let mut raw = Raw::connect(gateway.door).await;
    for _ in 0..12 {
        assert!(get(&mut raw, "/").await.starts_with("HTTP/1.1 200"));
    }
    let seen = origins.each_ref().map(|origin| origin.seen().len());
    assert_eq!(seen, [4; 3]);
}

/// The next answer on one connection, which one thread serves.
async fn get(raw: &mut Raw, path: &str) -> String {
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
        .await;
    String::from_utf8(whole_request(raw).await.unwrap()).unwrap()
}

#[tokio::test]
async fn the_one_with_the_least_in_flight_gets_the_next_request() {
    let (busy, idle) = (Origin::open().await, Origin::open().await);
    let (open, gate) = watch::channel(false);
    busy.answers(move |_| Reply::text("busy").behind(&gate));
    named(&idle, "idle");
    let gateway = Gateway::before(&[busy.address, idle.address], "").await;
    let door = gateway.door;
    let mut held = Vec::new();
    until("a request at the busy one", async || {
        if busy.seen().is_empty() {
            let asked = async move { Visitor::at(door).open("/").await.text() };
            held.push(tokio::spawn(asked));
            until("it reached an origin", async || {
                (busy.seen().len() + idle.seen().len() >= held.len()).then_some(())
            })
            .await;
        }
        (!busy.seen().is_empty()).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await, (200, "idle".to_owned()));
    }
    open.send_replace(true);
    let mut texts = Vec::new();
    for asked in held {
        texts.push(asked.await.unwrap());
    }
    assert_eq!(texts.iter().filter(|text| *text == "busy").count(), 1);
}

#[tokio::test]
async fn what_an_origin_that_is_gone_cannot_take_goes_to_another_unseen() {
    let (gone, here) = (gone().await, Origin::open().await);
    here.answers(|seen| Reply::text(seen.body.clone()));
    let gateway = Gateway::before(&[gone, here.address], "").await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.0, 200);
        // Nothing of a body was sent either: it may be tried elsewhere too.
        let form = Ask::form("/order", "once=1");
        let answer = gateway.visitor().send(form).await;
        assert_eq!((answer.status, answer.text()), (200, "once=1".to_owned()));
    }
    let orders = here
        .seen()
        .into_iter()
        .filter(|seen| seen.target == "/order");
    assert_eq!(orders.count(), 10, "each once");
    let shown = gateway.until_state(gone, "EJECTED").await;
    assert_eq!(shown["reason"], "connect");
    assert!(shown["until"].is_string(), "{shown}");
    let ejected = format!("sumun_origin_ejections_total{{origin=\"{gone}\",reason=\"connect\"}}");
    assert_eq!(gateway.metric(&ejected).await, Some(1.0));
    let up = format!("sumun_origin_up{{origin=\"{gone}\"}}");
    until("the metrics say so", async || {
        (gateway.metric(&up).await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_origin_costs_no_visitor_an_error_and_returns() {
    let (there, other) = (gone().await, Origin::open().await);
    named(&other, "other");
    let killed = Here::at(there, "killed").await;
    let gateway = Gateway::before(&[there, other.address], EAGER).await;
    until("both answer", async || {
        let (status, text) = gateway.get("/").await;
        assert_eq!(status, 200);
        (text == "killed").then_some(())
    })
    .await;
    killed.kill().await;
    for _ in 0..30 {
        assert_eq!(gateway.get("/").await, (200, "other".to_owned()));
    }
    gateway.until_state(there, "EJECTED").await;
    let _back = Here::at(there, "back").await;
    until("it is back", async || {
        let (status, text) = gateway.get("/").await;
        assert_eq!(status, 200);
        (text == "back").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_origin_may_have_seen_is_never_sent_to_another() {
    let broken = RawOrigin::with(|mut raw, _, received| async move {
        let request = whole_request(&mut raw).await;
        received.lock().unwrap().extend(request.unwrap_or_default());
    })
    .await;
    let other = Origin::open().await;
    let never = "[origin_health]\neject_after = 0\n";
    let gateway = Gateway::before(&[broken.address, other.address], never).await;
    until("the broken one is asked", async || {
        let (status, _) = gateway.get("/once").await;
        assert!(matches!(status, 200 | 502), "{status}");
        (status == 502).then_some(())
    })
    .await;
    assert_eq!(broken.received().matches("GET /once").count(), 1);
}

/// An origin that is gone once it was asked for `/poison`; it counts how often that was.
async fn frail(poisoned: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let poisoned = Arc::clone(poisoned);
    tokio::spawn(async move {
        let (over, mut told) = tokio::sync::mpsc::channel::<()>(1);
        let mut all = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = told.recv() => {
                    // First of all: who is repeated finds nobody here any more.
                    drop(listener);
                    return;
                }
            };
            let (over, poisoned) = (over.clone(), Arc::clone(&poisoned));
            all.spawn(async move {
                let mut raw = Raw::over(stream);
                while let Some(request) = whole_request(&mut raw).await {
                    if request.starts_with(b"GET /poison") {
                        poisoned.fetch_add(1, Ordering::Relaxed);
                        over.send(()).await.unwrap();
                        std::future::pending::<()>().await;
                    }
                    raw.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_that_kills_is_repeated_once_and_no_more() {
    let poisoned = Arc::default();
    let origins = [
        frail(&poisoned).await,
        frail(&poisoned).await,
        frail(&poisoned).await,
    ];
    let never = "[origin_health]\neject_after = 0\n";
    let gateway = Gateway::before(&origins, never).await;
    let mut raw = Raw::connect(gateway.door).await;
    for _ in &origins {
        assert!(get(&mut raw, "/").await.starts_with("HTTP/1.1 200"));
    }
    // The thread of this connection has one to each of them now.
    assert!(get(&mut raw, "/poison").await.starts_with("HTTP/1.1 502"));
    assert_eq!(poisoned.load(Ordering::Relaxed), 2);
    assert_eq!(gateway.get("/").await.0, 200, "the third one lives");
}

#[tokio::test]
async fn a_page_where_a_websocket_was_asked_for_is_no_failure() {
    let (one, two) = (Origin::open().await, Origin::open().await);
    let gateway = Gateway::before(&[one.address, two.address], LASTING).await;
    let stream = tokio::net::TcpStream::connect(gateway.door).await.unwrap();
    let mut streams = crate::encrypted::two(stream).await;
    let livez = crate::encrypted::get("http://shop.example/__sumun/livez");
    crate::encrypted::ask(&mut streams, livez, "").await;
    for _ in 0..6 {
        let socket = http::Request::builder()
            .method("CONNECT")
            .uri("http://shop.example/")
            .extension(hyper::ext::Protocol::from_static("websocket"));
        let answer = crate::encrypted::ask(&mut streams, socket, "").await;
        assert_eq!(answer.status(), 502);
    }
    assert_eq!(one.seen().len() + two.seen().len(), 6);
    for address in [one.address, two.address] {
        let shown = gateway.shown(address).await.unwrap();
        assert_eq!(
            (&shown["state"], &shown["failures"]),
            (&"UP".into(), &0.into())
        );
    }
    assert_eq!(gateway.metric("sumun_origin_failures_total").await, None);
}

#[tokio::test]
async fn the_last_one_is_never_ejected_and_all_that_are_gone_are_502() {
    let (one, two) = (gone().await, gone().await);
    let gateway = Gateway::before(&[one, two], LASTING).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.0, 502);
    }
    let states = [gateway.shown(one).await, gateway.shown(two).await];
    let ejected = states
        .iter()
        .flatten()
        .filter(|one| one["state"] == "EJECTED");
    assert_eq!(ejected.count(), 1, "{states:?}");
    // Whichever comes back is found, ejected or not: all are tried before a 502.
    for (address, name) in [(one, "one"), (two, "two")] {
        let here = Here::at(address, name).await;
        assert_eq!(gateway.get("/").await, (200, name.to_owned()));
        here.kill().await;
        assert_eq!(gateway.get("/").await.0, 502);
    }
}

#[tokio::test]
async fn answers_of_500_eject_only_where_the_file_says_so() {
    for (more, state) in [("", "UP"), ("eject_5xx = true\n", "EJECTED")] {
        let (bad, good) = (Origin::open().await, Origin::open().await);
        bad.answers(|_| Reply::text("bad").status(500));
        let gateway =
            Gateway::before(&[bad.address, good.address], &format!("{LASTING}{more}")).await;
        until("the bad one was asked", async || {
            gateway.get("/").await;
            (!bad.seen().is_empty()).then_some(())
        })
        .await;
        gateway.until_state(bad.address, state).await;
    }
}

/// A file whose origins are ejected, for good, by the third failure in a row.
const THIRD: &str = "[origin_health]\neject_after = 3\neject_time = \"1h\"\n\
    eject_time_max = \"1h\"\n";

#[tokio::test]
async fn answers_cut_in_the_middle_eject_whoever_sends_them() {
    let cutting = RawOrigin::with(|mut raw, _, received| async move {
        while let Some(request) = whole_request(&mut raw).await {
            received.lock().unwrap().extend(&request);
            let whole = request.starts_with(b"HEAD");
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
                .await;
            if !whole {
                raw.send("the beginning").await;
                return;
            }
        }
    })
    .await;
    let other = Origin::open().await;
    let gateway = Gateway::before(&[cutting.address, other.address], THIRD).await;
    until("it has cut three answers", async || {
        let mut raw = Raw::connect(gateway.door).await;
        raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            .await;
        raw.rest().await;
        // Its heads go well all the while.
        let mut raw = Raw::connect(gateway.door).await;
        raw.send("HEAD / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            .await;
        raw.rest().await;
        (cutting.received().matches("GET /").count() == 3).then_some(())
    })
    .await;
    let shown = gateway.until_state(cutting.address, "EJECTED").await;
    assert_eq!(shown["reason"], "body_cut");
    let counted = format!(
        "sumun_origin_attempts_failed_total{{origin=\"{}\",kind=\"body_cut\"}}",
        cutting.address
    );
    assert_eq!(gateway.metric(&counted).await, Some(3.0));
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.0, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_no_failure_of_the_origin() {
    let (one, two) = (RawOrigin::with(slow).await, RawOrigin::with(slow).await);
    let gateway = Gateway::before(&[one.address, two.address], LASTING).await;
    for _ in 0..4 {
        let mut raw = Raw::connect(gateway.door).await;
        raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            .await;
        raw.up_to(b"the beginning").await.unwrap();
    }
    until("all were seen to leave", async || {
        let left = [&one, &two].map(|origin| origin.received().matches("left").count());
        (left[0] + left[1] == 4).then_some(())
    })
    .await;
    for address in [one.address, two.address] {
        let shown = gateway.shown(address).await.unwrap();
        let seen = (&shown["state"], &shown["failures"]);
        assert_eq!(seen, (&"UP".into(), &0.into()));
    }
}

/// Begins an answer and waits for the other side to leave.
async fn slow(mut raw: Raw, _: usize, received: Arc<std::sync::Mutex<Vec<u8>>>) {
    whole_request(&mut raw).await;
    raw.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning")
        .await;
    raw.rest().await;
    received.lock().unwrap().extend(b"left");
}

#[tokio::test]
async fn one_that_returns_gets_few_requests_at_first() {
    let (there, other) = (gone().await, Origin::open().await);
    named(&other, "other");
    let slow = "[origin_health]\neject_after = 1\neject_time = \"100ms\"\n\
        eject_time_max = \"100ms\"\nslow_start = \"1h\"\n";
    let gateway = Gateway::before(&[there, other.address], slow).await;
    until("it is ejected", async || {
        assert_eq!(gateway.get("/").await.0, 200);
        let shown = gateway.shown(there).await?;
        (shown["ejections"] != 0).then_some(())
    })
    .await;
    let _back = Here::at(there, "back").await;
    let shown = gateway.until_state(there, "RETURNING").await;
    assert!(shown["share"].as_f64().unwrap() < 0.2, "{shown}");
    let mut back = 0;
    for _ in 0..60 {
        back += usize::from(gateway.get("/").await.1 == "back");
    }
    // About three: at most each twentieth is its own.
    assert!(back < 30, "{back} of 60");
    until("it gets one now and then", async || {
        (gateway.get("/").await.1 == "back").then_some(())
    })
    .await;
}
