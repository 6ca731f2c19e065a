//! What the rules see of an event: the store's state, as plain values.
//!
//! The controller decides from a `Snapshot`, the request path from the same,
//! and the embedded store keeps its state in the same words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::Mode;
use super::gate::{Gate, LoadReport};
use super::pages::Bits;
use super::share::{self, Share};
use super::ticket::{Generation, Number, SessionKey};
use super::time::Timestamp;

/// How long a new session may wait for its first request, in milliseconds.
pub const UNPROVEN_MS: u64 = 30_000;

/// How long a called number's offer stands, in milliseconds.
pub const OFFER_MS: u64 = 5_000;

/// The window of numbers issued and not yet heard from again, in milliseconds.
pub const FRESH_WINDOW_MS: u64 = 20_000;

/// The shortest time between two steps, in milliseconds.
pub const STEP_MS: u64 = 400;

/// How long ago a number may have been called and still claim.
pub const FLOOR_MINUTES: u64 = 10;

/// A recovery lasts at least this long, in milliseconds.
pub const RECOVERY_MIN_MS: u64 = 3_000;

/// What a recovery grants beyond its waiting time, in milliseconds.
pub const RECOVERY_GRACE_MS: u64 = 10_000;

/// A gateway that was not heard from for this long is not counted as there,
/// in milliseconds.
pub const GATEWAY_GONE_MS: u64 = 10_000;

/// An event that nobody has worked on for this long may be forgotten, in
/// milliseconds: every gateway that runs it asks twice a second.
pub const FORGET_IDLE_MS: u64 = 60_000;

/// What the store guards for an event, written by `configure`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The operator's order.
    pub mode: Mode,
    /// Most sessions inside at once; `None` without a limit.
    pub limit: Option<u64>,
    /// Most admissions a second, calls and walk-ins together.
    pub admit_per_second: Option<f64>,
    /// A session ends when idle for this long, in milliseconds.
    pub session_idle_ms: u64,
    /// A session is not extended beyond this age while others wait, in milliseconds.
    pub session_max_ms: u64,
    /// The window of liveness, `ticket_idle` / 2, in milliseconds.
    pub window_ms: u64,
}

/// Why an event is in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// No operation reached the store for more than two seconds.
    Silence,
    /// The store's server process is another one than before.
    Run,
    /// The store had forgotten the event.
    Loss,
    /// The store knows less than a gateway does: stale or born anew elsewhere.
    Stale,
    /// A valid token is older than the store's whole knowledge.
    Token,
}

impl Cause {
    /// The word used in the store, in logs and as a metric label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Run => "run",
            Self::Loss => "loss",
            Self::Stale => "stale",
            Self::Token => "token",
        }
    }

    /// Reads `word` back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Silence,
            Self::Run,
            Self::Loss,
            Self::Stale,
            Self::Token,
        ]
        .into_iter()
        .find(|cause| cause.word() == word)
    }
}

/// A recovery under way (docs/architecture.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Counts the recoveries of this event: a gateway's push names the one it is for.
    pub id: u64,
    /// Why.
    pub cause: Cause,
    /// Not over before this moment.
    pub until: Timestamp,
    /// Over at this moment, whoever has not pushed.
    pub deadline: Timestamp,
    /// Whether any gateway has pushed what it remembers.
    pub remembered: bool,
    /// Whether a gateway may have forgotten what it acknowledged last.
    #[serde(default)]
    pub unheard: bool,
}

