//! Random but sensible operations: what a gateway would ask, and sometimes what
//! it would not.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sumun::room::event::Mode;
use sumun::room::gate::{Gate, LoadReport};
use sumun::room::pages::Bits;
use sumun::room::share::{Holder, ShareAsk};
use sumun::room::snapshot::{Report, Rules, Snapshot, Tally};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{
    Answer, Ask, Batch, Claim, Entered, Entrant, Fence, Leave, LetIn, Reply, Shadow, Step,
    StoredEvent, Touch,
};

use crate::world::{id, rules, session};

/// What one operation asks for.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Enter(Batch),
    Claim(Vec<Claim>),
    Beat(Vec<(u64, Bits)>),
    LetIn(Vec<LetIn>),
    Touch(Vec<Touch>),
    Inside(Vec<SessionKey>),
    End(Vec<SessionKey>),
    Leave(Vec<Leave>),
    Find([u8; 16]),
    Snapshot(Ask),
    Step(Step),
    Restore(Box<Shadow>),
    Reset,
    Configure(u64, Rules),
    PutEvent(u64, Option<StoredEvent>),
    Events,
    /// After so long a pause.
    Forget(i64),
    Pass(i64),
    Live(u64),
    Walk(u64),
    Rerun,
    Flush,
}

/// What the generator remembers to ask sensible things.
pub(crate) struct Known {
    random: StdRng,
    batches: [Option<Batch>; 3],
    tickets: Vec<Number>,
    pub(crate) sessions: Vec<SessionKey>,
    pub(crate) snapshot: Option<Snapshot>,
    restore_next: bool,
    fresh_sessions: u64,
    pub(crate) versions: u64,
    turns: u64,
}

