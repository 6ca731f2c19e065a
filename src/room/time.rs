//! Time as the rules see it: a number handed in, never a clock read.
//!
//! `Timestamp` is the store's own running time (docs/architecture.md), which stands
//! still over a silence and never runs backward. Numbers and success tokens
//! carry `UnixSeconds`, the store server's wall clock, because strangers and
//! later lives of the store must be able to read them.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment in the store's running time: milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The moment `duration` earlier; saturates at the Unix epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the Unix epoch, rounded down (a JWT `NumericDate`,
    /// RFC 7519 §2): an `exp` made of it is never later than the moment itself.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The second that numbers carry at this moment, when the server's clock
    /// says `raw` (milliseconds). Where that was set back (it is another
    /// server's, after a failover), numbering goes on from the running time:
    /// no number is issued twice, and none is absurd that was issued before.
    #[must_use]
    pub fn second_by(self, raw: u64) -> u64 {
        self.moment_by(raw) / 1000
    }

    /// The same in milliseconds.
    #[must_use]
    pub fn moment_by(self, raw: u64) -> u64 {
        self.0.max(raw)
    }
}

/// Whole milliseconds of a duration; saturates at `u64::MAX`.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The most that the running time moves in one step, and the longest gap
/// between two operations that is not a silence.
pub const SILENCE: Duration = Duration::from_secs(2);

/// Advances the running time by what the server's clock moved.
///
/// `raw_before` and `raw_now` are the server's clock, in milliseconds, at the
/// operation before and at this one. The step is clamped to 0 to 2 s. Where
/// the running time differs from the server's clock it runs a tenth faster or
/// slower until they meet.
#[must_use]
pub fn advance(time: Timestamp, raw_before: u64, raw_now: u64) -> Timestamp {
    let step = raw_now.saturating_sub(raw_before).min(millis(SILENCE));
    let tenth = step / 10;
    let next = time.0 + step;
    match time.0.cmp(&raw_before) {
        Ordering::Less => Timestamp(next + tenth.min(raw_now.saturating_sub(next))),
        Ordering::Greater => Timestamp(next - tenth.min(next.saturating_sub(raw_now)).min(step)),
        Ordering::Equal => Timestamp(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_server_while_they_agree() {
        assert_eq!(
            advance(Timestamp(10_000), 10_000, 10_500),
            Timestamp(10_500)
        );
    }

    #[test]
    fn time_stands_still_when_the_server_steps_back() {
        assert_eq!(advance(Timestamp(10_000), 10_000, 7_000), Timestamp(10_000));
    }

    #[test]
    fn time_moves_two_seconds_at_most_over_a_silence() {
        assert_eq!(
            advance(Timestamp(10_000), 10_000, 3_610_000),
            Timestamp(12_000)
        );
    }

    #[test]
    fn time_behind_the_server_catches_up_by_a_tenth_and_never_overshoots() {
        assert_eq!(advance(Timestamp(5_000), 10_000, 11_000), Timestamp(6_100));
        assert_eq!(advance(Timestamp(9_990), 10_000, 11_000), Timestamp(11_000));
    }

    #[test]
    fn time_ahead_of_the_server_slows_down_by_a_tenth_and_never_runs_backward() {
        assert_eq!(
            advance(Timestamp(20_000), 10_000, 11_000),
            Timestamp(20_900)
        );
        assert_eq!(
            advance(Timestamp(10_010), 10_000, 11_000),
            Timestamp(11_000)
        );
    }
}
