//! From a place in line to a session, and the pass that is its proof.

use std::rc::Rc;

use super::bearer::Who;
use super::outcome::{Inside, Outcome};
use crate::ledger::Ledger;
use crate::room::ticket::SessionKey;
use crate::room::time::Timestamp;
use crate::store::LetIn;
use crate::token::{Pass, Ticket};

/// The session that a ticket claims.
pub(super) fn session_of(ticket: &Ticket) -> SessionKey {
    SessionKey::of_ticket(ticket.generation, ticket.number, &ticket.visitor)
}

/// Whoever stands in line is let in without the store.
pub(super) fn let_in_from_line(
    ledger: &Ledger,
    ticket: &Ticket,
    named: Option<&Who>,
) -> Option<Outcome> {
    let who = bearer_of(ticket, named);
    let visitor = LetIn {
        session: session_of(ticket),
        number: Some(ticket.number),
        proven: false,
        until: Timestamp(0),
        id: who.id,
    };
    let inside = let_in(ledger, &who, visitor)?;
    ledger.heard.spend(ticket.number);
    count_wait(ledger, ticket, ledger.now());
    Some(inside)
}

/// A session that no store knows yet: it is told when it is back, and the
/// session counts from then on like any other. `None` when the policy lets this
/// one not in: then places are given, as otherwise.
pub(super) fn let_in(ledger: &Ledger, who: &Who, visitor: LetIn) -> Option<Outcome> {
    let now = ledger.now();
    let expires = now.plus(ledger.session_idle());
    if !ledger.let_in(visitor, now, expires) {
        return None;
    }
    let inside = inside(ledger, who, visitor.session, now, expires);
    Some(Outcome::Inside(inside))
}

/// A session as the store gave it; its pass ends no later than acknowledged.
/// Where this gateway knows already when it began, that holds.
#[must_use]
pub fn inside(
    ledger: &Ledger,
    who: &Who,
    session: SessionKey,
    begun: Timestamp,
    expires: Timestamp,
) -> Inside {
    let stay = ledger.sessions.stay(session, begun, expires);
    Inside {
        pass: Rc::new(Pass {
            event: ledger.id.clone(),
            scope: who.scope.clone(),
            visitor: who.visitor.clone(),
            issued_at: ledger.now().seconds(),
            expires: expires.seconds(),
            session,
            begun: stay.begun().seconds(),
        }),
        stay,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "waits are far below 2^52 seconds"
)]
pub(super) fn count_wait(ledger: &Ledger, ticket: &Ticket, now: Timestamp) {
    let waited = now.seconds().saturating_sub(ticket.since);
    ledger.counts.claims.increment(1);
    ledger.counts.waited.record(waited);
    if let Some(estimate) = ticket.estimate.filter(|estimate| *estimate > 0) {
        ledger
            .counts
            .estimate_error
            .record(waited as f64 / estimate as f64);
    }
}

/// Who holds a ticket, by whatever name it was asked with.
pub(super) fn bearer_of(ticket: &Ticket, named: Option<&Who>) -> Who {
    let who = named.cloned().unwrap_or_else(|| Who::bearer(ticket));
    Who {
        visitor: ticket.visitor.clone(),
        ..who
    }
}
