//! What is asked of a store and what it answers, in the words of the house.

use serde::{Deserialize, Serialize};

use crate::room::gate::Gate;
use crate::room::pages::Bits;
use crate::room::share::{Share, ShareAsk};
use crate::room::snapshot::{Cause, Report, Rules, Tally};
use crate::room::ticket::{Generation, Number, SessionKey};
use crate::room::time::Timestamp;

/// The hash of an id given through the API.
pub type IdHash = [u8; 16];

/// A visitor at the door. The session key is drawn by the gateway beforehand,
/// so a repeated batch cannot take two slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// The key of the session that begins if there is a slot.
    pub session: SessionKey,
    /// The customer's own id, if the API gave one: same id, same living place.
    pub id: Option<IdHash>,
}

/// A batch of visitors. One is in flight per gateway and event, and the same
/// batch number gets the same reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The gateway's name.
    pub gateway: String,
    /// Counts the gateway's batches of this event, from 1.
    pub batch: u64,
    /// The highest number that the gateway has given by itself: who comes now
    /// comes behind it.
    pub above: Option<Number>,
    /// At most 64.
    pub entrants: Vec<Entrant>,
}

/// The most visitors, tickets or sessions in one call.
pub const BATCH_MAX: usize = 64;

/// What became of a visitor at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entered {
    /// Inside: a session, until it expires.
    Session {
        /// Its key: the entrant's own, or the one that this id has already.
        key: SessionKey,
        /// When it began.
        begun: Timestamp,
        /// When it ends unless touched.
        expires: Timestamp,
    },
    /// In line.
    Ticket {
        /// The place.
        number: Number,
    },
    /// The gate is closed by the operator.
    Closed,
}

/// A called ticket that wants its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub number: Number,
    /// Its session: `SessionKey::of_ticket`.
    pub session: SessionKey,
    /// The customer's own id, if the API gave one.
    pub id: Option<IdHash>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Inside until `expires`; `fresh` when this call began the session.
    Admitted {
        /// When it ends unless touched.
        expires: Timestamp,
        /// Whether this call began it, or it was there already.
        fresh: bool,
    },
    /// Called, but no slot is free for it yet: its offer stays while it asks.
    Held,
    /// Not called yet.
    NotYet,
    /// Called more than ten minutes ago.
    TooLate,
    /// Used before.
    Spent,
}

/// A visitor whom a gateway let in by order while the store was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetIn {
    /// The session, as its pass names it.
    pub session: SessionKey,
    /// The place that it was let in from; none for a newcomer.
    pub number: Option<Number>,
    /// Whether it was heard from again since: who was not is given a moment to come.
    pub proven: bool,
    /// Until when its pass is good: one that is over by the store's time is not
    /// taken in. Filled in when the store is told.
    pub until: Timestamp,
    /// The customer's own id, if the API gave one.
    pub id: Option<IdHash>,
}

/// A session that was heard from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Its key.
    pub session: SessionKey,
    /// When it began.
    pub begun: Timestamp,
    /// Until when its pass is good: a forgotten session is taken back only
    /// on an unexpired pass.
    pub until: Timestamp,
    /// The origin wants it kept until then; before now: the idle time is enough.
    pub keep: Timestamp,
}

/// A ticket given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Its number.
    pub number: Number,
    /// The customer's own id, if the API gave one.
    pub id: Option<IdHash>,
}

/// What a gateway asks a snapshot for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// The asking gateway's name.
    pub gateway: String,
    /// What it reports.
    pub report: Report,
    /// The highest number that the gateway has given by itself: who comes to
    /// any other comes behind it.
    pub above: Option<Number>,
    /// What it says of its share of the slots, if it keeps one.
    pub share: Option<ShareAsk>,
    /// Pages to read whole, at most 4: those from the watermark on.
    pub front: Vec<u64>,
    /// Pages to count anew for the density table, at most 16.
    pub refresh: Vec<u64>,
    /// Ended sessions are wanted from this moment on.
    pub ended_since: Timestamp,
}

/// Which state a step was planned on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The state's birth.
    pub born: u64,
    /// The server's process.
    pub run: String,
    /// The steps made so far.
    pub seq: u64,
}

