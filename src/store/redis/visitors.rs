//! The calls on behalf of visitors: in at the door, out of the line, heard from.

use std::sync::PoisonError;

use redis::Script;

use super::push::{Heard, heard};
use super::reply::Fields;
use super::scripts::{Call, id_text};
use super::{RedisStore, SESSIONS_PER_CALL};
use crate::room::event::EventId;
use crate::room::pages::{Bits, PAGES_PER_CALL};
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{
    Answer, BATCH_MAX, Batch, Claim, Claimed, Entered, Found, IdHash, Leave, LetIn, Reply,
    StoreError, Touch,
};

impl RedisStore {
    pub(in crate::store) async fn enter(
        &self,
        event: &EventId,
        batch: &Batch,
    ) -> Answer<Vec<Entered>> {
        let ids = batch
            .entrants
            .iter()
            .filter_map(|entrant| entrant.id.as_ref());
        let call = self
            .call(event)
            .pages(self.expected(event))
            .ids(ids)
            .arg(&batch.gateway)
            .arg(batch.batch)
            .option(batch.above)
            .each(batch.entrants.iter(), |call, entrant| {
                call.arg(entrant.session).arg(id_text(entrant.id.as_ref()))
            });
        let script = &self.scripts().enter;
        let reply: Reply<Vec<Entered>> = self
            .ask(script, call, |mut fields| {
                let lines = fields.text()?;
                lines.lines().map(|line| fields.entered(line)).collect()
            })
            .await?;
        if let Reply::Done(entered) = &reply {
            let numbers = entered.iter().filter_map(|entered| match entered {
                Entered::Ticket { number } => Some(number.page()),
                Entered::Session { .. } | Entered::Closed => None,
            });
            if let Some(page) = numbers.max() {
                self.expect(event, page);
            }
        }
        Ok(reply)
    }

    /// The pages that the next numbers are likely to stand on.
    fn expected(&self, event: &EventId) -> Vec<u64> {
        let issued = self
            .inner
            .issued
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        issued
            .get(event)
            .map_or_else(Vec::new, |page| vec![*page, page + 1])
    }

    pub(super) fn expect(&self, event: &EventId, page: u64) {
        let mut issued = self
            .inner
            .issued
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = issued.entry(event.clone()).or_default();
        *known = page.max(*known);
    }

    pub(in crate::store) async fn claim(
        &self,
        event: &EventId,
        claims: &[Claim],
    ) -> Answer<Vec<Claimed>> {
        let call = |claims: &[Claim]| {
            self.call(event)
                .pages(claims.iter().map(|claim| claim.number.page()))
                .ids(claims.iter().filter_map(|claim| claim.id.as_ref()))
                .each(claims.iter(), |call, claim| {
                    call.arg(claim.number)
                        .arg(claim.session)
                        .arg(id_text(claim.id.as_ref()))
                })
        };
        let script = &self.scripts().claim;
        self.in_parts(script, parts(claims, BATCH_MAX), call, Fields::claimed)
            .await
    }

