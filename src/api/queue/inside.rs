//! The calls about a session that has begun, or a place that is given up:
//! `verify`, `touch`, `complete`, `leave`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use serde::Serialize;

use super::caller::{Caller, Page};
use super::said::is_degraded;
use super::seek::give_up;
use super::{Fields, Problem, PublicDoor, away, foreign, unknown_key};
use crate::api::{document, empty, put, rfc3339};
use crate::ledger::{Ledger, Stay};
use crate::reception::Bearer;
use crate::room::time::Timestamp;
use crate::token::{Success, Token, Verdict, cookie};

/// The answer of `verify` and `touch`.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified<'a> {
    success_token: &'a str,
    valid: bool,
    id: Option<&'a str>,
    event_id: Option<&'a str>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Completed<'a> {
    success_token: Option<&'a str>,
    completed: bool,
}

/// A success token of an event that is there.
struct Shown {
    ledger: Arc<Ledger>,
    success: Success,
    bearer: Bearer,
}

impl PublicDoor {
    /// `POST verify`: whether the session lives, without extending it.
    pub(super) async fn verify(&self, fields: &Fields) -> Result<Response<Bytes>, Problem> {
        let text = fields.required("successToken")?;
        let shown = self.shown(text).await?;
        let lives = shown.as_ref().and_then(|shown| match &shown.bearer {
            Bearer::Lives(stay) => Some((shown, stay.acknowledged())),
            Bearer::Ended(_) | Bearer::Over => None,
        });
        Ok(verified(text, shown.as_ref(), lives.map(|(_, at)| at)))
    }

    /// `POST touch`: keeps a session alive whose requests do not pass here.
    pub(super) async fn touch(&self, fields: &Fields) -> Result<Response<Bytes>, Problem> {
        let text = fields.required("successToken")?;
        let Some(shown) = self.shown(text).await? else {
            return Ok(verified(text, None, None));
        };
        let Bearer::Lives(stay) = &shown.bearer else {
            return Ok(verified(text, Some(&shown), None));
        };
        let until = extend(&shown.ledger, stay).await;
        let Some(until) = until else {
            return Ok(verified(text, Some(&shown), None));
        };
        // Others check the token by its own end: a fresh one goes back.
        let renewed = self.reception.success(&shown.ledger, &shown.success.pass());
        let text = renewed.as_deref().unwrap_or(text);
        Ok(verified(text, Some(&shown), Some(until)))
    }

    /// `POST complete`: the slot is free at once. By token for servers, by
    /// cookie for the visitor's own page.
    pub(super) async fn complete(
        &self,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        if let Some(text) = fields.text("successToken")? {
            self.needs_key(caller, "completing by token")?;
            let Some(shown) = self.shown(text).await? else {
                return Err(unreadable());
            };
            let session = shown.success.session;
            let begun = Timestamp(shown.success.begun.saturating_mul(1000));
            let stay = shown.ledger.sessions.stay(session, begun, begun);
            end(&shown.ledger, &stay).await?;
            return Ok(completed(&shown.ledger, Some(text)));
        }
        let ledger = self.completing(caller, fields)?;
        let held = self.held(&ledger, caller, None).await?.readable()?;
        match (&held.pass, &held.former) {
            (Some(inside), _) => end(&ledger, &inside.stay).await?,
            // Done already.
            (None, Some(_)) => {}
            (None, None) => return Err(unreadable()),
        }
        Ok(completed(&ledger, None))
    }

    /// The event whose session a cookie, or the header, is to complete.
    fn completing(&self, caller: &Caller, fields: &Fields) -> Result<Arc<Ledger>, Problem> {
        if fields.text("eventId")?.is_some() {
            return self.event(fields, "eventId");
        }
        let site = self.reception.site.load();
        let in_header = caller.text("sumun-token");
        let cookies = cookie::ours(caller.headers.get_all(header::COOKIE).iter());
        let texts = in_header
            .map(str::as_bytes)
            .into_iter()
            .chain(cookies.map(|found| found.value));
        let mut events: Vec<Arc<Ledger>> = Vec::new();
        for text in texts.take(16) {
            let known = self.tokens.know(text, &self.reception.keyring);
            let event = match &known.verdict {
                Verdict::Good(Token::Pass(pass)) => &pass.event,
                Verdict::Good(Token::Success(success)) => &success.event,
                Verdict::UnknownKey => {
                    return Err(unknown_key());
                }
                Verdict::Good(Token::Ticket(_)) | Verdict::Nothing => continue,
            };
            let ledger = site.ledgers.get(event.as_str());
            if let Some(ledger) = ledger.filter(|new| events.iter().all(|old| old.id != new.id)) {
                events.push(Arc::clone(ledger));
            }
        }
        if caller.page == Page::Foreign && in_header.is_none() && !events.is_empty() {
            return Err(foreign());
        }
        match events.as_slice() {
            [] => Err(unreadable()),
            [one] => Ok(Arc::clone(one)),
            _ => Err(Problem::input(
                "eventId",
                "passes of several events came along: name the one to complete",
            )),
        }
    }

