//! A gateway as docs/architecture.md describes it, small: what it heard, what it
//! remembers, and one pass of its controller over the public interface.

mod pushing;

use std::collections::BTreeMap;
use std::time::Duration;

use sumun::room::admission::{Measured, plan};
use sumun::room::census::Census;
use sumun::room::estimate::History;
use sumun::room::event::QueueWhen;
use sumun::room::gate::{self, Load, LoadReport, pressure, readings};
use sumun::room::pages::{Bits, PAGES_PER_CALL};
use sumun::room::snapshot::{Meta, Report, Rules, Snapshot};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{Ask, Batch, Fence, Step, Stepped};

use super::door::{Door, NoReply};

/// Beats are passed on this often, at the latest.
const FLUSH_MS: u64 = 5_000;

/// The memory is written to `state_dir` this often.
const SAVE_MS: u64 = 1_000;

/// Numbers further in the future than this are absurd.
const HORIZON_SECONDS: u64 = 59;

/// What a gateway remembers, in its process and, a second older, on its disk.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub meta: Option<Meta>,
    pub sessions_known: u64,
    pub sessions: BTreeMap<SessionKey, Timestamp>,
    pub ended: BTreeMap<SessionKey, Timestamp>,
    pub heard: [BTreeMap<u64, Bits>; 2],
    /// The store's window that they belong to.
    window: u64,
    pub spent: BTreeMap<u64, Bits>,
    pub peers: Vec<(String, Timestamp)>,
    pub slot: u8,
    /// The store's wall clock less the gateway's, in milliseconds.
    pub ahead: i64,
    /// The last number of its own: its second, and how many that second gave.
    numbered: (u64, u64),
}

/// A visitor at the door of this gateway.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    pub visitor: usize,
    pub session: SessionKey,
}

pub(crate) struct Gateway {
    pub index: usize,
    pub name: String,
    pub up: bool,
    pub memory: Memory,
    disk: Memory,
    /// The running time at the first look of this process.
    pub begun: Option<Timestamp>,
    saved_at: u64,
    unflushed: BTreeMap<u64, Bits>,
    flushed_at: u64,
    pub history: History,
    pub seen: Option<Snapshot>,
    /// Who waits, by the last look.
    pub census: Option<Census>,
    pushed: Option<(u64, String, u64)>,
    pub outbox: Vec<Newcomer>,
    pub in_flight: Option<(Batch, Vec<Newcomer>)>,
    /// How often the one in flight was sent.
    pub tries: u64,
    pub batches: u64,
    /// The highest number of its own.
    pub(crate) own: Option<Number>,
    /// How far its wall clock is ahead of the world's, in milliseconds.
    pub skew: i64,
    /// What its wall clock less its own count of time is in this process, and
    /// the store's clock less that count, once the store was seen.
    begun_skew: i64,
    store_ahead: Option<i64>,
    was_recovering: bool,
    pub arrivals: u64,
    pub planned: Option<(Step, usize)>,
}

impl Gateway {
    pub(crate) fn new(index: usize, now: u64) -> Self {
        Self {
            index,
            name: format!("gateway-{index}"),
            up: true,
            memory: Memory::default(),
            disk: Memory::default(),
            begun: None,
            saved_at: now,
            unflushed: BTreeMap::new(),
            flushed_at: now,
            history: History::default(),
            seen: None,
            census: None,
            pushed: None,
            outbox: Vec::new(),
            in_flight: None,
            tries: 0,
            batches: now,
            own: None,
            skew: 0,
            begun_skew: 0,
            store_ahead: None,
            was_recovering: false,
            arrivals: 0,
            planned: None,
        }
    }

