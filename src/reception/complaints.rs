//! Warnings that a failing origin would cause with every request: at most one
//! of a kind in ten seconds is written, with the count of those passed over.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::room::time::millis;

/// The shortest time between two warnings of one kind.
const QUIET: Duration = Duration::from_secs(10);

/// What was written and what was not, by kind. All data threads share it.
#[derive(Default)]
pub struct Complaints(Mutex<HashMap<&'static str, Kind>>);

struct Kind {
    told_ms: u64,
    passed_over: u64,
}

impl Complaints {
    /// One more of this kind. `Some`: it is to be written, with the count of
    /// those passed over since the last one was.
    pub fn note(&self, kind: &'static str, now_ms: u64) -> Option<u64> {
        let mut kinds = self.lock();
        let Some(known) = kinds.get_mut(kind) else {
            let told = Kind {
                told_ms: now_ms,
                passed_over: 0,
            };
            kinds.insert(kind, told);
            return Some(0);
        };
        if now_ms < known.told_ms + millis(QUIET) {
            known.passed_over += 1;
            return None;
        }
        known.told_ms = now_ms;
        Some(std::mem::take(&mut known.passed_over))
    }

    /// The kinds of which some were passed over and nothing was written for
    /// ten seconds: these are to be written now, or nobody would hear of them.
    pub fn overdue(&self, now_ms: u64) -> Vec<(&'static str, u64)> {
        let mut kinds = self.lock();
        let due = |kind: &Kind| kind.passed_over > 0 && now_ms >= kind.told_ms + millis(QUIET);
        let overdue = kinds.iter_mut().filter(|(_, kind)| due(kind));
        overdue
            .map(|(name, kind)| {
                kind.told_ms = now_ms;
                (*name, std::mem::take(&mut kind.passed_over))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_told_in_ten_seconds_and_the_others_are_counted() {
        let complaints = Complaints::default();
        assert_eq!(complaints.note("connect", 5_000), Some(0));
        for at in 0..70 {
            assert_eq!(complaints.note("connect", 5_000 + at * 100), None);
        }
        assert_eq!(complaints.note("reset", 6_000), Some(0), "another kind");
        assert_eq!(complaints.note("connect", 15_000), Some(70));
        assert_eq!(complaints.note("connect", 15_001), None);
    }

    #[test]
    fn what_was_passed_over_last_is_told_though_nothing_more_comes() {
        let complaints = Complaints::default();
        complaints.note("reset", 0);
        complaints.note("connect", 0);
        complaints.note("connect", 1);
        assert_eq!(complaints.overdue(9_999), []);
        assert_eq!(complaints.overdue(10_000), [("connect", 1)]);
        assert_eq!(complaints.overdue(30_000), []);
    }
}
