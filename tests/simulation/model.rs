//! What must hold, kept apart from the code under test: who is inside, who
//! waits, who was called, and what time it is. Every store call passes here
//! with its reply, also a reply that the gateway then never receives.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use sumun::room::snapshot::{OFFER_MS, RECOVERY_MIN_MS, Rules, Snapshot, UNPROVEN_MS};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;

use super::figures::Counts;

/// How long ago a called ticket may have been called and still enter.
const LATE_MS: u64 = 600_000;

/// What a truth about a waiting visitor rests on: his last poll, if it is
/// younger than this part of the window, counts as a sign of life.
const POLL_MARGIN_MS: u64 = 10_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub begun: Timestamp,
    /// The latest expiry that reached a visitor.
    pub acknowledged: Timestamp,
    /// The latest expiry that this life of the store has given.
    pub stored: Timestamp,
    pub ended: bool,
    pub proven: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub generation: Generation,
    /// The last sign of life, and the gateway that took it; `None`: the store.
    pub polled: (Timestamp, Option<usize>),
    /// Whether he polled since the number was issued.
    pub fresh: bool,
    /// Whether the number reached him.
    pub delivered: bool,
    /// Whether the line of his signs of life reaches the store unbroken.
    pub sure: bool,
    pub called: Option<Timestamp>,
}

pub(crate) struct Model {
    pub seed: u64,
    pub step: u64,
    pub actions: VecDeque<String>,
    pub time: Timestamp,
    pub rules: Rules,
    pub generation: Generation,
    pub sessions: HashMap<SessionKey, Session>,
    alive: BTreeSet<(Timestamp, SessionKey)>,
    pub line: BTreeMap<Number, Place>,
    pub uncalled: BTreeSet<Number>,
    offers: BTreeMap<Number, Timestamp>,
    called: Number,
    issued: HashSet<Number>,
    /// Since when the store recovers, until a snapshot says that it no longer does.
    recovering: Option<Timestamp>,
    pub counts: Counts,
}