/// The controller's move.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Only on this state.
    pub fence: Fence,
    /// The gate.
    pub gate: Gate,
    /// Since when every signal is below its release ratio.
    pub calm_since: Option<Timestamp>,
    /// The watermark's new place; never back.
    pub to: Number,
    /// Living numbers below `to` that get an offer.
    pub offers: Vec<Number>,
    /// The pace in force.
    pub pace: Option<f64>,
    /// The show rate.
    pub show: f64,
    /// Pages that may have died: dropped if they have, at most 64.
    pub sweep: Vec<u64>,
    /// How many wait, as this gateway counted them: the store keeps the most.
    pub waiting: u64,
}

/// What a step did. Losing the race to another gateway is a value, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Made.
    Done {
        /// Offers that lapsed unclaimed.
        lapsed: u64,
        /// Sessions that this call found expired.
        expired: u64,
    },
    /// Another gateway stepped first, or less than 400 ms ago, or a recovery
    /// has begun: nobody is called in it.
    LostRace,
}

/// What a gateway remembers of an event: pushed in parts of at most 64 pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// The gateway's name.
    pub gateway: String,
    /// The life of the state it remembers; `None` when it remembers nothing.
    pub born: Option<u64>,
    /// The steps it has seen.
    pub seq: u64,
    /// The state's birth, should this push create it.
    pub newborn: u64,
    /// The running time, as far as the gateway knows.
    pub time: Timestamp,
    /// The waiting queue's generation.
    pub generation: Generation,
    /// The next number.
    pub issued: Number,
    /// The watermark.
    pub called: Number,
    /// The gate as load decided it.
    pub gate: Option<Gate>,
    /// Watermarks by minute.
    pub marks: Vec<(u64, Number)>,
    /// What the store is to guard, if it knows nothing.
    pub rules: Option<Rules>,
    /// The version of these rules.
    pub cfgver: u64,
    /// What was counted since the generation began.
    #[serde(default)]
    pub tally: Tally,
    /// The shares that gateways were last known to hold.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Sessions and ghosts that were last known.
    pub sessions_known: u64,
    /// Sessions with the expiry that the store acknowledged.
    pub sessions: Vec<(SessionKey, Timestamp)>,
    /// Sessions ended, and when.
    pub ended: Vec<(SessionKey, Timestamp)>,
    /// Living tickets, by page.
    #[serde(skip)]
    pub live: Vec<(u64, Bits)>,
    /// Claimed numbers, by page.
    #[serde(skip)]
    pub spent: Vec<(u64, Bits)>,
    /// The other gateways it knew, and when each was seen last.
    pub peers: Vec<(String, Timestamp)>,
    /// Whether this process began no longer ago than a session may be idle.
    pub young: bool,
    /// Whether this is the last part.
    pub complete: bool,
    /// A valid token older than the store's knowledge was met.
    pub token: bool,
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The state's birth, to remember.
    pub born: u64,
    /// Whether this call began a recovery, and why.
    pub began: Option<Cause>,
    /// Sessions that this call brought back.
    pub sessions: u64,
}

/// What an id given through the API stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A living place in line.
    Ticket(Number),
    /// A living session.
    Session {
        /// Its key.
        key: SessionKey,
        /// When it began.
        begun: Timestamp,
        /// When it ends unless touched.
        expires: Timestamp,
    },
    /// Nothing that lives.
    Nothing,
}

/// What became of an event that was to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing of it is left.
    Gone,
    /// A gateway worked on it within the last minute: all of it stands.
    InUse,
}

/// An event made or overridden through the API, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Counts the changes of this event: the `If-Match` of the API.
    pub version: u64,
    /// The settings that differ from the file, as JSON in camelCase.
    pub overrides: serde_json::Value,
    /// Whether the API made this event (of a tombstone: had made it), or it
    /// stands in a file.
    pub created: bool,
    /// When it was made, Unix milliseconds.
    pub created_at: u64,
    /// When it was last changed, Unix milliseconds.
    pub updated_at: u64,
}

/// Whether a write by compare-and-set was made.
#[derive(Clone, Debug, PartialEq)]
pub enum Put {
    /// Made.
    Done,
    /// Somebody else was first: what stands there now.
    Conflict(Option<StoredEvent>),
}
