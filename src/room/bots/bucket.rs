//! How often something may happen, in one word of memory.

/// So many microseconds are a minute.
const MINUTE_US: u64 = 60_000_000;

/// A token bucket that holds a minute's worth (GCRA: the moment up to which its
/// rate is used, in microseconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(u64);

impl Bucket {
    /// Takes one at `now_ms`, if it is within `per_minute`.
    #[must_use]
    pub fn take(&mut self, now_ms: u64, per_minute: u64) -> bool {
        let now = now_ms.saturating_mul(1_000);
        let next = self.0.max(now).saturating_add(share(per_minute));
        let is_within = next <= now.saturating_add(MINUTE_US);
        if is_within {
            self.0 = next;
        }
        is_within
    }

    /// How many may be taken at `now_ms`.
    #[must_use]
    pub fn left(&self, now_ms: u64, per_minute: u64) -> u64 {
        let now = now_ms.saturating_mul(1_000);
        let used = self.0.saturating_sub(now);
        MINUTE_US.saturating_sub(used) / share(per_minute)
    }
}

fn share(per_minute: u64) -> u64 {
    MINUTE_US / per_minute.clamp(1, MINUTE_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_its_share() {
        let mut bucket = Bucket::default();
        let now = 1_000_000;
        assert_eq!(bucket.left(now, 60), 60);
        let taken = (0..100).filter(|_| bucket.take(now, 60)).count();
        assert_eq!(taken, 60);
        assert_eq!(bucket.left(now, 60), 0);
        assert!(!bucket.take(now + 999, 60));
        assert!(bucket.take(now + 1_000, 60));
        assert!(!bucket.take(now + 1_000, 60));
        assert_eq!(bucket.left(now + 31_000, 60), 30);
        // Time gives no more than a minute's worth.
        assert_eq!(bucket.left(now + 3_600_000, 60), 60);
    }
}
