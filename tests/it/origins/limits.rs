//! Connections to an origin when they are limited: who waits, in which order,
//! and for how long.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Gateway;
use crate::support::raw::{RawOrigin, whole_request};
use crate::support::{Ask, Origin, Visitor, until};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Message;

fn limited(connections: usize, wait: &str) -> String {
    format!("[origin_pool]\nconnections = {connections}\nconnection_wait = \"{wait}\"\n")
}

/// Connections at the origin, and the most that were open at once. An end that
/// has arrived counts as one before the origin's task for it has read it.
#[derive(Clone, Default)]
struct Connections {
    held: Arc<Mutex<Vec<std::net::TcpStream>>>,
    most: Arc<AtomicUsize>,
}

impl Connections {
    fn opened(&self, stream: &TcpStream) -> RawFd {
        let held = stream.as_fd().try_clone_to_owned().unwrap();
        let name = held.as_raw_fd();
        let mut all = self.held.lock().unwrap();
        all.push(held.into());
        let is_open = |one: &&std::net::TcpStream| !matches!(one.peek(&mut [0]), Ok(0));
        let open = all.iter().filter(is_open).count();
        self.most.fetch_max(open, Ordering::SeqCst);
        name
    }

    fn closed(&self, name: RawFd) {
        let mut all = self.held.lock().unwrap();
        all.retain(|one| one.as_raw_fd() != name);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// An origin that answers one request for each permit, tells of each request
/// that it took, and counts its connections.
async fn gated() -> (
    RawOrigin,
    Arc<Semaphore>,
    mpsc::UnboundedReceiver<String>,
    Connections,
) {
    let permits = Arc::new(Semaphore::new(0));
    let (tell, told) = mpsc::unbounded_channel();
    let (connections, gate) = (Connections::default(), Arc::clone(&permits));
    let counted = connections.clone();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        let counted = counted.clone();
        async move {
            let name = counted.opened(&raw.stream);
            while let Some(request) = whole_request(&mut raw).await {
                let head = String::from_utf8(request).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let _gone = tell.send(target);
                gate.acquire().await.unwrap().forget();
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if tokio::io::AsyncWriteExt::write_all(&mut raw.stream, answer.as_bytes())
                    .await
                    .is_err()
                {
                    break;
                }
            }
            counted.closed(name);
        }
    })
    .await;
    (origin, permits, told, connections)
}

fn ask(gateway: &Gateway, path: &str) -> tokio::task::JoinHandle<u16> {
    let (door, path) = (gateway.door, path.to_owned());
    tokio::spawn(async move { Visitor::at(door).send(Ask::page(&path)).await.status })
}

async fn until_waiting(gateway: &Gateway, origin: std::net::SocketAddr, count: u64) {
    until("they wait", async || {
        let shown = gateway.shown(origin).await?;
        (shown["connections"]["waiting"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn those_who_wait_for_a_connection_are_served_in_order_and_who_leaves_is_passed_over() {
    let (origin, permits, mut told, connections) = gated().await;
    let gateway = Gateway::before(&[origin.address], &limited(1, "1m")).await;
    let first = ask(&gateway, "/0");
    assert_eq!(told.recv().await.as_deref(), Some("/0"));
    let mut waiting = Vec::new();
    for number in 1..=4 {
        waiting.push(ask(&gateway, &format!("/{number}")));
        until_waiting(&gateway, origin.address, number).await;
    }
    waiting.remove(1).abort();
    until_waiting(&gateway, origin.address, 3).await;
    permits.add_permits(100);
    assert_eq!(first.await.unwrap(), 200);
    for asked in waiting {
        assert_eq!(asked.await.unwrap(), 200);
    }
    for path in ["/1", "/3", "/4"] {
        assert_eq!(told.recv().await.as_deref(), Some(path));
    }
    assert_eq!(connections.most(), 1, "never more than one at once");
    let served = format!(
        "sumun_origin_connection_waits_total{{origin=\"{}\",result=\"served\"}}",
        origin.address
    );
    until("the waits are counted", async || {
        (gateway.metric(&served).await == Some(3.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_crowd_over_all_threads_never_has_more_connections_than_allowed() {
    let (origin, permits, told, connections) = gated().await;
    drop(told);
    let gateway = Gateway::before(&[origin.address], &limited(3, "1m")).await;
    let crowd: Vec<_> = (0..40)
        .map(|number| ask(&gateway, &format!("/{number}")))
        .collect();
    until_waiting(&gateway, origin.address, 37).await;
    permits.add_permits(100);
    for asked in crowd {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(connections.most(), 3);
}

#[tokio::test]
async fn whoever_gets_no_connection_in_time_is_told_to_come_again() {
    let (origin, permits, mut told, _) = gated().await;
    let gateway = Gateway::before(&[origin.address], &limited(1, "50ms")).await;
    let first = ask(&gateway, "/");
    told.recv().await.unwrap();
    let page = gateway.visitor().open("/page").await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("retry-after"), Some("10"));
    let script = gateway.visitor().send(Ask::fetch("/api")).await;
    assert_eq!(
        (script.status, script.header("retry-after")),
        (503, Some("10"))
    );
    assert_eq!(
        script.json()["title"],
        "The site has too much to do at the moment"
    );
    let kind = "sumun_origin_failures_total{kind=\"no_connection_free\"}";
    assert_eq!(gateway.metric(kind).await, Some(2.0));
    permits.add_permits(10);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(gateway.get("/").await.0, 200);
    assert_eq!(gateway.shown(origin.address).await.unwrap()["state"], "UP");
}

#[tokio::test]
async fn a_tunnel_has_a_connection_until_it_ends() {
    let origin = Origin::open().await;
    origin.answers(|seen| {
        if seen.target == "/socket" {
            crate::support::Reply::echo()
        } else {
            crate::support::Reply::page()
        }
    });
    let gateway = Gateway::before(&[origin.address], &limited(1, "50ms")).await;
    let visitor = gateway.visitor();
    let mut socket = visitor.socket("/socket").await;
    socket.send(Message::text("here")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    assert_eq!(gateway.get("/").await.0, 503);
    assert_eq!(gateway.shown(origin.address).await.unwrap()["inFlight"], 1);
    drop(socket);
    until("its connection is free", async || {
        (gateway.get("/").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_is_full_is_passed_over_while_another_is_not() {
    let (full, permits, mut told, _) = gated().await;
    let other = Origin::open().await;
    super::named(&other, "other");
    let gateway = Gateway::before(&[full.address, other.address], &limited(1, "1m")).await;
    let mut held = Vec::new();
    until("one is full", async || {
        held.push(ask(&gateway, "/"));
        tokio::select! {
            taken = told.recv() => taken.map(|_| ()),
            status = held.last_mut().unwrap() => {
                assert_eq!(status.unwrap(), 200);
                held.pop();
                None
            }
        }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await, (200, "other".to_owned()));
    }
    permits.add_permits(1);
    assert_eq!(held.remove(0).await.unwrap(), 200);
}
