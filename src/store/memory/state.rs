//! One event's state in this process, and every move on it.
//!
//! This is the reference that the shared backends must agree with: the Lua
//! scripts do what these functions do, in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::room::event::Mode;
use crate::room::gate::Gate;
use crate::room::pages::{Bits, Windows};
use crate::room::snapshot::{
    Cause, FRESH_WINDOW_MS, GATEWAY_GONE_MS, GatewayRow, Meta, OFFER_MS, RECOVERY_GRACE_MS,
    RECOVERY_MIN_MS, Recovery, Report, Rules, STEP_MS, Snapshot, UNPROVEN_MS,
};
use crate::room::ticket::{Generation, Number, SessionKey};
use crate::room::time::{SILENCE, Timestamp, advance, millis};
use crate::store::{
    Ask, Batch, Claim, Claimed, Entered, Entrant, Found, IdHash, Leave, Reply, Restored, Shadow,
    Step, Stepped, Touch,
};

/// The server's clock and process at the moment of a call.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<'a> {
    /// Milliseconds since the Unix epoch.
    pub raw: u64,
    /// This process.
    pub run: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Named {
    Ticket(Number),
    Session(SessionKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub due: Timestamp,
    /// Whether its visitor has asked for the slot.
    pub asked: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub slot: u8,
    pub seen: Timestamp,
    pub report: Report,
    /// The recovery that this gateway has pushed its memory for.
    pub pushed: u64,
    pub batch: u64,
    pub reply: Vec<Entered>,
}

/// So few ids are not worth looking through.
pub(crate) const IDS_FEW: usize = 4096;

/// An event, all of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventState {
    pub meta: Meta,
    pub live: Windows,
    pub fresh: Windows,
    pub spent: BTreeMap<u64, Bits>,
    pub active: HashMap<SessionKey, Timestamp>,
    pub expiries: BTreeSet<(Timestamp, SessionKey)>,
    pub offers: BTreeMap<Number, Offer>,
    pub ended: BTreeMap<SessionKey, Timestamp>,
    pub ids: HashMap<IdHash, Named>,
    /// How many ids there may be before the dead are dropped.
    pub ids_most: usize,
    pub density: BTreeMap<u64, [u16; 8]>,
    pub gateways: BTreeMap<String, Row>,
}

impl EventState {
    /// A state that knows nothing but what `shadow` brings.
    pub(crate) fn newborn(arrival: &Arrival<'_>, shadow: &Shadow, rules: Rules) -> Self {
        // Who remembers the running time carries it on: passes must not die
        // of an outage that ends in an empty store.
        let time = match shadow.born {
            Some(_) => shadow.time,
            None => Timestamp(arrival.raw),
        };
        let number = Number::restart(arrival.raw / 1000).max(shadow.issued);
        // Who remembers nothing knows of nobody who waits: a first start is
        // open at once.
        let called = match shadow.born {
            Some(_) => shadow.called.min(number),
            None => number,
        };
        Self {
            meta: Meta {
                born: shadow.newborn,
                born_at: time,
                generation: shadow.generation,
                issued: number,
                called,
                seq: 0,
                run: arrival.run.to_owned(),
                raw: arrival.raw,
                time,
                stepped: Timestamp(0),
                window: 0,
                window_since: time,
                fresh_window: 0,
                fresh_since: time,
                gate: shadow.gate.unwrap_or(Gate::Open),
                since: time,
                calm_since: None,
                pace: None,
                called_at: Timestamp(0),
                tokens: 1.0,
                tokens_at: time,
                show: 1.0,
                settled: 0,
                shown: 0,
                begun: 0,
                closed: 0,
                rules,
                cfgver: shadow.cfgver,
                recoveries: 0,
                recovery: None,
                ghosts: 0,
                ghosts_until: Timestamp(0),
                marks: shadow.marks.clone(),
            },
            live: Windows::default(),
            fresh: Windows::default(),
            spent: BTreeMap::new(),
            active: HashMap::new(),
            expiries: BTreeSet::new(),
            offers: BTreeMap::new(),
            ended: BTreeMap::new(),
            ids: HashMap::new(),
            ids_most: IDS_FEW,
            density: BTreeMap::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// Every operation begins here: the running time moves, a silence or
    /// another server process begins a recovery (`true`), a recovery that is
    /// over ends.
    pub(crate) fn arrive(&mut self, arrival: &Arrival<'_>) -> bool {
        let gap = arrival.raw.saturating_sub(self.meta.raw);
        let cause = if self.meta.run != arrival.run {
            Some(Cause::Run)
        } else if gap > millis(SILENCE) {
            Some(Cause::Silence)
        } else {
            None
        };
        self.meta.time = advance(self.meta.time, self.meta.raw, arrival.raw);
        self.meta.raw = arrival.raw;
        arrival.run.clone_into(&mut self.meta.run);
        if let Some(cause) = cause {
            self.begin_recovery(cause, arrival.raw);
            return true;
        }
        self.end_recovery();
        if self.meta.ghosts > 0 && self.meta.time >= self.meta.ghosts_until {
            self.meta.ghosts = 0;
        }
        false
    }

    /// Another process took this state over from its own file, a second old
    /// at most: a recovery that needs nobody's memory but this.
    pub(crate) fn resume(&mut self, arrival: &Arrival<'_>) {
        arrival.run.clone_into(&mut self.meta.run);
        self.meta.raw = arrival.raw;
        self.begin_recovery(Cause::Run, arrival.raw);
        if let Some(recovery) = &mut self.meta.recovery {
            recovery.remembered = true;
        }
    }

    fn begin_recovery(&mut self, cause: Cause, raw: u64) {
        let meta = &mut self.meta;
        let now = meta.time.0;
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
        });
        meta.issued = meta.issued.max(Number::restart(raw / 1000));
    }

