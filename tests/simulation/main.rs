//! The promises of docs/architecture.md, tried on the real rules and the embedded store
//! by seeds, with everything that breaks: a seed draws who comes, how they
//! behave, and a plan of faults. One seed in a hundred is a rush of thousands,
//! the others are small and short. Every reply of the store is held against
//! a model of what must hold.
//!
//! - `SUMUN_SEEDS=10000` is the nightly run; an ordinary one tries 200. Both
//!   print how often each fault struck and each promise was tried, and fail
//!   if one never did.
//! - A seed that breaks a promise is made smaller (fewer visitors, fewer
//!   faults) and printed with the command that repeats it:
//!   `SUMUN_SEED`, and of that `SUMUN_VISITORS` and `SUMUN_FAULTS`.

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
    clippy::print_stdout,
    reason = "a test fails by panicking and tells what it came to"
)]

mod dice;
mod door;
mod faults;
mod figures;
mod found;
mod gateway;
mod model;
mod network;
mod scenario;
mod shrink;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use figures::Figures;
use scenario::LARGE_EVERY;
use shrink::Case;
use sumun::room::ticket::Number;
use world::Failure;

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;

fn setting(variable: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    std::env::var(variable).ok()
}

fn number_of(variable: &str) -> Option<u64> {
    setting(variable).map(|text| text.parse().expect("a number"))
}

/// The case of one seed that the environment names, and whether it is a part.
fn ordered() -> Option<(Case, bool)> {
    let whole = Case::of(number_of("SUMUN_SEED")?);
    let mut case = whole.clone();
    if let Some(visitors) = setting("SUMUN_VISITORS") {
        let (start, end) = visitors.split_once("..").expect("a range of visitors");
        let number = |text: &str| text.parse().expect("a range of numbers");
        case.visitors = number(start)..number(end);
    }
    if let Some(faults) = setting("SUMUN_FAULTS") {
        let listed = faults.split(',').filter(|word| *word != "none");
        case.faults = listed
            .map(|word| word.parse().expect("numbers of faults, or none"))
            .collect();
    }
    let part = case != whole;
    Some((case, part))
}

/// Fails with the smallest case that can be found.
fn fail(case: Case, failure: Box<Failure>) -> ! {
    println!("{}\n\nmade smaller:\n", case.report(&failure));
    let (case, failure) = shrink::shrink(case, failure);
    panic!("{}", case.report(&failure));
}

#[test]
fn every_promise_holds_at_every_step_whatever_breaks() {
    if let Some((case, part)) = ordered() {
        match case.run().result {
            Ok(figures) => println!("{}", figures.line()),
            Err(failure) if part => panic!("{}", case.report(&failure)),
            Err(failure) => fail(case, failure),
        }
        return;
    }
    let seeds = number_of("SUMUN_SEEDS").unwrap_or(SEEDS);
    let done = match tried(seeds) {
        Ok(done) => done,
        Err((case, failure)) => fail(case, failure),
    };
    assert_eq!(done.len() as u64, seeds);
    let summary = figures::summary(&done);
    println!("{}", summary.lines);
    if seeds >= SEEDS {
        let missing = summary.struck.missing();
        assert!(missing.is_empty(), "never struck: {missing:?}");
        let missing = summary.tried.missing();
        assert!(missing.is_empty(), "never tried: {missing:?}");
    }
}

/// Tries seeds on two threads, until one fails.
fn tried(seeds: u64) -> Result<Vec<Figures>, (Case, Box<Failure>)> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let mut done: Vec<Figures> = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return done;
            }
            let case = Case::of(seed);
            match case.run().result {
                Ok(figures) => {
                    if seed.is_multiple_of(LARGE_EVERY) && seeds <= SEEDS {
                        println!("{}", figures.line());
                    }
                    done.push(figures);
                }
                Err(failure) => {
                    next.store(seeds, Ordering::Relaxed);
                    *failed.lock().expect("a lock") = Some((case, failure));
                    return done;
                }
            }
        }
    };
    let done = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut done = work();
        done.extend(other.join().expect("a thread"));
        done
    });
    match failed.into_inner().expect("a lock") {
        Some(failed) => Err(failed),
        None => Ok(done),
    }
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