    /// `POST leave`: gives the place up.
    pub(super) async fn leave(
        &self,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        debug_assert_eq!(caller.method, Method::POST, "the routes allow no other");
        let ledger = self.event(fields, "eventId")?;
        let held = self.held(&ledger, caller, fields.text("ticket")?).await?;
        let held = held.readable()?;
        let tickets = held.places.iter().map(|(ticket, _)| ticket);
        if !give_up(&ledger, tickets, None).await {
            return Err(away("the store is away: the place is still kept"));
        }
        let mut answer = empty(StatusCode::NO_CONTENT);
        let set = held.places.iter().any(|(ticket, _)| ticket.scope.is_some());
        if held.pass.is_none() && caller.page != Page::Foreign && (held.cookie || set) {
            caller.set_cookie(&ledger, None, &mut answer);
        }
        if is_degraded(&ledger) {
            put(answer.headers_mut(), "sumun-degraded", "store");
        }
        Ok(answer)
    }

    /// A success token; `None` when it is none, or of an event that is gone.
    /// How long it is good for others does not matter here: its session does.
    async fn shown(&self, text: &str) -> Result<Option<Shown>, Problem> {
        let known = self.tokens.know(text, &self.reception.keyring);
        let success = match &known.verdict {
            Verdict::Good(Token::Success(success)) => success.clone(),
            Verdict::Good(_) | Verdict::Nothing => return Ok(None),
            Verdict::UnknownKey => {
                return Err(unknown_key());
            }
        };
        let site = self.reception.site.load_full();
        let Some(ledger) = site.ledgers.get(success.event.as_str()).cloned() else {
            return Ok(None);
        };
        let bearer = (self.reception.look_at(&ledger, &success.pass(), &known)).await;
        Ok(Some(Shown {
            ledger,
            success,
            bearer,
        }))
    }
}

/// Extends a session; while the store is away it stands as it is. `None`
/// when it is over.
async fn extend(ledger: &Arc<Ledger>, stay: &Arc<Stay>) -> Option<Timestamp> {
    match ledger.desk.touch(stay.touch()).await {
        Ok(Some(expires)) => {
            let idle = ledger.settings.load().session_idle;
            stay.acknowledge(expires, ledger.now(), idle);
            Some(expires)
        }
        Ok(None) => None,
        Err(_) => Some(stay.acknowledged()),
    }
}

/// Ends a session here and in the store.
async fn end(ledger: &Arc<Ledger>, stay: &Arc<Stay>) -> Result<(), Problem> {
    match ledger.desk.end(stay.session).await {
        Ok(was_there) => {
            // Remembered here too, should the store lose its last moments.
            ledger.sessions.note_ended(&[(stay.session, ledger.now())]);
            stay.end(ledger.now());
            if was_there {
                ledger.counts.completed.increment(1);
            }
            Ok(())
        }
        Err(_) => Err(away("the store is away: complete it again")),
    }
}

fn unreadable() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "token",
        "No session",
        "send a success token as successToken, or the pass as a cookie or as the header Sumun-Token",
    )
    .field("successToken")
    .header(
        header::WWW_AUTHENTICATE,
        http::HeaderValue::from_static("Sumun-Token"),
    )
}

fn verified(text: &str, shown: Option<&Shown>, until: Option<Timestamp>) -> Response<Bytes> {
    let expires_at = shown.zip(until).and_then(|(shown, until)| {
        let left = until.since(shown.ledger.now());
        let now = Timestamp(shown.ledger.unix_seconds().saturating_mul(1000));
        rfc3339(now.plus(left).0)
    });
    let verified = Verified {
        success_token: text,
        valid: until.is_some(),
        id: shown.map(|shown| shown.success.visitor.as_str()),
        event_id: shown.map(|shown| shown.ledger.id.as_str()),
        expires_at,
    };
    let mut answer = document(StatusCode::OK, &verified);
    let word = if verified.valid { "enter" } else { "block" };
    put(answer.headers_mut(), "sumun-status", word);
    if shown.is_some_and(|shown| is_degraded(&shown.ledger)) {
        put(answer.headers_mut(), "sumun-degraded", "store");
    }
    answer
}

fn completed(ledger: &Ledger, success_token: Option<&str>) -> Response<Bytes> {
    let completed = Completed {
        success_token,
        completed: true,
    };
    let mut answer = document(StatusCode::OK, &completed);
    if is_degraded(ledger) {
        put(answer.headers_mut(), "sumun-degraded", "store");
    }
    answer
}
