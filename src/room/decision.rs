//! Who is forwarded, who waits, who is refused: one table.
//!
//! A pure function of what kind of request this is, what its bearer holds,
//! and how the event stands. Every cell of the table is a test.

use serde::{Deserialize, Serialize};

use super::event::{Crawlers, Mode};
use super::gate::Gate;

/// What kind of client asks; first match in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A CORS preflight (`OPTIONS` with `Access-Control-Request-Method`).
    Preflight,
    /// A prefetch (`Sec-Purpose` or `Purpose`).
    Prefetch,
    /// A protocol upgrade, such as a WebSocket.
    Upgrade,
    /// A crawler, by its User-Agent.
    Crawler,
    /// A person asks for a page by a safe method.
    Navigation,
    /// A person sends a form.
    FormPost,
    /// A script asks: fetch, XHR, JSON, an unsafe method.
    Api,
    /// A part of a page: image, style, script.
    Subresource,
}

impl Kind {
    /// Whether the answer is shown as a page of its own.
    #[must_use]
    pub fn is_navigation(self) -> bool {
        matches!(self, Self::Navigation | Self::FormPost)
    }

    /// The word used as a metric and log label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Prefetch => "prefetch",
            Self::Upgrade => "upgrade",
            Self::Crawler => "crawler",
            Self::Navigation => "navigation",
            Self::FormPost => "form",
            Self::Api => "api",
            Self::Subresource => "subresource",
        }
    }
}

/// What the bearer holds for this event, after every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing that counts.
    Nothing,
    /// A place in line.
    Ticket {
        /// Whether its number has been called.
        called: bool,
    },
    /// The right to be inside.
    Pass,
}

/// What happens while the store is away (`store.on_failure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Those inside stay, newcomers wait.
    #[default]
    Hold,
    /// As hold, and each gateway admits within its share.
    Local,
    /// Whoever wants in walks in: the limit is not enforced.
    Open,
}

/// How an event stands towards newcomers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The operator's order.
    pub mode: Mode,
    /// The gate, mode included.
    pub gate: Gate,
    /// Gate not open, or tickets uncalled, or no free slot.
    pub busy: bool,
    /// What crawlers get while busy.
    pub crawlers: Crawlers,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the origin, inside a session.
    Inside,
    /// To the origin, outside any session.
    Uncounted,
    /// Ask the store for a session, or a ticket when there is none free.
    Enter,
    /// Ask the store to let this called ticket in.
    Claim,
    /// Show the waiting page of the ticket at hand.
    Wait,
    /// 503 as a problem document, for scripts.
    BusyProblem,
    /// 503 with a short plain body.
    BusyPlain,
    /// The closed page.
    Closed,
}

/// Decides one request. How the event stands is not asked for a pass: it is good
/// whatever comes (promise 4).
#[must_use]
pub fn decide(kind: Kind, credential: Credential, standing: impl FnOnce() -> Standing) -> Decision {
    if credential == Credential::Pass {
        return Decision::Inside;
    }
    let standing = standing();
    match kind {
        Kind::Preflight => return Decision::Uncounted,
        Kind::Crawler if standing.crawlers == Crawlers::Allow => return Decision::Uncounted,
        _ => {}
    }
    match standing.mode {
        Mode::Off | Mode::Shadow if kind.is_navigation() => return Decision::Enter,
        Mode::Off | Mode::Shadow => return Decision::Uncounted,
        _ => {}
    }
    if standing.gate == Gate::Closed {
        return if kind.is_navigation() {
            Decision::Closed
        } else {
            refusal(kind)
        };
    }
    match (kind, credential) {
        (_, Credential::Ticket { called: true }) if kind.is_navigation() => Decision::Claim,
        (_, Credential::Ticket { called: false }) if kind.is_navigation() => Decision::Wait,
        _ if kind.is_navigation() => Decision::Enter,
        _ if standing.busy => refusal(kind),
        _ => Decision::Uncounted,
    }
}

fn refusal(kind: Kind) -> Decision {
    if kind == Kind::Api {
        Decision::BusyProblem
    } else {
        Decision::BusyPlain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Standing = Standing {
        mode: Mode::Auto,
        gate: Gate::Open,
        busy: false,
        crawlers: Crawlers::Refuse503,
    };
    const BUSY: Standing = Standing {
        gate: Gate::Queueing,
        busy: true,
        ..CALM
    };
    const CLOSED: Standing = Standing {
        mode: Mode::Closed,
        gate: Gate::Closed,
        busy: true,
        ..CALM
    };
    const KINDS: [Kind; 8] = [
        Kind::Preflight,
        Kind::Prefetch,
        Kind::Upgrade,
        Kind::Crawler,
        Kind::Navigation,
        Kind::FormPost,
        Kind::Api,
        Kind::Subresource,
    ];

    #[test]
    fn a_pass_opens_every_gate_for_every_kind() {
        for kind in KINDS {
            for standing in [CALM, BUSY, CLOSED] {
                assert_eq!(
                    decide(kind, Credential::Pass, || standing),
                    Decision::Inside
                );
            }
        }
    }

    #[test]
    fn without_a_pass_each_kind_gets_its_cell_of_the_table() {
        use Decision::{BusyPlain, BusyProblem, Closed, Enter, Uncounted};
        let table = [
            (Kind::Preflight, Uncounted, Uncounted, Uncounted),
            (Kind::Prefetch, Uncounted, BusyPlain, BusyPlain),
            (Kind::Upgrade, Uncounted, BusyPlain, BusyPlain),
            (Kind::Crawler, Uncounted, BusyPlain, BusyPlain),
            (Kind::Navigation, Enter, Enter, Closed),
            (Kind::FormPost, Enter, Enter, Closed),
            (Kind::Api, Uncounted, BusyProblem, BusyProblem),
            (Kind::Subresource, Uncounted, BusyPlain, BusyPlain),
        ];
        for (kind, calm, busy, closed) in table {
            for (standing, expected) in [(CALM, calm), (BUSY, busy), (CLOSED, closed)] {
                let decided = decide(kind, Credential::Nothing, || standing);
                assert_eq!(decided, expected, "{kind:?} {standing:?}");
            }
        }
    }

    #[test]
    fn a_ticket_claims_when_called_and_waits_until_then() {
        for standing in [CALM, BUSY] {
            for kind in [Kind::Navigation, Kind::FormPost] {
                let called = decide(kind, Credential::Ticket { called: true }, || standing);
                let waits = decide(kind, Credential::Ticket { called: false }, || standing);
                assert_eq!((called, waits), (Decision::Claim, Decision::Wait));
            }
        }
    }

    #[test]
    fn a_ticket_is_never_a_pass() {
        for called in [true, false] {
            for kind in KINDS.into_iter().filter(|kind| !kind.is_navigation()) {
                let ticket = decide(kind, Credential::Ticket { called }, || BUSY);
                assert_eq!(ticket, decide(kind, Credential::Nothing, || BUSY));
            }
        }
    }

    #[test]
    fn crawlers_may_be_let_through() {
        let standing = Standing {
            crawlers: Crawlers::Allow,
            ..BUSY
        };
        let decided = decide(Kind::Crawler, Credential::Nothing, || standing);
        assert_eq!(decided, Decision::Uncounted);
    }

    #[test]
    fn off_and_shadow_turn_nobody_away() {
        for mode in [Mode::Off, Mode::Shadow] {
            let standing = Standing { mode, ..BUSY };
            for kind in KINDS {
                let decided = decide(kind, Credential::Nothing, || standing);
                assert!(matches!(decided, Decision::Enter | Decision::Uncounted));
            }
        }
    }
}
