//! Who comes, how they behave, and what breaks: one scenario for each kind of
//! trouble, and one with all of it. Everything follows from the seed.

use std::time::Duration;

use sumun::room::event::{Mode, QueueWhen};
use sumun::room::snapshot::Rules;

use super::dice::Dice;
use super::world::Temper;

/// What breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A gateway's process dies, and is back after a while.
    Crash { gateway: usize, down_ms: u64 },
    /// The store comes back empty, after a while.
    Lose { away_ms: u64 },
    /// No call reaches the store.
    Silence { ms: u64 },
    /// No call of one gateway reaches the store.
    Cut { gateway: usize, ms: u64 },
    /// The store's clock jumps.
    Clock { step_ms: i64 },
    /// The operator changes the limit.
    Limit { limit: u64 },
    /// The operator begins a new generation.
    Reset,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub name: &'static str,
    pub visitors: usize,
    pub gateways: usize,
    /// Mean time between two arrivals.
    pub between_ms: u64,
    /// Mean stay inside.
    pub stay_ms: u64,
    pub rules: Rules,
    pub queue_when: QueueWhen,
    pub lost_replies: f64,
    /// Faults by the millisecond they strike in, in order.
    pub faults: Vec<(u64, Fault)>,
    /// Whether the store hears everybody, so that exact positions are.
    pub positions_known: bool,
    /// Shares of those who vanish, give up, do not show, sleep.
    tempers: [f64; 4],
    sleeps_ms: u64,
}

/// The kinds of trouble; a seed takes them in turn.
pub(crate) const KINDS: [&str; 9] = [
    "calm", "absent", "crashes", "silences", "losses", "replies", "operator", "pressure", "chaos",
];

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x00c0_ffee);
        let kind = KINDS[(seed % KINDS.len() as u64) as usize];
        let mut scenario = Self::calm(&mut dice);
        scenario.name = kind;
        match kind {
            "absent" => scenario.absent(&mut dice),
            "crashes" => scenario.strike(&mut dice, 25_000, &[crash]),
            "silences" => scenario.strike(&mut dice, 40_000, &[silence, cut]),
            "losses" => scenario.strike(&mut dice, 60_000, &[lose]),
            "replies" => scenario.lost_replies = 0.15,
            "operator" => scenario.strike(&mut dice, 50_000, &[limit, limit, clock, reset]),
            "pressure" => scenario.pressure(),
            "chaos" => {
                scenario.lost_replies = 0.03;
                scenario.tempers = [0.05, 0.05, 0.05, 0.05];
                let all = [crash, silence, cut, lose, clock, limit, reset, crash, lose];
                scenario.strike(&mut dice, 45_000, &all);
            }
            _ => {}
        }
        scenario
    }

    /// A rush of twice to four times what can be served, and no faults.
    fn calm(dice: &mut Dice) -> Self {
        let limit = dice.between(20, 80);
        let stay_ms = dice.between(12_000, 25_000);
        Self {
            name: "calm",
            visitors: dice.between(1_000, 1_600) as usize,
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
            lost_replies: 0.0,
            faults: Vec::new(),
            positions_known: true,
            tempers: [0.02, 0.03, 0.02, 0.0],
            sleeps_ms: 0,
        }
    }

    /// Many who are not there, and many who come back late.
    fn absent(&mut self, dice: &mut Dice) {
        self.tempers = [0.1, 0.2, 0.15, 0.15];
        self.sleeps_ms = 15 * 60_000;
        self.visitors /= 2;
        self.rules.limit = Some(dice.between(8, 20));
    }

    /// The gate and the pace are at work: thresholds instead of a limit alone.
    fn pressure(&mut self) {
        self.queue_when.sessions = self.rules.limit.map(|limit| limit * 3 / 4);
        self.queue_when.arrivals_per_second = Some(2_000.0 / self.between_ms.max(1) as f64);
        self.queue_when.release_after = Duration::from_secs(5);
    }

    /// Spreads faults over the time that the line will take.
    fn strike(&mut self, dice: &mut Dice, apart_ms: u64, kinds: &[fn(&mut Dice, &Self) -> Fault]) {
        let limit = self.rules.limit.unwrap_or(1);
        let lasts = self.visitors as u64 * self.stay_ms / limit;
        let mut at = 10_000 + dice.between(0, apart_ms);
        while at < lasts.max(120_000) {
            let kind = kinds[dice.between(0, kinds.len() as u64) as usize];
            self.faults.push((at, kind(dice, self)));
            // Two faults within the second in which a gateway writes its disk
            // can destroy every copy of what happened in it.
            at += 8_000 + dice.exponential(apart_ms);
        }
        self.positions_known = false;
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

fn crash(dice: &mut Dice, scenario: &Scenario) -> Fault {
    Fault::Crash {
        gateway: dice.between(0, scenario.gateways as u64) as usize,
        down_ms: dice.between(2_000, 40_000),
    }
}

fn silence(dice: &mut Dice, _: &Scenario) -> Fault {
    let long = dice.chance(0.2);
    let most = if long { 300_000 } else { 30_000 };
    Fault::Silence {
        ms: dice.between(5_000, most),
    }
}

fn cut(dice: &mut Dice, scenario: &Scenario) -> Fault {
    Fault::Cut {
        gateway: dice.between(0, scenario.gateways as u64) as usize,
        ms: dice.between(1_000, 60_000),
    }
}

fn lose(dice: &mut Dice, _: &Scenario) -> Fault {
    Fault::Lose {
        away_ms: if dice.chance(0.5) {
            0
        } else {
            dice.between(0, 20_000)
        },
    }
}

fn clock(dice: &mut Dice, _: &Scenario) -> Fault {
    let back = dice.chance(0.6);
    Fault::Clock {
        step_ms: if back { -2_000 } else { 3_600_000 },
    }
}

fn limit(dice: &mut Dice, scenario: &Scenario) -> Fault {
    let limit = scenario.rules.limit.unwrap_or(1);
    Fault::Limit {
        limit: dice.between(limit / 2, limit * 2).max(2),
    }
}

fn reset(_: &mut Dice, _: &Scenario) -> Fault {
    Fault::Reset
}