/// The state of an event, `{id}:meta` in a shared store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Drawn at random when this state was created: another life, another number.
    pub born: u64,
    /// When this state was created.
    pub born_at: Timestamp,
    /// The waiting queue's generation.
    pub generation: Generation,
    /// The next number to be issued: all below it have been.
    pub issued: Number,
    /// The watermark: every number below it may claim a slot.
    pub called: Number,
    /// Counts steps.
    pub seq: u64,
    /// The store's server process.
    pub run: String,
    /// The server's clock at the last operation, in milliseconds.
    pub raw: u64,
    /// The running time at the last operation.
    pub time: Timestamp,
    /// When the last step was made.
    pub stepped: Timestamp,
    /// The present window of liveness.
    pub window: u64,
    /// When it began.
    pub window_since: Timestamp,
    /// The present window of numbers not yet heard from again.
    pub fresh_window: u64,
    /// When it began.
    pub fresh_since: Timestamp,
    /// The gate as load decides it.
    pub gate: Gate,
    /// Since when the gate stands so.
    pub since: Timestamp,
    /// Since when every signal is below its release ratio.
    pub calm_since: Option<Timestamp>,
    /// Calls a second while the pace is in force.
    pub pace: Option<f64>,
    /// When somebody was last called.
    pub called_at: Timestamp,
    /// Admissions left in the bucket.
    pub tokens: f64,
    /// When the bucket was last filled.
    pub tokens_at: Timestamp,
    /// The share of called visitors who show up, 1/64 to 1.
    pub show: f64,
    /// Offers settled since the last step: claimed or lapsed.
    pub settled: u64,
    /// Of these, the offers whose visitor had shown up.
    pub shown: u64,
    /// Sessions ever begun.
    pub begun: u64,
    /// Sessions ever ended or expired.
    pub closed: u64,
    /// What the store guards.
    pub rules: Rules,
    /// The version of the rules.
    pub cfgver: u64,
    /// Recoveries so far.
    pub recoveries: u64,
    /// The recovery under way.
    pub recovery: Option<Recovery>,
    /// Sessions known to have existed before a loss and not yet heard from.
    pub ghosts: u64,
    /// When ghosts die.
    pub ghosts_until: Timestamp,
    /// The watermark at the end of each minute, newest last.
    pub marks: Vec<(u64, Number)>,
    /// Slots that gateways may fill by themselves while the store is away.
    #[serde(default)]
    pub shares: Vec<Share>,
}

impl Meta {
    /// What was called ten minutes ago: below it only who still asks may claim,
    /// and a page that nobody lives on is dropped, never to come back. A minute's
    /// mark may have been made at its very end, so it counts only when the tenth
    /// minute after it is over.
    #[must_use]
    pub fn floor(&self) -> Number {
        let minute = self.time.0 / 60_000;
        self.marks
            .iter()
            .rev()
            .find(|(marked, _)| marked + FLOOR_MINUTES < minute)
            .map_or(Number(0), |(_, called)| *called)
    }

    /// What the last reset made void, as long as a gateway may not have heard of it:
    /// nobody below it may claim.
    #[must_use]
    pub fn void(&self) -> Number {
        let reset = self.marks.iter().find(|(marked, _)| *marked == 0);
        reset.map_or(Number(0), |(_, called)| *called)
    }

    /// Slots that shares keep, at the present running time.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        share::reserved(&self.shares, self.time)
    }

    /// The gate as newcomers meet it: the operator's mode over the load's gate.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self.rules.mode {
            Mode::Auto => self.gate,
            Mode::Queue | Mode::Pause => Gate::Queueing,
            Mode::Off | Mode::Shadow => Gate::Open,
            Mode::Closed => Gate::Closed,
        }
    }

    /// Admissions a second in force: the operator's rate and the pace.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        match (self.rules.admit_per_second, self.pace) {
            (Some(rate), Some(pace)) => Some(rate.min(pace)),
            (rate, pace) => rate.or(pace),
        }
    }

    /// This state under another pace.
    #[must_use]
    pub fn with_pace(&self, pace: Option<f64>) -> Self {
        Self {
            pace,
            ..self.clone()
        }
    }

    /// Takes `admissions` out of the bucket, at the present running time. A
    /// probe of a weak origin may leave it one in debt.
    pub fn pay(&mut self, admissions: usize) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "at most 10,000 admissions a step"
        )]
        let admissions = admissions as f64;
        let held = self.tokens(self.time);
        self.tokens = if held.is_finite() {
            (held - admissions).max(-1.0)
        } else {
            1.0
        };
        self.tokens_at = self.time;
    }

    /// What the bucket holds at `now`: at most one second of admissions, and
    /// always room for one.
    #[must_use]
    pub fn tokens(&self, now: Timestamp) -> f64 {
        let Some(rate) = self.rate() else {
            return f64::INFINITY;
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since the last operation"
        )]
        let elapsed = now.0.saturating_sub(self.tokens_at.0) as f64;
        (self.tokens + elapsed * rate / 1000.0).min(rate.max(1.0))
    }
}

