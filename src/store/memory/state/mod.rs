//! One event's state in this process, and every move on it.
//!
//! This is the reference that the shared backends must agree with: the Lua
//! scripts do what these functions do, in the same order.

mod door;
mod heard;
mod pass;
mod recovery;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::room::gate::Gate;
use crate::room::pages::{Bits, Windows};
use crate::room::snapshot::{Cause, Meta, Report, Rules, Tally};
use crate::room::ticket::{Generation, Number, SessionKey, slot_of};
use crate::room::time::{SILENCE, Timestamp, advance, millis};
use crate::store::{Entered, IdHash, Reply, Shadow};

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
    /// A session, and when it began.
    Session(SessionKey, Timestamp),
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
    pub tally: Tally,
    pub live: Windows,
    pub fresh: Windows,
    pub spent: BTreeMap<u64, Bits>,
    pub active: HashMap<SessionKey, Timestamp>,
    pub expiries: BTreeSet<(Timestamp, SessionKey)>,
    pub offers: BTreeMap<Number, Offer>,
    pub ended: BTreeMap<SessionKey, Timestamp>,
    /// Sessions of tickets that nobody was heard from yet, and when they began.
    pub unproven: BTreeMap<SessionKey, Timestamp>,
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
        let number = Number::restart(time.moment_by(arrival.raw)).max(shadow.issued);
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
                shares: Vec::new(),
            },
            tally: Tally::begin(time, 0),
            live: Windows::default(),
            fresh: Windows::default(),
            spent: BTreeMap::new(),
            active: HashMap::new(),
            expiries: BTreeSet::new(),
            offers: BTreeMap::new(),
            ended: BTreeMap::new(),
            unproven: BTreeMap::new(),
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
        self.count_closed(expired);
        expired
    }

    fn insert(&mut self, session: SessionKey, expires: Timestamp) {
        if let Some(before) = self.active.insert(session, expires) {
            self.expiries.remove(&(before, session));
        }
        self.expiries.insert((expires, session));
    }

    fn count_begun(&mut self) {
        self.meta.begun += 1;
        self.tally.begun += 1;
    }

    fn count_closed(&mut self, sessions: u64) {
        self.meta.closed += sessions;
        self.tally.closed += sessions;
    }

    /// Notes how many are inside; after every operation that lets any in.
    fn note_sessions(&mut self) {
        let inside = self.active.len() as u64;
        self.tally.sessions.note(inside, self.meta.time);
    }

    fn remove(&mut self, session: SessionKey) -> bool {
        let Some(expiry) = self.active.remove(&session) else {
            return false;
        };
        self.expiries.remove(&(expiry, session))
    }

    /// Sessions, ghosts, shares and `offers` together are below the limit.
    fn has_room(&self, offers: usize) -> bool {
        let meta = &self.meta;
        let taken = (self.active.len() + offers) as u64 + meta.ghosts + meta.reserved();
        meta.rules.limit.is_none_or(|limit| taken < limit)
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

    /// A gateway's row, made at its first call. One that joins during a
    /// recovery has no memory that anybody waits for; those whose memory is
    /// awaited were named by a push (`remember`).
    fn row(&mut self, gateway: &str) -> &mut Row {
        let (now, pushed) = (self.meta.time, self.meta.recoveries);
        let slot = self.free_slot(gateway);
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

    /// From the name, so that a gateway has the same slot in every life of the
    /// store: one that still numbers with its old slot must meet no other there.
    fn free_slot(&self, gateway: &str) -> u8 {
        let taken: BTreeSet<u8> = self.gateways.values().map(|row| row.slot).collect();
        let first = slot_of(gateway);
        (0..=u8::MAX)
            .map(|further| first.wrapping_add(further))
            .find(|slot| !taken.contains(slot))
            .unwrap_or(first)
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

    pub(crate) fn reset(&mut self, raw: u64) -> Generation {
        let meta = &mut self.meta;
        let second = meta.time.second_by(raw);
        meta.generation = Generation(second.max(meta.generation.0 + 1));
        meta.issued = meta.issued.max(Number::restart(meta.time.moment_by(raw)));
        meta.called = meta.issued;
        // What was called before is void: gateways that have not heard of the
        // reset may still bring it.
        meta.marks = vec![(0, meta.called)];
        (meta.pace, meta.settled, meta.shown, meta.show) = (None, 0, 0, 1.0);
        self.live.clear_all();
        self.fresh.clear_all();
        self.spent.clear();
        self.offers.clear();
        self.unproven.clear();
        self.density.clear();
        self.ids
            .retain(|_, named| matches!(named, Named::Session(..)));
        self.tally = Tally::begin(self.meta.time, self.active.len() as u64);
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
