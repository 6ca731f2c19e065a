//! A second process takes the place of the first at one public address: under load of
//! every kind no connection is refused or reset, and no request fails.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};

use crate::encrypted::{Authority, section};
use crate::support::crowd::Crowd;
use crate::support::process::{Doors, Process};
use crate::support::raw::Raw;
use crate::support::{Origin, Reply, Visitor, free_address, until};

fn file(folder: &Path, doors: Doors, origin: SocketAddr, tls: &str) -> std::path::PathBuf {
    let file = folder.join(format!("{}.toml", doors.admin.port()));
    let text = format!(
        "listen = \"{}\"\norigin = \"http://{origin}\"\nstate_dir = \"\"\n\
         drain_delay = \"2s\"\ndrain_timeout = \"8s\"\n[admin]\nlisten = \"{}\"\n\
         [log]\naccess = false\n{tls}[[event]]\nid = \"main\"\n",
        doors.public, doors.admin
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Who speaks HTTP/1.1 and HTTP/2 under TLS.
pub(crate) fn clients(authority: Option<&Authority>) -> Option<[Arc<rustls::ClientConfig>; 2]> {
    let versions: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let of = |authority: &Authority| {
        ["http/1.1", "h2"].map(|alpn| Arc::new(authority.client(versions, &[alpn])))
    };
    authority.map(of)
}

async fn running(file: &Path, doors: Doors) -> Process {
    let process = Process::run(file, doors);
    until("the process is ready", async || {
        process.is_ready().then_some(())
    })
    .await;
    process
}

async fn hand_over(authority: Option<&Authority>) {
    let origin = Origin::open().await;
    origin.answers(|seen| match seen.target.as_str() {
        _ if seen.header("upgrade").is_some() => Reply::echo(),
        "/slow" => Reply::page().after(Duration::from_secs(1)),
        _ => Reply::page(),
    });
    let files = authority.map(|authority| authority.sign("site", &["shop.example"]));
    let tls = files.map_or_else(String::new, |files| section(&files));
    let folder = tempfile::tempdir().unwrap();
    let public = free_address();
    let doors = || Doors {
        public,
        admin: free_address(),
    };
    let (one, two) = (doors(), doors());
    let mut first = running(&file(folder.path(), one, origin.address, &tls), one).await;
    let crowd = Crowd::begin(public, clients(authority));
    let stream = crowd.connect(false).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.example/chat", stream)
        .await
        .unwrap();
    crowd.goes_on(5).await;
    let second = running(&file(folder.path(), two, origin.address, &tls), two).await;
    crowd.goes_on(5).await;
    first.signal("TERM");
    until("the drain", async || {
        (!first.said("draining").is_empty()).then_some(())
    })
    .await;
    // A tunnel goes on, and has an end of its own.
    socket.send("still here".into()).await.unwrap();
    let back = socket.next().await.unwrap().unwrap();
    assert_eq!(back.into_text().unwrap().as_str(), "still here");
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    first.ended().await;
    crowd.goes_on(5).await;
    crowd.ends_without_failure();
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_takes_anothers_place_and_no_request_fails() {
    hand_over(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_takes_anothers_place_under_tls_and_no_request_fails() {
    hand_over(Some(&Authority::new())).await;
}

/// A client that keeps its connection cannot know when it will be closed, unless it is told.
#[tokio::test]
async fn from_the_signal_on_each_answer_says_that_it_is_the_last_one() {
    let origin = Origin::open().await;
    let folder = tempfile::tempdir().unwrap();
    let doors = Doors::free();
    let file = file(folder.path(), doors, origin.address, "");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"2s\"", "\"5m\"")).unwrap();
    let process = running(&file, doors).await;
    let mut kept = Raw::connect(doors.public).await;
    let get = "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    kept.send(get).await;
    assert!(!kept.answer().await.head.contains("connection:"));
    process.signal("TERM");
    until("the drain", async || {
        (!process.said("draining").is_empty()).then_some(())
    })
    .await;
    let told = async |mut raw: Raw| {
        raw.send(get).await;
        let answer = raw.answer().await;
        let closes = answer.has("connection: close");
        if closes {
            assert!(raw.rest().await.is_empty());
        }
        (answer.status == 200 && closes).then_some(())
    };
    // Each thread hears of it in a moment of its own.
    until("new connections to be told", async || {
        told(Raw::connect(doors.public).await).await
    })
    .await;
    kept.send(get).await;
    let answer = kept.answer().await;
    assert_eq!(answer.status, 200);
}

/// A process that has said that it drains, and one of the same file that waits for it.
async fn one_waits(folder: &Path, origin: &Origin) -> (Process, Process, Doors, String) {
    let doors = Doors::free();
    let file = file(folder, doors, origin.address, "");
    let state = format!("state_dir = \"{}\"", folder.join("state").display());
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("state_dir = \"\"", &state)
        .replace("\"2s\"", "\"5m\"");
    std::fs::write(&file, &text).unwrap();
    let first = running(&file, doors).await;
    first.signal("TERM");
    until("the drain", async || {
        (!first.said("draining").is_empty()).then_some(())
    })
    .await;
    let second = Process::run(&file, doors);
    until("the second to wait", async || {
        (!second.said("waiting for its state").is_empty()).then_some(())
    })
    .await;
    (first, second, doors, text)
}

#[tokio::test]
async fn a_process_that_waits_for_another_survives_sighup() {
    let (origin, folder) = (Origin::open().await, tempfile::tempdir().unwrap());
    let (first, second, _, _) = one_waits(folder.path(), &origin).await;
    second.signal("HUP");
    // Killed, it holds the state no more.
    drop(first);
    until("the file to be read again", async || {
        let told = second.said("the file was read again").len();
        (told == 1 && second.is_ready()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_written_while_a_process_waits_for_another_is_in_force_then() {
    let (origin, folder) = (Origin::open().await, tempfile::tempdir().unwrap());
    let (first, second, doors, text) = one_waits(folder.path(), &origin).await;
    let file = folder.path().join(format!("{}.toml", doors.admin.port()));
    let next = file.with_extension("next");
    std::fs::write(&next, format!("request_id_header = \"X-Id\"\n{text}")).unwrap();
    std::fs::rename(next, file).unwrap();
    drop(first);
    until("the second is ready", async || {
        second.is_ready().then_some(())
    })
    .await;
    until("the new file to be in force", async || {
        let mut raw = Raw::connect(doors.public).await;
        raw.send("GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n")
            .await;
        let answer = raw.answer().await;
        answer.head.contains("x-id: ").then_some(())
    })
    .await;
}

/// The embedded store has one process at a time: the next one waits for its state, and
/// visitors who come meanwhile wait with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_stores_next_process_takes_over_and_nobody_is_refused() {
    let origin = Origin::open().await;
    origin.answers(|seen| match seen.target.as_str() {
        "/slow" => Reply::page().after(Duration::from_secs(1)),
        _ => Reply::page(),
    });
    let folder = tempfile::tempdir().unwrap();
    let doors = Doors::free();
    let file = file(folder.path(), doors, origin.address, "");
    let state = format!("state_dir = {:?}", folder.path().join("state"));
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("state_dir = \"\"", &state)
        .replace("\"2s\"", "\"10s\"");
    let line = "paths = [\"/line\"]\nlimit = 1\n";
    std::fs::write(&file, text + line).unwrap();
    let mut first = running(&file, doors).await;
    let mut inside = Visitor::at(doors.public);
    inside.open("/line").await.must_come_from_the_origin();
    let mut waiting = Visitor::at(doors.public);
    until("a line", async || {
        let answer = waiting.open("/line").await;
        (answer.status == 503).then_some(())
    })
    .await;
    let number = waiting.claims()["num"].clone();
    let crowd = Crowd::begin(doors.public, None);
    crowd.goes_on(3).await;
    first.signal("TERM");
    until("the drain", async || {
        (!first.said("draining").is_empty()).then_some(())
    })
    .await;
    let second = Process::run(&file, doors);
    until("the second to wait", async || {
        (!second.said("waiting for its state").is_empty()).then_some(())
    })
    .await;
    first.ended().await;
    until("the second is ready", async || {
        second.is_ready().then_some(())
    })
    .await;
    crowd.goes_on(3).await;
    crowd.ends_without_failure();
    inside.open("/line").await.must_come_from_the_origin();
    waiting.open("/line").await.must_be_a_waiting_page();
    assert_eq!(waiting.claims()["num"], number);
}
