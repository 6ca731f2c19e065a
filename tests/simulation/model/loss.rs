//! What the store forgets, and what may therefore be demanded of it.

use std::collections::{HashMap, HashSet};

use sumun::room::snapshot::Rules;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;

use super::line::UNDER_WAY_MS;
use super::{Memory, Model, Place, Session};

/// What a gateway heard so lately may not be on its disk yet.
const UNSAVED_MS: u64 = 2_000;

/// What the store knew at a moment that it will fall back to.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    time: Timestamp,
    rules: Rules,
    generation: Generation,
    called: Number,
    stored: HashMap<SessionKey, Timestamp>,
}

/// A session may come back, until then.
fn doubt(undone: &mut HashMap<SessionKey, Timestamp>, key: SessionKey, until: Timestamp) {
    let known = undone.entry(key).or_default();
    *known = until.max(*known);
}

impl Session {
    /// Its latest expiry that anybody may know.
    fn until(&self) -> Timestamp {
        self.acknowledged.max(self.stored)
    }

    /// Whether the store knows of it, or one of these gateways does that have
    /// told it what they remember.
    fn is_known(&self, pushed: &HashSet<usize>, now: Timestamp) -> bool {
        let told =
            |(gateway, until): (&usize, &Timestamp)| *until > now && pushed.contains(gateway);
        self.stored > now || self.heard.iter().any(told)
    }

    /// Nobody knows of it but its visitor.
    fn forget(&mut self) {
        self.acknowledged = Timestamp(0);
        self.memory = Memory::Gone;
    }
}

impl Model {
    /// The store forgot everything.
    pub(crate) fn store_lost(&mut self) {
        self.lost = true;
        self.pushed.clear();
        self.offers.clear();
        self.undo_resets(Generation(0));
        self.called = Number(0);
        self.recovering = None;
        self.highest = Number(0);
        self.doubt_torn_endings();
        self.only_delivered();
        self.store_knows(&HashMap::new());
    }

    /// Resets after `generation` are undone, until a gateway tells of them: the
    /// places are there again, once they are heard from.
    fn undo_resets(&mut self, generation: Generation) {
        self.generation = self.generation.min(generation);
        for (number, (by, mut place)) in std::mem::take(&mut self.voided) {
            if by <= generation {
                self.voided.insert(number, (by, place));
                continue;
            }
            // Gateways that knew of the reset have forgotten it.
            place.sure = false;
            // Void, it may have been called over.
            if number < self.called {
                place.called.get_or_insert(self.time);
            }
            if place.called.is_none() {
                self.uncalled.insert(number);
            }
            self.line.entry(number).or_insert(place);
        }
    }

    /// The line as a reset leaves it.
    fn make_void(&mut self, generation: Generation, is_void: impl Fn(&Place) -> bool) {
        for (number, place) in std::mem::take(&mut self.line) {
            if is_void(&place) {
                self.voided.insert(number, (generation, place));
            } else {
                self.line.insert(number, place);
            }
        }
    }

    /// The store as it is now, to be fallen back to.
    pub(crate) fn keep(&self) -> Kept {
        let stored = self.sessions.iter();
        let living = stored.filter(|(_, s)| !s.ended && s.stored > self.time);
        Kept {
            time: self.time,
            rules: self.rules.clone(),
            generation: self.generation,
            called: self.called,
            stored: living.map(|(key, s)| (*key, s.stored)).collect(),
        }
    }

    /// The store forgot what happened since `kept`: its time, its rules, its
    /// generation and its watermark go back, until a gateway tells it better.
    pub(crate) fn store_fell_back(&mut self, kept: Kept) {
        self.lost = true;
        self.pushed.clear();
        self.time = kept.time;
        self.rules = kept.rules;
        self.undo_resets(kept.generation);
        self.called = kept.called;
        self.offers.clear();
        self.recovering = Some(kept.time);
        self.highest = Number(0);
        self.only_delivered();
        let ended = kept
            .stored
            .iter()
            .filter(|(key, _)| self.sessions[*key].ended);
        let ended: Vec<_> = ended.map(|(key, until)| (*key, *until)).collect();
        for (key, until) in ended {
            doubt(&mut self.undone, key, until);
        }
        self.doubt_torn_endings();
        self.store_knows(&kept.stored);
    }

    /// Endings that no gateway may remember: the reply was lost, or the
    /// process that heard it died within its last second. What others bring
    /// back then keeps a slot until it expires.
    fn doubt_torn_endings(&mut self) {
        for (key, session) in &self.sessions {
            if session.ended && (self.torn || !session.end_told) {
                doubt(&mut self.undone, *key, session.until());
            }
        }
    }

    /// A number that reached nobody is not missed.
    fn only_delivered(&mut self) {
        self.line.retain(|_, place| place.delivered);
        self.uncalled
            .retain(|number| self.line.contains_key(number));
    }