    /// Over when every gateway that was last seen has pushed, or at the deadline.
    fn end_recovery(&mut self) {
        let Some(recovery) = self.meta.recovery else {
            return;
        };
        let now = self.meta.time;
        let pushed = self.gateways.values().all(|row| {
            row.pushed >= recovery.id || row.seen.0 + GATEWAY_GONE_MS < recovery.until.0
        });
        let answered = recovery.remembered && pushed && now >= recovery.until;
        if answered || now >= recovery.deadline {
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

    /// Removes expired sessions; nothing expires during a recovery.
    fn purge(&mut self) -> u64 {
        if self.meta.recovery.is_some() {
            return 0;
        }
        let now = self.meta.time;
        let mut expired = 0;
        while let Some(&(expiry, session)) = self.expiries.first() {
            if expiry > now {
                break;
            }
            self.expiries.pop_first();
            self.active.remove(&session);
            expired += 1;
        }
        self.meta.closed += expired;
        expired
    }

    fn insert(&mut self, session: SessionKey, expires: Timestamp) {
        if let Some(before) = self.active.insert(session, expires) {
            self.expiries.remove(&(before, session));
        }
        self.expiries.insert((expires, session));
    }

    fn remove(&mut self, session: SessionKey) -> bool {
        let Some(expiry) = self.active.remove(&session) else {
            return false;
        };
        self.expiries.remove(&(expiry, session))
    }

    /// Sessions and ghosts and `offers` together are below the limit.
    fn has_room(&self, offers: usize) -> bool {
        self.meta
            .rules
            .limit
            .is_none_or(|limit| (self.active.len() + offers) as u64 + self.meta.ghosts < limit)
    }

    fn lives(&self, number: Number) -> bool {
        !self.is_spent(number)
            && (self.live.lives(number, self.meta.window)
                || self.fresh.lives(number, self.meta.fresh_window))
    }

    fn is_spent(&self, number: Number) -> bool {
        self.spent
            .get(&number.page())
            .is_some_and(|page| page.get(number.bit()))
    }

    fn spend(&mut self, number: Number) {
        self.spent
            .entry(number.page())
            .or_default()
            .set(number.bit());
        self.live.clear(number);
        self.fresh.clear(number);
        self.offers.remove(&number);
    }

    pub(crate) fn enter(&mut self, batch: &Batch) -> Vec<Entered> {
        if let Some(row) = self.gateways.get(&batch.gateway)
            && row.batch == batch.batch
        {
            return row.reply.clone();
        }
        self.purge();
        let reply: Vec<Entered> = batch
            .entrants
            .iter()
            .map(|entrant| self.enter_one(entrant))
            .collect();
        let row = self.row(&batch.gateway);
        row.batch = batch.batch;
        row.reply.clone_from(&reply);
        reply
    }

    fn enter_one(&mut self, entrant: &Entrant) -> Entered {
        if let Some(known) = entrant.id.and_then(|id| self.known(id)) {
            return known;
        }
        let gate = self.meta.gate();
        if gate == Gate::Closed {
            return Entered::Closed;
        }
        if self.may_walk_in(gate) {
            self.meta.pay(1);
            let expires = Timestamp(self.meta.time.0 + UNPROVEN_MS);
            self.insert(entrant.session, expires);
            self.meta.begun += 1;
            self.name(entrant.id, Named::Session(entrant.session));
            return Entered::Session {
                key: entrant.session,
                expires,
            };
        }
        let number = self.meta.issued;
        self.meta.issued = number.next_issued();
        self.fresh.set(number, self.meta.fresh_window);
        self.name(entrant.id, Named::Ticket(number));
        Entered::Ticket { number }
    }

    fn may_walk_in(&self, gate: Gate) -> bool {
        if self.meta.recovery.is_some() {
            return false;
        }
        let by_order = matches!(self.meta.rules.mode, Mode::Off | Mode::Shadow);
        by_order
            || (gate == Gate::Open
                && self.meta.called == self.meta.issued
                && self.has_room(self.offers.len())
                && self.meta.tokens(self.meta.time) >= 1.0)
    }

    /// Remembers what an id stands for. Now and then those are dropped that
    /// cannot live any more: their number grows with who is here, not with
    /// who ever was.
    fn name(&mut self, id: Option<IdHash>, named: Named) {
        let Some(id) = id else {
            return;
        };
        if self.ids.len() >= self.ids_most {
            let (active, live, fresh) = (&self.active, &self.live, &self.fresh);
            self.ids.retain(|_, named| match named {
                Named::Session(session) => active.contains_key(session),
                Named::Ticket(number) => {
                    live.page(number.page()).is_some() || fresh.page(number.page()).is_some()
                }
            });
            self.ids_most = (self.ids.len() * 2).max(IDS_FEW);
        }
        self.ids.insert(id, named);
    }

    /// What an id stands for, if that still lives.
    fn known(&self, id: IdHash) -> Option<Entered> {
        match *self.ids.get(&id)? {
            Named::Session(key) => self.active.get(&key).map(|expires| Entered::Session {
                key,
                expires: *expires,
            }),
            Named::Ticket(number) if self.lives(number) => Some(Entered::Ticket { number }),
            Named::Ticket(_) => None,
        }
    }

    pub(crate) fn find(&self, id: IdHash) -> Found {
        match self.known(id) {
            Some(Entered::Session { key, expires }) => Found::Session(key, expires),
            Some(Entered::Ticket { number }) => Found::Ticket(number),
            _ => Found::Nothing,
        }
    }

    pub(crate) fn claim(&mut self, claims: &[Claim]) -> Vec<Claimed> {
        self.purge();
        claims.iter().map(|claim| self.claim_one(claim)).collect()
    }

    fn claim_one(&mut self, claim: &Claim) -> Claimed {
        if let Some(expires) = self.active.get(&claim.session) {
            return Claimed::Admitted {
                expires: *expires,
                fresh: false,
            };
        }
        if self.is_spent(claim.number) || self.ended.contains_key(&claim.session) {
            return Claimed::Spent;
        }
        if self.meta.recovery.is_some() {
            return Claimed::Held;
        }
        let by_order = matches!(self.meta.rules.mode, Mode::Off | Mode::Shadow);
        if !by_order {
            if claim.number >= self.meta.called {
                return Claimed::NotYet;
            }
            if claim.number < self.meta.floor() {
                return Claimed::TooLate;
            }
            // A late one gets its offer back, in its place; one that asks
            // keeps it.
            let due = Timestamp(self.meta.time.0 + OFFER_MS);
            self.offers.insert(claim.number, Offer { due, asked: true });
            let before = self.offers.range(..claim.number).count();
            if self.meta.rules.mode == Mode::Closed || !self.has_room(before) {
                return Claimed::Held;
            }
        }
        if self.offers.contains_key(&claim.number) {
            self.meta.settled += 1;
            self.meta.shown += 1;
        }
        self.spend(claim.number);
        let expires = Timestamp(self.meta.time.0 + UNPROVEN_MS);
        self.insert(claim.session, expires);
        self.meta.begun += 1;
        self.name(claim.id, Named::Session(claim.session));
        Claimed::Admitted {
            expires,
            fresh: true,
        }
    }

    pub(crate) fn beat(&mut self, pages: &[(u64, Bits)], raw: u64) {
        for (page, bits) in pages {
            self.hear(*page, bits, raw);
        }
    }

    /// Living tickets of a page. One beyond `issued` was numbered by a
    /// gateway, or by a store that has forgotten it: numbering goes on in the
    /// second after, for others of that second may still be unheard.
    fn hear(&mut self, page: u64, bits: &Bits, raw: u64) {
        let Some(highest) = bits.ones(0).last() else {
            return;
        };
        let highest = Number::at(page, highest);
        if !highest.is_plausible(raw / 1000) {
            return;
        }
        if highest >= self.meta.issued {
            self.meta.issued = highest.next_second();
        }
        self.live.or(page, bits, self.meta.window);
    }

    pub(crate) fn touch(&mut self, touches: &[Touch]) -> Vec<Option<Timestamp>> {
        self.purge();
        touches.iter().map(|touch| self.touch_one(*touch)).collect()
    }

    fn touch_one(&mut self, touch: Touch) -> Option<Timestamp> {
        let meta = &self.meta;
        let old = meta.time.since(touch.begun)
            >= std::time::Duration::from_millis(meta.rules.session_max_ms);
        let longest = Timestamp(meta.time.0 + meta.rules.session_idle_ms).max(touch.keep);
        match self.active.get(&touch.session) {
            Some(expires) if old && meta.called < meta.issued => Some(*expires),
            Some(expires) => {
                let expires = longest.max(*expires);
                self.insert(touch.session, expires);
                Some(expires)
            }
            None if self.ended.contains_key(&touch.session) => None,
            // An unexpired pass proves that the store once acknowledged it.
            None if touch.until > meta.time && (meta.recovery.is_some() || meta.ghosts > 0) => {
                self.meta.ghosts = self.meta.ghosts.saturating_sub(1);
                self.insert(touch.session, longest);
                Some(longest)
            }
            None => None,
        }
    }

    pub(crate) fn end(&mut self, sessions: &[SessionKey]) -> Vec<bool> {
        let now = self.meta.time;
        sessions
            .iter()
            .map(|session| {
                let was_there = self.remove(*session);
                if was_there {
                    self.meta.closed += 1;
                }
                self.ended.entry(*session).or_insert(now);
                was_there
            })
            .collect()
    }

    pub(crate) fn leave(&mut self, tickets: &[Leave]) {
        for ticket in tickets {
            self.spend(ticket.number);
            if let Some(id) = ticket.id
                && self.ids.get(&id) == Some(&Named::Ticket(ticket.number))
            {
                self.ids.remove(&id);
            }
        }
    }

    /// A gateway's row, made at its first call. One that joins during a
    /// recovery has no memory that anybody waits for; those whose memory is
    /// awaited were named by a push (`remember`).
    fn row(&mut self, gateway: &str) -> &mut Row {
        let (now, pushed) = (self.meta.time, self.meta.recoveries);
        let slot = self.free_slot();
        let row = self
            .gateways
            .entry(gateway.to_owned())
            .or_insert_with(|| Row {
                slot,
                seen: now,
                report: Report::default(),
                pushed,
                batch: 0,
                reply: Vec::new(),
            });
        row.seen = now;
        row
    }

    fn free_slot(&self) -> u8 {
        let taken: BTreeSet<u8> = self.gateways.values().map(|row| row.slot).collect();
        (0..=u8::MAX)
            .find(|slot| !taken.contains(slot))
            .unwrap_or(u8::MAX)
    }

    /// What lives on a page: heard from or fresh, and not spent.
    pub(crate) fn living(&self, page: u64) -> Bits {
        let mut bits = self.live.living(page, self.meta.window).unwrap_or_default();
        if let Some(fresh) = self.fresh.living(page, self.meta.fresh_window) {
            bits.or(&fresh);
        }
        if let Some(spent) = self.spent.get(&page) {
            bits.minus(spent);
        }
        bits
    }

    fn pages(&self) -> BTreeSet<u64> {
        self.live
            .pages()
            .chain(self.fresh.pages())
            .map(|(page, _)| page)
            .collect()
    }

    pub(crate) fn snapshot(&mut self, ask: &Ask, raw: u64) -> Snapshot {
        let expired = self.purge();
        let row = self.row(&ask.gateway);
        row.report = ask.report.clone();
        let slot = row.slot;
        for page in &ask.refresh {
            let density = self.living(*page).density();
            if density == [0; 8] {
                self.density.remove(page);
            } else {
                self.density.insert(*page, density);
            }
        }
        Snapshot {
            unix_seconds: raw / 1000,
            sessions: self.active.len() as u64,
            offers: self
                .offers
                .iter()
                .map(|(number, offer)| (*number, offer.due))
                .collect(),
            pages: self.pages().into_iter().collect(),
            front: ask
                .front
                .iter()
                .map(|page| (*page, self.living(*page)))
                .collect(),
            density: self.density.clone(),
            ended: {
                let mut ended: Vec<_> = self
                    .ended
                    .iter()
                    .filter(|(_, at)| **at >= ask.ended_since)
                    .map(|(session, at)| (*session, *at))
                    .collect();
                ended.sort_by_key(|(session, at)| (*at, *session));
                ended
            },
            gateways: self
                .gateways
                .iter()
                .map(|(gateway, row)| GatewayRow {
                    gateway: gateway.clone(),
                    slot: row.slot,
                    seen: row.seen,
                    report: row.report.clone(),
                })
                .collect(),
            slot,
            expired,
            meta: self.meta.clone(),
        }
    }

    /// The controller's move, on the state it was planned on.
    pub(crate) fn step(&mut self, step: &Step) -> Stepped {
        let meta = &self.meta;
        let now = meta.time;
        let fenced = meta.born == step.fence.born
            && meta.run == step.fence.run
            && meta.seq == step.fence.seq;
        let calls = step.offers.len();
        // One call is always affordable: a weak origin is still probed.
        #[expect(clippy::cast_precision_loss, reason = "at most 10,000 calls a step")]
        let paid = calls <= 1 || meta.with_pace(step.pace).tokens(now) >= calls as f64;
        // Planned before a recovery began: who waits may not be back yet.
        let recovers = meta.recovery.is_some();
        if !fenced || recovers || now.0 < meta.stepped.0 + STEP_MS || !paid {
            return Stepped::LostRace;
        }
        let expired = self.purge();
        let lapsed = self.lapse();
        self.call(step);
        self.turn();
        let meta = &mut self.meta;
        meta.seq += 1;
        meta.stepped = now;
        if meta.gate != step.gate {
            meta.gate = step.gate;
            meta.since = now;
        }
        meta.calm_since = step.calm_since;
        meta.show = step.show;
        (meta.settled, meta.shown) = (
            lapsed.len() as u64,
            lapsed.iter().filter(|o| o.asked).count() as u64,
        );
        self.mark();
        self.sweep(&step.sweep);
        Stepped::Done {
            lapsed: lapsed.len() as u64,
            expired,
        }
    }

    /// Takes back the offers whose time is over.
    fn lapse(&mut self) -> Vec<Offer> {
        let now = self.meta.time;
        let due: Vec<Number> = self
            .offers
            .iter()
            .filter(|(_, offer)| offer.due <= now)
            .map(|(number, _)| *number)
            .collect();
        due.iter()
            .filter_map(|number| self.offers.remove(number))
            .collect()
    }

    fn call(&mut self, step: &Step) {
        let now = self.meta.time;
        let calls = step.offers.len();
        self.meta.pace = step.pace;
        self.meta.pay(calls);
        if calls > 0 {
            self.meta.called_at = now;
        }
        self.meta.called = self.meta.called.max(step.to.min(self.meta.issued));
        for number in &step.offers {
            if *number < self.meta.called && !self.is_spent(*number) {
                let due = Timestamp(now.0 + OFFER_MS);
                self.offers
                    .entry(*number)
                    .or_insert(Offer { due, asked: false });
            }
        }
    }

    /// Turns the windows whose time is over.
    fn turn(&mut self) {
        let meta = &mut self.meta;
        if meta.time.0 >= meta.window_since.0 + meta.rules.window_ms {
            meta.window += 1;
            meta.window_since = meta.time;
        }
        if meta.time.0 >= meta.fresh_since.0 + FRESH_WINDOW_MS {
            meta.fresh_window += 1;
            meta.fresh_since = meta.time;
        }
    }

    /// Notes the watermark of this minute; a quarter of an hour is kept.
    fn mark(&mut self) {
        let meta = &mut self.meta;
        let minute = meta.time.0 / 60_000;
        match meta.marks.last_mut() {
            Some((marked, called)) if *marked == minute => *called = meta.called,
            _ => meta.marks.push((minute, meta.called)),
        }
        if meta.marks.len() > 15 {
            meta.marks.remove(0);
        }
    }

    /// Drops what is dead: pages, ended sessions beyond their time, gateways gone.
    fn sweep(&mut self, pages: &[u64]) {
        let (window, fresh) = (self.meta.window, self.meta.fresh_window);
        let floor = self.meta.floor();
        for page in pages {
            self.live.drop_dead(*page, window);
            self.fresh.drop_dead(*page, fresh);
            if *page < floor.page() {
                self.spent.remove(page);
            }
            if self.live.page(*page).is_none() && self.fresh.page(*page).is_none() {
                self.density.remove(page);
            }
        }
        let now = self.meta.time.0;
        let idle = self.meta.rules.session_idle_ms;
        self.ended.retain(|_, at| at.0 + idle > now);
        self.gateways
            .retain(|_, row| row.seen.0 + 60 * GATEWAY_GONE_MS > now);
    }

    /// Takes in what a gateway remembers (DESIGN §6.6).
    pub(crate) fn restore(&mut self, shadow: &Shadow, raw: u64) -> Restored {
        let began = self.doubt(shadow);
        if let Some(cause) = began {
            self.begin_recovery(cause, raw);
        }
        let mut restored = 0;
        if self.meta.recovery.is_some() {
            restored = self.remember(shadow, raw);
            let id = self.meta.recoveries;
            let row = self.row(&shadow.gateway);
            if shadow.complete {
                row.pushed = id;
            }
        }
        Restored {
            born: self.meta.born,
            began,
            sessions: restored,
        }
    }

    /// Whether a push shows that this state has forgotten something.
    fn doubt(&self, shadow: &Shadow) -> Option<Cause> {
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

    fn remember(&mut self, shadow: &Shadow, raw: u64) -> u64 {
        let meta = &mut self.meta;
        if shadow.born.is_some() {
            meta.time = meta.time.max(shadow.time);
            meta.issued = meta.issued.max(shadow.issued);
            meta.called = meta.called.max(shadow.called).min(meta.issued);
            meta.generation = meta.generation.max(shadow.generation);
            if meta.marks.is_empty() {
                meta.marks.clone_from(&shadow.marks);
            }
            if let Some(recovery) = &mut meta.recovery {
                recovery.remembered = true;
            }
        }
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
        for (page, bits) in &shadow.spent {
            self.spent.entry(*page).or_default().or(bits);
        }
        for (page, bits) in &shadow.live {
            self.hear(*page, bits, raw);
        }
        let known = if shadow.token && shadow.born.is_none() {
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
        for peer in &shadow.peers {
            if !self.gateways.contains_key(peer) {
                self.row(peer).pushed = 0;
            }
        }
        restored
    }

    pub(crate) fn reset(&mut self, raw: u64) -> Generation {
        let meta = &mut self.meta;
        let second = raw / 1000;
        meta.generation = Generation(second.max(meta.generation.0 + 1));
        meta.issued = meta.issued.max(Number::restart(second));
        meta.called = meta.issued;
        // What was called before is void: gateways that have not heard of the
        // reset may still bring it.
        meta.marks = vec![(0, meta.called)];
        (meta.pace, meta.settled, meta.shown, meta.show) = (None, 0, 0, 1.0);
        self.live.clear_all();
        self.fresh.clear_all();
        self.spent.clear();
        self.offers.clear();
        self.density.clear();
        self.ids
            .retain(|_, named| matches!(named, Named::Session(_)));
        self.meta.generation
    }

    pub(crate) fn configure(&mut self, seen: u64, rules: &Rules) -> u64 {
        if self.meta.cfgver == seen && self.meta.rules != *rules {
            self.meta.rules = rules.clone();
            self.meta.cfgver += 1;
        }
        self.meta.cfgver
    }
}

/// Runs an operation that does nothing while the event is absent or meets a
/// silence.
pub(crate) fn arrived<T>(
    state: Option<&mut EventState>,
    arrival: &Arrival<'_>,
    operation: impl FnOnce(&mut EventState) -> T,
) -> Reply<T> {
    let Some(state) = state else {
        return Reply::Absent;
    };
    if state.arrive(arrival) {
        return Reply::Recovering;
    }
    Reply::Done(operation(state))
}
