//! The words between the doors and the reception: who asks, and what they get.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ledger::Stay;
use crate::room::estimate::Wait;
use crate::store::IdHash;
use crate::token::{Pass, Ticket};

/// Who stands at the door.
#[derive(Clone, Debug)]
pub struct Who {
    /// The visitor's id: drawn here, or the customer's own.
    pub visitor: String,
    /// The cookie scope; `None` when asked by API.
    pub scope: Option<String>,
    /// The hash of the customer's own id.
    pub id: Option<IdHash>,
}

impl Who {
    /// A visitor nobody knows yet: 128 random bits.
    #[must_use]
    pub fn stranger(scope: Option<String>) -> Self {
        Self {
            visitor: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            scope,
            id: None,
        }
    }
}

/// A visitor inside.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The right to be there.
    pub pass: Pass,
    /// The session.
    pub stay: Arc<Stay>,
}

/// A visitor in line.
#[derive(Clone, Debug)]
pub struct Line {
    /// The place, with the position now shown.
    pub ticket: Ticket,
    /// How many stand behind; `None` while the store is away.
    pub behind: Option<u64>,
    /// Whether the position is counted by density.
    pub about: bool,
    /// The wait, if it can be told.
    pub wait: Option<Wait>,
    /// When to ask again.
    pub poll_after: Duration,
    /// Whether the store is away: the place is kept.
    pub degraded: bool,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The operator closed the event.
    Closed,
    /// The line is full.
    Full,
    /// Too many newcomers from one address.
    RateLimited,
}

impl Blocked {
    /// The API's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Full => "FULL",
            Self::RateLimited => "RATE_LIMITED",
        }
    }

    /// When it is worth asking again.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Closed => Duration::from_secs(60),
            Self::Full => Duration::from_secs(30),
            Self::RateLimited => Duration::from_secs(10),
        }
    }
}

/// What a visitor gets.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Inside.
    Inside(Inside),
    /// In line.
    Waits(Line),
    /// Turned away.
    Blocked(Blocked),
    /// Forwarded without a session: the store is away and this event could
    /// not have queued anybody.
    Uncounted,
}
