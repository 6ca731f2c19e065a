//! Two benchmarks of a crowd on Redis.
//!
//! `cargo bench --bench crowd` (needs nginx, redis-server, wrk, taskset): joins
//! and polls through the whole gateway, against nginx answering a static JSON of
//! the same size on the same cores; what a poll and a waiting visitor cost the
//! store. Prints ratios.
//!
//! `cargo bench --bench crowd -- line`: a whole line, from the first join to the
//! last admission, with polls when the server says (`line.rs`).
//!
//! `SUMUN_CROWD` sets how many wait (default 100000).

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::similar_names,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot run has failed"
)]

mod line;
#[path = "../side/mod.rs"]
mod side;

use std::fmt::Write as _;

use side::{Running, ask, cpu_seconds, median, nginx, redis, say, script, sumun, wrk};

const ROUNDS: usize = 5;
const SECONDS: u64 = 4;
const BATCH: usize = 200;
/// Visitors who come before the store's memory is looked at first.
const FIRST: usize = 1_000;

fn main() {
    let crowd: usize = std::env::var("SUMUN_CROWD")
        .ok()
        .and_then(|crowd| crowd.parse().ok())
        .unwrap_or(100_000);
    if std::env::args().any(|argument| argument == "line") {
        line::run(crowd);
        return side::clean();
    }
    let store = redis("1");
    let origin = nginx("1", "origin", |port| {
        format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}")
    });
    let (gateway, _) = sumun(
        "0",
        "gateway",
        &format!(
            "origin = \"http://127.0.0.1:{}\"\nstate_dir = \"\"\n[log]\naccess = false\n\
             [store]\nurl = \"redis://127.0.0.1:{}\"\n\
             [signing]\nkeys = [{{ id = \"a\", secret = \"a bench-mark secret that is long enough\" }}]\n\
             [[event]]\nid = \"main\"\nmode = \"pause\"\nlimit = 10\nticket_idle = \"30m\"\n\
             waiting_max = 10000000\njoins_per_address_per_minute = 100000000\nsessions_per_address_ratio = 1\n",
            origin.port, store.port
        ),
    );
    // The scripts, the event and its gateway cost what they cost, however few wait.
    let empty = used_memory(&store);
    let mut tickets = gather(gateway.port, FIRST);
    settle(&store);
    let before = used_memory(&store);
    tickets.extend(gather(gateway.port, crowd.saturating_sub(FIRST)));
    settle(&store);
    let example = poll(gateway.port, &tickets[0]);
    let peer = nginx("0", "peer", |port| {
        let body = example.replace('"', "\\\"");
        format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 \"{body}\"; }} }}"
        )
    });
    say(&format!(
        "{crowd} wait; an answer to a poll has {} bytes",
        example.len()
    ));
    #[expect(clippy::cast_precision_loss, reason = "a count of visitors")]
    let each = (used_memory(&store) - before) / (crowd - FIRST) as f64;
    say(&format!(
        "bytes of Redis per waiting visitor: {each:.2} (aim: under 2), beside {:.0} KB for scripts, event and gateway",
        (before - empty) / 1024.0
    ));
    measure(&gateway, &peer, &store, "joins", &joins());
    measure(&gateway, &peer, &store, "polls", &polls(&tickets));
    drop((gateway, peer, origin, store));
    side::clean();
}

/// Alternating rounds of one script against the gateway and against nginx.
fn measure(gateway: &Running, peer: &Running, store: &Running, what: &str, lua: &str) {
    let file = script(&format!("{what}.lua"), lua).display().to_string();
    let (mut speed, mut cpu, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let url = |port: u16| format!("http://127.0.0.1:{port}/");
        let before = (cpu_seconds(peer), cpu_seconds(gateway), calls(store));
        let theirs = wrk("1", SECONDS, &["-c64", "-s", &file], &url(peer.port));
        let ours = wrk("1", SECONDS, &["-c64", "-s", &file], &url(gateway.port));
        let after = (cpu_seconds(peer), cpu_seconds(gateway), calls(store));
        say(&format!(
            "{what} round {round}: nginx {:.0}/s, sumun {:.0}/s, answers not 2xx {}",
            theirs.per_second, ours.per_second, ours.bad
        ));
        if round > 0 {
            speed.push(ours.per_second / theirs.per_second);
            cpu.push(
                ((after.1 - before.1) / ours.requests) / ((after.0 - before.0) / theirs.requests),
            );
            commands.push((after.2 - before.2) / ours.requests);
        }
    }
    say(&format!(
        "{what}: throughput {:.2} of nginx, CPU per request {:.2} of nginx, store calls per request {:.4}",
        median(speed),
        median(cpu),
        median(commands)
    ));
}

