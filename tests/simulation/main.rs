//! The promises of docs/architecture.md, tried on the real rules and the embedded store
//! with thousands of visitors, several gateways and everything that breaks,
//! by seeds: a violation names its seed, and the seed repeats it.
//!
//! `SUMUN_SEEDS` raises the number of seeds, `SUMUN_SEED` replays one.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a simulation's numbers are small"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod dice;
mod door;
mod figures;
mod found;
mod gateway;
mod model;
mod scenario;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use figures::Figures;
use scenario::Scenario;
use sumun::room::ticket::Number;

/// Seeds of an ordinary run.
const SEEDS: u64 = 24;

fn number_of(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn every_promise_holds_at_every_step_whatever_breaks() {
    if let Some(seed) = number_of("SUMUN_SEED") {
        println!("{}", world::run(seed, Scenario::of(seed)).line());
        return;
    }
    let seeds = number_of("SUMUN_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || {
        let mut done: Vec<Figures> = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return done;
            }
            let figures = world::run(seed, Scenario::of(seed));
            println!("{}", figures.line());
            done.push(figures);
        }
    };
    let done: Vec<Figures> = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut done = work();
        match other.join() {
            Ok(more) => done.extend(more),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        done
    });
    assert_eq!(done.len() as u64, seeds);
    println!("{}", figures::summary(&done));
}

#[test]
fn kendalls_tau_tells_order_from_disorder() {
    let numbers = |list: &[u64]| list.iter().map(|n| Number(*n)).collect::<Vec<_>>();
    for (list, tau) in [
        (numbers(&[1, 2, 3, 4]), 1.0),
        (numbers(&[4, 3, 2, 1]), -1.0),
        (numbers(&[2, 1, 4, 3]), 1.0 / 3.0),
    ] {
        assert!((figures::kendall(&list) - tau).abs() < 1e-9);
    }
}
