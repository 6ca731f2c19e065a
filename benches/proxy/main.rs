//! The proxy alone against its peers: nginx and haproxy with keep-alive to the same
//! origin, on the same core, in alternating rounds; and hyper with nothing around it,
//! which says what the rest of a request costs. Prints ratios to nginx.
//!
//! `cargo bench --bench proxy` (needs nginx, haproxy, wrk, h2load, curl,
//! taskset) runs the
//! first case, an admitted visitor's pass-through; `-- all` every case, `-- tls` (or
//! another word) those whose name has it, `-- latency` the time that visitors wait at half
//! of nginx's throughput, `-- memory` what 10,000 connections at rest take.

#![allow(
    missing_docs,
    unreachable_pub,
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

mod bare;
mod load;
mod memory;
mod peers;
#[path = "../side/mod.rs"]
mod side;

use load::{Load, h2load, latency, wrk};
use peers::{Peer, Peers};
use side::{cpu_seconds, median, say};

const ROUNDS: usize = 5;
const SECONDS: u64 = 3;

/// What is measured: how clients come, and what they get.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    pub tls: bool,
    /// HTTP/2, four streams on each connection.
    pub two: bool,
    /// Bytes of an answer's body.
    pub body: usize,
    pub connections: usize,
}

const CASES: &[Case] = &[
    Case {
        name: "http/1.1, 1 KB, 64 connections",
        tls: false,
        two: false,
        body: 1024,
        connections: 64,
    },
    Case {
        name: "http/1.1, 1 KB, 512 connections",
        tls: false,
        two: false,
        body: 1024,
        connections: 512,
    },
    Case {
        name: "http/1.1, 100 KB, 64 connections",
        tls: false,
        two: false,
        body: 100 * 1024,
        connections: 64,
    },
    Case {
        name: "http/1.1 tls, 1 KB, 64 connections",
        tls: true,
        two: false,
        body: 1024,
        connections: 64,
    },
    Case {
        name: "http/1.1 tls, 100 KB, 64 connections",
        tls: true,
        two: false,
        body: 100 * 1024,
        connections: 64,
    },
    Case {
        name: "http/2 tls, 1 KB, 16 connections of 4 streams",
        tls: true,
        two: true,
        body: 1024,
        connections: 16,
    },
    Case {
        name: "http/2 tls, 100 KB, 16 connections of 4 streams",
        tls: true,
        two: true,
        body: 100 * 1024,
        connections: 16,
    },
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, port, origin] = words.as_slice()
        && first == bare::WORD
    {
        return bare::run(port, origin);
    }
    let word = words.iter().find(|word| !word.starts_with('-'));
    match word.map(String::as_str) {
        None => compare(&CASES[0]),
        Some("memory") => memory::run(),
        Some("latency") => {
            for case in [&CASES[0], &CASES[3], &CASES[5]] {
                wait(case);
            }
        }
        Some(word) => {
            let asked = |case: &&Case| word == "all" || case.name.contains(word);
            CASES.iter().filter(asked).for_each(compare);
        }
    }
    side::clean();
}

/// Throughput and CPU per request of all peers, round by round.
fn compare(case: &Case) {
    say(&format!("\n{}", case.name));
    let peers = Peers::start(case);
    let mut runs: Vec<Runs> = peers.all().map(|_| Runs::default()).collect();
    for round in 0..=ROUNDS {
        for (peer, runs) in peers.all().zip(&mut runs) {
            let (load, cpu) = press(case, peer);
            // The first round warms up.
            if round > 0 {
                runs.per_second.push(load.per_second);
                runs.cpu.push(cpu);
            }
        }
    }
    say("                     req/s   us/req   throughput   CPU per request   memory");
    for (peer, own) in peers.all().zip(&runs) {
        say(&format!(
            "{:14} {:11.0} {:8.1} {:10.2} x {:15.2} x {:6.1} MB",
            peer.name,
            median(own.per_second.clone()),
            median(own.cpu.clone()),
            ratio(&own.per_second, &runs[0].per_second),
            ratio(&own.cpu, &runs[0].cpu),
            side::resident_mb(&peer.running),
        ));
    }
    let at = |name: &str| peers.all().position(|peer| peer.name == name);
    if let (Some(with), Some(without)) = (at("sumun"), at("no event")) {
        say(&format!(
            "a pass on each request, to the same without any event: CPU {:.3} x",
            ratio(&runs[with].cpu, &runs[without].cpu)
        ));
    }
}

#[derive(Default)]
struct Runs {
    per_second: Vec<f64>,
    /// Microseconds a request.
    cpu: Vec<f64>,
}

/// As many requests as there can be, and the CPU time of each in microseconds.
fn press(case: &Case, peer: &Peer) -> (Load, f64) {
    let before = cpu_seconds(&peer.running);
    let load = if case.two {
        h2load(case, peer, SECONDS)
    } else {
        wrk(case, peer, SECONDS)
    };
    let taken = cpu_seconds(&peer.running) - before;
    assert!(load.bad == 0.0, "{}: {} bad answers", peer.name, load.bad);
    (load, taken / load.requests * 1e6)
}

/// The median of the rounds' own ratios.
fn ratio(own: &[f64], nginx: &[f64]) -> f64 {
    median(
        own.iter()
            .zip(nginx)
            .map(|(own, nginx)| own / nginx)
            .collect(),
    )
}

/// How long visitors wait for an answer at half of nginx's throughput.
fn wait(case: &Case) {
    say(&format!("\n{}, at half of nginx's throughput", case.name));
    let peers = Peers::start(case);
    let mut waits: Vec<(Vec<f64>, Vec<f64>)> = peers.all().map(|_| Default::default()).collect();
    let first = peers.all().next().expect("nginx");
    let half = press(case, first).0.per_second / 2.0;
    for _ in 0..ROUNDS {
        for (peer, (middle, late)) in peers.all().zip(&mut waits) {
            let (p50, p99) = latency(case, peer, half, SECONDS);
            middle.push(p50);
            late.push(p99);
        }
    }
    say(&format!(
        "{half:.0} requests a second  p50 us     p99 us      p50        p99"
    ));
    for (peer, (middle, late)) in peers.all().zip(&waits) {
        say(&format!(
            "{:14} {:21.0} {:10.0} {:8.2} x {:8.2} x",
            peer.name,
            median(middle.clone()),
            median(late.clone()),
            ratio(middle, &waits[0].0),
            ratio(late, &waits[0].1),
        ));
    }
}
