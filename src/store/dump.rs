//! An event's whole state in one form for every backend, so that a test can
//! say whether two stores are in the same state.

use std::collections::BTreeMap;

use super::{Entered, IdHash};
use crate::room::pages::Bits;
use crate::room::snapshot::{Meta, Report, Tally};
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::Timestamp;

/// An event, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// The state.
    pub meta: Meta,
    /// What was counted since the generation began.
    pub tally: Tally,
    /// The living pages: the window each was turned to, and both windows.
    pub live: BTreeMap<u64, (u64, [Bits; 2])>,
    /// The same of numbers not yet heard from again.
    pub fresh: BTreeMap<u64, (u64, [Bits; 2])>,
    /// Claimed numbers by page; pages without any are left out.
    pub spent: BTreeMap<u64, Bits>,
    /// Sessions and when they expire.
    pub active: BTreeMap<SessionKey, Timestamp>,
    /// Offers: when each lapses, and whether its visitor has asked.
    pub offers: BTreeMap<Number, (Timestamp, bool)>,
    /// Sessions ended, and when.
    pub ended: BTreeMap<SessionKey, Timestamp>,
    /// Sessions of tickets that nobody was heard from yet, and when they began.
    pub unproven: BTreeMap<SessionKey, Timestamp>,
    /// What ids stand for, living or not.
    pub ids: BTreeMap<IdHash, Named>,
    /// The density table.
    pub density: BTreeMap<u64, [u16; 8]>,
    /// The gateways.
    pub gateways: BTreeMap<String, Gateway>,
}

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A place.
    Ticket(Number),
    /// A session, and when it began.
    Session(SessionKey, Timestamp),
}

/// A gateway's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Its slot.
    pub slot: u8,
    /// When it was last heard from.
    pub seen: Timestamp,
    /// What it reported.
    pub report: Report,
    /// The recovery that it has pushed for.
    pub pushed: u64,
    /// Its last batch.
    pub batch: u64,
    /// The reply to that.
    pub reply: Vec<Entered>,
}
