//! One origin of the fleet, and what is known of its health. The rules are those
//! of `room::health`, under a lock that is taken only when something goes wrong;
//! requests read what came of them from two numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::origin::Remote;
use crate::room::choice::{Candidate, Standing, WHOLE};
use crate::room::health::{Health, Part, Rules, State, Turn, share};

/// One origin.
pub struct Member {
    /// Who it is: `http://host:port`.
    pub url: String,
    /// `host:port`, for people and metrics.
    pub name: String,
    /// The way to it.
    pub remote: Arc<Remote>,
    /// How the affinity cookie names it: the first is written, all are read.
    pub(crate) ids: Vec<String>,
    pub(crate) vitals: Arc<Vitals>,
}

/// The health of an origin, for all threads.
#[derive(Default)]
pub(crate) struct Vitals {
    held: Mutex<Held>,
    /// Whether a failure is counted that an answer's head would wipe out.
    failures: AtomicBool,
    /// The same of a whole body.
    cuts: AtomicBool,
    /// It gets no requests before this moment; 0: it does, `u64::MAX`: its checks fail.
    out_until: AtomicU64,
    /// Since when it is back; 0: since ever.
    back_since: AtomicU64,
}

#[derive(Default)]
struct Held {
    health: Health,
    why: Option<&'static str>,
    /// The last moment at which it was ejected, fell, returned or rose.
    since: u64,
    ejections: u64,
}

/// What is shown of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) state: State,
    pub(crate) why: Option<&'static str>,
    pub(crate) since: u64,
    pub(crate) ejections: u64,
    pub(crate) failures: u32,
}

impl Vitals {
    /// Whether it gets requests only when no other does.
    pub(crate) fn is_out(&self, now: u64) -> bool {
        self.out_until.load(Ordering::Relaxed) > now
    }

    /// Whether nothing is the matter, so that no clock need be read for it.
    pub(crate) fn is_plain(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) == 0 && self.back_since.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn state(&self, now: u64) -> State {
        self.lock().health.state(now)
    }

    pub(crate) fn told(&self, now: u64) -> Told {
        let held = self.lock();
        Told {
            state: held.health.state(now),
            why: held.why,
            since: held.since,
            ejections: held.ejections,
            failures: held.health.failures(),
        }
    }

    /// The share of requests that it gets, in thousandths.
    pub(crate) fn share(&self, rules: &Rules, now: u64) -> u32 {
        match self.back_since.load(Ordering::Relaxed) {
            0 => match self.out_until.load(Ordering::Relaxed) {
                0 => WHOLE,
                // Its ejection is over and nobody has said so yet.
                until => share(rules, until, now),
            },
            since => share(rules, since, now),
        }
    }

