//! The command line as an operator meets it: exit codes and what is said.

#![expect(
    clippy::unwrap_used,
    reason = "a command that cannot be run has failed"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn sumun(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sumun"));
    // Any SUMUN_ variable would count as a setting.
    command.env_clear().current_dir(folder).args(arguments);
    command
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = sumun(folder, arguments).output().unwrap();
    (output.status.code().unwrap(), said(&output))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A gateway that ends with the test.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again until the answer is what is waited for.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
    let now = Instant::now;
    let end = now() + Duration::from_secs(20);
    while !holds() {
        assert!(now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn check_tells_all_faults_at_once_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let text = "origin = \"ftp://x\"\n[[event]]\nid = \"A\"\nlimit = 0\n";
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let (code, said) = run(folder.path(), &["check"]);
    assert_eq!(code, 1);
    for path in ["origin", "event[0].id", "event[0].limit"] {
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn check_passes_a_good_file_and_prints_it_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let text = "origin = \"http://127.0.0.1:3000\"\n\
        [admin]\ntoken = \"a token nobody may read\"\n[[event]]\nid = \"main\"\n";
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    assert_eq!(run(folder.path(), &["check"]).0, 0);
    let (code, said) = run(folder.path(), &["check", "--print"]);
    assert_eq!(code, 0);
    assert!(said.contains("[[event]]"), "{said}");
    assert!(!said.contains("nobody may read"), "{said}");
}

#[test]
fn a_key_is_fresh_each_time_and_good_as_it_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (code, first) = run(folder.path(), &["key"]);
    assert_eq!(code, 0);
    assert_ne!(run(folder.path(), &["key"]).1, first);
    let text = format!("origin = \"http://127.0.0.1:3000\"\n{first}\n[[event]]\nid = \"main\"\n");
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let (code, said) = run(folder.path(), &["check"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn health_fails_without_a_gateway_and_passes_with_one_and_the_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (port, admin) = (free_port(), free_port());
    let file = folder.path().join("gateway.toml");
    let text = |limit: &str| {
        format!(
            "listen = \"127.0.0.1:{port}\"\norigin = \"http://127.0.0.1:9\"\n\
             drain_delay = \"0s\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [[event]]\nid = \"main\"\nlimit = {limit}\n"
        )
    };
    let address = format!("127.0.0.1:{admin}");
    let healthy = || run(folder.path(), &["health", "--admin", &address]).0 == 0;
    assert!(!healthy());
    std::fs::write(&file, text("7")).unwrap();
    let child = sumun(folder.path(), &["run", "--log", "json"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _gateway = Gateway(child);
    until("it is ready", healthy);
    let metric = |wanted: &str| {
        let asked = std::net::TcpStream::connect(&address).and_then(|mut stream| {
            use std::io::{Read, Write};
            write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        asked.is_ok_and(|text| text.lines().any(|line| line == wanted))
    };
    until("the first limit", || {
        metric("sumun_event_sessions_limit{event=\"main\"} 7")
    });
    // A change of the file is in force by itself; a fault leaves the old one.
    std::fs::write(&file, text("9")).unwrap();
    until("the second limit", || {
        metric("sumun_event_sessions_limit{event=\"main\"} 9")
    });
    std::fs::write(&file, text("\"many\"")).unwrap();
    until("the fault", || {
        metric("sumun_config_last_reload_successful 0")
    });
    assert!(metric("sumun_event_sessions_limit{event=\"main\"} 9"));
}
