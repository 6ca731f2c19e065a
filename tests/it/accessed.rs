//! The access log in a file of its own: what a line says, who rotates it, and what
//! becomes of requests when it cannot be written.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::raw::{Raw, find};
use crate::support::{Ask, Origin, Reply, free_address, until};

/// A gateway with these lines in `[log]`.
async fn gateway(origin: &Origin, log: &str) -> Process {
    let lines = format!("[log]\n{log}");
    Process::at(free_address(), origin.address, &lines).await
}

/// The same with a file of this name.
async fn with_file(origin: &Origin, log: &str) -> (Process, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = format!("access_file = \"{}\"\n{log}", file.display());
    (gateway(origin, &log).await, folder, file)
}

/// The first line in the file with this in it.
async fn line(file: &Path, with: &str) -> String {
    until("the line", async || {
        let text = std::fs::read_to_string(file).ok()?;
        let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let mut found = whole.filter(|line| line.contains(with));
        found.next().map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn a_file_has_json_lines_with_bytes_and_protocol_and_no_query() {
    let origin = Origin::open().await;
    origin.answers(|_| Reply::text("x".repeat(70_000)));
    let (gateway, _folder, file) = with_file(&origin, "").await;
    assert_eq!(gateway.send(Ask::fetch("/long?token=secret")).await, 200);
    let line: Value = serde_json::from_str(&line(&file, "/long").await).unwrap();
    let fields = &line["fields"];
    assert_eq!(line["target"], "access");
    assert_eq!(
        (&fields["bytes"], &fields["status"]),
        (&70_000.into(), &200.into())
    );
    assert_eq!(fields["protocol"], "HTTP/1.1");
    assert_eq!(fields["client"], "127.0.0.1");
    assert!(!line.to_string().contains("secret"), "{line}");
    assert!(gateway.access().is_empty(), "they stand in the file alone");
}

#[tokio::test]
async fn a_combined_line_keeps_what_clients_write_within_its_field() {
    let origin = Origin::open().await;
    origin.answers(|_| Reply::text("four"));
    let (gateway, _folder, file) = with_file(&origin, "access_format = \"combined\"\n").await;
    let ask = Ask::fetch("/a\"b?secret=1")
        .with("referer", "http://a.example/from?secret=2#secret")
        .with("user-agent", "a\" 200 1 \"-\" \"\\");
    assert_eq!(gateway.send(ask).await, 200);
    let line = line(&file, "/a").await;
    let (start, rest) = line.split_once(" [").unwrap();
    assert_eq!(start, "127.0.0.1 - -");
    let (_time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(
        rest,
        "\"GET /a\\\"b HTTP/1.1\" 200 4 \"http://a.example/from\" \
         \"a\\\" 200 1 \\\"-\\\" \\\"\\\\\"\n"
    );
}

#[tokio::test]
async fn combined_lines_go_to_standard_output_without_a_file() {
    let origin = Origin::open().await;
    let gateway = gateway(&origin, "access_format = \"combined\"").await;
    assert_eq!(gateway.open("/here").await, 200);
    until("the line", async || {
        let text = gateway.text();
        text.contains("\"GET /here HTTP/1.1\" 200 ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_renamed_or_removed_is_made_anew() {
    let origin = Origin::open().await;
    let (gateway, folder, file) = with_file(&origin, "").await;
    assert_eq!(gateway.open("/first").await, 200);
    line(&file, "/first").await;
    let aside = folder.path().join("access.log.1");
    std::fs::rename(&file, &aside).unwrap();
    // Nobody asks, and it is there.
    until("a new file", async || file.exists().then_some(())).await;
    assert_eq!(gateway.open("/second").await, 200);
    line(&file, "/second").await;
    assert!(!std::fs::read_to_string(&aside).unwrap().contains("/second"));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(gateway.open("/third").await, 200);
    line(&file, "/third").await;
    gateway.signal("HUP");
    assert_eq!(gateway.open("/fourth").await, 200);
    line(&file, "/fourth").await;
    let dropped = ["full", "unwritable"].map(|reason| {
        let name = format!("sumun_access_log_dropped_total{{reason=\"{reason}\"}}");
        gateway.metric(&name)
    });
    assert_eq!(dropped, [Some(0), Some(0)]);
}

#[tokio::test]
async fn a_full_disk_is_told_of_and_counted_and_fails_no_request() {
    let origin = Origin::open().await;
    let gateway = gateway(&origin, "access_file = \"/dev/full\"").await;
    for _ in 0..20 {
        assert_eq!(gateway.open("/").await, 200);
    }
    until("all lines are counted", async || {
        let dropped = gateway.metric("sumun_access_log_dropped_total{reason=\"unwritable\"}");
        // The wait for the start asks nothing of the public door.
        (dropped == Some(20)).then_some(())
    })
    .await;
    let told = gateway.said("the access log cannot be written");
    assert!((1..5).contains(&told.len()), "{told:?}");
    assert_eq!(told[0]["fields"]["file"], "/dev/full");
}

#[tokio::test]
async fn a_file_that_took_nothing_leaves_no_mark_in_the_one_after_it() {
    let origin = Origin::open().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let gateway = gateway(&origin, &format!("access_file = {file:?}")).await;
    assert_eq!(gateway.open("/lost").await, 200);
    until("the line to be lost", async || {
        let dropped = gateway.metric("sumun_access_log_dropped_total{reason=\"unwritable\"}");
        (dropped == Some(1)).then_some(())
    })
    .await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(gateway.open("/kept").await, 200);
    line(&file, "/kept").await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with('{'), "{text:?}");
}

/// The fields of the first line with this in it.
async fn fields(file: &Path, with: &str) -> Value {
    let line: Value = serde_json::from_str(&line(file, with).await).unwrap();
    line["fields"].clone()
}

#[tokio::test]
async fn who_is_refused_before_a_decision_has_a_line_of_bounded_length() {
    let (origin, door) = (Origin::open().await, free_address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = format!("[log]\naccess_file = {file:?}\naccess_sample = 0.000001");
    let gateway = Process::at(door, origin.address, &log).await;
    let many = "M".repeat(9_000);
    for (line, host, status, bytes) in [
        ("GET /no-host", "", 400, 11),
        ("TRACE /trace", "host: a.example\r\n", 405, 18),
        (&format!("{many} /method"), "host: a.example\r\n", 501, 15),
        ("HEAD /head?secret", "", 400, 0),
        (&format!("GET /many{many}"), "host: a.example\r\n", 414, 12),
    ] {
        let mut raw = Raw::connect(door).await;
        raw.send(format!("{line} HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(raw.answer_to(bytes > 0).await.status, status, "{line}");
        let path = line.split(' ').next_back().unwrap();
        let path = path.split('?').next().unwrap();
        let said = fields(&file, &path[..path.len().min(100)]).await;
        for (name, value) in [
            ("status", Value::from(status)),
            ("bytes", bytes.into()),
            ("decision", "refused".into()),
            ("event", "none".into()),
            ("client", "127.0.0.1".into()),
        ] {
            assert_eq!(said[name], value, "{said}");
        }
        let text = said.to_string();
        assert!(text.len() < 1_000 && !text.contains("secret"), "{text}");
    }
    let counted = gateway.metric("sumun_refusals_total{reason=\"method\"}");
    assert_eq!(counted, Some(2));
}

#[tokio::test]
async fn who_leaves_before_an_answer_has_a_line() {
    let origin = Origin::open().await;
    origin.answers(|_| Reply::page().after(std::time::Duration::from_secs(600)));
    let door = free_address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = format!("[log]\naccess_file = {file:?}");
    let _gateway = Process::at(door, origin.address, &log).await;
    let mut leaving = Raw::connect(door).await;
    let request = "GET /late HTTP/1.1\r\nhost: a.example\r\n\r\n";
    leaving.send(request).await;
    until("the origin to be asked", async || {
        (!origin.seen().is_empty()).then_some(())
    })
    .await;
    drop(leaving);
    let said = fields(&file, "/late").await;
    assert_eq!((&said["status"], &said["bytes"]), (&499.into(), &0.into()));
    assert_eq!(said["decision"], "uncounted");
    assert_eq!(said["event"], "main");
}

/// Who writes to a pipe that nobody reads waits forever; requests do not.
#[tokio::test]
async fn a_disk_that_takes_nothing_holds_no_request_up() {
    const ASKED: usize = 9_000;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let origin = Origin::open().await;
    let door = free_address();
    let log = format!("[log]\naccess_file = \"{}\"", pipe.display());
    let gateway = Process::at(door, origin.address, &log).await;
    let mut raw = Raw::connect(door).await;
    for _ in 0..ASKED / 100 {
        let asks = "GET /__sumun/livez HTTP/1.1\r\nhost: a.example\r\n\r\n".repeat(100);
        raw.send(asks).await;
        for _ in 0..100 {
            assert_eq!(raw.answer().await.status, 200);
        }
    }
    until("some are counted", async || {
        let dropped = gateway.metric("sumun_access_log_dropped_total{reason=\"full\"}");
        dropped.filter(|dropped| *dropped > 0)
    })
    .await;
    // Once it is read, what was kept comes.
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = std::fs::File::open(pipe).unwrap();
        let mut first = [0; 4096];
        let length = std::io::Read::read(&mut reader, &mut first).unwrap();
        first[..length].to_vec()
    });
    let read = crate::support::bounded("the first lines", read)
        .await
        .unwrap();
    assert!(find(&read, b"\"path\":\"/__sumun/livez\"").is_some());
}

#[tokio::test]
async fn a_share_of_requests_has_a_line_and_each_failure() {
    let origin = Origin::open().await;
    origin.answers(|seen| match seen.target.as_str() {
        "/bad" => Reply::text("").status(500),
        _ => Reply::page(),
    });
    let (gateway, _folder, file) = with_file(&origin, "access_sample = 0.000001\n").await;
    for _ in 0..20 {
        assert_eq!(gateway.open("/good").await, 200);
    }
    assert_eq!(gateway.open("/bad").await, 500);
    line(&file, "/bad").await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("/good"), "{text}");
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_end() {
    let origin = Origin::open().await;
    let (mut gateway, _folder, file) = with_file(&origin, "").await;
    for asked in 0..50 {
        assert_eq!(gateway.open(&format!("/{asked}")).await, 200);
    }
    gateway.signal("TERM");
    gateway.ended().await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 50, "{text}");
}