/// What was counted since the waiting queue's generation began. It decides
/// nothing; it is there to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Since when; 0 when that is not known.
    pub since: Timestamp,
    /// Sessions begun.
    pub begun: u64,
    /// Sessions ended or expired.
    pub closed: u64,
    /// Numbers that the store gave.
    pub issued: u64,
    /// Offers that lapsed unclaimed.
    pub abandoned: u64,
    /// The most sessions inside at once.
    pub sessions: Peak,
    /// The most who waited at once, as the controllers counted them.
    pub waiting: Peak,
}

/// The most of something at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// How many.
    pub most: u64,
    /// When that was first so.
    pub at: Timestamp,
}

impl Tally {
    /// Counting begins, with so many inside already.
    #[must_use]
    pub fn begin(now: Timestamp, sessions: u64) -> Self {
        let mut tally = Self {
            since: now,
            ..Self::default()
        };
        tally.sessions.note(sessions, now);
        tally
    }

    /// Takes in what a gateway remembers of the same generation: of each
    /// count the larger one, for both began at nothing.
    pub fn recall(&mut self, other: &Self) {
        if other.since > Timestamp(0) {
            self.since = self.since.min(other.since);
        }
        self.begun = self.begun.max(other.begun);
        self.closed = self.closed.max(other.closed);
        self.issued = self.issued.max(other.issued);
        self.abandoned = self.abandoned.max(other.abandoned);
        self.sessions.note(other.sessions.most, other.sessions.at);
        self.waiting.note(other.waiting.most, other.waiting.at);
    }
}

impl Peak {
    /// So many at this moment.
    pub fn note(&mut self, count: u64, at: Timestamp) {
        if count > self.most {
            *self = Self { most: count, at };
        }
    }
}

/// A gateway as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayRow {
    /// Its name: drawn once, kept in its `state_dir`.
    pub gateway: String,
    /// Its slot, 0 to 255, in the numbers it issues by itself.
    pub slot: u8,
    /// When it was last heard from.
    pub seen: Timestamp,
    /// What it last reported.
    pub report: Report,
}

/// What a gateway tells the others at each pass of its controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The signing key ids it knows.
    pub keys: Vec<String>,
    /// The hash of its configuration.
    pub config: String,
    /// The load it saw.
    pub load: LoadReport,
}

/// An event at one moment, as one store call gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The state.
    pub meta: Meta,
    /// The server's wall clock, Unix seconds, not behind the running time: for
    /// numbers and success tokens.
    pub unix_seconds: u64,
    /// Sessions inside.
    pub sessions: u64,
    /// Called numbers that hold an offer, with the moment it lapses.
    pub offers: Vec<(Number, Timestamp)>,
    /// The pages that exist, in order.
    pub pages: Vec<u64>,
    /// What lives on the pages asked for.
    pub front: Vec<(u64, Bits)>,
    /// Living tickets per 8,192 numbers, by page, refreshed round robin.
    pub density: BTreeMap<u64, [u16; 8]>,
    /// Sessions completed or revoked since the moment asked for.
    pub ended: Vec<(SessionKey, Timestamp)>,
    /// The gateways that the store knows.
    pub gateways: Vec<GatewayRow>,
    /// This gateway's slot.
    pub slot: u8,
    /// Sessions that this call found expired.
    pub expired: u64,
    /// What was counted since the generation began.
    pub tally: Tally,
}

impl Snapshot {
    /// The running time at this snapshot.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.meta.time
    }

    /// The other gateways that may have let a session live on which is not over,
    /// and when each was seen last.
    pub fn peers(&self, gateway: &str) -> impl Iterator<Item = (String, Timestamp)> {
        let (now, idle) = (self.now().0, self.meta.rules.session_idle_ms);
        let lately = idle.max(GATEWAY_GONE_MS);
        self.gateways
            .iter()
            .filter(move |row| row.gateway != gateway && row.seen.0.saturating_add(lately) >= now)
            .map(|row| (row.gateway.clone(), row.seen))
    }

    /// Gateways heard from within the last ten seconds.
    pub fn present(&self) -> impl Iterator<Item = &GatewayRow> {
        let now = self.now();
        self.gateways
            .iter()
            .filter(move |row| row.seen.0 + GATEWAY_GONE_MS >= now.0)
    }
}
