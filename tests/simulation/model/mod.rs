//! What must hold, kept apart from the code under test: who is inside, who
//! waits, who was called, and what time it is. Every store call passes here
//! with its reply, also a reply that the gateway then never receives.

mod line;
mod loss;
mod promise;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sumun::room::snapshot::{OFFER_MS, RECOVERY_MIN_MS, Rules, Snapshot, UNPROVEN_MS};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;

pub(crate) use loss::Kept;
pub(crate) use promise::{Broken, Promise, Tried};

use super::figures::Counts;
use promise::Witness;

/// Who knows of a session, but for the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The gateway that heard of it last.
    #[default]
    Kept,
    /// That gateway died before its disk had it.
    Unsaved,
    /// Then the store died too: nobody but its visitor.
    Gone,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub begun: Timestamp,
    /// The latest expiry that reached a visitor.
    pub acknowledged: Timestamp,
    /// The latest expiry that this life of the store has given.
    pub stored: Timestamp,
    /// Whether its visitor was heard from inside.
    pub proven: bool,
    pub ended: bool,
    /// Whether a gateway knows that it ended.
    pub end_told: bool,
    /// The gateway that heard of it last, and when.
    pub told: Option<(usize, Timestamp)>,
    /// The latest expiry that each gateway heard of.
    pub heard: BTreeMap<usize, Timestamp>,
    pub memory: Memory,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub generation: Generation,
    /// The last sign of life, and the gateway that took it; `None`: the store.
    pub polled: (Timestamp, Option<usize>),
    /// Whether he polled since the number was issued.
    pub fresh: bool,
    /// Whether the number reached him, and the gateway that told him.
    pub delivered: bool,
    pub by: Option<usize>,
    /// Whether the line of his signs of life reaches the store unbroken.
    pub sure: bool,
    /// Since when it does again, after a gap.
    pub sure_since: Timestamp,
    pub called: Option<Timestamp>,
}

pub(crate) struct Model {
    pub witness: Witness,
    pub time: Timestamp,
    pub rules: Rules,
    pub generation: Generation,
    /// The lowest number that each reset left good.
    floors: BTreeMap<Generation, Number>,
    pub sessions: HashMap<SessionKey, Session>,
    alive: BTreeSet<(Timestamp, SessionKey)>,
    pub line: BTreeMap<Number, Place>,
    /// What a reset has made void, and which: the store may yet forget it.
    voided: BTreeMap<Number, (Generation, Place)>,
    pub uncalled: BTreeSet<Number>,
    offers: BTreeMap<Number, Timestamp>,
    called: Number,
    issued: HashSet<Number>,
    /// The highest number that this life of the store has issued.
    highest: Number,
    /// Sessions that are over, or known to nobody, and that somebody's older
    /// memory may bring back, and until when.
    undone: HashMap<SessionKey, Timestamp>,
    /// Whether a gateway ever died.
    torn: bool,
    /// When each gateway's process began.
    began: BTreeMap<usize, Timestamp>,
    /// Since when the store recovers, until a snapshot says that it no longer does.
    recovering: Option<Timestamp>,
    /// Whether the store forgot and has not recovered, and which gateways have
    /// told it since what they remember.
    lost: bool,
    pushed: HashSet<usize>,
    /// When a recovery was last seen.
    recovered: Timestamp,
    pub counts: Counts,
}

