//! One session, as this gateway knows it: what the store acknowledged, and what its
//! requests have used of its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;

use crate::room::ticket::SessionKey;
use crate::room::time::Timestamp;
use crate::store::Touch;

/// One session, as this gateway knows it. The hot path holds it by `Arc` and
/// reads atomics.
#[derive(Debug)]
pub struct Stay {
    /// Its key.
    pub session: SessionKey,
    /// Its key as a header's value.
    pub label: HeaderValue,
    /// When it began, store time in milliseconds.
    begun: AtomicU64,
    /// The latest expiry that the store acknowledged, store milliseconds.
    pub(super) acknowledged: AtomicU64,
    /// When a touch is due, store milliseconds.
    pub(super) touch_due: AtomicU64,
    pub(super) queued: AtomicBool,
    /// Swept out of the list: whoever still holds it must look it up anew.
    pub(super) forgotten: AtomicBool,
    /// Bodies and tunnels in flight.
    pub(super) in_use: AtomicU32,
    /// The network that its visitor was last heard from; 0: it is not known.
    pub(super) network: AtomicU64,
    /// The minute in which its visitor was last counted as there.
    counted: AtomicU64,
    /// When it ended, store milliseconds; 0: it has not.
    ended: AtomicU64,
    /// Up to when its requests have used its rate, nanoseconds of this machine's
    /// monotonic clock.
    rate_used: AtomicU64,
    /// The two networks that it was last heard from in, and how often it went back to
    /// the former: of IPv4 in the lower half, of IPv6 in the upper one.
    networks: AtomicU64,
}

impl Stay {
    pub(super) fn new(session: SessionKey, begun: Timestamp, acknowledged: Timestamp) -> Self {
        Self {
            // A key is written in hexadecimal digits.
            label: HeaderValue::try_from(session.to_string())
                .unwrap_or(HeaderValue::from_static("session")),
            session,
            begun: AtomicU64::new(begun.0),
            acknowledged: AtomicU64::new(acknowledged.0),
            touch_due: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            in_use: AtomicU32::new(0),
            network: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            rate_used: AtomicU64::new(0),
            networks: AtomicU64::new(0),
        }
    }

    /// When the session began.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        Timestamp(self.begun.load(Ordering::Relaxed))
    }

    /// The latest expiry that the store acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Timestamp {
        Timestamp(self.acknowledged.load(Ordering::Acquire))
    }

    /// Whether it was swept out of the list.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        match self.ended.load(Ordering::Acquire) {
            0 => None,
            at => Some(Timestamp(at)),
        }
    }

    /// The touch that extends it by its idle time.
    #[must_use]
    pub fn touch(&self) -> Touch {
        Touch {
            session: self.session,
            begun: self.begun(),
            until: self.acknowledged(),
            keep: Timestamp(0),
        }
    }

    /// Whether nobody has asked this in the present minute: its visitor is to be
    /// counted as there.
    #[must_use]
    pub fn is_uncounted(&self, now: Timestamp) -> bool {
        let minute = now.0 / 60_000;
        // Two threads at once count one visitor twice, which changes nothing.
        self.counted.load(Ordering::Relaxed) < minute && {
            self.counted.store(minute, Ordering::Relaxed);
            true
        }
    }

    /// Its visitor was heard from there.
    pub fn heard_from(&self, network: u64) {
        self.network.store(network, Ordering::Relaxed);
    }

    /// Takes note of the network that it is heard from in (a mark from 1, below 2^14).
    /// Whether it goes to and fro between two of one family: a telephone that changes
    /// over does so once, and speaks IPv4 and IPv6 by turns.
    #[must_use]
    pub fn alternates(&self, mark: u32, is_ipv6: bool) -> bool {
        let shift = if is_ipv6 { 32 } else { 0 };
        let mark = u64::from(mark) & MARK;
        let held = self.networks.load(Ordering::Relaxed);
        let own = (held >> shift) & u64::from(u32::MAX);
        let (last, former, times) = (own & MARK, (own >> 14) & MARK, own >> 28);
        if mark == last {
            return false;
        }
        let times = if mark == former {
            (times + 1).min(15)
        } else {
            times
        };
        let own = mark | (last << 14) | (times << 28);
        // Of two threads at once one is not heard, which changes little.
        let other = held & !(u64::from(u32::MAX) << shift);
        self.networks
            .store(other | (own << shift), Ordering::Relaxed);
        mark == former && times >= TO_AND_FRO
    }

    /// Marks the session as ended.
    pub fn end(&self, at: Timestamp) {
        let _ = self
            .ended
            .compare_exchange(0, at.0.max(1), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Takes note of an expiry that the store acknowledged; the next touch is
    /// due when a quarter of `idle` has passed.
    pub fn acknowledge(&self, expires: Timestamp, now: Timestamp, idle: Duration) {
        self.acknowledged.fetch_max(expires.0, Ordering::AcqRel);
        self.touch_due
            .store(now.plus(idle / 4).0, Ordering::Relaxed);
    }

    /// Takes note of an expiry that was only looked at: whoever is heard from
    /// is still to be touched.
    pub fn learn(&self, expires: Timestamp) {
        self.acknowledged.fetch_max(expires.0, Ordering::AcqRel);
    }

    /// Whether one more request at `now_ms` (this machine's monotonic clock) is
    /// within `per_second`; if so it is counted. What was not used in the last
    /// ten seconds may come at once.
    #[must_use]
    pub fn is_within_rate(&self, now_ms: u64, per_second: u64) -> bool {
        // GCRA: each request moves the mark by its share of a second, and the
        // mark may be ahead of the clock by the burst.
        let now = now_ms.saturating_mul(NANOS / 1_000);
        let share = NANOS / per_second.clamp(1, NANOS);
        let furthest = now.saturating_add(BURST_SECONDS * NANOS);
        let moved =
            |used: u64| Some(used.max(now).saturating_add(share)).filter(|next| *next <= furthest);
        self.rate_used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved)
            .is_ok()
    }

    /// The same as [`Stay::hold`], unless `most` are in flight already.
    #[must_use]
    pub fn hold_within(self: &Arc<Self>, most: u64) -> Option<InUse> {
        let one_more = |held: u32| (u64::from(held) < most).then_some(held + 1);
        self.in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| InUse(Arc::clone(self)))
    }

    /// Keeps the session touched while a body or a tunnel is in flight.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> InUse {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }
}

