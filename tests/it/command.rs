//! The command line as an operator meets it: exit codes and what is said.

use crate::support::process::{Doors, Process, run};
use crate::support::wait_until;

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
    let (doors, file) = (Doors::free(), folder.path().join("gateway.toml"));
    let nobody = "127.0.0.1:9".parse().unwrap();
    let write = |limit: &str| {
        let text = doors.file(nobody, &format!("limit = {limit}"));
        std::fs::write(&file, text).unwrap();
    };
    let address = doors.admin.to_string();
    let healthy = || run(folder.path(), &["health", "--admin", &address]).0 == 0;
    assert!(!healthy());
    write("7");
    let gateway = Process::run(&file, doors);
    let until = |what, holds: &dyn Fn() -> bool| wait_until(what, || holds().then_some(()));
    until("it is ready", &healthy);
    until("the first limit", &|| {
        gateway.shows("sumun_event_sessions_limit{event=\"main\"} 7")
    });
    // A change of the file is in force by itself; a fault leaves the old one.
    write("9");
    until("the second limit", &|| {
        gateway.shows("sumun_event_sessions_limit{event=\"main\"} 9")
    });
    write("\"many\"");
    until("the fault", &|| {
        gateway.shows("sumun_config_last_reload_successful 0")
    });
    assert!(gateway.shows("sumun_event_sessions_limit{event=\"main\"} 9"));
}

#[test]
fn a_start_that_fails_names_the_key_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let doors = Doors::free();
    let taken = std::net::TcpListener::bind(doors.admin).unwrap();
    let text = doors.file("127.0.0.1:9".parse().unwrap(), "");
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, &text).unwrap();
    let (code, said) = run(folder.path(), &[]);
    assert_eq!(code, 1, "{said}");
    let told = format!("sumun: admin.listen: cannot listen on {}", doors.admin);
    assert!(said.contains(&told), "{said}");
    drop(taken);
    let blocked = text.replace("state_dir = \"\"", "state_dir = \"gateway.toml\"");
    std::fs::write(&file, blocked).unwrap();
    let (code, said) = run(folder.path(), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("sumun: state_dir gateway.toml: "), "{said}");
    assert!(said.contains("make it writable"), "{said}");
}
