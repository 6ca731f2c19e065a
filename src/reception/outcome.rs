//! The words between the doors and the reception: what a
//! visitor gets.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Stay;
use crate::room::estimate::Wait;
use crate::token::{Pass, Ticket};

/// A visitor inside.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The right to be there.
    pub pass: Rc<Pass>,
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
    /// Whether the turn has come and the visitor's address has its share of the limit.
    pub shared: bool,
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
    /// No visitor: by its score, or by a list.
    Bot,
}

impl Blocked {
    /// The API's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Full => "FULL",
            Self::RateLimited => "RATE_LIMITED",
            Self::Bot => "BOT",
        }
    }

    /// When it is worth asking again.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Closed => Duration::from_secs(60),
            Self::Full => Duration::from_secs(30),
            Self::RateLimited => Duration::from_secs(10),
            Self::Bot => Duration::from_secs(300),
        }
    }
}

/// What a visitor gets.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are places in line, used once and at once"
)]
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