/// Takes places for a crowd over a few kept connections.
fn gather(port: u16, crowd: usize) -> Vec<String> {
    use std::io::{BufRead, BufReader, Read, Write};
    let body = "{\"eventId\":\"main\"}";
    let request = format!(
        "POST /__sumun/v1/enter HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let request = request.clone();
            std::thread::spawn(move || {
                let stream =
                    std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
                let mut to = stream.try_clone().expect("a handle");
                let mut from = BufReader::new(stream);
                let mut tickets = Vec::new();
                while tickets.len() < crowd / 8 {
                    let many = BATCH.min(crowd / 8 - tickets.len());
                    to.write_all(request.repeat(many).as_bytes())
                        .expect("requests");
                    for _ in 0..many {
                        let mut length = 0;
                        let mut line = String::new();
                        while from.read_line(&mut line).expect("a head") > 2 {
                            if let Some(value) =
                                line.to_ascii_lowercase().strip_prefix("content-length:")
                            {
                                length = value.trim().parse().expect("a length");
                            }
                            line.clear();
                        }
                        let mut body = vec![0; length];
                        from.read_exact(&mut body).expect("a body");
                        let answer: serde_json::Value =
                            serde_json::from_slice(&body).expect("JSON");
                        tickets.push(answer["ticket"].as_str().expect("a ticket").to_owned());
                    }
                }
                tickets
            })
        })
        .collect();
    threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("a thread"))
        .collect()
}

/// Waits until the controllers have told the store of everybody.
fn settle(store: &Running) {
    let beats = || {
        let info = info(store, "commandstats");
        let bitop = info.lines().find(|line| line.starts_with("cmdstat_bitop:"));
        bitop.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok())
    };
    let before = beats();
    for _ in 0..100 {
        if beats() != before {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn poll(port: u16, ticket: &str) -> String {
    let body = format!("{{\"eventId\":\"main\",\"ticket\":\"{ticket}\"}}");
    let answer = ask(
        port,
        &format!(
            "POST /__sumun/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    answer.split("\r\n\r\n").nth(1).expect("a body").to_owned()
}

fn joins() -> String {
    "wrk.method = 'POST'\nwrk.path = '/__sumun/v1/enter'\n\
     wrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{\"eventId\":\"main\"}'\n"
        .to_owned()
}

/// Every ticket in its turn: with a hundred thousand of them none comes
/// before its time.
fn polls(tickets: &[String]) -> String {
    let list = script("tickets", &tickets.join("\n"));
    let mut lua = String::new();
    let _ = write!(
        lua,
        "local tickets = {{}}\nfor line in io.lines('{}') do tickets[#tickets + 1] = line end\nlocal at = 0\n\
         local headers = {{ ['Content-Type'] = 'application/json' }}\n\
         request = function()\n  at = at % #tickets + 1\n\
           return wrk.format('POST', '/__sumun/v1/status', headers, \
         '{{\"eventId\":\"main\",\"ticket\":\"' .. tickets[at] .. '\"}}')\nend\n",
        list.display()
    );
    lua
}

fn info(store: &Running, section: &str) -> String {
    ask(store.port, &format!("INFO {section}\r\nQUIT\r\n"))
}

fn used_memory(store: &Running) -> f64 {
    let info = info(store, "memory");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory_dataset:"));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .expect("used_memory_dataset")
}

/// Scripts that the store has run.
fn calls(store: &Running) -> f64 {
    info(store, "commandstats")
        .lines()
        .filter(|line| line.starts_with("cmdstat_evalsha:") || line.starts_with("cmdstat_eval:"))
        .filter_map(|line| {
            line.split("calls=")
                .nth(1)?
                .split(',')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .sum()
}
