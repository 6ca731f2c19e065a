//! A failing seed made small: fewer visitors, then fewer faults, as long as
//! the same promise breaks.

use std::ops::Range;

use super::scenario::{Defect, Scenario};
use super::world::{self, Failure, Outcome};

/// The most tries.
const TRIES: usize = 300;

/// The most moments of all tries together: about a minute of them.
const MOMENTS: u64 = 3_000_000;

/// A seed's scenario, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub seed: u64,
    /// Which of the seed's visitors.
    pub visitors: Range<usize>,
    /// Which faults of the seed's plan.
    pub faults: Vec<usize>,
    pub defect: Option<Defect>,
}

impl Case {
    pub(crate) fn of(seed: u64) -> Self {
        let whole = Scenario::of(seed);
        Self {
            seed,
            visitors: whole.visitors.clone(),
            faults: whole.plan(),
            defect: None,
        }
    }

    pub(crate) fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::of(self.seed).only(self.visitors.clone(), &self.faults);
        scenario.defect = self.defect;
        scenario
    }

    pub(crate) fn run(&self) -> Outcome {
        world::run(self.seed, self.scenario())
    }

    /// The command that repeats it.
    pub(crate) fn command(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(usize::to_string).collect();
        let faults = if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(",")
        };
        format!(
            "SUMUN_SEED={} SUMUN_VISITORS={}..{} SUMUN_FAULTS={faults} \
             cargo test --test simulation every_promise -- --nocapture",
            self.seed, self.visitors.start, self.visitors.end
        )
    }

    /// What happened, for somebody who is to find out why.
    pub(crate) fn report(&self, failure: &Failure) -> String {
        let plan = self.scenario().faults;
        let faults: Vec<String> = plan
            .iter()
            .map(|planned| format!("  {} at +{} {:?}", planned.nth, planned.at, planned.fault))
            .collect();
        format!(
            "seed {} breaks the promise: {}\n  {}\nin step {}, {} ms after the beginning, \
             with {} visitors and {} faults:\n{}\nthe last actions:\n{}\nrepeat it: {}",
            self.seed,
            failure.broken.promise,
            failure.broken.what,
            failure.step,
            failure.at,
            self.visitors.len(),
            plan.len(),
            faults.join("\n"),
            failure.actions,
            self.command()
        )
    }
}

/// What is left of the work.
struct Shrinking {
    promise: &'static str,
    best: (Case, Box<Failure>),
    tries: usize,
    moments: u64,
}

/// The smallest case found that breaks the same promise.
pub(crate) fn shrink(case: Case, failure: Box<Failure>) -> (Case, Box<Failure>) {
    let mut shrinking = Shrinking {
        promise: failure.broken.promise,
        best: (case, failure),
        tries: 0,
        moments: 0,
    };
    loop {
        let before = shrinking.best.0.clone();
        shrinking.fewer_faults();
        shrinking.fewer_visitors();
        if shrinking.best.0 == before {
            return shrinking.best;
        }
    }
}

impl Shrinking {
    /// Tries a case; if it breaks the promise too, it is the best so far.
    fn breaks(&mut self, case: Case) -> bool {
        if self.tries >= TRIES || self.moments >= MOMENTS {
            return false;
        }
        self.tries += 1;
        let outcome = case.run();
        self.moments += outcome.moments;
        match outcome.result {
            Err(failure) if failure.broken.promise == self.promise => {
                self.best = (case, failure);
                true
            }
            _ => false,
        }
    }

    /// Without half of them, the last or the first; else without a quarter,
    /// and so on down to one.
    fn fewer_visitors(&mut self) {
        let mut drop = self.best.0.visitors.len() / 2;
        while drop > 0 {
            let Range { start, end } = self.best.0.visitors;
            let without = [start..end - drop, start + drop..end];
            let fewer = without.map(|visitors| Case {
                visitors,
                ..self.best.0.clone()
            });
            let smaller = fewer.into_iter().any(|fewer| self.breaks(fewer));
            drop = if smaller {
                drop.min(self.best.0.visitors.len() / 2)
            } else {
                drop / 2
            };
        }
    }

    /// Without the half of them, a quarter, and so on down to one.
    fn fewer_faults(&mut self) {
        let mut size = self.best.0.faults.len();
        while size > 0 {
            let mut from = 0;
            while from < self.best.0.faults.len() {
                let mut fewer = self.best.0.clone();
                let to = (from + size).min(fewer.faults.len());
                fewer.faults.drain(from..to);
                if !self.breaks(fewer) {
                    from = to;
                }
            }
            size /= 2;
        }
    }
}

/// The first seeds in which a planted defect is found.
fn planted(defect: Defect) -> (Case, Case) {
    let cases = (1..).map(|seed| Case {
        defect: Some(defect),
        ..Case::of(seed)
    });
    let found = cases.take(60).find_map(|case| {
        let failure = case.run().result.err()?;
        Some((case, failure))
    });
    let (whole, failure) = found.expect("a defect that is found");
    let (small, failure) = shrink(whole.clone(), failure);
    println!("{}", small.report(&failure));
    let again = small.run().result.expect_err("it fails again");
    assert_eq!(again.broken.promise, failure.broken.promise);
    assert_eq!(again.step, failure.step);
    (whole, small)
}

#[test]
fn a_defect_that_needs_a_fault_shrinks_to_it_and_few_visitors() {
    let (whole, small) = planted(Defect::ForgetsBatches);
    assert!(
        (1..=2).contains(&small.faults.len()),
        "{whole:?} shrank to {small:?}"
    );
    assert!(small.visitors.len() <= 5, "{whole:?} shrank to {small:?}");
}

#[test]
fn a_defect_that_needs_no_fault_shrinks_to_none() {
    let (whole, small) = planted(Defect::PassesOver);
    assert!(small.faults.is_empty(), "{whole:?} shrank to {small:?}");
    let limit = whole.scenario().rules.limit.unwrap_or(0) as usize;
    assert!(
        small.visitors.len() <= 2 * limit,
        "{whole:?} shrank to {small:?}"
    );
}
