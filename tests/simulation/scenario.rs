//! Who comes, how they behave, and what breaks: one large scenario for each
//! kind of trouble, and small ones with all of it. Everything follows from the
//! seed.

use std::ops::Range;
use std::time::Duration;

use sumun::room::event::{Mode, QueueWhen};
use sumun::room::snapshot::Rules;

use super::dice::Dice;
use super::faults::{self, Draw, Fault, Ground, Planned};
use super::world::Temper;

/// One seed in so many is large: a rush of thousands; the others are small,
/// short and full of faults.
pub(crate) const LARGE_EVERY: u64 = 100;

/// A memory that died with its disk must have been heard of elsewhere before
/// the store forgets as well.
const DISK_APART_MS: u64 = 60_000;

/// How fast a gateway's clock may be, and how slow the store's where gateways
/// number by themselves: both together within the store's horizon of a minute.
const FAST_MS: i64 = 25_000;

/// A defect that is planted in the store, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A batch that comes again is taken for another one.
    ForgetsBatches,
    /// The first of those called is passed over.
    PassesOver,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub name: &'static str,
    /// Which of the seed's visitors come.
    pub visitors: Range<usize>,
    pub gateways: usize,
    /// Mean time between two arrivals.
    pub between_ms: u64,
    /// Mean stay inside.
    pub stay_ms: u64,
    pub rules: Rules,
    pub queue_when: QueueWhen,
    /// In the order in which they strike.
    pub faults: Vec<Planned>,
    /// Whether the store hears everybody, so that exact positions are.
    pub positions_known: bool,
    pub defect: Option<Defect>,
    /// Shares of those who vanish, give up, do not show, sleep.
    tempers: [f64; 4],
    sleeps_ms: u64,
}

