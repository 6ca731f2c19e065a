//! Losing and healing: when a recovery begins, what gateways bring back, and
//! when it is over (docs/architecture.md).

use std::cmp::Ordering;

use super::{Arrival, EventState, Row};
use crate::room::share;
use crate::room::snapshot::{
    Cause, GATEWAY_GONE_MS, OFFER_MS, RECOVERY_GRACE_MS, RECOVERY_MIN_MS, Recovery,
};
use crate::room::ticket::Number;
use crate::room::time::Timestamp;
use crate::store::{Restored, Shadow};

impl EventState {
    /// Another process took this state over from its own file, a second old
    /// at most: a recovery that needs nobody's memory but this.
    pub(crate) fn resume(&mut self, arrival: &Arrival<'_>) {
        arrival.run.clone_into(&mut self.meta.run);
        self.meta.raw = arrival.raw;
        self.begin_recovery(Cause::Run, arrival.raw);
        if let Some(recovery) = &mut self.meta.recovery {
            recovery.remembered = true;
        }
        for row in self.gateways.values_mut() {
            row.pushed = self.meta.recoveries;
        }
    }

    pub(super) fn begin_recovery(&mut self, cause: Cause, raw: u64) {
        let meta = &mut self.meta;
        let now = meta.time.0;
        // A silence in the middle of a recovery brings nothing back that was lost.
        let before = meta.recovery;
        let lossy = before.filter(|before| before.cause != Cause::Silence);
        let cause = match (cause, lossy) {
            (Cause::Silence, Some(before)) => before.cause,
            _ => cause,
        };
        // A silence leaves the store's own memory whole: live gateways are
        // back within moments, and nothing else needs waiting for.
        let wait = if cause == Cause::Silence {
            0
        } else {
            meta.rules.window_ms
        };
        // This state was born without memory, with everybody called whoever
        // had waited before: they are still to be called, in their order.
        if meta.recoveries == 0 && matches!(cause, Cause::Loss | Cause::Token) {
            meta.called = Number(0);
            meta.marks.clear();
        }
        meta.recoveries += 1;
        meta.recovery = Some(Recovery {
            id: meta.recoveries,
            cause,
            until: Timestamp(now + RECOVERY_MIN_MS),
            deadline: Timestamp(now + wait + RECOVERY_GRACE_MS),
            remembered: cause == Cause::Silence,
            unheard: before.is_some_and(|before| before.unheard),
        });
        // Where something was forgotten, numbers above these may have been
        // issued, and the clock may have been set back since.
        let forgot = cause != Cause::Silence;
        let known = if forgot { meta.issued.unix_second() } else { 0 };
        let moment = meta.time.moment_by(raw).max(known * 1000);
        meta.issued = meta.issued.max(Number::restart(moment));
    }

    /// Over when every gateway that was last seen has pushed, or at the deadline.
    pub(super) fn end_recovery(&mut self) {
        let Some(recovery) = self.meta.recovery else {
            return;
        };
        let now = self.meta.time;
        let pushed = self.gateways.values().all(|row| {
            row.pushed >= recovery.id || row.seen.0 + GATEWAY_GONE_MS < recovery.until.0
        });
        let answered = recovery.remembered && pushed && now >= recovery.until;
        if answered || now >= recovery.deadline {
            if recovery.cause != Cause::Silence && self.misses_one(&recovery) {
                self.keep_all();
            }
            let meta = &mut self.meta;
            meta.recovery = None;
            // What was heard during the recovery gets a whole window.
            meta.window_since = now;
            meta.fresh_since = now;
            meta.ghosts_until = Timestamp(now.0 + meta.rules.session_idle_ms);
            for offer in self.offers.values_mut() {
                offer.due = Timestamp(now.0 + OFFER_MS);
            }
        }
    }

    /// Whether a gateway is gone, or has forgotten, that may have told a visitor
    /// of a later end of his session than anybody else knows.
    fn misses_one(&self, recovery: &Recovery) -> bool {
        let idle = self.meta.rules.session_idle_ms;
        let unheard = |row: &Row| {
            row.pushed < recovery.id && row.seen.0.saturating_add(idle) >= recovery.until.0
        };
        recovery.unheard || self.gateways.values().any(unheard)
    }

    /// Lets every session live as if it had been heard from now.
    fn keep_all(&mut self) {
        let until = Timestamp(self.meta.time.0 + self.meta.rules.session_idle_ms);
        while let Some(&(expiry, session)) = self.expiries.first()
            && expiry < until
        {
            self.insert(session, until);
        }
    }

