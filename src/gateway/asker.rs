//! Who asks and what they hold: everything about a request that is read from
//! its headers, read once.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::{At, Gateway};
use crate::ledger::{Ledger, Stay};
use crate::origin::is_grpc;
use crate::pages::Language;
use crate::reception::{Bearer, Inside, Known, Site, is_in_scope, scope};
use crate::room::decision::Kind;
use crate::room::host;
use crate::room::time::Timestamp;
use crate::token::{Pass, Ticket, Token, Verdict, cookie};
use crate::visitor::address::Visitor;
use crate::visitor::kind::kind;

/// Where a token may stand instead of a cookie.
pub(crate) static SUMUN_TOKEN: HeaderName = HeaderName::from_static("sumun-token");

/// After `complete` a pass still serves what belongs to the last page, in
/// milliseconds.
const AFTERGLOW_MS: u64 = 30_000;

/// More tokens than that are nobody's ordinary request.
const TOKENS_MAX: usize = 16;

/// The request, as far as decisions and our own answers need it.
pub(super) struct Asker {
    /// When it came, on this gateway's own clock, in milliseconds.
    pub(super) came_ms: u64,
    pub(super) visitor: Visitor,
    /// The host that was asked for in normal form, if it is one.
    pub(super) host: Option<Rc<str>>,
    /// The other end of the connection as a header's value.
    pub(super) peer: HeaderValue,
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// `Accept-Language`, read when a page is to be shown.
    pub(super) accept_language: Option<HeaderValue>,
    /// `Origin`, for CORS.
    pub(super) origin: Option<HeaderValue>,
    /// Whether it is a call of gRPC, which is spoken over HTTP/2 alone.
    pub(super) is_grpc: bool,
    /// How long the origin's first byte took, in microseconds, as soon as it came.
    pub(super) first_byte_us: Cell<Option<u32>>,
}

impl Asker {
    pub(super) fn new<B>(
        request: &Request<B>,
        visitor: Visitor,
        last: &Last,
        came_ms: u64,
    ) -> Self {
        Self {
            came_ms,
            host: visitor.host.as_ref().and_then(|host| last.host(host)),
            peer: last.peer(visitor.peer),
            visitor,
            kind: kind(request.method(), request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            accept_language: request.headers().get(header::ACCEPT_LANGUAGE).cloned(),
            origin: request.headers().get(header::ORIGIN).cloned(),
            is_grpc: request.version() == Version::HTTP_2
                && request.method() == Method::POST
                && is_grpc(request.headers()),
            first_byte_us: Cell::new(None),
        }
    }

    /// The language of a page for this visitor.
    pub(super) fn language(&self) -> Language {
        let wanted = self.accept_language.as_ref();
        Language::negotiate(wanted.and_then(|value| value.to_str().ok()))
    }

    /// The cookie scope here: the cookie's domain, else the host without port.
    pub(super) fn scope(&self, ledger: &Ledger) -> String {
        scope(ledger, self.host.as_deref())
    }

    /// A cookie is worth something only where it was set; a token got by API
    /// has no scope and comes in the header.
    fn is_in_scope(&self, ledger: &Ledger, scope: Option<&str>, by_header: bool) -> bool {
        match scope {
            None => by_header,
            Some(scope) => is_in_scope(ledger, self.host.as_deref(), scope),
        }
    }
}

/// What the last request had and the next one is likely to have: the host
/// with its normal form, the peer with its spelling.
#[derive(Default)]
pub(super) struct Last {
    host: RefCell<Option<(HeaderValue, Option<Rc<str>>)>>,
    peer: RefCell<Option<(IpAddr, HeaderValue)>>,
}

impl Last {
    fn host(&self, asked: &HeaderValue) -> Option<Rc<str>> {
        let mut last = self.host.borrow_mut();
        if let Some((_, normal)) = last.as_ref().filter(|(last, _)| last == asked) {
            return normal.clone();
        }
        let normal = asked.to_str().ok().and_then(host::normal);
        let normal: Option<Rc<str>> = normal.map(|host| Rc::from(host.as_ref()));
        *last = Some((asked.clone(), normal.clone()));
        normal
    }

    fn peer(&self, peer: IpAddr) -> HeaderValue {
        let mut last = self.peer.borrow_mut();
        if let Some((_, label)) = last.as_ref().filter(|(last, _)| *last == peer) {
            return label.clone();
        }
        // An address is written in digits, letters, dots and colons.
        let label = HeaderValue::try_from(peer.to_string());
        let label = label.unwrap_or(HeaderValue::from_static("unknown"));
        *last = Some((peer, label.clone()));
        label
    }
}

/// What the bearer holds, after every check that needs no store.
#[derive(Default)]
pub(super) struct Held {
    /// A pass for this event whose session lives.
    pub(super) pass: Option<Inside>,
    /// A pass of another event, good here for what is no navigation; or this
    /// event's own, completed moments ago.
    pub(super) neighbour: bool,
    /// The session of a pass of another event.
    pub(super) neighbours: Option<Arc<Stay>>,
    /// A place in this event's line.
    pub(super) ticket: Option<Ticket>,
    /// Who was here before, by a pass or a ticket of this event that is over.
    pub(super) former: Option<String>,
    /// Whether it came in the header, not in a cookie.
    pub(super) by_header: bool,
    /// Something that only another gateway can read.
    pub(super) unknown_key: bool,
    /// Passes past their time: only the store knows whether their sessions live.
    pub(super) doubtful: Vec<Doubtful>,
}

/// A pass that the store has to be asked about.
pub(super) struct Doubtful {
    home: Arc<Ledger>,
    pass: Rc<Pass>,
    known: Rc<Known>,
    by_header: bool,
}

/// A pass that a request carries.
#[derive(Clone, Copy)]
struct Shown<'a> {
    /// The event that it is for.
    home: &'a Arc<Ledger>,
    /// The running time there.
    now: Timestamp,
    pass: &'a Rc<Pass>,
    known: &'a Rc<Known>,
    by_header: bool,
}

