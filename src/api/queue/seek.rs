//! `enter` and `status`: a visitor who wants in, and one who asks how it
//! stands. Both come to reception as the front door does.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::caller::Caller;
use super::place::{Held, void};
use super::said::{Said, is_degraded};
use super::{AWAY_RETRY_SECONDS, Fields, ID_CHARS_MAX, Problem, PublicDoor, away, no_key};
use crate::bots::Wants;
use crate::ledger::Ledger;
use crate::reception::{
    Blocked, Brought, Inside, Line, Newcomer, Outcome, Ruling, Who, inside, place_of, scope,
};
use crate::room::gate::Gate;
use crate::room::ticket::SessionKey;
use crate::room::time::Timestamp;
use crate::store::{Found, Leave};
use crate::token::Ticket;
use crate::visitor::profile::Head;

/// A poll may come this much before its time, in milliseconds, and by a fifth
/// of the time told.
const SLACK_MS: u64 = 1_000;

impl PublicDoor {
    /// `POST enter`.
    pub(super) async fn enter(
        &self,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        let ledger = self.event(fields, "eventId")?;
        let id = id(fields)?;
        let ticket = fields.text("ticket")?;
        if id.is_some() {
            self.needs_key(
                caller,
                "an id is taken at the word of those who hold a key only",
            )?;
        }
        let held = self.held(&ledger, caller, ticket).await?.readable()?;
        let held = match id {
            Some(id) => of_id(held, id),
            None => held,
        };
        let (by_header, before) = (held.by_header, held.who_before());
        let mut said = self.settle(&ledger, caller, held).await;
        if said.is_none()
            && let Some(id) = id
        {
            said = self.known_by_id(&ledger, caller, id).await?;
        }
        let said = match said {
            Some(said) => said,
            None => self.newcomer(&ledger, caller, id, before).await,
        };
        Ok(self.say(&ledger, caller, &said, by_header))
    }

    /// `POST` or `GET status`: the poll.
    pub(super) async fn status(
        &self,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        let ledger = self.event(fields, "eventId")?;
        let polls = &ledger.counts.polls;
        let asked = self.poll(&ledger, caller, fields).await;
        match &asked {
            Ok((Said::Early(..), _)) => polls.early.increment(1),
            Ok((Said::Outcome(Outcome::Waits(_)), _)) => polls.wait.increment(1),
            Ok((Said::Outcome(Outcome::Blocked(_)) | Said::KeptOut(_), _)) => {
                polls.block.increment(1);
            }
            Ok((Said::Outcome(Outcome::Inside(_) | Outcome::Uncounted), _)) => {
                polls.enter.increment(1);
            }
            Err(_) => polls.nothing.increment(1),
        }
        let (said, by_header) = asked?;
        Ok(self.say(&ledger, caller, &said, by_header))
    }

