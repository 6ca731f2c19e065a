//! A gateway as docs/architecture.md describes it, small: what it heard, what it
//! remembers, and one pass of its controller over the public interface.

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
use sumun::store::{Ask, Batch, Fence, Shadow, Step, Stepped};

use super::door::{Door, NoReply};

/// Beats are passed on this often, at the latest.
const FLUSH_MS: u64 = 5_000;

/// The memory is written to `state_dir` this often.
const SAVE_MS: u64 = 1_000;

/// What a gateway remembers, in its process and, a second older, on its disk.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub meta: Option<Meta>,
    pub sessions_known: u64,
    pub sessions: BTreeMap<SessionKey, Timestamp>,
    pub ended: BTreeMap<SessionKey, Timestamp>,
    pub heard: [BTreeMap<u64, Bits>; 2],
    pub heard_since: u64,
    pub spent: BTreeMap<u64, Bits>,
    pub peers: Vec<String>,
    pub slot: u8,
    /// The store's wall clock less the gateway's, in milliseconds.
    pub ahead: i64,
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
    saved_at: u64,
    unflushed: BTreeMap<u64, Bits>,
    flushed_at: u64,
    pub history: History,
    pub seen: Option<Snapshot>,
    pushed: Option<(u64, u64)>,
    pub outbox: Vec<Newcomer>,
    pub in_flight: Option<(Batch, Vec<Newcomer>)>,
    pub batches: u64,
    numbered: (u64, u64),
    /// The highest of these.
    pub(crate) own: Option<Number>,
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
            saved_at: now,
            unflushed: BTreeMap::new(),
            flushed_at: now,
            history: History::default(),
            seen: None,
            pushed: None,
            outbox: Vec::new(),
            in_flight: None,
            batches: now,
            numbered: (0, 0),
            own: None,
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
        self.pushed = None;
        self.outbox.clear();
        self.in_flight = None;
        self.planned = None;
    }

    /// Starts again with what the disk has. Batches are counted on from the
    /// clock: the store remembers the number of the last one.
    pub(crate) fn restart(&mut self, now: u64) {
        self.up = true;
        self.memory = self.disk.clone();
        self.batches = now;
        self.flushed_at = now;
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

    /// A number of this gateway's own, while the store is away.
    pub(crate) fn number(&mut self, now: u64) -> Option<Number> {
        self.memory.meta.as_ref()?;
        // Never a second again: each snapshot brings the clock anew.
        let second = now.saturating_add_signed(self.memory.ahead) / 1000;
        let second = second.max(self.numbered.0);
        if self.numbered.0 != second {
            self.numbered = (second, 0);
        }
        let number = Number::by_gateway(second, self.memory.slot, self.numbered.1)?;
        self.numbered.1 += 1;
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
        self.rotate(door.now, rules.window_ms);
        if door.now >= self.flushed_at + FLUSH_MS {
            self.flush(door);
        }
        if door.now >= self.saved_at + SAVE_MS {
            self.disk = self.memory.clone();
            self.saved_at = door.now;
        }
        let snapshot = match self.read(door) {
            Ok(snapshot) => snapshot,
            Err(NoReply::Absent) => return self.push(door, rules, fresh),
            Err(NoReply::Recovering | NoReply::Away) => return,
        };
        if self.must_push(&snapshot) {
            self.push(door, rules, fresh);
            self.pushed = Some((snapshot.meta.born, snapshot.meta.recoveries));
            return;
        }
        self.adopt(&snapshot, door.now);
        self.history
            .record(&snapshot, Census::of(&snapshot).waiting());
        if snapshot.meta.recovery.is_none() {
            self.planned = Some(self.decide(&snapshot, when));
        }
        self.seen = Some(snapshot);
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

    /// Whether the store is behind what this gateway remembers, or asks for it.
    fn must_push(&self, snapshot: &Snapshot) -> bool {
        let theirs = &snapshot.meta;
        let forgotten = self
            .memory
            .meta
            .as_ref()
            .is_some_and(|mine| mine.born != theirs.born || mine.seq > theirs.seq);
        let asked = theirs
            .recovery
            .is_some_and(|r| self.pushed != Some((theirs.born, r.id)));
        forgotten || asked
    }

    /// Pushes the memory, in parts, as the contract of `restore` has it.
    fn push(&mut self, door: &mut Door, rules: &Rules, fresh: u64) {
        let live = self.living();
        let mut parts = live.chunks(PAGES_PER_CALL).peekable();
        let born = loop {
            let live = parts.next().unwrap_or_default().to_vec();
            let complete = parts.peek().is_none();
            let shadow = self.shadow(rules, fresh, live, complete);
            let Ok(restored) = door.restore(&shadow) else {
                return;
            };
            if complete {
                break restored.born;
            }
        };
        if let Some(meta) = &mut self.memory.meta
            && meta.born != born
        {
            (meta.born, meta.seq) = (born, 0);
        }
        self.seen = None;
        self.unflushed.clear();
        self.flushed_at = door.now;
    }

    fn shadow(&self, rules: &Rules, fresh: u64, live: Vec<(u64, Bits)>, complete: bool) -> Shadow {
        let memory = &self.memory;
        let mut shadow = Shadow {
            gateway: self.name.clone(),
            newborn: fresh,
            rules: Some(rules.clone()),
            live,
            complete,
            ..Shadow::default()
        };
        let Some(meta) = &memory.meta else {
            return shadow;
        };
        shadow.born = Some(meta.born);
        shadow.seq = meta.seq;
        shadow.time = meta.time;
        shadow.generation = meta.generation;
        shadow.issued = meta.issued;
        shadow.called = meta.called;
        shadow.gate = Some(meta.gate);
        shadow.marks.clone_from(&meta.marks);
        shadow.cfgver = meta.cfgver;
        shadow.sessions_known = memory.sessions_known;
        shadow.sessions = memory.sessions.iter().map(|(k, at)| (*k, *at)).collect();
        shadow.ended = memory.ended.iter().map(|(k, at)| (*k, *at)).collect();
        shadow.spent = memory.spent.iter().map(|(p, b)| (*p, b.clone())).collect();
        shadow.peers.clone_from(&memory.peers);
        shadow
    }

    /// Everyone heard in this window or the one before.
    fn living(&self) -> Vec<(u64, Bits)> {
        let mut live = self.memory.heard[0].clone();
        for (page, bits) in &self.memory.heard[1] {
            live.entry(*page).or_default().or(bits);
        }
        live.into_iter().collect()
    }

    fn rotate(&mut self, now: u64, window_ms: u64) {
        if now >= self.memory.heard_since + window_ms {
            let memory = &mut self.memory;
            memory.heard[1] = std::mem::take(&mut memory.heard[0]);
            memory.heard_since = now;
        }
    }

    /// Takes a snapshot for the truth.
    fn adopt(&mut self, snapshot: &Snapshot, now: u64) {
        let memory = &mut self.memory;
        let meta = &snapshot.meta;
        if memory
            .meta
            .as_ref()
            .is_some_and(|mine| mine.generation != meta.generation)
        {
            memory.heard = Default::default();
            memory.spent.clear();
            self.unflushed.clear();
        }
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
        memory.peers = snapshot.present().map(|row| row.gateway.clone()).collect();
        memory.peers.retain(|peer| *peer != self.name);
        memory.slot = snapshot.slot;
        let store_ms = i64::try_from(snapshot.unix_seconds * 1000).unwrap_or(i64::MAX);
        memory.ahead = store_ms - i64::try_from(now).unwrap_or(i64::MAX);
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