    /// Takes in what a gateway remembers.
    pub(crate) fn restore(&mut self, shadow: &Shadow, raw: u64) -> Restored {
        let began = self.doubt(shadow);
        if let Some(cause) = began {
            self.begin_recovery(cause, raw);
        }
        let mut restored = 0;
        if self.meta.recovery.is_some() {
            restored = self.remember(shadow, raw);
            let id = self.meta.recoveries;
            let knows = self.is_memory(shadow);
            let row = self.row(&shadow.gateway);
            if shadow.complete {
                let forgot = row.pushed < id && !knows;
                row.pushed = id;
                if let Some(recovery) = &mut self.meta.recovery {
                    recovery.unheard |= forgot;
                }
            }
        }
        Restored {
            born: self.meta.born,
            began,
            sessions: restored,
        }
    }

    /// Whether a push shows that this state has forgotten something.
    pub(super) fn doubt(&self, shadow: &Shadow) -> Option<Cause> {
        if self.meta.recovery.is_some() {
            return None;
        }
        if shadow.born.is_some_and(|born| born != self.meta.born) {
            return Some(Cause::Loss);
        }
        if shadow.born.is_some() && shadow.seq > self.meta.seq {
            return Some(Cause::Stale);
        }
        (shadow.token && self.meta.recoveries == 0).then_some(Cause::Token)
    }

    /// Whether a push brings a memory. Where a token told of the loss, who
    /// knows this state alone knows nothing of what was before it.
    fn is_memory(&self, shadow: &Shadow) -> bool {
        let told = |recovery: Recovery| recovery.cause == Cause::Token;
        let blind = self.meta.recovery.is_some_and(told);
        shadow
            .born
            .is_some_and(|born| !blind || born != self.meta.born)
    }

    /// Takes in who is inside, and who was; says how many were not known.
    fn take_back(&mut self, shadow: &Shadow) -> u64 {
        for (session, at) in &shadow.ended {
            self.remove(*session);
            self.ended.entry(*session).or_insert(*at);
        }
        let mut restored = 0;
        for (session, expires) in &shadow.sessions {
            if self.ended.contains_key(session) {
                continue;
            }
            match self.active.get(session) {
                Some(known) if known >= expires => {}
                Some(_) => self.insert(*session, *expires),
                None => {
                    self.insert(*session, *expires);
                    restored += 1;
                }
            }
        }
        self.note_sessions();
        restored
    }

    /// The running time goes on from a later one that a gateway remembers; what
    /// has begun since the loss takes as long as it would have.
    fn go_on_from(&mut self, time: Timestamp) {
        let missing = time.0.saturating_sub(self.meta.time.0);
        self.meta.time.0 += missing;
        if let Some(recovery) = &mut self.meta.recovery {
            recovery.until.0 += missing;
            recovery.deadline.0 += missing;
        }
        for row in self.gateways.values_mut() {
            row.seen.0 += missing;
        }
    }

    pub(super) fn remember(&mut self, shadow: &Shadow, raw: u64) -> u64 {
        let is_memory = self.is_memory(shadow);
        if shadow.born.is_some() {
            self.go_on_from(shadow.time);
        }
        let meta = &mut self.meta;
        if shadow.born.is_some() {
            meta.issued = meta.issued.max(shadow.issued);
            meta.called = meta.called.max(shadow.called).min(meta.issued);
            match shadow.generation.cmp(&meta.generation) {
                Ordering::Greater => self.tally = shadow.tally,
                Ordering::Equal => self.tally.recall(&shadow.tally),
                Ordering::Less => {}
            }
            meta.generation = meta.generation.max(shadow.generation);
            if meta.marks.is_empty() {
                meta.marks.clone_from(&shadow.marks);
            }
            share::recall(meta, &shadow.shares);
            if let Some(recovery) = &mut meta.recovery {
                recovery.remembered |= is_memory;
                recovery.unheard |= shadow.young;
            }
        }
        let restored = self.take_back(shadow);
        for (page, bits) in &shadow.spent {
            self.spent.entry(*page).or_default().or(bits);
        }
        for (page, bits) in &shadow.live {
            self.hear(*page, bits, raw);
        }
        let known = if shadow.token && !is_memory {
            self.meta.rules.limit.unwrap_or(0)
        } else {
            shadow.sessions_known
        };
        // A silence loses nothing: who is not in the store has ended.
        let lossy = self
            .meta
            .recovery
            .is_some_and(|recovery| recovery.cause != Cause::Silence);
        if lossy {
            let active = self.active.len() as u64;
            let total = known.max(self.meta.ghosts + active - restored);
            self.meta.ghosts = total.saturating_sub(active);
            self.meta.ghosts_until = Timestamp(self.meta.time.0 + self.meta.rules.session_idle_ms);
        }
        for (peer, seen) in &shadow.peers {
            if !self.gateways.contains_key(peer) {
                let now = self.meta.time;
                let row = self.row(peer);
                row.pushed = 0;
                // One that was gone already is not waited for.
                if seen.0.saturating_add(GATEWAY_GONE_MS) < shadow.time.0 {
                    row.seen = (*seen).min(now);
                }
            }
        }
        restored
    }
}