    pub(in crate::store) async fn beat(
        &self,
        event: &EventId,
        pages: &[(u64, Bits)],
    ) -> Answer<()> {
        let heard = heard(pages);
        for pages in parts(&heard, PAGES_PER_CALL) {
            let call = self
                .call(event)
                .pages(pages.iter().map(|heard| heard.page))
                .each(pages.iter(), Heard::spell);
            match self.ask(&self.scripts().beat, call, |_| Ok(())).await? {
                Reply::Done(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Reply::Done(()))
    }

    pub(in crate::store) async fn let_in(
        &self,
        event: &EventId,
        visitors: &[LetIn],
    ) -> Answer<Vec<Option<Timestamp>>> {
        let call = |visitors: &[LetIn]| {
            let pages = visitors.iter().filter_map(|visitor| visitor.number);
            self.call(event)
                .pages(pages.map(Number::page))
                .ids(visitors.iter().filter_map(|visitor| visitor.id.as_ref()))
                .each(visitors.iter(), |call, visitor| {
                    call.arg(visitor.session)
                        .option(visitor.number)
                        .arg(id_text(visitor.id.as_ref()))
                        .arg(u8::from(visitor.proven))
                        .arg(visitor.until.0)
                })
        };
        let script = &self.scripts().let_in;
        self.in_parts(script, parts(visitors, BATCH_MAX), call, Fields::expiry)
            .await
    }

    pub(in crate::store) async fn touch(
        &self,
        event: &EventId,
        touches: &[Touch],
    ) -> Answer<Vec<Option<Timestamp>>> {
        let call = |touches: &[Touch]| {
            self.call(event).each(touches.iter(), |call, touch| {
                call.arg(touch.session)
                    .arg(touch.begun.0)
                    .arg(touch.until.0)
                    .arg(touch.keep.0)
            })
        };
        let (script, parts) = (&self.scripts().touch, parts(touches, SESSIONS_PER_CALL));
        self.in_parts(script, parts, call, Fields::expiry).await
    }

    pub(in crate::store) async fn inside(
        &self,
        event: &EventId,
        sessions: &[SessionKey],
    ) -> Answer<Vec<Option<Timestamp>>> {
        let call = |sessions: &[SessionKey]| self.call(event).each(sessions.iter(), Call::arg);
        let (script, parts) = (&self.scripts().inside, parts(sessions, SESSIONS_PER_CALL));
        self.in_parts(script, parts, call, Fields::expiry).await
    }

    pub(in crate::store) async fn end(
        &self,
        event: &EventId,
        sessions: &[SessionKey],
    ) -> Answer<Vec<bool>> {
        let call = |sessions: &[SessionKey]| self.call(event).each(sessions.iter(), Call::arg);
        let (script, parts) = (&self.scripts().end, parts(sessions, SESSIONS_PER_CALL));
        let was_there = |fields: &mut Fields| Ok(fields.whole()? != 0);
        self.in_parts(script, parts, call, was_there).await
    }

    pub(in crate::store) async fn leave(&self, event: &EventId, tickets: &[Leave]) -> Answer<()> {
        for tickets in parts(tickets, BATCH_MAX) {
            let call = self
                .call(event)
                .pages(tickets.iter().map(|ticket| ticket.number.page()))
                .ids(tickets.iter().filter_map(|ticket| ticket.id.as_ref()))
                .each(tickets.iter(), |call, ticket| {
                    call.arg(ticket.number).arg(id_text(ticket.id.as_ref()))
                });
            match self.ask(&self.scripts().leave, call, |_| Ok(())).await? {
                Reply::Done(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Reply::Done(()))
    }

    pub(in crate::store) async fn find(&self, event: &EventId, id: IdHash) -> Answer<Found> {
        let call = self.call(event).ids([&id]).arg(id_text(Some(&id)));
        let script = &self.scripts().find;
        self.ask(script, call, |mut fields| fields.found()).await
    }

    /// Asks about each of a list, part by part; a part that meets a recovery or
    /// no event ends it.
    async fn in_parts<'a, T: 'a, O>(
        &self,
        script: &Script,
        parts: impl Iterator<Item = &'a [T]>,
        call: impl Fn(&'a [T]) -> Call,
        read: impl Fn(&mut Fields) -> Result<O, StoreError>,
    ) -> Answer<Vec<O>> {
        let mut all = Vec::new();
        for part in parts {
            let reply = self.ask(script, call(part), |mut fields| fields.list()?.all(&read));
            match whole(reply.await?, part.len())? {
                Reply::Done(part) => all.extend(part),
                other => return Ok(other),
            }
        }
        Ok(Reply::Done(all))
    }
}

/// The parts of a list for one call each; an empty list is one empty part,
/// because a call without anything still moves the time.
fn parts<T>(list: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    list.chunks(most).chain(list.is_empty().then_some(list))
}

/// A reply must have an answer for each one asked about.
fn whole<T>(reply: Reply<Vec<T>>, asked: usize) -> Answer<Vec<T>> {
    match &reply {
        Reply::Done(answers) if answers.len() != asked => Err(StoreError::Refused(format!(
            "{} answers for {asked} asked",
            answers.len()
        ))),
        _ => Ok(reply),
    }
}
