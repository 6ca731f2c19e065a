//! An admitted visitor's pass-through against nginx with keep-alive upstreams:
//! same origin, same core, alternating rounds. Prints ratios to nginx.
//!
//! `cargo bench --bench proxy` (needs nginx, wrk, taskset)

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::similar_names,
    reason = "a benchmark that cannot run has failed"
)]

mod side;

use side::{ask, cpu_seconds, median, nginx, say, sumun, wrk};

const ROUNDS: usize = 5;
const SECONDS: u64 = 4;

fn main() {
    let origin = nginx("1", "origin", |port| {
        let body = "x".repeat(1024);
        format!(
            "server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type text/plain; return 200 \"{body}\"; }} }}"
        )
    });
    let peer = nginx("0", "peer", |port| {
        format!(
            "upstream origin {{ server 127.0.0.1:{}; keepalive 128; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://origin; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $host; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}",
            origin.port
        )
    });
    let (gateway, _) = sumun(
        "0",
        "gateway",
        &format!(
            "origin = \"http://127.0.0.1:{}\"\nstate_dir = \"\"\n[log]\naccess = false\n\
             [[event]]\nid = \"main\"\nlimit = 100000\n[event.queue_when]\nin_flight = 100000\n",
            origin.port
        ),
    );
    let cookie = pass(gateway.port);
    let mut cpu = Vec::new();
    let mut speed = Vec::new();
    say("round  nginx req/s  sumun req/s  nginx us/req  sumun us/req");
    for round in 0..=ROUNDS {
        let url = |port: u16| format!("http://127.0.0.1:{port}/");
        let header = format!("Cookie: {cookie}");
        let before = (cpu_seconds(&peer), cpu_seconds(&gateway));
        let theirs = wrk("1", SECONDS, &["-H", &header], &url(peer.port));
        let ours = wrk("1", SECONDS, &["-H", &header], &url(gateway.port));
        let after = (cpu_seconds(&peer), cpu_seconds(&gateway));
        assert!(ours.bad == 0.0, "{} answers were not 200", ours.bad);
        let per = |before: f64, after: f64, requests: f64| (after - before) / requests * 1e6;
        let (their_cpu, our_cpu) = (
            per(before.0, after.0, theirs.requests),
            per(before.1, after.1, ours.requests),
        );
        say(&format!(
            "{round:5}  {:11.0}  {:11.0}  {their_cpu:12.1}  {our_cpu:12.1}",
            theirs.per_second, ours.per_second
        ));
        // The first round warms up.
        if round > 0 {
            cpu.push(our_cpu / their_cpu);
            speed.push(ours.per_second / theirs.per_second);
        }
    }
    say(&format!(
        "ratio to nginx, median of {ROUNDS} rounds: throughput {:.2}, CPU per request {:.2} (aim: at most 1.15)",
        median(speed),
        median(cpu)
    ));
    drop((gateway, peer, origin));
    side::clean();
}

/// Enters as a visitor and brings the pass home.
fn pass(port: u16) -> String {
    let answer = ask(
        port,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
    );
    let line = answer
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"))
        .expect("a pass");
    let value = line.split_once(':').expect("a header").1.trim();
    value.split(';').next().expect("a pair").to_owned()
}