    /// The process dies: what is not on the disk is gone.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.unflushed.clear();
        self.history = History::default();
        self.seen = None;
        self.census = None;
        self.pushed = None;
        self.outbox.clear();
        self.in_flight = None;
        self.planned = None;
        self.was_recovering = false;
    }

    pub(crate) fn lose_disk(&mut self) {
        self.disk = Memory::default();
    }

    /// Starts again with what the disk has, and numbers behind all of it.
    /// Batches are counted on from the clock: the store remembers the number
    /// of the last one.
    pub(crate) fn restart(&mut self, now: u64) {
        self.up = true;
        self.memory = self.disk.clone();
        self.batches = now;
        self.begun = self.memory.meta.as_ref().map(|meta| meta.time);
        self.flushed_at = now;
        self.begun_skew = self.skew;
        self.store_ahead = None;
        let memory = &mut self.memory;
        let heard = memory.heard.iter().filter_map(|pages| {
            let (page, bits) = pages.last_key_value()?;
            Some(Number::at(*page, bits.ones(0).last()?))
        });
        self.own = heard.max();
        let issued = memory.meta.as_ref().map_or(0, |m| m.issued.unix_second());
        let highest = issued.max(self.own.map_or(0, Number::unix_second));
        let present = now.saturating_add_signed(self.skew) / 1000;
        let second = memory.numbered.0.max(highest).max(present) + 1;
        let latest = present.max(issued) + HORIZON_SECONDS;
        memory.numbered = (second.min(latest), 0);
    }

    pub(crate) fn generation(&self) -> Option<Generation> {
        self.memory.meta.as_ref().map(|meta| meta.generation)
    }

    /// Whether this gateway's memory says that a number was called.
    pub(crate) fn is_called(&self, number: Number) -> bool {
        self.memory
            .meta
            .as_ref()
            .is_some_and(|meta| number < meta.called)
    }

    pub(crate) fn hear(&mut self, number: Number) {
        self.remember_heard(number);
        self.unflushed
            .entry(number.page())
            .or_default()
            .set(number.bit());
    }

    pub(crate) fn remember_heard(&mut self, number: Number) {
        let page = self.memory.heard[0].entry(number.page()).or_default();
        page.set(number.bit());
    }

    pub(crate) fn spent(&mut self, number: Number) {
        self.memory
            .spent
            .entry(number.page())
            .or_default()
            .set(number.bit());
    }

    /// A number of this gateway's own, while the store is away: behind all
    /// that the store had issued, and never of a second gone.
    pub(crate) fn number(&mut self, now: u64) -> Option<Number> {
        let memory = &mut self.memory;
        let issued = memory.meta.as_ref()?.issued.unix_second();
        let ahead = self.store_ahead.unwrap_or(memory.ahead + self.begun_skew);
        let present = now.saturating_add_signed(ahead) / 1000;
        let second = present.max(issued).max(memory.numbered.0);
        if memory.numbered.0 != second {
            memory.numbered = (second, 0);
        }
        let number = Number::by_gateway(second, memory.slot, memory.numbered.1)?;
        memory.numbered.1 += 1;
        self.own = self.own.max(Some(number));
        Some(number)
    }

    /// Passes on what was heard since the last time.
    pub(crate) fn flush(&mut self, door: &mut Door) {
        let pages: Vec<(u64, Bits)> = self
            .unflushed
            .iter()
            .map(|(p, b)| (*p, b.clone()))
            .collect();
        for part in pages.chunks(PAGES_PER_CALL) {
            if door.beat(&self.name, part).is_err() {
                return;
            }
        }
        self.unflushed.clear();
        self.flushed_at = door.now;
    }

    /// The first half of a pass: report, snapshot, decide. The move itself is
    /// made by `step`, a moment later.
    pub(crate) fn pass(&mut self, door: &mut Door, rules: &Rules, when: &QueueWhen, fresh: u64) {
        if door.now >= self.flushed_at + FLUSH_MS {
            self.flush(door);
        }
        if door.now >= self.saved_at + SAVE_MS {
            self.disk = self.memory.clone();
            self.saved_at = door.now;
        }
        let snapshot = match self.read(door) {
            Ok(snapshot) => snapshot,
            Err(NoReply::Absent) => {
                self.push(door, rules, fresh);
                return;
            }
            Err(NoReply::Recovering | NoReply::Away | NoReply::Lost) => return,
        };
        if self.heal(&snapshot, door, rules, fresh) {
            return;
        }
        self.settle_rules(&snapshot, door, rules);
        self.adopt(&snapshot, door.now);
        let census = Census::of(&snapshot);
        self.history.record(&snapshot, census.waiting());
        let recovers = snapshot.meta.recovery.is_some();
        if self.was_recovering && !recovers {
            // The first pass after a recovery only tells who was heard in it.
            self.flush(door);
        } else if !recovers {
            self.planned = Some(self.decide(&snapshot, when));
        }
        self.was_recovering = recovers;
        self.seen = Some(snapshot);
        self.census = Some(census);
    }

    /// Brings the store what it has forgotten, or asks for; whether it did.
    fn heal(&mut self, snapshot: &Snapshot, door: &mut Door, rules: &Rules, fresh: u64) -> bool {
        let theirs = &snapshot.meta;
        if let Some(recovery) = theirs.recovery {
            let asked = Some((theirs.born, theirs.run.clone(), recovery.id));
            let pushes = self.pushed != asked;
            if pushes && self.push(door, rules, fresh).is_some() {
                self.pushed = asked;
            }
            return pushes;
        }
        let mine = self.memory.meta.as_ref();
        let forgotten = mine.is_some_and(|m| m.born != theirs.born || m.seq > theirs.seq);
        if forgotten
            && let Some(restored) = self.push(door, rules, fresh)
            && restored.began.is_some()
        {
            // The recovery that this began needs no second push.
            self.pushed = Some((restored.born, theirs.run.clone(), theirs.recoveries + 1));
        }
        forgotten
    }

    /// Rules that the store has forgotten are written again.
    fn settle_rules(&self, snapshot: &Snapshot, door: &mut Door, rules: &Rules) {
        let theirs = &snapshot.meta;
        let mine = self.memory.meta.as_ref();
        let newer = mine.is_some_and(|mine| mine.cfgver > theirs.cfgver);
        if newer && theirs.rules != *rules && door.reaches(&self.name) {
            // A fault here is made good at the next look.
            let _version = door.configure(theirs.cfgver, rules);
        }
    }

    /// The second half: the move, against the others'.
    pub(crate) fn step(&mut self, door: &mut Door) {
        let Some((step, calls)) = self.planned.take() else {
            return;
        };
        if let Ok(Stepped::Done { .. }) = door.step(&self.name, &step) {
            self.history.called(calls);
        }
    }

    /// Reads the event; again where the front page turned out to be another
    /// one than was asked for, or positions would be counted without it.
    fn read(&mut self, door: &mut Door) -> Result<Snapshot, NoReply> {
        let ask = self.ask(self.seen.as_ref());
        self.arrivals -= self.arrivals / 20;
        let first = match door.snapshot(&ask) {
            Err(NoReply::Recovering) => door.snapshot(&ask)?,
            first => first?,
        };
        let next = self.ask(Some(&first));
        if next.front == ask.front {
            return Ok(first);
        }
        door.snapshot(&next)
    }

    fn ask(&self, seen: Option<&Snapshot>) -> Ask {
        let called = seen.map_or(Number(0), |seen| seen.meta.called);
        let pages = seen.iter().flat_map(|seen| seen.pages.iter().copied());
        let ahead: Vec<u64> = pages.filter(|page| *page >= called.page()).collect();
        let since = self
            .memory
            .meta
            .as_ref()
            .map_or(Timestamp(0), |meta| meta.time);
        let load = LoadReport {
            window_ms: 10_000,
            arrivals: self.arrivals,
            ..LoadReport::default()
        };
        Ask {
            gateway: self.name.clone(),
            report: Report {
                load,
                ..Report::default()
            },
            above: self.own,
            share: None,
            front: ahead.iter().copied().take(4).collect(),
            refresh: ahead.iter().copied().skip(4).take(16).collect(),
            ended_since: since.minus(Duration::from_secs(5)),
        }
    }

    /// Everyone heard in this window or the one before.
    fn living(&self) -> Vec<(u64, Bits)> {
        let mut live = self.memory.heard[0].clone();
        for (page, bits) in &self.memory.heard[1] {
            live.entry(*page).or_default().or(bits);
        }
        live.into_iter().collect()
    }

    /// Follows the store's window. One that was begun anew counts its windows
    /// anew: nothing heard lately may be forgotten by that.
    fn turn(&mut self, window: u64) {
        let memory = &mut self.memory;
        if window == memory.window {
            return;
        }
        let now = std::mem::take(&mut memory.heard[0]);
        if window == memory.window + 1 {
            memory.heard[1] = now;
        } else {
            for (page, bits) in now {
                memory.heard[1].entry(page).or_default().or(&bits);
            }
        }
        memory.window = window;
    }

    /// Takes a snapshot for the truth.
    fn adopt(&mut self, snapshot: &Snapshot, now: u64) {
        self.turn(snapshot.meta.window);
        let memory = &mut self.memory;
        let meta = &snapshot.meta;
        if memory
            .meta
            .as_ref()
            .is_some_and(|mine| mine.generation != meta.generation)
        {
            let floor = meta.floor();
            let [now, before] = &mut memory.heard;
            for pages in [now, before, &mut memory.spent, &mut self.unflushed] {
                *pages = pages.split_off(&floor.page());
                if let Some(first) = pages.get_mut(&floor.page()) {
                    for bit in 0..floor.bit() {
                        first.clear(bit);
                    }
                }
            }
        }
        self.begun.get_or_insert(meta.time);
        memory.meta = Some(meta.clone());
        memory.sessions_known = snapshot.sessions + meta.ghosts;
        for (session, at) in &snapshot.ended {
            memory.sessions.remove(session);
            memory.ended.entry(*session).or_insert(*at);
        }
        if meta.recovery.is_none() {
            memory.sessions.retain(|_, expires| *expires > meta.time);
        }
        let idle = meta.rules.session_idle_ms;
        memory.ended.retain(|_, at| at.0 + idle > meta.time.0);
        memory.peers = snapshot.peers(&self.name).collect();
        memory.slot = snapshot.slot;
        let store_ms = i64::try_from(snapshot.unix_seconds * 1000).unwrap_or(i64::MAX);
        let ahead = store_ms - i64::try_from(now).unwrap_or(i64::MAX);
        // The count of time does not jump within a process, the clock may.
        memory.ahead = ahead - self.skew;
        self.store_ahead = Some(ahead);
    }

    fn decide(&self, snapshot: &Snapshot, when: &QueueWhen) -> (Step, usize) {
        let meta = &snapshot.meta;
        let load = Load::sum(
            snapshot.present().map(|row| &row.report.load),
            when.min_requests,
        );
        let readings = readings(&load, snapshot.sessions, when);
        let next = gate::next(meta.gate, meta.calm_since, &readings, when, meta.time);
        let rates = self.history.rates();
        let measured = Measured {
            pressure: pressure(&readings),
            release_ratio: when.release_ratio,
            sessions_threshold: when.sessions,
            arrivals_threshold: when.arrivals_per_second,
            begun_per_second: rates.begun,
            closed_per_second: rates.closed,
        };
        let plan = plan(snapshot, next.gate, &measured);
        let calls = plan.offers.len();
        let dead = snapshot
            .pages
            .iter()
            .copied()
            .filter(|page| *page <= meta.called.page());
        let step = Step {
            fence: Fence {
                born: meta.born,
                run: meta.run.clone(),
                seq: meta.seq,
            },
            gate: next.gate,
            calm_since: next.calm_since,
            to: plan.to,
            offers: plan.offers,
            pace: plan.pace,
            show: plan.show,
            sweep: dead.take(PAGES_PER_CALL).collect(),
            waiting: 0,
        };
        (step, calls)
    }
}