impl Model {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            witness: Witness::default(),
            time: Timestamp(0),
            rules,
            generation: Generation(0),
            floors: BTreeMap::new(),
            sessions: HashMap::new(),
            alive: BTreeSet::new(),
            line: BTreeMap::new(),
            voided: BTreeMap::new(),
            uncalled: BTreeSet::new(),
            offers: BTreeMap::new(),
            called: Number(0),
            issued: HashSet::new(),
            highest: Number(0),
            undone: HashMap::new(),
            torn: false,
            began: BTreeMap::new(),
            recovering: None,
            lost: false,
            pushed: HashSet::new(),
            recovered: Timestamp(0),
            counts: Counts::default(),
        }
    }

    /// Notes what is done, for the report of a broken promise.
    pub(crate) fn note(&mut self, action: &str) {
        let action = format!("{} {action}", self.time.0);
        self.witness.note(&action);
    }

    pub(crate) fn demand(&self, promise: Promise, holds: bool, what: impl FnOnce() -> String) {
        self.witness.demand(promise, holds, what);
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

    /// Whether the store may keep a session that is over.
    fn may_live(&self, key: SessionKey) -> bool {
        let session = self.session(key);
        let lives = !session.ended && session.acknowledged.max(session.stored) > self.time;
        !lives
            && self
                .undone
                .get(&key)
                .is_some_and(|until| *until > self.time)
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

    /// Nobody is admitted in a recovery: it is over, though nobody saw it end.
    pub(crate) fn admits(&mut self, who: &str) {
        let (time, since) = (self.time, self.recovering);
        let over = since.is_none_or(|since| time.0 >= since.0 + RECOVERY_MIN_MS);
        self.demand(Promise::Limit, over, || {
            format!("{who} was admitted in the recovery since {since:?}")
        });
        self.recovered();
    }

    /// Promise 1, at the moment of an admission; then the session is inside.
    pub(crate) fn admitted(&mut self, key: SessionKey, expires: Timestamp, who: &str) {
        let time = self.time;
        let inside = self.inside();
        let limit = self.rules.limit.unwrap_or(u64::MAX);
        self.demand(Promise::Limit, inside < limit, || {
            format!("{who} was admitted while {inside} of {limit} were inside")
        });
        self.demand(Promise::Absent, expires.0 <= time.0 + UNPROVEN_MS, || {
            format!("{who} was given {expires:?} without proof at {time:?}")
        });
        self.set_expiry(key, |session| {
            session.begun = time;
            session.stored = expires;
        });
        self.counts.most_inside = self.counts.most_inside.max(inside + 1);
    }

    /// A newcomer is inside: now, or since an earlier copy of the same call.
    pub(crate) fn came_in(&mut self, key: SessionKey, expires: Timestamp) {
        let before = self.session(key);
        if self.may_live(key) {
            return;
        }
        if before.ended || before.stored.max(before.acknowledged) <= self.time {
            return self.walked_in(key, expires);
        }
        self.demand(Promise::Inside, expires >= before.stored, || {
            format!(
                "a call that came again left {expires:?} of {:?}",
                before.stored
            )
        });
    }

    fn walked_in(&mut self, key: SessionKey, expires: Timestamp) {
        self.admits("a newcomer");
        let first = self.uncalled.iter().find(|number| self.waits(**number));
        self.demand(Promise::Order, first.is_none(), || {
            let place = first.map(|first| &self.line[first]);
            format!("a newcomer walked in while {first:?} waits: {place:?}")
        });
        self.admitted(key, expires, "a newcomer");
        self.counts.walked_in += 1;
    }

    pub(crate) fn acknowledged(&mut self, key: SessionKey, expires: Timestamp, gateway: usize) {
        let time = self.time;
        self.set_expiry(key, |session| {
            session.acknowledged = session.acknowledged.max(expires);
            if session.told.is_none() {
                // A reply that was lost tells nobody: he is inside from here on.
                session.begun = time;
            }
            session.told = Some((gateway, time));
            let known = session.heard.entry(gateway).or_default();
            *known = expires.max(*known);
            session.memory = Memory::Kept;
        });
    }

    /// A touch extended a session (promise 5), or found none (promise 4).
    pub(crate) fn touched(&mut self, key: SessionKey, until: Timestamp, answer: Option<Timestamp>) {
        let now = self.time;
        let session = self.session(key);
        let over = session.ended || session.memory == Memory::Gone || until <= now;
        self.demand(Promise::Inside, over || answer.is_some(), || {
            format!("a pass until {until:?} was refused at {now:?}")
        });
        let Some(expires) = answer else {
            return;
        };
        let over = session.ended && !self.undone.contains_key(&key);
        self.demand(Promise::Token, !over, || {
            "an ended session lives again".to_owned()
        });
        // In a recovery nothing expires, whoever waits.
        let others_wait =
            self.recovering.is_none() && self.uncalled.iter().any(|number| self.waits(*number));
        let old = now.0 >= session.begun.0 + self.rules.session_max_ms;
        let kept = self.undone.get(&key).copied().unwrap_or_default();
        let known = session.stored.max(session.acknowledged).max(kept);
        self.demand(
            Promise::Absent,
            !(old && others_wait && expires > known),
            || {
                format!(
                    "a session begun at {:?} was extended to {expires:?}",
                    session.begun
                )
            },
        );
        let most = known.0.max(now.0 + self.rules.session_idle_ms);
        self.demand(Promise::Absent, expires.0 <= most, || {
            format!("a session was extended to {expires:?} at {now:?}")
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
        self.demand(Promise::Time, meta.time >= self.time, || {
            format!(
                "the store's time went back from {:?} to {:?}",
                self.time, meta.time
            )
        });
        self.demand(Promise::Time, meta.time == self.time, || {
            format!(
                "the store's time is {:?} and should be {:?}",
                meta.time, self.time
            )
        });
        if meta.recovery.is_some() {
            self.recovered = meta.time;
            return;
        }
        self.recovered();
        let inside = self.inside();
        let undone = self.undone.keys().filter(|key| self.may_live(**key));
        let most = inside + undone.count() as u64;
        self.demand(Promise::Absent, snapshot.sessions <= most, || {
            format!(
                "the store holds {} sessions and {inside} live",
                snapshot.sessions
            )
        });
        self.demand(
            Promise::Limit,
            snapshot.sessions + meta.ghosts >= inside,
            || {
                let (sessions, ghosts) = (snapshot.sessions, meta.ghosts);
                format!("{inside} are inside, the store knows {sessions} and {ghosts} ghosts")
            },
        );
        for (number, due) in &snapshot.offers {
            let most = meta.time.0 + OFFER_MS;
            self.demand(
                Promise::Absent,
                due.0 <= most && *due > meta.stepped,
                || {
                    format!(
                        "the offer of {number} stands until {due:?} at {:?}",
                        meta.time
                    )
                },
            );
        }
    }

    /// A recovery that is over gives every standing offer its time anew; the
    /// model forgets them, which only weakens what it demands.
    pub(crate) fn recovering(&mut self, cause: &str) {
        self.counts.recoveries += 1;
        self.note(&format!("a recovery begins: {cause}"));
        self.recovering = Some(self.time);
        self.recovered = self.time;
        self.offers.clear();
    }
}
