//! How many sessions each network has: one address is one visitor, as long as
//! others wait. By the sessions that this gateway hears from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::room::time::Timestamp;

/// Sessions are counted anew after this, in milliseconds.
const DUE_MS: u64 = 1_000;

/// The log tells of a network at most once in so many milliseconds.
const QUIET_MS: u64 = 60_000;

/// The count of each network.
#[derive(Debug, Default)]
pub struct Networks {
    sessions: Mutex<HashMap<u64, u64>>,
    counted_at: AtomicU64,
    told_at: AtomicU64,
}

impl Networks {
    /// How many sessions a network has.
    #[must_use]
    pub fn sessions(&self, network: u64) -> u64 {
        self.all().get(&network).copied().unwrap_or_default()
    }

    /// One more begins.
    pub fn begins(&self, network: u64) {
        *self.all().entry(network).or_default() += 1;
    }

    /// Whether the log is to tell that one has its share.
    #[must_use]
    pub fn is_to_be_told(&self, now: Timestamp) -> bool {
        is_due(&self.told_at, now, QUIET_MS)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        is_due(&self.counted_at, now, DUE_MS)
    }

    pub(super) fn replace(&self, counts: HashMap<u64, u64>) {
        *self.all() = counts;
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is time again, which is noted.
fn is_due(last: &AtomicU64, now: Timestamp, every_ms: u64) -> bool {
    let due = |last: u64| last == 0 || now.0 >= last.saturating_add(every_ms) || now.0 < last;
    last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        due(last).then_some(now.0.max(1))
    })
    .is_ok()
}
