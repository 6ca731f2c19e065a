//! The claims as they stand in the signed text, and as the house uses them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Form;
use crate::room::event::EventId;
use crate::room::ticket::{Generation, Number, SessionKey};

/// `iss` of every token of ours.
pub(super) const ISSUER: &str = "sumun";

/// `aud` of each kind.
const TICKET: &str = "ticket";
const PASS: &str = "pass";
const SUCCESS: &str = "success";

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

impl Ticket {
    /// Whether it is as it was first given: nobody was heard from with it before.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.issued_at == self.since
    }
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

/// The JWT claims set (RFC 7519 §4); docs/architecture.md says what they hold.
/// It borrows from the token that is signed, or from the text that is read.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    v: u8,
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    #[serde(borrow)]
    evt: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    hst: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
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

impl<'a> Claims<'a> {
    fn new(aud: &'a str, evt: &'a EventId, sub: &'a str, iat: u64, exp: u64) -> Self {
        Self {
            v: VERSION,
            iss: ISSUER.into(),
            aud: aud.into(),
            evt: evt.as_str().into(),
            hst: None,
            sub: sub.into(),
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
    pub(super) fn of(token: &'a Token) -> Self {
        match token {
            Token::Ticket(t) => Self {
                hst: t.scope.as_deref().map(Cow::Borrowed),
                num: Some(t.number.0),
                generation: Some(t.generation.0),
                pos: t.position,
                cal: Some(t.called),
                nxt: Some(t.next_poll),
                beg: Some(t.since),
                est: t.estimate,
                ..Self::new(TICKET, &t.event, &t.visitor, t.issued_at, t.expires)
            },
            Token::Pass(p) => Self {
                hst: p.scope.as_deref().map(Cow::Borrowed),
                sid: Some(p.session),
                beg: Some(p.begun),
                ..Self::new(PASS, &p.event, &p.visitor, p.issued_at, p.expires)
            },
            Token::Success(s) => Self {
                sid: Some(s.session),
                beg: Some(s.begun),
                ..Self::new(SUCCESS, &s.event, &s.visitor, s.issued_at, s.expires)
            },
        }
    }

    /// The token that these claims make, signed in this form; `None` when one
    /// is missing or is not ours.
    pub(super) fn token(self, form: Form) -> Option<Token> {
        if self.v != VERSION || self.iss != ISSUER {
            return None;
        }
        let event = EventId::new(&self.evt).ok()?;
        let scope = self.hst.map(Cow::into_owned);
        let visitor = self.sub.into_owned();
        Some(match (self.aud.as_ref(), form) {
            (TICKET, Form::Gateways) => Token::Ticket(Ticket {
                number: Number(self.num?),
                generation: Generation(self.generation?),
                position: self.pos,
                called: self.cal?,
                next_poll: self.nxt?,
                since: self.beg?,
                estimate: self.est,
                event,
                scope,
                visitor,
                issued_at: self.iat,
                expires: self.exp,
            }),
            (PASS, Form::Gateways) => Token::Pass(Pass {
                session: self.sid?,
                begun: self.beg?,
                event,
                scope,
                visitor,
                issued_at: self.iat,
                expires: self.exp,
            }),
            (SUCCESS, Form::Others) => Token::Success(Success {
                session: self.sid?,
                begun: self.beg?,
                event,
                visitor,
                issued_at: self.iat,
                expires: self.exp,
            }),
            _ => return None,
        })
    }
}
