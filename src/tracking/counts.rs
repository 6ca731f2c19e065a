//! What is counted of a route, in a form that adds up: over threads, gateways
//! and time.

use std::time::Duration;

use crate::room::gate::{LATENCY_BUCKETS, latency_bucket};

/// Classes of answers: 1xx to 5xx.
pub const CLASSES: usize = 5;

/// The words of the classes, in order.
pub const CLASS_WORDS: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What was counted of one route, or of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Navigations that the site answered with a page: no redirect.
    pub views: u64,
    /// Answers to what was sent to the origin, by class of status.
    pub answers: [u64; CLASSES],
    /// Waiting pages shown.
    pub exposures: u64,
    /// Other answers of our own: busy, closed, full.
    pub refused: u64,
    /// Visitors who waited at this route and got in.
    pub conversions: u64,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// How long answers were under way, all together, in milliseconds.
    pub busy_ms: u64,
    /// The time to the origin's first byte, all together, in microseconds.
    pub first_byte_us: u64,
    /// The same by [`latency_bucket`].
    pub first_byte: [u32; LATENCY_BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            views: 0,
            answers: [0; CLASSES],
            exposures: 0,
            refused: 0,
            conversions: 0,
            bytes: 0,
            busy_ms: 0,
            first_byte_us: 0,
            first_byte: [0; LATENCY_BUCKETS],
        }
    }
}

impl Counts {
    /// Adds what was counted elsewhere, or later.
    pub fn add(&mut self, more: &Self) {
        self.views += more.views;
        self.exposures += more.exposures;
        self.refused += more.refused;
        self.conversions += more.conversions;
        self.bytes += more.bytes;
        self.busy_ms += more.busy_ms;
        self.first_byte_us += more.first_byte_us;
        for (sum, count) in self.answers.iter_mut().zip(more.answers) {
            *sum += count;
        }
        for (sum, count) in self.first_byte.iter_mut().zip(more.first_byte) {
            *sum = sum.saturating_add(count);
        }
    }

    /// An answer of this status to what was sent to the origin.
    pub(super) fn answered(&mut self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        // An origin may invent statuses.
        if let Some(count) = self.answers.get_mut(class.min(CLASSES - 1)) {
            *count += 1;
        }
    }

    /// The origin's first byte came after so long.
    pub(super) fn first_byte(&mut self, micros: u32) {
        self.first_byte_us += u64::from(micros);
        let bucket = latency_bucket(Duration::from_micros(micros.into()));
        if let Some(count) = self.first_byte.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// Requests of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.iter().sum::<u64>() + self.exposures + self.refused
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_a_status_nobody_knows_has_a_class() {
        let mut one = Counts::default();
        assert!(one.is_empty());
        for status in [101, 200, 204, 304, 404, 503, 999, 42] {
            one.answered(status);
        }
        assert_eq!(one.answers, [2, 2, 1, 1, 2]);
        one.first_byte(900);
        one.first_byte(70_000_000);
        one.exposures = 3;
        let mut both = one.clone();
        both.add(&one);
        assert_eq!(both.requests(), 22);
        assert_eq!(both.first_byte_us, 2 * 70_000_900);
        assert_eq!(both.first_byte[0], 2);
        assert_eq!(both.first_byte[LATENCY_BUCKETS - 1], 2);
    }
}
