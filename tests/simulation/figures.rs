//! What a run comes to, in numbers: fairness, use of the slots, and how good
//! the estimates were.

use sumun::room::ticket::Number;

use super::faults::Struck;
use super::model::Tried;

/// How much happened, for the summary and to see that a scenario bites.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub walked_in: u64,
    pub claimed: u64,
    pub issued: u64,
    pub steps: u64,
    pub lost_races: u64,
    pub lapsed: u64,
    pub recoveries: u64,
    pub too_late: u64,
    pub held: u64,
    pub checked_positions: u64,
    pub most_inside: u64,
    /// Sessions of gateways that were missed, of which others knew.
    pub kept: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub seed: u64,
    pub scenario: &'static str,
    pub visitors: usize,
    pub abandoned: u64,
    pub no_shows: u64,
    pub slept: u64,
    pub unproven: u64,
    pub outstayed: u64,
    pub numbered_alone: u64,
    pub reused: u64,
    pub counts: Counts,
    pub struck: Struck,
    pub tried: Tried,
    /// Numbers of those who were there when called, in order of admission.
    admitted: Vec<Number>,
    admissions: u64,
    errors: Vec<f64>,
    used: u64,
    slots: u64,
    grew: u64,
    grew_by: u64,
    exact_grew: u64,
    positions: u64,
}

impl Figures {
    pub(crate) fn new(seed: u64, scenario: &'static str, visitors: usize) -> Self {
        Self {
            seed,
            scenario,
            visitors,
            ..Self::default()
        }
    }

    pub(crate) fn admitted(
        &mut self,
        number: Option<Number>,
        now: u64,
        estimate: Option<(u64, f64)>,
    ) {
        self.admissions += 1;
        self.admitted.extend(number);
        if let Some((at, seconds)) = estimate {
            let waited = (now - at) as f64 / 1000.0;
            if waited >= 10.0 {
                self.errors.push((seconds - waited).abs() / waited);
            }
        }
    }

    pub(crate) fn slots(&mut self, used: u64, limit: u64) {
        self.used += used.min(limit);
        self.slots += limit;
    }

    /// A position before it is held down to the lowest shown.
    pub(crate) fn position(&mut self, before: u64, now: u64, about: bool) {
        if before != u64::MAX {
            self.positions += 1;
            self.grew += u64::from(now > before);
            self.grew_by += now.saturating_sub(before);
            self.exact_grew += u64::from(now > before && !about);
        }
    }

    /// How far each admission was from its place in the order of numbers, sorted.
    fn displacements(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.admitted.len()).collect();
        order.sort_by_key(|at| self.admitted[*at]);
        let mut apart: Vec<usize> = order
            .iter()
            .enumerate()
            .map(|(rank, at)| rank.abs_diff(*at))
            .collect();
        apart.sort_unstable();
        apart
    }

    pub(crate) fn line(&self) -> String {
        let apart = self.displacements();
        let at = |share: f64| {
            let index = (apart.len() as f64 * share) as usize;
            apart
                .get(index.min(apart.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0)
        };
        let error = self.errors.iter().sum::<f64>() / self.errors.len().max(1) as f64;
        let use_of_slots = if self.slots == 0 {
            f64::NAN
        } else {
            100.0 * self.used as f64 / self.slots as f64
        };
        let grew = 100.0 * self.grew as f64 / self.positions.max(1) as f64;
        let by = self.grew_by as f64 / self.grew.max(1) as f64;
        let counts = &self.counts;
        format!(
            "seed {:<3} {:<9} visitors {:<5} in {:<5} (walked {:<4} called {:<5}) gone {:<4} \
             no-show {:<4} slept {:<4} late {:<3} alone {:<4} recoveries {:<3} slots {:>5.1}% \
             tau {:.4} displaced p50 {} p99 {} estimate off {:.2} grew {:.1}% by {:.1}, exact checks {}",
            self.seed,
            self.scenario,
            self.visitors,
            self.admissions,
            counts.walked_in,
            counts.claimed,
            self.abandoned,
            self.no_shows,
            self.slept,
            counts.too_late,
            self.numbered_alone,
            counts.recoveries,
            use_of_slots,
            kendall(&self.admitted),
            at(0.5),
            at(0.99),
            error,
            grew,
            by,
            counts.checked_positions,
        )
    }
}

/// Kendall's tau between a sequence and its sorted order, 1 when it is sorted,
/// by counting inversions while merging.
pub(crate) fn kendall(sequence: &[Number]) -> f64 {
    let pairs = sequence.len() as f64 * (sequence.len() as f64 - 1.0) / 2.0;
    if pairs < 1.0 {
        return 1.0;
    }
    let mut sorted = sequence.to_vec();
    let swapped = inversions(&mut sorted);
    1.0 - 2.0 * swapped as f64 / pairs
}

fn inversions(sequence: &mut [Number]) -> u64 {
    if sequence.len() < 2 {
        return 0;
    }
    let middle = sequence.len() / 2;
    let (left, right) = sequence.split_at_mut(middle);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if left[i] <= right[j] {
            merged.push(left[i]);
            i += 1;
        } else {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    sequence.copy_from_slice(&merged);
    count
}

/// What all runs come to, what struck, and what was tried.
pub(crate) struct Summary {
    pub struck: Struck,
    pub tried: Tried,
    pub lines: String,
}

pub(crate) fn summary(runs: &[Figures]) -> Summary {
    let (mut struck, mut tried) = (Struck::default(), Tried::default());
    for run in runs {
        struck.add(&run.struck);
        tried.add(&run.tried);
    }
    let sum = |value: fn(&Figures) -> u64| runs.iter().map(value).sum::<u64>();
    let lines = format!(
        "{} seeds, {} visitors, {} admitted, {} steps, {} recoveries, {} used tickets tried again, \
         {} sessions kept whose gateway was missed, {} positions grew of {} ({} of the exact ones)\n{}\n{}",
        runs.len(),
        sum(|run| run.visitors as u64),
        sum(|run| run.admissions),
        sum(|run| run.counts.steps),
        sum(|run| run.counts.recoveries),
        sum(|run| run.reused),
        sum(|run| run.counts.kept),
        sum(|run| run.grew),
        sum(|run| run.positions),
        sum(|run| run.exact_grew),
        struck.line(),
        tried.line(),
    );
    Summary {
        struck,
        tried,
        lines,
    }
}