    /// Sessions live by what their visitors were told, and by what the store
    /// still knows.
    fn store_knows(&mut self, stored: &HashMap<SessionKey, Timestamp>) {
        self.alive.clear();
        for (key, session) in &mut self.sessions {
            session.stored = stored.get(key).copied().unwrap_or_default();
            let until = session.until();
            if !session.ended && until > self.time {
                self.alive.insert((until, *key));
            }
        }
    }

    /// A gateway showed the store that it has forgotten something: all are asked.
    pub(crate) fn found_out(&mut self) {
        self.lost = true;
        self.pushed.clear();
    }

    /// Whether the store forgot something and has not been told of it by all.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.lost
    }

    /// A gateway told the store of a later time; what has begun since the loss
    /// takes as long as it would have.
    pub(crate) fn goes_on_from(&mut self, time: Timestamp) {
        let missing = time.0.saturating_sub(self.time.0);
        self.time.0 += missing;
        if let Some(since) = &mut self.recovering {
            since.0 += missing;
        }
    }

    /// A gateway told the store all that it remembers.
    pub(crate) fn pushed(&mut self, gateway: &str) {
        let index = gateway.rsplit('-').next().and_then(|n| n.parse().ok());
        self.pushed.extend(index.filter(|_: &usize| self.lost));
    }

    /// A recovery is over. It does not wait for a gateway that was cut off for
    /// long, and one that died has forgotten its last second: what only that one
    /// was told is not known. Of what others know an older part of, nothing is
    /// lost, for the store keeps every session for a while where one is missed.
    pub(super) fn recovered(&mut self) {
        let (now, idle) = (self.time, self.rules.session_idle_ms);
        let since = self.recovering.take().unwrap_or(now);
        if !std::mem::take(&mut self.lost) {
            return;
        }
        let pushed = std::mem::take(&mut self.pushed);
        // Its clock may be slower by a tenth, and what it pushed come once more.
        let young = |at: &Timestamp| now.0 < at.0 + idle + idle / 5 + UNDER_WAY_MS;
        let one_is_missed = self
            .began
            .iter()
            .any(|(gateway, at)| !pushed.contains(gateway) || young(at));
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            let session = self.session(key);
            let told = session.told.is_some_and(|(by, _)| pushed.contains(&by));
            let whole = session.told.is_none() || (told && session.memory == Memory::Kept);
            // One that ended may have been brought back, and nothing expires meanwhile.
            let ended = session.ended && self.undone.get(&key).is_none_or(|until| *until <= since);
            if one_is_missed && !ended {
                doubt(&mut self.undone, key, Timestamp(now.0 + idle));
            }
            if whole {
                continue;
            }
            doubt(&mut self.undone, key, session.until());
            if session.is_known(&pushed, now) {
                self.counts.kept += u64::from(session.until() > now);
            } else {
                self.set_expiry(key, Session::forget);
            }
        }
    }

    /// A gateway told the store of a generation that it had forgotten.
    pub(crate) fn told_generation(&mut self, generation: Generation) {
        if generation > self.generation {
            self.generation = generation;
            for (number, place) in &mut self.line {
                // A gateway that knew of it numbered by itself.
                if self
                    .floors
                    .get(&generation)
                    .is_none_or(|floor| number >= floor)
                {
                    place.generation = generation;
                }
            }
            self.make_void(generation, |place| place.generation < generation);
            self.only_delivered();
        }
    }

    /// The operator began a new generation: every place is void.
    pub(crate) fn reset(&mut self, generation: Generation, floor: Number) {
        self.generation = generation;
        self.floors.insert(generation, floor);
        self.make_void(generation, |_| true);
        self.uncalled.clear();
        self.offers.clear();
    }

    /// A gateway died, with what it had not written to its disk: its last
    /// second, or all of it when the disk is gone too.
    pub(crate) fn died(&mut self, gateway: usize, disk: bool) {
        self.torn = true;
        let now = self.time.0;
        for session in self.sessions.values_mut() {
            let told = session.told.filter(|(by, _)| *by == gateway);
            if told.is_some_and(|(_, at)| !disk || at.0 + UNSAVED_MS > now) {
                session.memory = Memory::Unsaved;
                session.heard.remove(&gateway);
            }
        }
        self.forgot(gateway);
    }

    /// A gateway's process begins.
    pub(crate) fn began(&mut self, gateway: usize, at: Timestamp) {
        self.began.insert(gateway, at);
    }

    /// A gateway died, or was cut off, with signs of life not yet passed on.
    pub(crate) fn forgot(&mut self, gateway: usize) {
        for place in self.line.values_mut() {
            if place.polled.1 == Some(gateway) || place.fresh && place.by == Some(gateway) {
                place.sure = false;
            }
        }
    }

    /// A gateway heard that a session has ended.
    pub(crate) fn end_told(&mut self, key: SessionKey) {
        self.sessions.entry(key).or_default().end_told = true;
    }

    /// What is known of a session.
    pub(crate) fn session(&self, key: SessionKey) -> Session {
        self.sessions.get(&key).cloned().unwrap_or_default()
    }
}
