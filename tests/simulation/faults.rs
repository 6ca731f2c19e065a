//! What breaks: a plan of faults, drawn before the world begins, so that a
//! failing seed can be tried again without some of them; and a count of what
//! did strike, so that a fault which never bites is noticed.

use std::fmt::Write;

use super::dice::Dice;

/// What breaks. Gateways by index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process dies, and is back after a while; its disk may be gone too.
    Crash {
        gateway: usize,
        down_ms: u64,
        disk: bool,
    },
    /// The store comes back empty, after a while.
    Lose { away_ms: u64 },
    /// The store comes back as it was a moment before, after a while.
    FallBack { tail_ms: u64, away_ms: u64 },
    /// No call reaches the store.
    Silence { ms: u64 },
    /// No call of one gateway reaches the store.
    Cut { gateway: usize, ms: u64 },
    /// The store's clock jumps.
    StoreClock { step_ms: i64 },
    /// A gateway's wall clock jumps.
    GatewayClock { gateway: usize, step_ms: i64 },
    /// The operator changes the limit.
    Limit { limit: u64 },
    /// The operator begins a new generation.
    Reset,
    /// Replies get lost: this share of them, for so long.
    LostReplies { ms: u64, share: f64 },
    /// Calls arrive a second time, up to so much later.
    Repeats { ms: u64, share: f64, late_ms: u64 },
    /// Calls arrive after later ones, and nobody waits for their replies.
    Delays { ms: u64, share: f64, late_ms: u64 },
}

/// A fault of the plan: its place there, and the millisecond it strikes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub nth: usize,
    pub at: u64,
    pub fault: Fault,
}

/// What counts as having struck.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sort {
    Crash,
    CrashWithoutDisk,
    Loss,
    LostTail,
    Silence,
    Cut,
    StoreClockForth,
    StoreClockBack,
    GatewayClockForth,
    GatewayClockBack,
    LimitRaised,
    LimitLowered,
    Reset,
    LostReply,
    RepeatedCall,
    ReorderedCall,
}

const SORTS: [&str; 16] = [
    "crashes",
    "crashes without a disk",
    "stores lost",
    "store tails lost",
    "calls into a silence",
    "calls of a gateway cut off",
    "store clocks forth",
    "store clocks back",
    "gateway clocks forth",
    "gateway clocks back",
    "limits raised",
    "limits lowered",
    "resets",
    "replies lost",
    "calls repeated",
    "calls reordered",
];

/// How often each sort of fault struck.
#[derive(Clone, Debug, Default)]
pub(crate) struct Struck([u64; SORTS.len()]);

impl Struck {
    pub(crate) fn count(&mut self, sort: Sort) {
        self.0[sort as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// What never struck.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let each = SORTS.iter().zip(&self.0);
        each.filter(|(_, count)| **count == 0)
            .map(|(sort, _)| *sort)
            .collect()
    }

    pub(crate) fn line(&self) -> String {
        let mut line = String::from("faults that struck:");
        for (sort, count) in SORTS.iter().zip(&self.0) {
            let _ = write!(line, " {sort} {count},");
        }
        line.trim_end_matches(',').to_owned()
    }
}

/// What a draw has to know of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub gateways: usize,
    pub limit: u64,
    /// The longest that a short fault lasts.
    pub brief_ms: u64,
}

/// How one kind of fault is drawn.
pub(crate) type Draw = fn(&mut Dice, Ground) -> Fault;

/// Faults of the moment: they keep a distance from each other.
pub(crate) const STRIKES: [Draw; 10] = [
    crash,
    silence,
    cut,
    lose,
    fall_back,
    store_clock,
    gateway_clock,
    limit,
    limit,
    reset,
];

/// Faults that last, beside all others.
pub(crate) const WEATHER: [Draw; 3] = [lost_replies, repeats, delays];

fn any_gateway(dice: &mut Dice, ground: Ground) -> usize {
    dice.between(0, ground.gateways as u64) as usize
}

pub(crate) fn crash(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::Crash {
        gateway: any_gateway(dice, ground),
        down_ms: dice.between(2_000, 40_000.min(2 * ground.brief_ms)),
        disk: dice.chance(0.6),
    }
}

pub(crate) fn silence(dice: &mut Dice, ground: Ground) -> Fault {
    let long = dice.chance(0.2);
    let most = if long {
        10 * ground.brief_ms
    } else {
        ground.brief_ms
    };
    Fault::Silence {
        ms: dice.between(5_000, most),
    }
}

pub(crate) fn cut(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::Cut {
        gateway: any_gateway(dice, ground),
        ms: dice.between(1_000, 2 * ground.brief_ms),
    }
}

fn away(dice: &mut Dice) -> u64 {
    if dice.chance(0.5) {
        return 0;
    }
    dice.between(0, 20_000)
}

pub(crate) fn lose(dice: &mut Dice, _: Ground) -> Fault {
    Fault::Lose {
        away_ms: away(dice),
    }
}

pub(crate) fn fall_back(dice: &mut Dice, _: Ground) -> Fault {
    Fault::FallBack {
        tail_ms: dice.between(50, 5_000),
        away_ms: away(dice),
    }
}

/// A clock that is set: mostly by a little, sometimes by an hour.
fn step(dice: &mut Dice) -> i64 {
    let size = match dice.between(0, 3) {
        0 => dice.between(1, 3_000),
        1 => dice.between(3_000, 90_000),
        _ => 3_600_000,
    };
    let size = i64::try_from(size).unwrap_or(0);
    if dice.chance(0.5) { -size } else { size }
}

pub(crate) fn store_clock(dice: &mut Dice, _: Ground) -> Fault {
    Fault::StoreClock {
        step_ms: step(dice),
    }
}

pub(crate) fn gateway_clock(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::GatewayClock {
        gateway: any_gateway(dice, ground),
        step_ms: step(dice),
    }
}

pub(crate) fn limit(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::Limit {
        limit: dice.between(ground.limit / 2, ground.limit * 2).max(2),
    }
}

pub(crate) fn reset(_: &mut Dice, _: Ground) -> Fault {
    Fault::Reset
}

fn lasts(dice: &mut Dice, ground: Ground) -> u64 {
    dice.between(5_000, 2 * ground.brief_ms)
}

/// Within moments, or when everybody has long given up on it.
fn lateness(dice: &mut Dice) -> u64 {
    if dice.chance(0.7) { 1_500 } else { 30_000 }
}

pub(crate) fn lost_replies(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::LostReplies {
        ms: lasts(dice, ground),
        share: 0.02 + 0.3 * dice.share(),
    }
}

pub(crate) fn repeats(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::Repeats {
        ms: lasts(dice, ground),
        share: 0.02 + 0.3 * dice.share(),
        late_ms: lateness(dice),
    }
}

pub(crate) fn delays(dice: &mut Dice, ground: Ground) -> Fault {
    Fault::Delays {
        ms: lasts(dice, ground),
        share: 0.02 + 0.2 * dice.share(),
        late_ms: lateness(dice),
    }
}