/// A body or a tunnel of a session in flight.
#[derive(Debug)]
pub struct InUse(Arc<Stay>);

impl InUse {
    /// The session.
    #[must_use]
    pub fn stay(&self) -> &Arc<Stay> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bits of a network's mark.
const MARK: u64 = 0x3fff;

/// So often a session goes back to the network before: one copied cookie is used by
/// two. It is looked at once a minute.
const TO_AND_FRO: u64 = 4;

/// So many seconds' worth of a session's requests may come at once: a page with
/// all its parts, a few tabs that are opened anew.
const BURST_SECONDS: u64 = 10;

/// Nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn stay() -> Arc<Stay> {
        let key = SessionKey([1; 16]);
        Arc::new(Stay::new(key, Timestamp(0), Timestamp(600_000)))
    }

    #[test]
    fn a_pass_that_goes_to_and_fro_is_told_from_one_that_changes_over() {
        let stay = stay();
        // From home to a train and back, over IPv4 and IPv6 by turns.
        for mark in [1, 1, 2, 2, 3, 1] {
            assert!(!stay.alternates(mark, false));
            assert!(!stay.alternates(mark + 7, true));
        }
        let turns = [5, 6, 5, 6, 5, 6].map(|mark| stay.alternates(mark, false));
        assert_eq!(turns, [false, false, false, false, false, true]);
        assert!(!stay.alternates(16_383, true));
    }

    #[test]
    fn a_sessions_rate_is_a_burst_and_then_so_many_a_second() {
        let stay = stay();
        let many = |now_ms| {
            (0..1_000)
                .filter(|_| stay.is_within_rate(now_ms, 5))
                .count()
        };
        assert_eq!(many(7_000), 50, "ten seconds' worth at once");
        assert_eq!(many(7_199), 0, "a refused one costs nothing");
        assert_eq!(many(7_200), 1);
        assert_eq!(many(8_200), 5);
        assert_eq!(many(8_000), 0, "a clock that is read late");
        assert_eq!(many(1_000_000), 50, "no more is saved up");
        assert!(stay.is_within_rate(1_000_000_000, 1));
        assert!(stay.is_within_rate(u64::MAX - 1, u64::MAX), "no overflow");
    }

    #[test]
    fn a_session_holds_so_many_at_once_and_one_more_when_one_is_over() {
        let stay = stay();
        let mut held: Vec<InUse> = (0..3).filter_map(|_| stay.hold_within(2)).collect();
        assert_eq!(held.len(), 2);
        held.pop();
        let again = stay.hold_within(2);
        assert!(again.is_some());
        assert!(stay.hold_within(2).is_none());
    }

    #[test]
    fn threads_at_once_get_no_more_than_one_would() {
        let stay = stay();
        let (rate, held) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let within = (0..1_000).filter(|_| stay.is_within_rate(0, 10));
                        let within = within.count();
                        let held: Vec<InUse> =
                            (0..1_000).filter_map(|_| stay.hold_within(30)).collect();
                        (within, held)
                    })
                })
                .collect();
            let each = threads.into_iter().map(|thread| thread.join().unwrap());
            let (rates, held): (Vec<_>, Vec<_>) = each.unzip();
            (
                rates.iter().sum::<usize>(),
                held.iter().map(Vec::len).sum::<usize>(),
            )
        });
        assert_eq!((rate, held), (100, 30));
    }
}