impl Known {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            batches: [None, None, None],
            tickets: Vec::new(),
            sessions: Vec::new(),
            snapshot: None,
            restore_next: false,
            fresh_sessions: 0,
            versions: 0,
            turns: 0,
        }
    }

    pub(crate) fn met<T: std::fmt::Debug>(&mut self, reply: &Answer<T>) -> String {
        self.restore_next |= matches!(reply, Ok(Reply::Recovering | Reply::Absent));
        format!("{reply:?}")
    }

    pub(crate) fn entered(&mut self, entered: &[Entered]) {
        for entered in entered {
            match entered {
                Entered::Session { key, .. } => self.sessions.push(*key),
                Entered::Ticket { number } => self.tickets.push(*number),
                Entered::Closed => {}
            }
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn some<T>(&mut self, most: usize, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.random.random_range(0..=most);
        (0..count).map(|_| make(self)).collect()
    }

    fn rules(&mut self) -> Rules {
        let modes = [Mode::Auto, Mode::Auto, Mode::Auto, Mode::Queue, Mode::Pause];
        let rare = [Mode::Off, Mode::Shadow, Mode::Closed];
        let mode = if self.chance(80) {
            modes.choose(&mut self.random)
        } else {
            rare.choose(&mut self.random)
        };
        let limit = self.random.random_range(0..12);
        Rules {
            mode: *mode.unwrap(),
            limit: self.chance(90).then_some(limit),
            admit_per_second: self.chance(30).then(|| self.random.random_range(0.3..9.0)),
            session_idle_ms: self.random.random_range(5_000..60_000),
            session_max_ms: self.random.random_range(10_000..100_000),
            window_ms: self.random.random_range(2_000..20_000),
        }
    }

    /// The event is made; numbering often begins near the end of a page.
    pub(crate) fn birth(&mut self) -> Operation {
        let first = Number::restart(crate::world::START).0;
        let before_the_end = self.random.random_range(0..70);
        let issued = if self.chance(60) {
            Number(first + 65_536 - before_the_end)
        } else {
            Number(0)
        };
        Operation::Restore(Box::new(Shadow {
            gateway: "g0".to_owned(),
            newborn: self.random.random(),
            issued,
            called: issued,
            rules: Some(if self.chance(70) {
                Rules {
                    mode: Mode::Auto,
                    ..self.rules()
                }
            } else {
                rules(5)
            }),
            complete: true,
            ..Shadow::default()
        }))
    }

    pub(crate) fn next(&mut self, now: u64) -> Operation {
        if std::mem::take(&mut self.restore_next) && self.chance(85) {
            return self.restore(now);
        }
        match self.random.random_range(0..100) {
            0..28 => self.time(),
            28..44 => self.enter(),
            44..54 => self.claim(),
            54..59 => self.beat(),
            59 => Operation::LetIn(self.some(3, |known| {
                let number = known.ticket();
                let soon = now + known.random.random_range(0..40_000);
                LetIn {
                    until: Timestamp(soon.saturating_sub(5_000)),
                    session: session(number.0),
                    number: known.chance(70).then_some(number),
                    proven: known.chance(50),
                    id: known.id(),
                }
            })),
            60..63 => Operation::Touch(self.some(4, |known| known.touch(now))),
            63..65 => Operation::Inside(self.some(4, Self::session)),
            65..68 => Operation::End(self.some(2, Self::session)),
            68..71 => Operation::Leave(self.some(2, |known| Leave {
                number: known.ticket(),
                id: known.id(),
            })),
            71..73 => Operation::Find(id(self.random.random_range(0..5))),
            73..83 => self.ask(),
            83..93 => self.step(),
            93..96 => self.restore(now),
            96 => Operation::Reset,
            97 if self.chance(40) => {
                self.restore_next = true;
                let pauses = [0, 59_999, 60_000];
                Operation::Forget(*pauses.choose(&mut self.random).unwrap())
            }
            97 => Operation::Configure(self.version(), self.rules()),
            98 => self.put(),
            _ => Operation::Events,
        }
    }

    fn time(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            0..76 => Operation::Pass(self.random.random_range(0..900)),
            76..90 => Operation::Pass(self.random.random_range(0..=2_000)),
            90..92 => Operation::Pass(self.random.random_range(2_001..3_000)),
            92..94 => Operation::Pass(-2_000),
            94 => Operation::Pass(3_600_000),
            95 => Operation::Live(if self.chance(60) { 660_000 } else { 20_000 }),
            96 => Operation::Walk(self.random.random_range(5..50)),
            97 => Operation::Rerun,
            98 => Operation::Flush,
            _ => Operation::Pass(0),
        }
    }

    fn id(&mut self) -> Option<[u8; 16]> {
        self.chance(30).then(|| id(self.random.random_range(0..5)))
    }

    fn session(&mut self) -> SessionKey {
        let any = session(self.random.random_range(0..20));
        if self.chance(85) {
            self.sessions
                .choose(&mut self.random)
                .copied()
                .unwrap_or(any)
        } else {
            any
        }
    }

    fn ticket(&mut self) -> Number {
        let recent = self.tickets.len().saturating_sub(25);
        let issued = self
            .snapshot
            .as_ref()
            .map_or(Number(9), |snapshot| snapshot.meta.issued);
        let near = Number(issued.0.saturating_sub(3) + self.random.random_range(0..8));
        if self.chance(90) {
            self.tickets[recent..]
                .choose(&mut self.random)
                .copied()
                .unwrap_or(near)
        } else {
            near
        }
    }

    fn enter(&mut self) -> Operation {
        let which = self.random.random_range(0..3);
        if self.chance(12)
            && let Some(batch) = &self.batches[which]
        {
            return Operation::Enter(batch.clone());
        }
        let most = if self.chance(6) { 64 } else { 6 };
        let batch = Batch {
            gateway: format!("g{which}"),
            batch: self.batches[which]
                .as_ref()
                .map_or(1, |batch| batch.batch + 1),
            above: self.own_number(),
            entrants: self.some(most, |known| {
                known.fresh_sessions += 1;
                Entrant {
                    session: session(known.fresh_sessions << 8),
                    id: known.id(),
                }
            }),
        };
        self.batches[which] = Some(batch.clone());
        Operation::Enter(batch)
    }

    fn claim(&mut self) -> Operation {
        Operation::Claim(self.some(4, |known| {
            let number = known.ticket();
            Claim {
                number,
                session: session(number.0),
                id: known.id(),
            }
        }))
    }

    fn pages(&mut self, most: usize) -> Vec<(u64, Bits)> {
        let mut pages: BTreeMap<u64, Bits> = BTreeMap::new();
        for number in self.some(most, Self::ticket) {
            pages.entry(number.page()).or_default().set(number.bit());
        }
        if self.chance(10) {
            let page = self.random.random_range(0..1 << 30);
            let bits = self.some(3, |known| Number(known.random.random_range(0..65_536)));
            pages.insert(page, crate::world::bits(&bits));
        }
        pages.into_iter().collect()
    }

    fn beat(&mut self) -> Operation {
        Operation::Beat(self.pages(12))
    }

    fn touch(&mut self, now: u64) -> Touch {
        let session = self.session();
        Touch {
            session,
            begun: Timestamp(now - self.random.random_range(0..60_000)),
            until: Timestamp(now + self.random.random_range(0..40_000) - 10_000),
            keep: Timestamp(now + self.random.random_range(0..1_000_000) - 500_000),
        }
    }

    /// Seldom, a number that a gateway has given by itself.
    fn own_number(&mut self) -> Option<Number> {
        self.chance(5).then(|| self.ticket())
    }

    fn ask(&mut self) -> Operation {
        let pages = self
            .snapshot
            .as_ref()
            .map_or_else(Vec::new, |snapshot| snapshot.pages.clone());
        let called = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.meta.called.page());
        let since = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.meta.time.0);
        let gateway = format!("g{}", self.random.random_range(0..4));
        Operation::Snapshot(Ask {
            share: self.share(&gateway),
            gateway,
            above: self.own_number(),
            report: Report {
                keys: vec!["a".to_owned()],
                config: "c".to_owned(),
                load: LoadReport {
                    requests: self.random.random_range(0..99),
                    ..LoadReport::default()
                },
            },
            front: if self.chance(70) {
                pages
                    .iter()
                    .copied()
                    .filter(|page| *page >= called)
                    .take(4)
                    .collect()
            } else {
                vec![called]
            },
            refresh: pages.iter().copied().rev().take(8).collect(),
            ended_since: Timestamp(if self.chance(50) { since } else { 0 }),
        })
    }

    /// What a gateway says of its share, now and then late.
    fn share(&mut self, gateway: &str) -> Option<ShareAsk> {
        if self.chance(60) {
            return None;
        }
        self.turns += 1;
        let late = if self.chance(10) { 3 } else { 0 };
        Some(ShareAsk {
            holder: Holder::new(gateway, self.random.random_range(0..2)),
            turn: self.turns - late.min(self.turns),
            held: self.random.random_range(0..3),
            wanted: self.random.random_range(0..6),
        })
    }

    fn step(&mut self) -> Operation {
        let Some(snapshot) = self.snapshot.clone() else {
            return self.ask();
        };
        let meta = &snapshot.meta;
        let wanted = self.random.random_range(0..7);
        let living: Vec<Number> = snapshot
            .front
            .iter()
            .flat_map(|(page, bits)| bits.ones(0).map(|bit| Number::at(*page, bit)))
            .filter(|number| *number >= meta.called)
            .take(wanted)
            .collect();
        let to = living.last().map_or(meta.called, |last| last.next());
        let to = if self.chance(20) { meta.issued } else { to };
        let gates = [Gate::Open, Gate::Queueing, Gate::Queueing];
        let pace = self.chance(40).then(|| self.random.random_range(0.2..12.0));
        Operation::Step(Step {
            fence: Fence {
                born: meta.born,
                run: meta.run.clone(),
                seq: meta.seq + u64::from(self.chance(8)),
            },
            gate: *gates.choose(&mut self.random).unwrap(),
            calm_since: self.chance(50).then_some(meta.time),
            to,
            offers: living,
            pace,
            show: self.random.random_range(0.02..1.0),
            sweep: snapshot.pages.clone(),
            waiting: self.random.random_range(0..50),
        })
    }

    fn restore(&mut self, now: u64) -> Operation {
        let last = self.snapshot.clone();
        let meta = last.as_ref().map(|snapshot| &snapshot.meta);
        let remembers = meta.is_some() && self.chance(80);
        let later_generation = self.chance(3);
        let ended = self.some(2, |known| (known.session(), Timestamp(now)));
        let spent = if self.chance(30) {
            self.pages(2)
        } else {
            Vec::new()
        };
        Operation::Restore(Box::new(Shadow {
            gateway: format!("g{}", self.random.random_range(0..4)),
            born: meta.filter(|_| remembers).map(|meta| meta.born),
            seq: meta.map_or(0, |meta| meta.seq + u64::from(self.chance(5))),
            newborn: self.random.random(),
            time: meta.map_or(Timestamp(now), |meta| meta.time),
            generation: meta.map_or(Generation(0), |meta| {
                Generation(meta.generation.0 + u64::from(later_generation))
            }),
            issued: meta.map_or(Number(0), |meta| meta.issued),
            called: meta.map_or(Number(0), |meta| meta.called),
            gate: meta.map(|meta| meta.gate),
            marks: meta.map_or_else(Vec::new, |meta| meta.marks.clone()),
            rules: meta.map(|meta| meta.rules.clone()),
            cfgver: meta.map_or(0, |meta| meta.cfgver),
            shares: meta.map_or_else(Vec::new, |meta| meta.shares.clone()),
            tally: self.tally(last.as_ref().map(|snapshot| snapshot.tally)),
            sessions_known: last
                .as_ref()
                .map_or(0, |snapshot| snapshot.sessions + snapshot.meta.ghosts),
            sessions: self.some(8, |known| {
                (
                    known.session(),
                    Timestamp(now + known.random.random_range(0..30_000)),
                )
            }),
            ended,
            live: self.pages(20),
            spent,
            peers: self.some(2, |known| {
                let peer = format!("g{}", known.random.random_range(0..5));
                (peer, Timestamp(now - known.random.random_range(0..900_000)))
            }),
            young: self.chance(20),
            complete: self.chance(80),
            token: self.chance(15),
        }))
    }

    /// What a gateway remembers of the counts: what it saw, or more.
    fn tally(&mut self, seen: Option<Tally>) -> Tally {
        let mut tally = seen.unwrap_or_default();
        if self.chance(20) {
            tally.begun += self.random.random_range(0..5);
            tally.issued += self.random.random_range(0..5);
            tally.abandoned += self.random.random_range(0..5);
            tally.sessions.most += self.random.random_range(0..5);
            tally.waiting.most += self.random.random_range(0..5);
        }
        tally
    }

    fn version(&mut self) -> u64 {
        self.snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.meta.cfgver)
            + u64::from(self.chance(20))
    }

    fn put(&mut self) -> Operation {
        let version = self.versions + u64::from(self.chance(20));
        let stored = StoredEvent {
            version: version + 1,
            overrides: serde_json::json!({ "limitCnt": self.random.random_range(0..100) }),
            created: true,
            created_at: 1,
            updated_at: 2,
        };
        Operation::PutEvent(version, self.chance(80).then_some(stored))
    }
}