impl Doubtful {
    fn shown(&self) -> Shown<'_> {
        Shown {
            home: &self.home,
            now: self.home.now(),
            pass: &self.pass,
            known: &self.known,
            by_header: self.by_header,
        }
    }
}

impl Gateway {
    /// Reads the tokens of a request, the header's before the cookies'.
    pub(super) fn credential(
        &self,
        site: &Site,
        at: &At<'_>,
        headers: &HeaderMap,
        asker: &Asker,
    ) -> Held {
        let ledger = at.ledger;
        let mut held = Held::default();
        let in_header = headers.get(&SUMUN_TOKEN).map(HeaderValue::as_bytes);
        let cookies = cookie::ours(headers.get_all(header::COOKIE).iter());
        let texts = in_header
            .map(|text| (text, true))
            .into_iter()
            .chain(cookies.map(|found| (found.value, false)));
        for (text, by_header) in texts.take(TOKENS_MAX) {
            let known = self.tokens.know(text, &self.reception.keyring);
            match (&known.verdict, &known.pass) {
                (Verdict::UnknownKey, _) => held.unknown_key = true,
                (Verdict::Good(Token::Ticket(ticket)), _) => {
                    self.take_ticket(ledger, asker, (ticket, by_header), &mut held);
                }
                // A success token is no cookie.
                (Verdict::Good(Token::Success(_)), _) if !by_header => {}
                (_, Some(pass)) => {
                    let home = if pass.event == ledger.id {
                        Some((ledger, at.now))
                    } else {
                        let home = site.ledgers.get(pass.event.as_str());
                        home.map(|home| (home, home.now_at(asker.came_ms)))
                    };
                    if let Some((home, now)) = home {
                        let shown = Shown {
                            home,
                            now,
                            pass,
                            known: &known,
                            by_header,
                        };
                        self.take_pass(ledger, asker, shown, &mut held);
                    }
                }
                (Verdict::Nothing | Verdict::Good(_), None) => {}
            }
            if held.pass.is_some() {
                break;
            }
        }
        held
    }

    fn take_ticket(
        &self,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        (ticket, by_header): (&Ticket, bool),
        held: &mut Held,
    ) {
        let here = ticket.event == ledger.id
            && asker.is_in_scope(ledger, ticket.scope.as_deref(), by_header);
        if here && !self.reception.is_good(ledger, ticket) {
            held.was_here(&ticket.visitor, ticket.scope.as_deref());
            return;
        }
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

    fn take_pass(&self, ledger: &Ledger, asker: &Asker, shown: Shown<'_>, held: &mut Held) {
        let Shown {
            home,
            now,
            pass,
            known,
            by_header,
        } = shown;
        if !asker.is_in_scope(home, pass.scope.as_deref(), by_header) {
            return;
        }
        match self.reception.remembered(home, pass, known, now) {
            Some(bearer) => held.judged(ledger, shown, bearer),
            None => held.doubtful.push(Doubtful {
                home: Arc::clone(home),
                pass: Rc::clone(pass),
                known: Rc::clone(known),
                by_header,
            }),
        }
    }

    /// Asks the store about passes past their time, until one is good.
    pub(super) async fn settle_doubts(&self, ledger: &Ledger, held: &mut Held) {
        for doubtful in std::mem::take(&mut held.doubtful) {
            let Doubtful {
                home, pass, known, ..
            } = &doubtful;
            let bearer = self.reception.bearer(home, pass, known).await;
            held.judged(ledger, doubtful.shown(), bearer);
            if held.pass.is_some() {
                return;
            }
        }
    }
}

impl Held {
    /// Takes what a pass turned out to be worth.
    fn judged(&mut self, ledger: &Ledger, shown: Shown<'_>, bearer: Bearer) {
        let Shown { home, now, .. } = shown;
        let stay = match bearer {
            Bearer::Lives(stay) => stay,
            Bearer::Ended(at) => {
                self.was_here_by(ledger, &shown);
                self.neighbour |= now.0 < at.0.saturating_add(AFTERGLOW_MS);
                return;
            }
            Bearer::Over => return self.was_here_by(ledger, &shown),
        };
        if home.id == ledger.id {
            self.by_header = shown.by_header;
            self.pass = Some(Inside {
                pass: Rc::clone(shown.pass),
                stay,
            });
        } else {
            home.sessions.hear(&stay, now);
            self.neighbour = true;
            self.neighbours = Some(stay);
        }
    }

    fn was_here_by(&mut self, ledger: &Ledger, shown: &Shown<'_>) {
        if shown.home.id == ledger.id {
            self.was_here(&shown.pass.visitor, shown.pass.scope.as_deref());
        }
    }

    /// A visitor who was drawn here goes on under the same name; the customer's own
    /// ids, which have no scope, are for the API.
    fn was_here(&mut self, visitor: &str, scope: Option<&str>) {
        if scope.is_some() {
            self.former.get_or_insert_with(|| visitor.to_owned());
        }
    }

    /// Nothing good, and something that only another gateway can read.
    pub(super) fn only_unknown(&self) -> bool {
        self.unknown_key && self.pass.is_none() && self.ticket.is_none()
    }
}
