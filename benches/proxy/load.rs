//! What presses the peers: wrk for HTTP/1.1, h2load for HTTP/2 and for a given rate.

use std::fs;
use std::process::Command;

use crate::Case;
use crate::peers::Peer;
use crate::side;
pub use crate::side::Load;

fn url(case: &Case, peer: &Peer) -> String {
    let scheme = if case.tls { "https" } else { "http" };
    format!("{scheme}://127.0.0.1:{}/", peer.running.port)
}

/// All that it can, in HTTP/1.1.
pub fn wrk(case: &Case, peer: &Peer, seconds: u64) -> Load {
    let connections = format!("-c{}", case.connections);
    let arguments = ["-H", &peer.header, &connections];
    side::wrk("1", seconds, &arguments, &url(case, peer))
}

/// All that it can, in HTTP/2.
pub fn h2load(case: &Case, peer: &Peer, seconds: u64) -> Load {
    let duration = format!("-D{seconds}");
    run(case, peer, &[&duration])
}

/// Microseconds that half, and 99 of 100, of the answers take at most, when
/// `rate` are asked for each second.
pub fn latency(case: &Case, peer: &Peer, rate: f64, seconds: u64) -> (f64, f64) {
    let log = side::folder("h2load").join("log");
    let _ = fs::remove_file(&log);
    let each = format!("--rps={:.1}", rate / case.connections as f64);
    let count = format!("-n{}", (rate * seconds as f64) as u64);
    let file = format!("--log-file={}", log.display());
    let load = run(case, peer, &[&each, &count, &file]);
    assert!(load.bad == 0.0, "{}: {} bad answers", peer.name, load.bad);
    let text = fs::read_to_string(&log).expect("h2load's log");
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    (at(0.5), at(0.99))
}

fn run(case: &Case, peer: &Peer, arguments: &[&str]) -> Load {
    let connections = format!("-c{}", case.connections);
    let streams = if case.two { "-m4" } else { "-m1" };
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t1", &connections, streams]);
    if !case.two {
        command.arg("--h1");
    }
    let out = command
        .args(["-H", &peer.header])
        .args(arguments)
        .arg(url(case, peer))
        .output()
        .expect("h2load must be installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    // "requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout"
    let requests = line(&text, "requests:");
    let codes = line(&text, "status codes:");
    let bad = ["failed", "errored", "timeout"].map(|word| before(&requests, word));
    let codes = ["3xx", "4xx", "5xx"].map(|word| before(&codes, word));
    Load {
        requests: before(&requests, "succeeded"),
        per_second: before(&line(&text, "finished in"), "req/s"),
        bad: bad.iter().chain(&codes).sum(),
    }
}

fn line(text: &str, begin: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    line.unwrap_or_default().replace(',', " ")
}

/// The number that stands before a word.
fn before(line: &str, word: &str) -> f64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|one| *one == word).unwrap_or(0);
    let number = at.checked_sub(1).and_then(|at| words[at].parse().ok());
    number.unwrap_or(f64::NAN)
}