/// The kinds of trouble; large seeds take them in turn.
const KINDS: [&str; 11] = [
    "calm", "chaos", "losses", "network", "absent", "tails", "crashes", "silences", "replies",
    "operator", "pressure",
];

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x00c0_ffee);
        let mut scenario = Self::calm(&mut dice);
        if seed.is_multiple_of(LARGE_EVERY) {
            let kind = KINDS[(seed / LARGE_EVERY % KINDS.len() as u64) as usize];
            scenario.name = kind;
            scenario.trouble(kind, &mut dice);
        } else {
            scenario.small(&mut dice);
        }
        scenario.settle();
        scenario
    }

    /// The same with fewer visitors, and only these faults of the plan.
    pub(crate) fn only(mut self, visitors: Range<usize>, faults: &[usize]) -> Self {
        self.visitors = visitors;
        self.faults.retain(|planned| faults.contains(&planned.nth));
        self
    }

    pub(crate) fn plan(&self) -> Vec<usize> {
        self.faults.iter().map(|planned| planned.nth).collect()
    }

    /// A rush of twice to four times what can be served, and no faults.
    fn calm(dice: &mut Dice) -> Self {
        let limit = dice.between(20, 80);
        let stay_ms = dice.between(12_000, 25_000);
        Self {
            name: "calm",
            visitors: 0..dice.between(1_000, 1_600) as usize,
            gateways: dice.between(2, 5) as usize,
            between_ms: stay_ms / limit / dice.between(2, 5),
            stay_ms,
            rules: Rules {
                mode: Mode::Auto,
                limit: Some(limit),
                admit_per_second: dice.chance(0.2).then(|| dice.between(2, 20) as f64),
                session_idle_ms: 40_000,
                session_max_ms: 90_000,
                window_ms: if dice.chance(0.5) { 90_000 } else { 45_000 },
            },
            queue_when: QueueWhen::default(),
            faults: Vec::new(),
            positions_known: true,
            defect: None,
            tempers: [0.02, 0.03, 0.02, 0.0],
            sleeps_ms: 0,
        }
    }

    fn trouble(&mut self, kind: &str, dice: &mut Dice) {
        match kind {
            "absent" => self.absent(dice),
            "crashes" => self.strike(dice, 25_000, &[faults::crash, faults::gateway_clock]),
            "silences" => self.strike(dice, 40_000, &[faults::silence, faults::cut]),
            "losses" => self.strike(dice, 60_000, &[faults::lose]),
            "tails" => self.strike(dice, 40_000, &[faults::fall_back, faults::limit]),
            "replies" => self.add(
                0,
                Fault::LostReplies {
                    ms: u64::MAX / 2,
                    share: 0.15,
                },
            ),
            "operator" => {
                let kinds: [Draw; 4] = [
                    faults::limit,
                    faults::limit,
                    faults::store_clock,
                    faults::reset,
                ];
                self.strike(dice, 50_000, &kinds);
            }
            "pressure" => self.pressure(),
            "network" => self.weather(dice, 12),
            "chaos" => {
                self.tempers = [0.05, 0.05, 0.05, 0.05];
                self.weather(dice, 6);
                self.strike(dice, 45_000, &faults::STRIKES);
            }
            _ => {}
        }
    }

    /// Few visitors in a short time, and everything breaks.
    fn small(&mut self, dice: &mut Dice) {
        self.name = "small";
        let limit = dice.between(2, 16);
        self.rules.limit = Some(limit);
        self.stay_ms = dice.between(3_000, 10_000);
        self.visitors = 0..dice.between(30, 301).min(30 * limit) as usize;
        self.between_ms = self.stay_ms / limit / dice.between(1, 4);
        self.rules.window_ms = if dice.chance(0.5) { 45_000 } else { 30_000 };
        self.rules.admit_per_second = dice.chance(0.1).then(|| dice.between(2, 20) as f64);
        self.tempers = [0.04, 0.04, 0.04, 0.04];
        self.sleeps_ms = 60_000;
        if dice.chance(0.1) {
            self.pressure();
        }
        if dice.chance(0.2) {
            self.missed(dice);
        }
        let weather = dice.between(0, 4);
        self.weather(dice, weather);
        let apart_ms = dice.between(2_000, 12_000);
        self.strike(dice, apart_ms, &faults::STRIKES);
    }

    /// Many who are not there, and many who come back late.
    fn absent(&mut self, dice: &mut Dice) {
        self.tempers = [0.1, 0.2, 0.15, 0.15];
        self.sleeps_ms = 15 * 60_000;
        self.visitors.end /= 2;
        self.rules.limit = Some(dice.between(8, 20));
    }

    /// Long stays, and a store that forgets while a gateway is gone.
    fn missed(&mut self, dice: &mut Dice) {
        let limit = self.rules.limit.unwrap_or(1);
        self.stay_ms = dice.between(40_000, 100_000);
        self.visitors.end = self.visitors.end.min(8 * limit as usize);
        self.between_ms = self.stay_ms / limit / 2;
        let ground = self.ground();
        let mut at = 20_000 + dice.between(0, 60_000);
        for _ in 0..3 {
            let gone = if dice.chance(0.7) {
                faults::crash(dice, ground)
            } else {
                faults::cut(dice, ground)
            };
            let losing = [faults::lose, faults::fall_back];
            let loss = losing[dice.between(0, 2) as usize](dice, ground);
            self.add(at, gone);
            self.add(at + dice.between(6_000, 20_000), loss);
            at += dice.between(60_000, 120_000);
        }
    }

    /// The gate and the pace are at work: thresholds instead of a limit alone.
    fn pressure(&mut self) {
        self.queue_when.sessions = self.rules.limit.map(|limit| limit * 3 / 4);
        self.queue_when.arrivals_per_second = Some(2_000.0 / self.between_ms.max(1) as f64);
        self.queue_when.release_after = Duration::from_secs(5);
    }

    fn ground(&self) -> Ground {
        let small = self.name == "small";
        Ground {
            gateways: self.gateways,
            limit: self.rules.limit.unwrap_or(1),
            brief_ms: if small { 12_000 } else { 30_000 },
        }
    }

    /// How long the line will take.
    fn lasts(&self) -> u64 {
        let visitors = self.visitors.len() as u64;
        let served = visitors * self.stay_ms / self.rules.limit.unwrap_or(1);
        served.max(120_000.min(visitors * 1_000))
    }

    fn add(&mut self, at: u64, fault: Fault) {
        let nth = self.faults.len();
        self.faults.push(Planned { nth, at, fault });
    }

    /// Spreads faults over the time that the line will take.
    fn strike(&mut self, dice: &mut Dice, apart_ms: u64, kinds: &[Draw]) {
        let (ground, lasts) = (self.ground(), self.lasts());
        let mut at = 5_000 + dice.between(0, apart_ms);
        while at < lasts {
            let draw = kinds[dice.between(0, kinds.len() as u64) as usize];
            self.add(at, draw(dice, ground));
            // Two faults within the second in which a gateway writes its disk
            // can destroy every copy of what happened in it.
            at += 8_000 + dice.exponential(apart_ms);
        }
        self.positions_known = false;
    }

    /// Bad weather on the network, so many times.
    fn weather(&mut self, dice: &mut Dice, times: u64) {
        let (ground, lasts) = (self.ground(), self.lasts());
        for _ in 0..times {
            let draw = faults::WEATHER[dice.between(0, 3) as usize];
            let at = dice.between(0, lasts);
            self.add(at, draw(dice, ground));
        }
        self.positions_known = false;
    }

    /// Puts the plan in order, and leaves a gateway its disk where the store
    /// forgets at about the same time: what nobody remembers is lost.
    fn settle(&mut self) {
        self.faults.sort_by_key(|planned| planned.at);
        let forgets = |fault: &Fault| matches!(fault, Fault::Lose { .. } | Fault::FallBack { .. });
        let losses = self.faults.iter().filter(|p| forgets(&p.fault));
        let losses: Vec<u64> = losses.map(|planned| planned.at).collect();
        for planned in &mut self.faults {
            if let Fault::Crash { disk, .. } = &mut planned.fault {
                let at = planned.at;
                *disk |= losses.iter().any(|loss| loss.abs_diff(at) < DISK_APART_MS);
            }
        }
        for (nth, planned) in self.faults.iter_mut().enumerate() {
            planned.nth = nth;
        }
        self.settle_clocks();
    }

    /// A gateway that starts by a clock far ahead of the store's, or numbers by
    /// itself and then finds the store's clock set far back, has numbered
    /// beyond all that the store believes.
    fn settle_clocks(&mut self) {
        let numbers_alone = |planned: &Planned| match planned.fault {
            Fault::Lose { away_ms } | Fault::FallBack { away_ms, .. } => away_ms > 0,
            Fault::Crash { .. }
            | Fault::Silence { .. }
            | Fault::Cut { .. }
            | Fault::LostReplies { .. }
            | Fault::Delays { .. } => true,
            _ => false,
        };
        let alone = self.faults.iter().any(numbers_alone);
        let mut ahead = vec![0; self.gateways];
        let mut store = 0;
        for planned in &mut self.faults {
            match &mut planned.fault {
                Fault::GatewayClock { gateway, step_ms } => {
                    *step_ms = (*step_ms).min(FAST_MS - ahead[*gateway]);
                    ahead[*gateway] += *step_ms;
                }
                Fault::StoreClock { step_ms } if alone => {
                    *step_ms = (*step_ms).max(-FAST_MS - store);
                    store += *step_ms;
                }
                // Behind the running time a clock tells two lives of the same moments
                // apart no more: what is numbered at the end of a silence is numbered
                // again by a store that falls back to before it (docs/operations.md).
                Fault::FallBack { tail_ms, .. } if store < 0 => *tail_ms = (*tail_ms).min(100),
                _ => {}
            }
        }
    }

    pub(crate) fn temper(&self, dice: &mut Dice) -> Temper {
        let [vanishes, gives_up, no_show, sleeps] = self.tempers;
        let draw = dice.share();
        if draw < vanishes {
            return Temper::Vanishes;
        }
        if draw < vanishes + gives_up {
            return Temper::GivesUp(dice.exponential(120_000));
        }
        if draw < vanishes + gives_up + no_show {
            return Temper::NoShow;
        }
        if draw < vanishes + gives_up + no_show + sleeps {
            return Temper::Sleeps(dice.between(5_000, self.sleeps_ms.max(60_000)));
        }
        Temper::Patient
    }
}
