//! The sessions that this gateway heard from: what the store acknowledged for
//! each, and which have to be touched.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::networks::Networks;
use crate::room::ticket::SessionKey;
use crate::room::time::{Timestamp, millis};
use crate::store::{LetIn, Touch};

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
    acknowledged: AtomicU64,
    /// When a touch is due, store milliseconds.
    touch_due: AtomicU64,
    queued: AtomicBool,
    /// Swept out of the list: whoever still holds it must look it up anew.
    forgotten: AtomicBool,
    /// Bodies and tunnels in flight.
    in_use: AtomicU32,
    /// The network that its visitor was last heard from; 0: it is not known.
    network: AtomicU64,
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
    fn new(session: SessionKey, begun: Timestamp, acknowledged: Timestamp) -> Self {
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

const SHARDS: usize = 32;

/// Most sessions that began, or ended, while the store was away and that it is
/// to be told of.
const LET_IN_MAX: usize = 100_000;

/// All sessions heard from, and those that ended.
#[derive(Debug)]
pub struct Sessions {
    /// How many of them each network has.
    pub networks: Networks,
    shards: [Mutex<HashMap<SessionKey, Arc<Stay>>>; SHARDS],
    due: Mutex<Vec<Arc<Stay>>>,
    ended: Mutex<HashMap<SessionKey, Timestamp>>,
    /// Let in by order while the store was away, and not told to it yet.
    let_in: Mutex<HashMap<SessionKey, LetIn>>,
    /// Ended while the store was away, and not told to it yet.
    end_later: Mutex<HashSet<SessionKey>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            networks: Networks::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
            due: Mutex::default(),
            ended: Mutex::default(),
            let_in: Mutex::default(),
            end_later: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    fn shard(&self, session: SessionKey) -> &Mutex<HashMap<SessionKey, Arc<Stay>>> {
        let [first, ..] = session.0;
        let [fallback, ..] = &self.shards;
        self.shards
            .get(usize::from(first) % SHARDS)
            .unwrap_or(fallback)
    }

    /// The session of a pass. One not heard from before is taken at the
    /// pass's word: its `until` was acknowledged when it was signed.
    #[must_use]
    pub fn stay(&self, session: SessionKey, begun: Timestamp, until: Timestamp) -> Arc<Stay> {
        let stay = Arc::clone(
            lock(self.shard(session))
                .entry(session)
                .or_insert_with(|| Arc::new(Stay::new(session, begun, until))),
        );
        if stay.ended().is_none()
            && let Some(at) = lock(&self.ended).get(&session)
        {
            stay.end(*at);
        }
        stay.acknowledged.fetch_max(until.0, Ordering::AcqRel);
        stay
    }

    /// The session was heard from: queues a touch when one is due.
    pub fn hear(&self, stay: &Arc<Stay>, now: Timestamp) {
        if now.0 >= stay.touch_due.load(Ordering::Relaxed)
            && !stay.queued.swap(true, Ordering::AcqRel)
        {
            lock(&self.due).push(Arc::clone(stay));
        }
    }

    /// The sessions to be touched now, and those that are in use.
    #[must_use]
    pub fn take_due(&self) -> Vec<(Arc<Stay>, Touch)> {
        let due = std::mem::take(&mut *lock(&self.due));
        due.into_iter()
            .map(|stay| {
                stay.queued.store(false, Ordering::Release);
                let touch = stay.touch();
                (stay, touch)
            })
            .collect()
    }

    /// Takes note of a visitor let in by order: the store is told when it is
    /// back. False when no more can be remembered.
    pub fn note_let_in(&self, visitor: LetIn) -> bool {
        let mut let_in = lock(&self.let_in);
        let room = let_in.len() < LET_IN_MAX || let_in.contains_key(&visitor.session);
        if room {
            let known = let_in.entry(visitor.session).or_insert(visitor);
            known.number = known.number.or(visitor.number);
        }
        room
    }

    /// How many were let in whom the store has not been told of.
    #[must_use]
    pub fn untold(&self) -> u64 {
        lock(&self.let_in).len() as u64
    }

    /// Whether a visitor was let in and the store has not been told of it.
    #[must_use]
    pub fn is_let_in(&self, session: SessionKey) -> bool {
        lock(&self.let_in).contains_key(&session)
    }

    /// All of those.
    pub(super) fn let_in(&self) -> Vec<LetIn> {
        let mut all: Vec<LetIn> = lock(&self.let_in).values().copied().collect();
        all.sort_unstable_by_key(|visitor| visitor.session);
        all
    }

    /// All that ended and that the store has not been told of.
    pub(super) fn end_later_all(&self) -> Vec<[u8; 16]> {
        let mut all: Vec<_> = lock(&self.end_later).iter().map(|key| key.0).collect();
        all.sort_unstable();
        all
    }

    /// Some of those let in by order whom the store has not been told of; they
    /// count as told from here on. Whoever has ended or lapsed meanwhile is not
    /// told of, whoever was heard from again is proven.
    #[must_use]
    pub fn take_let_in(&self, most: usize, now: Timestamp) -> Vec<LetIn> {
        let mut let_in = lock(&self.let_in);
        let some: Vec<SessionKey> = let_in.keys().take(most).copied().collect();
        let taken: Vec<LetIn> = some.iter().filter_map(|key| let_in.remove(key)).collect();
        drop(let_in);
        let living = taken.into_iter();
        let living = living.filter(|visitor| self.lives(visitor.session, now));
        let with_proof = living.map(|visitor| LetIn {
            proven: visitor.proven || self.was_heard(visitor.session),
            until: self.good_until(visitor.session),
            ..visitor
        });
        with_proof.collect()
    }

    /// Until when the store, or this gateway without it, said that a session lives.
    fn good_until(&self, session: SessionKey) -> Timestamp {
        let shard = lock(self.shard(session));
        shard
            .get(&session)
            .map_or(Timestamp(0), |stay| stay.acknowledged())
    }

    /// Counts anew how many sessions each network has, at most once a second.
    pub fn count_networks(&self, now: Timestamp) {
        if !self.networks.is_due(now) {
            return;
        }
        let mut counts = HashMap::new();
        for shard in &self.shards {
            for stay in lock(shard).values() {
                let network = stay.network.load(Ordering::Relaxed);
                if network != 0 && stay.ended().is_none() && stay.acknowledged() > now {
                    *counts.entry(network).or_insert(0) += 1;
                }
            }
        }
        self.networks.replace(counts);
    }

    /// Whether a session counts, by what is known here.
    #[must_use]
    pub fn lives(&self, session: SessionKey, now: Timestamp) -> bool {
        let shard = lock(self.shard(session));
        let stay = shard.get(&session);
        stay.is_some_and(|stay| stay.ended().is_none() && stay.acknowledged() > now)
    }

    /// Whether a session was heard from since it was last touched.
    fn was_heard(&self, session: SessionKey) -> bool {
        let shard = lock(self.shard(session));
        shard.get(&session).is_some_and(|stay| {
            stay.queued.load(Ordering::Acquire) || stay.in_use.load(Ordering::Relaxed) > 0
        })
    }

    /// A session ended and the store could not be told: it is when it is back.
    pub fn end_later(&self, session: SessionKey) {
        let mut later = lock(&self.end_later);
        if later.len() < LET_IN_MAX {
            later.insert(session);
        }
    }

    /// Some of those that ended and that the store has not been told of; they
    /// count as told from here on.
    #[must_use]
    pub fn take_end_later(&self, most: usize) -> Vec<SessionKey> {
        let mut later = lock(&self.end_later);
        let some: Vec<SessionKey> = later.iter().take(most).copied().collect();
        for session in &some {
            later.remove(session);
        }
        some
    }

    /// Takes note of ended sessions.
    pub fn note_ended(&self, ended: &[(SessionKey, Timestamp)]) {
        for (session, at) in ended {
            lock(&self.ended).entry(*session).or_insert(*at);
            if let Some(stay) = lock(self.shard(*session)).get(session) {
                stay.end(*at);
            }
        }
    }

    /// Sessions that ended, for the store that has forgotten.
    #[must_use]
    pub fn ended(&self) -> Vec<(SessionKey, Timestamp)> {
        lock(&self.ended).iter().map(|(k, at)| (*k, *at)).collect()
    }

    /// Sessions that live.
    #[must_use]
    pub fn stays(&self, now: Timestamp) -> Vec<Arc<Stay>> {
        let mut living = Vec::new();
        for shard in &self.shards {
            living.extend(
                lock(shard)
                    .values()
                    .filter(|stay| stay.ended().is_none() && stay.acknowledged() > now)
                    .map(Arc::clone),
            );
        }
        living
    }

    /// Sessions that live, with what was acknowledged for each.
    #[must_use]
    pub fn living(&self, now: Timestamp) -> Vec<(SessionKey, Timestamp)> {
        let stays = self.stays(now);
        let known = stays.iter().map(|stay| (stay.session, stay.acknowledged()));
        known.collect()
    }

    /// Forgets all that nothing is in flight of: who is still inside shows a pass.
    pub(super) fn forget(&self) {
        for shard in &self.shards {
            lock(shard).retain(|_, stay| {
                let used = stay.in_use.load(Ordering::Relaxed) > 0;
                stay.forgotten.store(!used, Ordering::Release);
                used
            });
        }
    }

    /// Housekeeping, every few seconds: what is in use is heard from, what is
    /// over is forgotten.
    pub fn sweep(&self, now: Timestamp, idle: Duration) {
        let keep = millis(idle);
        let mut in_use = Vec::new();
        for shard in &self.shards {
            lock(shard).retain(|_, stay| {
                let used = stay.in_use.load(Ordering::Relaxed) > 0;
                if used && stay.ended().is_none() {
                    in_use.push(Arc::clone(stay));
                }
                let kept = used || stay.acknowledged().0.saturating_add(keep) > now.0;
                if !kept {
                    stay.forgotten.store(true, Ordering::Release);
                }
                kept
            });
        }
        for stay in in_use {
            self.hear(&stay, now);
        }
        lock(&self.ended).retain(|_, at| at.0.saturating_add(2 * keep) > now.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(600);

    fn key(byte: u8) -> SessionKey {
        SessionKey([byte; 16])
    }

    #[test]
    fn a_pass_that_goes_to_and_fro_is_told_from_one_that_changes_over() {
        let stay = Sessions::default().stay(key(1), Timestamp(0), Timestamp(600_000));
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
    fn a_session_is_touched_at_once_and_then_each_quarter_of_its_idle_time() {
        let sessions = Sessions::default();
        let stay = sessions.stay(key(1), Timestamp(0), Timestamp(30_000));
        sessions.hear(&stay, Timestamp(1_000));
        sessions.hear(&stay, Timestamp(1_001));
        assert_eq!(sessions.take_due().len(), 1);
        stay.acknowledge(Timestamp(601_000), Timestamp(1_000), IDLE);
        sessions.hear(&stay, Timestamp(150_999));
        assert_eq!(sessions.take_due().len(), 0);
        sessions.hear(&stay, Timestamp(151_000));
        assert_eq!(sessions.take_due().len(), 1);
    }

    #[test]
    fn a_long_download_keeps_its_session_touched() {
        let sessions = Sessions::default();
        let stay = sessions.stay(key(1), Timestamp(0), Timestamp(600_000));
        let download = stay.hold();
        sessions.sweep(Timestamp(5_000_000), IDLE);
        assert_eq!(sessions.take_due().len(), 1);
        drop(download);
        sessions.sweep(Timestamp(5_000_000), IDLE);
        assert_eq!(sessions.take_due().len(), 0);
        assert!(sessions.living(Timestamp(0)).is_empty());
    }

    #[test]
    fn a_sessions_rate_is_a_burst_and_then_so_many_a_second() {
        let stay = Sessions::default().stay(key(1), Timestamp(0), Timestamp(600_000));
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
        let stay = Sessions::default().stay(key(1), Timestamp(0), Timestamp(600_000));
        let mut held: Vec<InUse> = (0..3).filter_map(|_| stay.hold_within(2)).collect();
        assert_eq!(held.len(), 2);
        held.pop();
        let again = stay.hold_within(2);
        assert!(again.is_some());
        assert!(stay.hold_within(2).is_none());
    }

    #[test]
    fn threads_at_once_get_no_more_than_one_would() {
        let stay = Sessions::default().stay(key(1), Timestamp(0), Timestamp(600_000));
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

    #[test]
    fn a_session_that_ended_elsewhere_is_known_to_have_ended() {
        let sessions = Sessions::default();
        let here = sessions.stay(key(1), Timestamp(0), Timestamp(600_000));
        sessions.note_ended(&[(key(1), Timestamp(7)), (key(2), Timestamp(8))]);
        assert_eq!(here.ended(), Some(Timestamp(7)));
        let later = sessions.stay(key(2), Timestamp(0), Timestamp(600_000));
        assert_eq!(later.ended(), Some(Timestamp(8)));
    }

    #[test]
    fn only_what_lives_is_remembered() {
        let sessions = Sessions::default();
        let _lapsed = sessions.stay(key(1), Timestamp(0), Timestamp(10));
        let _living = sessions.stay(key(2), Timestamp(0), Timestamp(50));
        assert_eq!(sessions.living(Timestamp(20)), [(key(2), Timestamp(50))]);
    }
}
