//! What an operator sees of an origin.

use std::net::SocketAddr;

use super::{Member, Roster};
use crate::room::choice::WHOLE;
use crate::room::event::EventId;
use crate::room::health::State;

/// One origin as it is now. Times are milliseconds before or after now.
#[derive(Clone, Debug)]
pub struct Shown {
    /// `http://host:port`.
    pub url: String,
    /// `host:port`.
    pub name: String,
    /// Whether it gets requests.
    pub state: ShownState,
    /// Why not.
    pub why: Option<&'static str>,
    /// How long it has been so; `None`: since the start.
    pub for_ms: Option<u64>,
    /// How much longer its ejection lasts.
    pub left_ms: Option<u64>,
    /// Its share, 0 to 1.
    pub share: f64,
    /// Failures in a row.
    pub failures: u32,
    /// How often it was ejected or fell since the start.
    pub ejections: u64,
    /// Requests in flight, tunnels among them.
    pub in_flight: usize,
    /// Open connections, used or not.
    pub open: usize,
    /// Most of them, if there is a limit.
    pub limit: Option<usize>,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Its addresses as last told.
    pub addresses: Vec<SocketAddr>,
    /// Whether the gateway's list has it.
    pub is_gateways: bool,
    /// The events whose own lists have it.
    pub events: Vec<EventId>,
}

/// Whether an origin gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    /// It does.
    Up,
    /// A share of them that grows.
    Returning,
    /// Not for a while.
    Ejected,
    /// Not until its checks succeed.
    Down,
}

impl ShownState {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Returning => "RETURNING",
            Self::Ejected => "EJECTED",
            Self::Down => "DOWN",
        }
    }
}

impl Shown {
    pub(super) fn of(roster: &Roster, member: &Member, now: u64) -> Self {
        let told = member.vitals.told(now);
        let share = member.vitals.share(&roster.rules, now);
        let state = match told.state {
            State::Down => ShownState::Down,
            State::Ejected(_) => ShownState::Ejected,
            State::Returning(_) if share < WHOLE => ShownState::Returning,
            State::Up | State::Returning(_) => ShownState::Up,
        };
        let is_in = matches!(state, ShownState::Up | ShownState::Returning);
        let traffic = member.remote.traffic();
        let mine = || roster.lists.iter().filter(|list| list.has(member));
        Self {
            url: member.url.clone(),
            name: member.name.clone(),
            state,
            why: told.why,
            for_ms: (told.since > 0).then(|| now.saturating_sub(told.since)),
            left_ms: match told.state {
                State::Ejected(until) => Some(until.saturating_sub(now)),
                State::Up | State::Returning(_) | State::Down => None,
            },
            share: if is_in {
                f64::from(share) / f64::from(WHOLE)
            } else {
                0.0
            },
            failures: told.failures,
            ejections: told.ejections,
            in_flight: traffic.in_flight(),
            open: traffic.open(),
            limit: member.remote.limit(),
            waiting: member.remote.waiting(),
            addresses: member.remote.names().known(),
            is_gateways: roster.lists.first().is_some_and(|list| list.has(member)),
            events: mine().flat_map(|list| list.events.clone()).collect(),
        }
    }
}
