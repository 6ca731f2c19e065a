//! What the caller holds of one event, after every check: a pass, places in
//! line, or something that was once good.

use std::rc::Rc;
use std::sync::Arc;

use http::{StatusCode, header};

use super::caller::{Caller, Page};
use super::{Problem, PublicDoor, foreign, unknown_key};
use crate::ledger::Ledger;
use crate::reception::{Bearer, Inside, is_in_scope};
use crate::token::{Pass, Ticket, Token, Verdict, cookie};

/// More tokens of one event are nobody's ordinary request.
const TOKENS_MAX: usize = 8;

/// What is held.
#[derive(Default)]
pub(super) struct Held {
    /// A pass whose session lives.
    pub(super) pass: Option<Inside>,
    /// Places, the earliest first, each with its text. Of one number that
    /// came twice, the page's own.
    pub(super) places: Vec<(Ticket, String)>,
    /// A pass whose session was ended or is over.
    pub(super) former: Option<Rc<Pass>>,
    /// Who was here before, by a pass or a ticket that is over.
    pub(super) before: Option<String>,
    /// A cookie of the event came along, whatever it is worth.
    pub(super) cookie: bool,
    /// The token came in the header `Sumun-Token`.
    pub(super) by_header: bool,
    flaw: Option<Flaw>,
}

/// What was wrong with a token; of several the one that weighs most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    /// No token of ours for this event and host.
    Nothing,
    /// Once good.
    Over,
    /// Signed by a key that another gateway may know.
    UnknownKey,
}

impl Held {
    /// Something that only another gateway can read must not be judged here.
    pub(super) fn readable(self) -> Result<Self, Problem> {
        if self.flaw == Some(Flaw::UnknownKey) && self.pass.is_none() && self.places.is_empty() {
            return Err(unknown_key());
        }
        Ok(self)
    }

    /// Why there is neither a pass nor a place.
    pub(super) fn why_nothing(&self) -> Problem {
        if self.flaw == Some(Flaw::Over) {
            return void();
        }
        let detail = if self.flaw.is_some() {
            "the ticket cannot be read, or is another event's or another host's"
        } else {
            "send the ticket, as a field, as a cookie or as the header Sumun-Token"
        };
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "ticket",
            "No place in line",
            detail,
        )
        .header(
            header::WWW_AUTHENTICATE,
            http::HeaderValue::from_static("Sumun-Token"),
        )
        .field("ticket")
    }

    /// Who comes back, whatever comes of the places.
    pub(super) fn who_before(&self) -> Option<String> {
        let mut places = self
            .places
            .iter()
            .filter(|(place, _)| place.scope.is_some());
        let place = places.next().map(|(place, _)| place.visitor.clone());
        place.or_else(|| self.before.clone())
    }

    /// The customer's own ids have no scope, and are told by the calls that bring them.
    fn was_here(&mut self, visitor: &str, scope: Option<&str>) {
        if scope.is_some() {
            self.before.get_or_insert_with(|| visitor.to_owned());
        }
    }

    fn flawed(&mut self, flaw: Flaw) {
        self.flaw = self.flaw.max(Some(flaw));
    }

    fn take(&mut self, ticket: &Ticket, text: &str) {
        let same = self
            .places
            .iter_mut()
            .find(|(known, _)| known.number == ticket.number);
        if let Some((known, _)) = same {
            // A position once shown, in whichever tab, never grows.
            known.position = match (known.position, ticket.position) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            return;
        }
        let at = self
            .places
            .partition_point(|(known, _)| known.number < ticket.number);
        self.places.insert(at, (ticket.clone(), text.to_owned()));
    }
}

/// A ticket that was once good.
pub(super) fn void() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "ticket",
        "This place is no more",
        "the ticket is over or was used, or the line was begun anew: enter again",
    )
    .field("ticket")
}

impl PublicDoor {
    /// Reads the tokens of a request: the field's, the header's, the cookies'.
    pub(super) async fn held(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        field: Option<&str>,
    ) -> Result<Held, Problem> {
        let in_header = caller.text("sumun-token");
        let cookies: Vec<&str> = cookie::ours(caller.headers.get_all(header::COOKIE).iter())
            .filter(|found| found.event == ledger.id.as_str() && !found.value.is_empty())
            .filter_map(|found| std::str::from_utf8(found.value).ok())
            .take(TOKENS_MAX)
            .collect();
        let shown = field.is_some() || in_header.is_some();
        if caller.page == Page::Foreign && !cookies.is_empty() && !shown {
            return Err(foreign());
        }
        let mut held = Held {
            cookie: !cookies.is_empty() && caller.page != Page::Foreign,
            by_header: in_header.is_some(),
            ..Held::default()
        };
        let cookies = cookies.into_iter().filter(|_| held.cookie);
        let shown = field.into_iter().chain(in_header);
        let texts: Vec<(&str, bool)> = shown
            .map(|text| (text, true))
            .chain(cookies.map(|text| (text, false)))
            .collect();
        for (text, shown) in texts {
            self.weigh(ledger, caller, (text, shown), &mut held).await;
        }
        Ok(held)
    }

    async fn weigh(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        (text, shown): (&str, bool),
        held: &mut Held,
    ) {
        let known = self.tokens.know(text, &self.reception.keyring);
        let pass = match &known.verdict {
            Verdict::Nothing => return held.flawed(Flaw::Nothing),
            Verdict::UnknownKey => return held.flawed(Flaw::UnknownKey),
            Verdict::Good(Token::Ticket(ticket)) => {
                let scope = ticket.scope.as_deref();
                if ticket.event != ledger.id || !in_scope(ledger, caller, scope, shown) {
                    held.flawed(Flaw::Nothing);
                } else if self.reception.is_good(ledger, ticket) {
                    held.take(ticket, text);
                } else {
                    held.flawed(Flaw::Over);
                    held.was_here(&ticket.visitor, scope);
                }
                return;
            }
            Verdict::Good(Token::Pass(_) | Token::Success(_)) => known.pass.clone(),
        };
        let Some(pass) = pass else {
            return held.flawed(Flaw::Nothing);
        };
        let scope = pass.scope.as_deref();
        if pass.event != ledger.id || !in_scope(ledger, caller, scope, shown) {
            held.flawed(Flaw::Nothing);
            return;
        }
        match self.reception.bearer(ledger, &pass, &known).await {
            Bearer::Lives(stay) => {
                held.pass.get_or_insert(Inside { pass, stay });
            }
            Bearer::Ended(_) | Bearer::Over => {
                held.flawed(Flaw::Over);
                held.was_here(&pass.visitor, scope);
                held.former.get_or_insert(pass);
            }
        }
    }
}

/// A cookie is worth something only where it was set; a token got by API has
/// no scope and is shown, not set.
fn in_scope(ledger: &Ledger, caller: &Caller, of: Option<&str>, shown: bool) -> bool {
    match of {
        None => shown,
        Some(of) => is_in_scope(ledger, caller.host().as_deref(), of),
    }
}
