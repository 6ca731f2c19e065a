//! The promises that are tried, how often each was, and what a broken one
//! says.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Write;

/// What is demanded at every step: DESIGN's promises by their numbers, and
/// two that the others rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Limit,
    Order,
    Place,
    Inside,
    Absent,
    Token,
    Time,
    Position,
}

/// How many of the last actions are reported.
const ACTIONS: usize = 20;

const WORDS: [&str; 8] = [
    "1 never over the limit",
    "2 first come, first called, first in",
    "3 no place is lost, no number given twice",
    "4 a living pass works",
    "5 nothing is held for the absent",
    "8 no ticket enters that is void or used",
    "time never runs backward",
    "exact positions",
];

impl Promise {
    pub(crate) fn words(self) -> &'static str {
        WORDS[self as usize]
    }
}

/// A broken promise, raised as a quiet panic: see `world::run`.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub promise: &'static str,
    pub what: String,
}

/// How often each promise was tried, and the last actions.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    tried: [Cell<u64>; WORDS.len()],
    actions: VecDeque<String>,
    pub step: u64,
}

impl Witness {
    /// Notes what is done, for the report of a broken promise.
    pub(crate) fn note(&mut self, action: &str) {
        self.step += 1;
        if self.actions.len() == ACTIONS {
            self.actions.pop_front();
        }
        self.actions.push_back(format!("{:>7} {action}", self.step));
    }

    pub(crate) fn actions(&self) -> String {
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        actions.join("\n")
    }

    pub(crate) fn demand(&self, promise: Promise, holds: bool, what: impl FnOnce() -> String) {
        let tried = &self.tried[promise as usize];
        tried.set(tried.get() + 1);
        if !holds {
            let promise = promise.words();
            // Not `panic!`: a seed that is shrunk breaks hundreds of times.
            std::panic::resume_unwind(Box::new(Broken {
                promise,
                what: what(),
            }));
        }
    }

    pub(crate) fn tried(&self) -> Tried {
        Tried(self.tried.each_ref().map(Cell::get))
    }
}

/// How often each promise was tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried([u64; WORDS.len()]);

impl Tried {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// What was never tried.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let each = WORDS.iter().zip(&self.0);
        each.filter(|(_, count)| **count == 0)
            .map(|(words, _)| *words)
            .collect()
    }

    pub(crate) fn line(&self) -> String {
        let mut line = String::from("promises tried, and held:");
        for (words, count) in WORDS.iter().zip(&self.0) {
            let _ = write!(line, " {words} ({count} times);");
        }
        line.trim_end_matches(';').to_owned()
    }
}
