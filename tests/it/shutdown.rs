//! Stopping and starting again: what runs may finish, and nobody loses a
//! place, a session or a cookie by a restart.

use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Ask, BOUND, Plan, Site, Visitor, completes_at_done, some, until};

#[tokio::test]
async fn told_to_stop_it_is_not_ready_at_once_and_accepts_for_a_while() {
    let mut site = Plan::event("limit = 5")
        .top("drain_delay = \"2s\"")
        .open()
        .await;
    let reception = std::sync::Arc::clone(&site.server.running.reception);
    assert!(reception.is_ready());
    assert!(TcpStream::connect(site.admin).await.is_ok());
    site.begin_stop();
    until("not ready", async || (!reception.is_ready()).then_some(())).await;
    site.visitor_inside().await;
    site.ended().await;
    assert!(
        TcpStream::connect(site.door).await.is_err(),
        "the door is shut"
    );
}

#[tokio::test]
async fn a_running_download_finishes_before_the_end() {
    let mut site = Plan::event("limit = 5")
        .top("drain_timeout = \"30s\"")
        .open()
        .await;
    let parts = site.origin.answers_once_in_parts();
    let mut download = site.visitor().begin(Ask::page("/film")).await.into_body();
    parts.send(Bytes::from_static(b"first ")).unwrap();
    assert_eq!(some(&mut download).await, "first ");
    site.begin_stop();
    until("the door to shut", async || {
        TcpStream::connect(site.door).await.err()
    })
    .await;
    parts.send(Bytes::from_static(b"last")).unwrap();
    drop(parts);
    assert_eq!(download.collect().await.unwrap().to_bytes(), "last");
    site.ended().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_do_not_hold_the_end() {
    let mut site = Plan::event("limit = 5")
        .top("drain_timeout = \"1h\"")
        .open()
        .await;
    let mut silent = TcpStream::connect(site.door).await.unwrap();
    let mut idle = TcpStream::connect(site.door).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    site.begin_stop();
    for connection in [&mut idle, &mut silent] {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(BOUND, connection.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open");
    }
    tokio::time::timeout(BOUND, site.ended())
        .await
        .expect("held");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_end_for_ever() {
    let mut site = Plan::event("limit = 5")
        .top("drain_timeout = \"1s\"")
        .open()
        .await;
    let parts = site.origin.answers_once_in_parts();
    let mut download = site.visitor().begin(Ask::page("/film")).await.into_body();
    parts.send(Bytes::from_static(b"first ")).unwrap();
    some(&mut download).await;
    site.begin_stop();
    tokio::time::timeout(BOUND, site.ended())
        .await
        .expect("held");
    assert!(
        download.collect().await.is_err(),
        "a cut answer never looks whole"
    );
}

async fn until_recovered(site: &Site) {
    site.until("the end of the recovery", |view| {
        view.snapshot.meta.recovery.is_none()
    })
    .await;
}

/// They come to another door, each with what the cookie jar holds.
fn moved(visitors: &[Visitor], site: &Site) -> Vec<Visitor> {
    let to_door = |visitor: &Visitor| visitor.moved_to(site.door);
    visitors.iter().map(to_door).collect()
}

#[tokio::test]
async fn a_restart_keeps_places_their_order_sessions_and_cookies() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::event("limit = 1").keys(&[]).state(dir.path());
    let site = plan.open().await;
    site.origin.answers(completes_at_done);
    let mut inside = site.filled_by_one().await;
    let mut line = Vec::new();
    for _ in 0..3 {
        line.push(site.visitor_in_line().await);
    }
    let site = site.restarted().await;
    inside = inside.moved_to(site.door);
    let session = inside.claims()["sid"].clone();
    inside.open("/").await.must_come_from_the_origin();
    assert_eq!(inside.claims()["sid"], session);
    line = moved(&line, &site);
    for visitor in &mut line {
        let number = visitor.claims()["num"].clone();
        visitor.open("/").await.must_be_a_waiting_page();
        assert_eq!(visitor.claims()["num"], number);
    }
    until_recovered(&site).await;
    let mut newcomer = site.visitor_in_line().await;
    for turn in 0..line.len() {
        inside.open("/done").await.must_come_from_the_origin();
        for later in &mut line[turn + 1..] {
            later.open("/").await.must_be_a_waiting_page();
        }
        newcomer.open("/").await.must_be_a_waiting_page();
        line[turn].open_until_inside("/").await;
        inside = line[turn].clone();
    }
}

#[tokio::test]
async fn a_restart_admits_nobody_over_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let site = Plan::event("limit = 2").state(dir.path()).open().await;
    let _inside = [site.visitor_inside().await, site.visitor_inside().await];
    let waiting = site.visitor_in_line().await;
    let site = site.restarted().await;
    until_recovered(&site).await;
    for _ in 0..5 {
        site.visitor_in_line().await;
    }
    waiting
        .moved_to(site.door)
        .open("/")
        .await
        .must_be_a_waiting_page();
    assert_eq!(site.view().snapshot.sessions, 2);
}

/// Copies the state of a site that goes on writing it: again from the start
/// when a file was replaced meanwhile.
fn copy(from: &Path, to: &Path) {
    let once = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    loop {
        match once() {
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
                for entry in std::fs::read_dir(to).unwrap() {
                    std::fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
            done => return done.unwrap(),
        }
    }
}

/// A site of two slots whose state was copied away before its last moment,
/// one visitor inside and one in line before that, and one each after it.
async fn last_moment_lost(then: &Path) -> (Site, [Visitor; 2], [Visitor; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::event("limit = 2");
    let site = plan.clone().state(dir.path()).open().await;
    site.origin.answers(completes_at_done);
    let known = site.visitor_inside().await;
    let file = dir.path().join("store.json");
    let session = known.pass().session.to_string();
    until("the state of that moment", async || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains(&session).then_some(())
    })
    .await;
    copy(dir.path(), then);
    let forgotten = site.visitor_inside().await;
    site.until_busy().await;
    let first = site.visitor_in_line().await;
    let second = site.visitor_in_line().await;
    let site = site.replaced_by(plan.state(then)).await;
    let inside = [known.moved_to(site.door), forgotten.moved_to(site.door)];
    let line = [first.moved_to(site.door), second.moved_to(site.door)];
    (site, inside, line)
}

#[tokio::test]
async fn without_the_last_moment_no_place_is_lost_and_the_order_stays() {
    let then = tempfile::tempdir().unwrap();
    let (site, mut inside, mut line) = last_moment_lost(then.path()).await;
    for visitor in &mut inside {
        visitor.open("/").await.must_come_from_the_origin();
    }
    for visitor in &mut line {
        let number = visitor.ticket().number;
        visitor.open("/").await.must_be_a_waiting_page();
        assert_eq!(visitor.ticket().number, number);
    }
    until_recovered(&site).await;
    let newcomer = site.visitor_in_line().await;
    assert!(newcomer.ticket().number > line[1].ticket().number);
    inside[1].open("/done").await.must_come_from_the_origin();
    line[1].open("/").await.must_be_a_waiting_page();
    line[0].open_until_inside("/").await;
    line[1].open("/").await.must_be_a_waiting_page();
}

#[tokio::test]
async fn without_the_last_moment_a_session_that_comes_back_in_time_is_kept() {
    let then = tempfile::tempdir().unwrap();
    let (site, mut inside, _line) = last_moment_lost(then.path()).await;
    for visitor in &mut inside {
        visitor.open("/").await.must_come_from_the_origin();
    }
    until_recovered(&site).await;
    site.until("both are back", |view| view.snapshot.sessions == 2)
        .await;
    for visitor in &mut inside {
        let session = visitor.pass().session;
        visitor.open("/").await.must_come_from_the_origin();
        assert_eq!(visitor.pass().session, session);
    }
}

#[tokio::test]
async fn without_the_last_moment_a_place_shown_after_the_recovery_is_good_too() {
    let then = tempfile::tempdir().unwrap();
    let (site, mut inside, mut line) = last_moment_lost(then.path()).await;
    for visitor in &mut inside {
        visitor.open("/").await.must_come_from_the_origin();
    }
    until_recovered(&site).await;
    for visitor in &mut line {
        let number = visitor.ticket().number;
        visitor.open("/").await.must_be_a_waiting_page();
        assert_eq!(visitor.ticket().number, number);
    }
    inside[0].open("/done").await.must_come_from_the_origin();
    site.visitor_in_line().await;
    line[1].open("/").await.must_be_a_waiting_page();
    line[0].open_until_inside("/").await;
}

#[tokio::test]
async fn a_damaged_state_file_is_set_aside_and_places_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::event("limit = 1").state(dir.path());
    let mut site = plan.clone().open().await;
    let inside = site.filled_by_one().await;
    let waiting = site.visitor_in_line().await;
    // Tokens count whole seconds: one younger than two may be the new store's.
    let old = waiting.ticket().since + 2;
    site.until("an age that tells", |view| {
        view.snapshot.unix_seconds >= old
    })
    .await;
    site.begin_stop();
    site.ended().await;
    std::fs::write(dir.path().join("store.json"), "{ damaged").unwrap();
    let site = plan.open_before(&site.origin).await;
    assert!(dir.path().join("store.damaged").exists());
    let (mut inside, mut waiting) = (inside.moved_to(site.door), waiting.moved_to(site.door));
    let number = waiting.ticket().number;
    inside.open("/").await.must_come_from_the_origin();
    // The first token older than the store tells of the loss.
    site.until("a recovery", |view| view.snapshot.meta.recoveries > 0)
        .await;
    waiting.open("/").await.must_be_a_waiting_page();
    assert_eq!(waiting.ticket().number, number);
}