    pub(crate) fn failed(
        &self,
        rules: &Rules,
        now: u64,
        can_spare: bool,
        (part, why): (Part, &'static str),
    ) -> Option<Turn> {
        self.change(now, why, |health| {
            let returned = health.tick(now);
            let failed = health.failed(rules, now, part, can_spare);
            failed.or(returned)
        })
    }

    /// A part of an answer went well: what was counted against it is forgotten.
    pub(crate) fn succeeded(&self, part: Part) {
        if !self.counted(part).load(Ordering::Relaxed) {
            return;
        }
        let mut held = self.lock();
        held.health.succeeded(part);
        self.counted(part).store(false, Ordering::Relaxed);
    }

    fn counted(&self, part: Part) -> &AtomicBool {
        match part {
            Part::Head => &self.failures,
            Part::Body => &self.cuts,
        }
    }

    pub(crate) fn checked(
        &self,
        rules: &Rules,
        now: u64,
        passed: bool,
        why: &'static str,
    ) -> Option<Turn> {
        self.change(now, why, |health| health.checked(rules, now, passed))
    }

    pub(crate) fn unchecked(&self, now: u64) -> Option<Turn> {
        self.change(now, "check", |health| health.unchecked(now))
    }

    /// Time has passed; a return that is complete is nothing special any more.
    pub(crate) fn tick(&self, rules: &Rules, now: u64) -> Option<Turn> {
        if self.is_plain() {
            return None;
        }
        let turn = self.change(now, "", |health| health.tick(now));
        let since = self.back_since.load(Ordering::Relaxed);
        if since != 0 && share(rules, since, now) == WHOLE {
            // The rules remember since when it is back; requests need not.
            self.back_since.store(0, Ordering::Relaxed);
        }
        turn
    }

    fn change(
        &self,
        now: u64,
        why: &'static str,
        change: impl FnOnce(&mut Health) -> Option<Turn>,
    ) -> Option<Turn> {
        let mut held = self.lock();
        let turn = change(&mut held.health);
        for part in [Part::Head, Part::Body] {
            let is_counted = held.health.failures_by(part) > 0;
            self.counted(part).store(is_counted, Ordering::Relaxed);
        }
        let turn = turn?;
        held.since = now;
        held.why = match turn {
            Turn::Ejected(_) | Turn::Down => {
                held.ejections = held.ejections.saturating_add(1);
                Some(why)
            }
            Turn::Returned | Turn::Up => None,
        };
        let (out, back) = match held.health.state(now) {
            State::Up => (0, 0),
            State::Returning(since) => (0, since.max(1)),
            State::Ejected(until) => (until, 0),
            State::Down => (u64::MAX, 0),
        };
        self.out_until.store(out, Ordering::Relaxed);
        self.back_since.store(back, Ordering::Relaxed);
        Some(turn)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// How it stands for a request. `draw` is drawn by lot below [`WHOLE`]: one
    /// that returns takes part in its share of the choices only.
    pub(crate) fn candidate(&self, rules: &Rules, now: u64, draw: u32) -> Candidate {
        let in_flight = self.remote.traffic().in_flight();
        let share = self.vitals.share(rules, now);
        let standing = if self.vitals.is_out(now) {
            Standing::Out
        } else if self.remote.is_full() {
            Standing::Full
        } else if draw >= share {
            Standing::Spared
        } else {
            Standing::Ready
        };
        Candidate {
            standing,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        eject_after: 1,
        eject_ms: 1_000,
        eject_max_ms: 5_000,
        slow_start_ms: 1_000,
        fall: 1,
        rise: 1,
    };

    #[test]
    fn what_requests_read_follows_the_rules() {
        let vitals = Vitals::default();
        assert!(vitals.is_plain() && vitals.share(&RULES, 0) == WHOLE);
        let failed = vitals.failed(&RULES, 100, true, (Part::Head, "connect"));
        assert!(failed.is_some());
        assert!(vitals.is_out(1_099) && !vitals.is_out(1_100));
        assert_eq!(vitals.told(100).why, Some("connect"));
        assert!(vitals.share(&RULES, 1_100) < 100, "before anybody said so");
        assert_eq!(vitals.tick(&RULES, 1_200), Some(Turn::Returned));
        assert_eq!(vitals.tick(&RULES, 1_200), None);
        assert!((200..300).contains(&vitals.share(&RULES, 1_300)));
        assert!(!vitals.is_plain());
        vitals.tick(&RULES, 2_200);
        assert!(vitals.is_plain() && vitals.share(&RULES, 2_200) == WHOLE);
        assert!(vitals.checked(&RULES, 3_000, false, "check").is_some());
        assert!(vitals.is_out(u64::MAX - 1));
        assert!(vitals.checked(&RULES, 3_001, true, "check").is_some());
        assert!(!vitals.is_out(3_001));
    }

    #[test]
    fn a_success_wipes_out_what_was_counted() {
        for (part, other) in [(Part::Head, Part::Body), (Part::Body, Part::Head)] {
            let vitals = Vitals::default();
            vitals.failed(&RULES, 0, false, (part, "reset"));
            vitals.succeeded(other);
            assert_eq!(vitals.told(0).failures, 1);
            vitals.succeeded(part);
            assert_eq!(vitals.told(0).failures, 0);
        }
    }
}
