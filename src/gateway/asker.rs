//! Who asks and what they hold: everything about a request that is read from
//! its headers, read once.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Request, Uri, header};

use super::Gateway;
use crate::ledger::Ledger;
use crate::pages::Language;
use crate::reception::{Bearer, Inside, Known, Site, scope};
use crate::room::decision::Kind;
use crate::token::{Pass, Ticket, Token, Verdict, cookie};
use crate::visitor::address::Visitor;
use crate::visitor::kind::kind;

/// Where a token may stand instead of a cookie.
pub(crate) static SUMUN_TOKEN: HeaderName = HeaderName::from_static("sumun-token");

/// After `complete` a pass still serves what belongs to the last page, in
/// milliseconds.
const AFTERGLOW_MS: u64 = 30_000;

/// The request, as far as our own answers need it.
pub(super) struct Asker {
    pub(super) visitor: Visitor,
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// `Accept-Language`, read when a page is to be shown.
    pub(super) accept_language: Option<http::HeaderValue>,
    /// `Origin`, for CORS.
    pub(super) origin: Option<http::HeaderValue>,
}

impl Asker {
    pub(super) fn new<B>(request: &Request<B>, visitor: Visitor) -> Self {
        Self {
            visitor,
            kind: kind(request.method(), request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            accept_language: request.headers().get(header::ACCEPT_LANGUAGE).cloned(),
            origin: request.headers().get(header::ORIGIN).cloned(),
        }
    }

    /// The language of a page for this visitor.
    pub(super) fn language(&self) -> Language {
        let wanted = self.accept_language.as_ref();
        Language::negotiate(wanted.and_then(|value| value.to_str().ok()))
    }

    /// The cookie scope here: the cookie's domain, else the host without port.
    pub(super) fn scope(&self, ledger: &Ledger) -> String {
        scope(ledger, self.visitor.host.as_ref())
    }
}

/// What the bearer holds, after every check.
#[derive(Default)]
pub(super) struct Held {
    /// A pass for this event whose session lives.
    pub(super) pass: Option<Inside>,
    /// A pass of another event, good here for what is no navigation; or this
    /// event's own, completed moments ago.
    pub(super) neighbour: bool,
    /// A place in this event's line.
    pub(super) ticket: Option<Ticket>,
    /// Whether it came in the header, not in a cookie.
    pub(super) by_header: bool,
    /// Nothing good, and something that only another gateway can read.
    pub(super) unknown_key: bool,
}

impl Gateway {
    /// Reads the tokens of a request, the header's before the cookies'.
    pub(super) async fn credential(
        &self,
        site: &Site,
        ledger: &Arc<Ledger>,
        headers: &HeaderMap,
        asker: &Asker,
    ) -> Held {
        let mut held = Held::default();
        let mut unknown = false;
        let in_header = headers.get(&SUMUN_TOKEN).and_then(|v| v.to_str().ok());
        let cookies = cookie::ours(headers.get_all(header::COOKIE).iter());
        let texts = in_header
            .map(|text| (text, true))
            .into_iter()
            .chain(cookies.map(|found| (found.value, false)));
        // More than a handful of tokens is nobody's ordinary request.
        for (text, by_header) in texts.take(16) {
            let known = self.tokens.know(text, &self.reception.keyring);
            match &known.verdict {
                Verdict::UnknownKey => {
                    unknown = true;
                    continue;
                }
                Verdict::Good(Token::Ticket(ticket)) => {
                    self.take_ticket(ledger, asker, ticket, by_header, &mut held);
                }
                Verdict::Good(Token::Pass(pass)) => {
                    self.take_pass(site, ledger, asker, pass, &known, by_header, &mut held)
                        .await;
                }
                Verdict::Good(Token::Success(success)) if by_header => {
                    let pass = success.pass();
                    self.take_pass(site, ledger, asker, &pass, &known, by_header, &mut held)
                        .await;
                }
                // A success token is no cookie.
                Verdict::Nothing | Verdict::Good(Token::Success(_)) => continue,
            }
            if held.pass.is_some() {
                break;
            }
        }
        held.unknown_key = unknown && held.pass.is_none() && held.ticket.is_none();
        held
    }

    fn take_ticket(
        &self,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        ticket: &Ticket,
        by_header: bool,
        held: &mut Held,
    ) {
        let here = ticket.event == ledger.id
            && in_scope(ledger, asker, ticket.scope.as_deref(), by_header)
            && self.reception.is_good(ledger, ticket);
        // Of two places the earlier one counts.
        let better = held
            .ticket
            .as_ref()
            .is_none_or(|other| ticket.number < other.number);
        if here && better {
            held.ticket = Some(ticket.clone());
            held.by_header = by_header;
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one token in its request's context"
    )]
    async fn take_pass(
        &self,
        site: &Site,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        pass: &Pass,
        known: &Known,
        by_header: bool,
        held: &mut Held,
    ) {
        let Some(home) = site.ledgers.get(pass.event.as_str()) else {
            return;
        };
        if !in_scope(home, asker, pass.scope.as_deref(), by_header) {
            return;
        }
        let stay = match self.reception.bearer(home, pass, known).await {
            Bearer::Lives(stay) => stay,
            Bearer::Ended(at) => {
                held.neighbour |= home.now().0 < at.0.saturating_add(AFTERGLOW_MS);
                return;
            }
            Bearer::Over => return,
        };
        if pass.event == ledger.id {
            held.by_header = by_header;
            held.pass = Some(Inside {
                pass: pass.clone(),
                stay,
            });
        } else {
            home.sessions.hear(&stay, home.now());
            held.neighbour = true;
        }
    }
}

/// A cookie is worth something only where it was set; a token got by API has
/// no scope and comes in the header.
fn in_scope(ledger: &Ledger, asker: &Asker, scope: Option<&str>, by_header: bool) -> bool {
    match scope {
        None => by_header,
        Some(scope) => scope == asker.scope(ledger),
    }
}