    async fn poll(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<(Said, bool), Problem> {
        let ticket = fields.text("ticket")?;
        if let Some(id) = id(fields)? {
            if !self.has_key(caller) {
                return Err(no_key("asking by id"));
            }
            if ticket.is_none() {
                let found = self.known_by_id(ledger, caller, id).await?;
                let absent = || {
                    let detail = "this id has neither a place nor a session: enter again";
                    Problem::new(StatusCode::NOT_FOUND, "id", "Not in line", detail).field("id")
                };
                return Ok((found.ok_or_else(absent)?, false));
            }
        }
        let mut held = self.held(ledger, caller, ticket).await?.readable()?;
        if let Some(id) = id(fields)? {
            held = of_id(held, id);
        }
        let (by_header, had_place) = (held.by_header, !held.places.is_empty());
        let nothing = held.why_nothing();
        let is_inside = held.pass.is_some();
        let said = self.settle(ledger, caller, held).await;
        if let (false, Some(Said::Outcome(Outcome::Inside(_)))) = (is_inside, &said) {
            self.converted(ledger, caller);
        }
        match said {
            Some(said) => Ok((said, by_header)),
            None if had_place => Err(void()),
            None => Err(nothing),
        }
    }

    /// Whoever got in by this poll waited at the page that sent it: the waiting
    /// page stands at the address that was asked for, or knows where to return.
    fn converted(&self, ledger: &Ledger, caller: &Caller) {
        let (Some(recorder), Some(page)) = (&self.recorder, caller.own_page()) else {
            return;
        };
        let mut pairs = page.query_pairs();
        let back = pairs.find(|(name, _)| page.path() == "/__sumun/wait" && name == "return");
        match back {
            Some((_, back)) => {
                let path = back.split(['?', '#']).next().unwrap_or_default();
                recorder.converted(&ledger.id, path);
            }
            None => recorder.converted(&ledger.id, page.path()),
        }
    }

    /// What a pass or a place comes to. `None`: nothing that is held is worth
    /// anything any more.
    pub(super) async fn settle(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        held: Held,
    ) -> Option<Said> {
        if let Some(inside) = held.pass {
            let now = ledger.now();
            ledger.sessions.hear(&inside.stay, now);
            let brought = Brought {
                headers: &caller.headers,
                visitor: &caller.visitor,
            };
            self.reception.count_there(ledger, &inside, &brought, now);
            let rest = held.places.iter().map(|(ticket, _)| ticket);
            give_up(ledger, rest, Some(inside.stay.session)).await;
            return Some(Said::Outcome(Outcome::Inside(inside)));
        }
        let closed = ledger.standing().gate == Gate::Closed;
        for (at, (ticket, text)) in held.places.iter().enumerate() {
            let ruling = self.inspect_place(ledger, caller, ticket);
            if ticket.is_first() {
                let address = caller.visitor.address;
                self.reception.note_return(ledger, address);
            }
            let said = if closed {
                ledger.heard.hear(ticket.number);
                Said::KeptOut(self.reception.line(ledger, ticket, false))
            } else if let Ruling::TurnedAway(why) = ruling {
                ledger.heard.hear(ticket.number);
                Said::Outcome(Outcome::Blocked(why))
            } else if ruling == Ruling::SentBack {
                give_up(ledger, std::iter::once(ticket), None).await;
                let who = Who::bearer(ticket);
                let address = caller.visitor.address;
                Said::Outcome(self.reception.join(ledger, &who, address).await)
            } else if let Some(line) = self.early(ledger, ticket) {
                self.note_early(ledger, caller);
                Said::Early(line, text.clone())
            } else if let Some(outcome) = (self.reception)
                .ask(ledger, ticket, None, caller.visitor.address)
                .await
            {
                Said::Outcome(outcome)
            } else {
                continue;
            };
            // Of two places the earlier one counts; the other is free.
            let later = held.places.iter().skip(at + 1).map(|(ticket, _)| ticket);
            give_up(ledger, later, None).await;
            return Some(said);
        }
        None
    }

    /// A poll before its time is answered from memory. While the store is
    /// away its time stands still, and nobody can be told to be early.
    fn early(&self, ledger: &Arc<Ledger>, ticket: &Ticket) -> Option<Line> {
        let now = ledger.now().0;
        let due = ticket.next_poll.saturating_mul(1000);
        let told = due.saturating_sub(ticket.issued_at.saturating_mul(1000));
        if is_degraded(ledger) || now + SLACK_MS + told / 5 >= due {
            return None;
        }
        let line = self.reception.line(ledger, ticket, false);
        Some(Line {
            ticket: ticket.clone(),
            poll_after: Timestamp(due).since(Timestamp(now)),
            ..line
        })
    }

    /// Somebody who holds nothing that is good; `before`: who was here with what is over.
    pub(super) async fn newcomer(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        id: Option<&str>,
        before: Option<String>,
    ) -> Said {
        if ledger.standing().gate == Gate::Closed {
            return Said::Outcome(Outcome::Blocked(Blocked::Closed));
        }
        if let Ruling::TurnedAway(why) = self.inspect(ledger, caller, Wants::In) {
            return Said::Outcome(Outcome::Blocked(why));
        }
        ledger.load.arrival(ledger.monotonic_ms());
        let keyed = self.has_key(caller);
        let here = || scope(ledger, caller.host().as_deref());
        let scope = (caller.is_page() && !keyed).then(here);
        let returning = before.is_some();
        let who = match (id, before) {
            (Some(id), _) => Who::named(id),
            (None, Some(visitor)) if scope.is_some() => Who::returning(visitor, scope),
            (None, _) => Who::stranger(scope),
        };
        // A server brings the visitors of many addresses.
        let outcome = if keyed {
            self.reception.enter(ledger, &who).await
        } else {
            let address = caller.visitor.address;
            self.reception.join(ledger, &who, address).await
        };
        let host = caller.host();
        let newcomer = Newcomer {
            head: Head {
                headers: &caller.headers,
                query: caller.uri.query(),
                host: host.as_deref(),
                by_key: keyed,
            },
            visitor: &caller.visitor,
            returning,
        };
        self.reception.count_arrival(ledger, &outcome, &newcomer);
        Said::Outcome(outcome)
    }

    /// The living place or session of the customer's own id. Whoever has
    /// neither a key nor the ticket gets to know only that it is taken.
    async fn known_by_id(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        id: &str,
    ) -> Result<Option<Said>, Problem> {
        let who = Who::named(id);
        let hash = who.id.unwrap_or_default();
        let Ok(found) = ledger.desk.find(hash).await else {
            // Two places of one id are worse than a moment's patience.
            return Err(away("the store is away, and this id may be in line"));
        };
        if found != Found::Nothing && !self.has_key(caller) {
            let detail = "this id is in line or inside: send its ticket too, or use another id";
            let taken = Problem::new(StatusCode::CONFLICT, "id", "The id is taken", detail);
            return Err(taken.field("id").retry_after(AWAY_RETRY_SECONDS));
        }
        match found {
            Found::Nothing => Ok(None),
            Found::Session {
                key,
                begun,
                expires,
            } => {
                let inside = inside(ledger, &who, key, begun, expires);
                Ok(Some(Said::Outcome(Outcome::Inside(inside))))
            }
            Found::Ticket(number) => {
                let ticket = place_of(ledger, &who, number);
                if ledger.standing().gate == Gate::Closed {
                    ledger.heard.hear(number);
                    let line = self.reception.line(ledger, &ticket, false);
                    return Ok(Some(Said::KeptOut(line)));
                }
                let address = caller.visitor.address;
                let outcome = self.reception.ask(ledger, &ticket, Some(&who), address);
                let outcome = outcome.await;
                Ok(outcome.map(Said::Outcome))
            }
        }
    }
}

/// The customer's own id.
fn id(fields: &Fields) -> Result<Option<&str>, Problem> {
    let Some(id) = fields.text("id")? else {
        return Ok(None);
    };
    let sound = (1..=ID_CHARS_MAX).contains(&id.chars().count())
        && !id.chars().any(char::is_control)
        && id.trim() == id;
    if !sound {
        let detail =
            format!("an id is 1 to {ID_CHARS_MAX} printable characters without spaces at its ends");
        return Err(Problem::input("id", detail));
    }
    Ok(Some(id))
}

/// Only what is this id's own: another's ticket does not speak for it.
fn of_id(mut held: Held, id: &str) -> Held {
    let own = |visitor: &str, scope: Option<&String>| visitor == id && scope.is_none();
    held.places
        .retain(|(ticket, _)| own(&ticket.visitor, ticket.scope.as_ref()));
    held.pass = held
        .pass
        .filter(|Inside { pass, .. }| own(&pass.visitor, pass.scope.as_ref()));
    held
}

/// Frees places; the one that became `session` is used already. The store
/// forgets a place that cannot be freed now when nobody asks for it.
pub(super) async fn give_up(
    ledger: &Arc<Ledger>,
    tickets: impl Iterator<Item = &Ticket>,
    session: Option<SessionKey>,
) -> bool {
    let mut all = true;
    for ticket in tickets {
        let own = SessionKey::of_ticket(ticket.generation, ticket.number, &ticket.visitor);
        if session == Some(own) {
            continue;
        }
        ledger.heard.spend(ticket.number);
        let leave = Leave {
            number: ticket.number,
            id: Who::bearer(ticket).id,
        };
        all &= ledger.desk.leave(leave).await.is_ok();
    }
    all
}
