//! The claims as they stand in the signed text, and as the house uses them.

use serde::{Deserialize, Serialize};

use crate::room::event::EventId;
use crate::room::ticket::{Generation, Number, SessionKey};

/// `iss` of every token of ours.
pub(super) const ISSUER: &str = "sumun";

/// The form of the claims.
const VERSION: u8 = 1;

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The event it is for.
    pub event: EventId,
    /// The cookie's scope: its domain, else the host; absent when got by API.
    pub scope: Option<String>,
    /// Who.
    pub visitor: String,
    /// When it was signed, store seconds.
    pub issued_at: u64,
    /// When it ends, store seconds.
    pub expires: u64,
    /// The place.
    pub number: Number,
    /// The waiting queue's generation.
    pub generation: Generation,
    /// The position last shown; a later one is never higher.
    pub position: Option<u64>,
    /// Whether it had been called when this was signed.
    pub called: bool,
    /// When the next poll was asked for, store seconds.
    pub next_poll: u64,
    /// When the visitor took the place, store seconds.
    pub since: u64,
    /// The wait that was first estimated, in seconds.
    pub estimate: Option<u64>,
}

/// The right to be inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The event it is for.
    pub event: EventId,
    /// The cookie's scope: its domain, else the host; absent when got by API.
    pub scope: Option<String>,
    /// Who.
    pub visitor: String,
    /// When it was signed, store seconds.
    pub issued_at: u64,
    /// When it ends, store seconds: never later than the store acknowledged.
    pub expires: u64,
    /// The session.
    pub session: SessionKey,
    /// When the session began, store seconds.
    pub begun: u64,
}

/// The right to be inside, in a form that other servers can check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// The event it is for.
    pub event: EventId,
    /// Who.
    pub visitor: String,
    /// When it was signed, Unix seconds by the store's wall clock.
    pub issued_at: u64,
    /// When it ends, Unix seconds by the store's wall clock.
    pub expires: u64,
    /// The session.
    pub session: SessionKey,
    /// When the session began, store seconds.
    pub begun: u64,
}

impl Success {
    /// The pass that it stands for. It proves that the session began, not
    /// that the store acknowledged any later moment: for that its memory or
    /// the store must be asked.
    #[must_use]
    pub fn pass(&self) -> Pass {
        Pass {
            event: self.event.clone(),
            scope: None,
            visitor: self.visitor.clone(),
            issued_at: self.begun,
            expires: self.begun,
            session: self.session,
            begun: self.begun,
        }
    }
}

/// Any token of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A place in line.
    Ticket(Ticket),
    /// The right to be inside.
    Pass(Pass),
    /// The same, for other servers.
    Success(Success),
}

/// The JWT claims set (RFC 7519 §4); names in DESIGN §10.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    v: u8,
    iss: String,
    aud: String,
    evt: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    hst: Option<String>,
    sub: String,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    num: Option<u64>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nxt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<SessionKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beg: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    est: Option<u64>,
}

impl Claims {
    fn new(aud: &str, evt: &EventId, sub: &str, iat: u64, exp: u64) -> Self {
        Self {
            v: VERSION,
            iss: ISSUER.to_owned(),
            aud: aud.to_owned(),
            evt: evt.clone(),
            hst: None,
            sub: sub.to_owned(),
            iat,
            exp,
            num: None,
            generation: None,
            pos: None,
            cal: None,
            nxt: None,
            sid: None,
            beg: None,
            est: None,
        }
    }

    /// The claims of a token.
    pub(super) fn of(token: &Token) -> Self {
        match token {
            Token::Ticket(t) => Self {
                hst: t.scope.clone(),
                num: Some(t.number.0),
                generation: Some(t.generation.0),
                pos: t.position,
                cal: Some(t.called),
                nxt: Some(t.next_poll),
                beg: Some(t.since),
                est: t.estimate,
                ..Self::new("ticket", &t.event, &t.visitor, t.issued_at, t.expires)
            },
            Token::Pass(p) => Self {
                hst: p.scope.clone(),
                sid: Some(p.session),
                beg: Some(p.begun),
                ..Self::new("pass", &p.event, &p.visitor, p.issued_at, p.expires)
            },
            Token::Success(s) => Self {
                sid: Some(s.session),
                beg: Some(s.begun),
                ..Self::new("success", &s.event, &s.visitor, s.issued_at, s.expires)
            },
        }
    }

    /// The token that these claims make; `None` when one is missing.
    pub(super) fn token(self) -> Option<Token> {
        if self.v != VERSION {
            return None;
        }
        Some(match self.aud.as_str() {
            "ticket" => Token::Ticket(Ticket {
                number: Number(self.num?),
                generation: Generation(self.generation?),
                position: self.pos,
                called: self.cal?,
                next_poll: self.nxt?,
                since: self.beg?,
                estimate: self.est,
                event: self.evt,
                scope: self.hst,
                visitor: self.sub,
                issued_at: self.iat,
                expires: self.exp,
            }),
            "pass" => Token::Pass(Pass {
                session: self.sid?,
                begun: self.beg?,
                event: self.evt,
                scope: self.hst,
                visitor: self.sub,
                issued_at: self.iat,
                expires: self.exp,
            }),
            "success" => Token::Success(Success {
                session: self.sid?,
                begun: self.beg?,
                event: self.evt,
                visitor: self.sub,
                issued_at: self.iat,
                expires: self.exp,
            }),
            _ => return None,
        })
    }
}
