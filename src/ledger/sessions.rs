//! The sessions that this gateway heard from: what the store acknowledged for
//! each, and which have to be touched.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::networks::Networks;
use super::stay::Stay;
use crate::room::ticket::SessionKey;
use crate::room::time::{Timestamp, millis};
use crate::store::{LetIn, Touch};

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