impl Model {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        Self {
            seed,
            step: 0,
            actions: VecDeque::new(),
            time: Timestamp(0),
            rules,
            generation: Generation(0),
            sessions: HashMap::new(),
            alive: BTreeSet::new(),
            line: BTreeMap::new(),
            uncalled: BTreeSet::new(),
            offers: BTreeMap::new(),
            called: Number(0),
            issued: HashSet::new(),
            recovering: None,
            counts: Counts::default(),
        }
    }

    /// Notes what is done, for the report of a violation.
    pub(crate) fn note(&mut self, action: impl FnOnce() -> String) {
        self.step += 1;
        if self.actions.len() == 20 {
            self.actions.pop_front();
        }
        let action = format!("{:>7} {} {}", self.step, self.time.0, action());
        self.actions.push_back(action);
    }

    /// Panics with all that is needed to replay.
    pub(crate) fn violated(&self, promise: &str, what: &str) -> ! {
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        panic!(
            "promise {promise} is broken: {what}\nseed {} step {} (replay: SUMUN_SEED={})\n\
             the last actions:\n{}",
            self.seed,
            self.step,
            self.seed,
            actions.join("\n")
        );
    }

    pub(crate) fn demand(&self, promise: &str, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(promise, &what());
        }
    }

    /// Sessions that may still be used: known to a visitor or to the store,
    /// neither ended nor expired.
    pub(crate) fn inside(&mut self) -> u64 {
        while let Some(&(expiry, _)) = self.alive.first() {
            if expiry > self.time {
                break;
            }
            self.alive.pop_first();
        }
        self.alive.len() as u64
    }

    fn set_expiry(
        &mut self,
        key: SessionKey,
        change: impl FnOnce(&mut Session),
    ) -> (Timestamp, Timestamp) {
        let session = self.sessions.entry(key).or_default();
        let before = session.acknowledged.max(session.stored);
        change(session);
        let after = session.acknowledged.max(session.stored);
        self.alive.remove(&(before, key));
        if !session.ended && after > self.time {
            self.alive.insert((after, key));
        }
        (before, after)
    }

    /// Promise 1, at the moment of an admission; then the session is inside.
    pub(crate) fn admitted(&mut self, key: SessionKey, expires: Timestamp, who: &str) {
        let inside = self.inside();
        let limit = self.rules.limit.unwrap_or(u64::MAX);
        self.demand("1", inside < limit, || {
            format!("{who} was admitted while {inside} of {limit} were inside")
        });
        let time = self.time;
        let since = self.recovering;
        let over = since.is_none_or(|since| time.0 >= since.0 + RECOVERY_MIN_MS);
        self.demand("1", over, || {
            format!("{who} was admitted in the recovery since {since:?}")
        });
        self.demand("5", expires.0 <= time.0 + UNPROVEN_MS, || {
            format!("{who} was given {expires:?} without proof at {time:?}")
        });
        self.set_expiry(key, |session| {
            session.begun = time;
            session.stored = expires;
        });
        self.counts.most_inside = self.counts.most_inside.max(inside + 1);
    }

    pub(crate) fn walked_in(&mut self, key: SessionKey, expires: Timestamp) {
        let first = self.uncalled.iter().find(|number| self.waits(**number));
        if let Some(first) = first {
            let text = format!(
                "a newcomer walked in while {first} waits: {:?}",
                self.line[first]
            );
            self.violated("2", &text);
        }
        self.admitted(key, expires, "a newcomer");
        self.counts.walked_in += 1;
    }

    /// A ticket given out by the store or by a gateway on its own.
    pub(crate) fn issued(&mut self, number: Number, by: Option<usize>, sure: bool) {
        let new = self.issued.insert(number);
        self.demand("3", new, || format!("{number} was issued twice"));
        let place = Place {
            generation: self.generation,
            polled: (self.time, by),
            fresh: by.is_none(),
            delivered: by.is_some(),
            sure,
            called: None,
        };
        self.line.insert(number, place);
        self.uncalled.insert(number);
        self.counts.issued += 1;
    }

    /// Whether this number's visitor was heard from lately, without a gap
    /// that the store cannot know about.
    fn waits(&self, number: Number) -> bool {
        let Some(place) = self.line.get(&number) else {
            return false;
        };
        let margin = self.rules.window_ms - POLL_MARGIN_MS.min(self.rules.window_ms / 3);
        // A number never heard from again lives for 20 s only.
        let most = if place.fresh {
            margin.min(15_000)
        } else {
            margin
        };
        place.sure && place.generation == self.generation && self.time.0 < place.polled.0.0 + most
    }

    /// A visitor polled and a gateway heard him.
    pub(crate) fn polled(&mut self, number: Number, gateway: usize, passed_on: bool) {
        let waits = self.waits(number) && passed_on;
        let time = self.time;
        if let Some(place) = self.line.get_mut(&number) {
            place.sure = waits;
            place.polled = (time, Some(gateway));
            place.fresh = false;
        }
    }

    pub(crate) fn delivered(&mut self, number: Number) {
        if let Some(place) = self.line.get_mut(&number) {
            place.delivered = true;
        }
    }

    /// The store heard of a living number.
    pub(crate) fn heard(&mut self, number: Number) {
        let time = self.time;
        let window = self.rules.window_ms;
        if let Some(place) = self.line.get_mut(&number) {
            place.sure |= time.0 < place.polled.0.0 + window;
        }
    }

    /// A gateway died, or was cut off, with signs of life not yet passed on.
    pub(crate) fn forgot(&mut self, gateway: usize) {
        for place in self.line.values_mut() {
            if place.polled.1 == Some(gateway) {
                place.sure = false;
            }
        }
    }

    /// A number leaves the line: admitted, given up, or void.
    pub(crate) fn gone(&mut self, number: Number) {
        self.line.remove(&number);
        self.uncalled.remove(&number);
        self.offers.remove(&number);
    }

    /// A ticket was let in (promises 1, 2 and 3).
    pub(crate) fn claimed(&mut self, number: Number, key: SessionKey, expires: Timestamp) {
        let inside = self.inside();
        let now = self.time;
        let before = self
            .offers
            .range(..number)
            .filter(|(_, due)| **due > now)
            .count() as u64;
        let limit = self.rules.limit.unwrap_or(u64::MAX);
        self.demand("2", inside + before < limit, || {
            format!("{number} took a slot of {limit} with {inside} inside and {before} before it")
        });
        let place = self.line.get(&number);
        let uncalled = place.is_some_and(|place| place.called.is_none());
        self.demand("2", !uncalled, || format!("{number} went in uncalled"));
        let valid = place.is_some() || self.unacknowledged(key);
        self.demand("8", valid, || {
            format!("{number} is void or used, and went in")
        });
        self.admitted(key, expires, "a ticket");
        self.gone(number);
        self.counts.claimed += 1;
    }

    /// Let in before, and nobody was told before the store was lost.
    fn unacknowledged(&self, key: SessionKey) -> bool {
        self.sessions
            .get(&key)
            .is_some_and(|session| session.acknowledged == Timestamp(0))
    }

    /// A called ticket asked and was told to wait: its offer stands.
    pub(crate) fn held(&mut self, number: Number) {
        self.counts.held += 1;
        if self.recovering.is_none() && self.line.contains_key(&number) {
            self.offers
                .insert(number, Timestamp(self.time.0 + OFFER_MS));
        }
    }

    pub(crate) fn refused_as_late(&mut self, number: Number) {
        self.counts.too_late += 1;
        let Some(place) = self.line.get(&number) else {
            return;
        };
        let called = place.called;
        let late = called.is_some_and(|at| self.time.0 >= at.0 + LATE_MS);
        self.demand("3", late, || {
            format!(
                "{number}, called at {called:?}, is too late at {:?}",
                self.time
            )
        });
    }

    pub(crate) fn refused_as_spent(&self, number: Number) {
        let waits = self.line.contains_key(&number);
        self.demand("3", !waits, || {
            format!("{number} is refused as spent and was never let in")
        });
    }

    pub(crate) fn acknowledged(&mut self, key: SessionKey, expires: Timestamp) {
        self.set_expiry(key, |session| {
            session.acknowledged = session.acknowledged.max(expires);
        });
    }

    /// A touch extended a session (promise 5), or found none (promise 4).
    pub(crate) fn touched(&mut self, key: SessionKey, until: Timestamp, answer: Option<Timestamp>) {
        let now = self.time;
        let session = self.sessions.get(&key).cloned().unwrap_or_default();
        let Some(expires) = answer else {
            if !session.ended && until > now {
                self.counts.lost_passes += 1;
                self.violated(
                    "4",
                    &format!("a pass until {until:?} was refused at {now:?}"),
                );
            }
            return;
        };
        self.demand("8", !session.ended, || {
            "an ended session lives again".to_owned()
        });
        let others_wait = self.uncalled.iter().any(|number| self.waits(*number));
        let old = now.0 >= session.begun.0 + self.rules.session_max_ms;
        let known = session.stored.max(session.acknowledged);
        self.demand("5", !(old && others_wait && expires > known), || {
            format!(
                "a session begun at {:?} was extended to {expires:?}",
                session.begun
            )
        });
        self.set_expiry(key, |session| {
            session.stored = session.stored.max(expires);
            session.proven = true;
        });
    }

    pub(crate) fn ended(&mut self, key: SessionKey) {
        self.set_expiry(key, |session| session.ended = true);
    }

    /// What every snapshot must agree with.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        let meta = &snapshot.meta;
        self.demand("(time)", meta.time >= self.time, || {
            format!(
                "the store's time went back from {:?} to {:?}",
                self.time, meta.time
            )
        });
        self.demand("(time)", meta.time == self.time, || {
            format!(
                "the store's time is {:?} and should be {:?}",
                meta.time, self.time
            )
        });
        if meta.recovery.is_some() {
            return;
        }
        self.recovering = None;
        let inside = self.inside();
        self.demand("5", snapshot.sessions <= inside, || {
            format!(
                "the store holds {} sessions and {inside} live",
                snapshot.sessions
            )
        });
        self.demand("1", snapshot.sessions + meta.ghosts >= inside, || {
            let (sessions, ghosts) = (snapshot.sessions, meta.ghosts);
            format!("{inside} are inside, the store knows {sessions} and {ghosts} ghosts")
        });
        for (number, due) in &snapshot.offers {
            let most = meta.time.0 + OFFER_MS;
            self.demand("5", due.0 <= most && *due > meta.stepped, || {
                format!(
                    "the offer of {number} stands until {due:?} at {:?}",
                    meta.time
                )
            });
        }
    }

    /// A recovery that is over gives every standing offer its time anew; the
    /// model forgets them, which only weakens what it demands.
    pub(crate) fn recovering(&mut self, cause: &str) {
        self.counts.recoveries += 1;
        self.note(|| format!("a recovery begins: {cause}"));
        self.recovering = Some(self.time);
        self.offers.clear();
    }

    /// The watermark moved: those passed over are absent, the others called,
    /// in order (promises 2 and 3).
    pub(crate) fn called(&mut self, to: Number, offers: &[Number]) {
        let before = self.called;
        for pair in offers.windows(2) {
            self.demand("2", pair[0] < pair[1], || {
                format!("called out of order: {pair:?}")
            });
        }
        self.demand(
            "2",
            offers.first().is_none_or(|first| *first >= before),
            || format!("called again below {before}: {:?}", offers.first()),
        );
        let offered: HashSet<&Number> = offers.iter().collect();
        let passed: Vec<Number> = self.uncalled.range(..to).copied().collect();
        for number in passed {
            let absent = offered.contains(&number) || !self.waits(number);
            self.demand("3", absent, || {
                format!(
                    "{number} waits and was passed over: {:?}",
                    self.line[&number]
                )
            });
            self.uncalled.remove(&number);
            if let Some(place) = self.line.get_mut(&number) {
                place.called = Some(self.time);
            }
        }
        for number in offers {
            self.offers
                .insert(*number, Timestamp(self.time.0 + OFFER_MS));
        }
        self.called = before.max(to);
        let now = self.time;
        self.offers.retain(|_, due| *due > now);
    }

    /// The store forgot everything.
    pub(crate) fn store_lost(&mut self) {
        self.offers.clear();
        self.called = Number(0);
        self.recovering = None;
        self.line.retain(|_, place| place.delivered);
        self.uncalled
            .retain(|number| self.line.contains_key(number));
        let keys: Vec<SessionKey> = self.alive.iter().map(|(_, key)| *key).collect();
        for key in keys {
            self.set_expiry(key, |session| session.stored = Timestamp(0));
        }
    }

    /// The operator began a new generation: every place is void.
    pub(crate) fn reset(&mut self, generation: Generation) {
        self.generation = generation;
        self.line.clear();
        self.uncalled.clear();
        self.offers.clear();
    }

    /// A position that is said to be exact lies between those surely living
    /// and all who might.
    pub(crate) fn position(&mut self, number: Number, position: u64) {
        let before = self.uncalled.range(..number);
        let (mut sure, mut all) = (0, 0);
        for other in before {
            all += 1;
            sure += u64::from(self.waits(*other));
        }
        let most = all + self.called_before(number) + 1;
        self.demand("(position)", sure < position && position <= most, || {
            format!("{number} is shown {position}, {sure} surely wait before it, at most {most}")
        });
        self.counts.checked_positions += 1;
    }

    fn called_before(&self, number: Number) -> u64 {
        self.line
            .range(..number)
            .filter(|(_, place)| place.called.is_some())
            .count() as u64
    }
}
