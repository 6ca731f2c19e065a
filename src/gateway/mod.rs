//! The front door: a request becomes a decision becomes an answer.
//!
//! One gateway per data thread. Everything about one request is read once
//! into an `Asker`, decided by `room::decision`, and answered by the origin
//! or by a page of our own (docs/architecture.md).

mod asker;
mod grpc;
mod inspect;
mod limit;
mod log;
mod own;
mod seek;
mod stick;
mod through;
mod unanswered;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use metrics::{Counter, Gauge, Histogram};

pub use log::{AccessLog, LogLine, Logged};

use crate::incoming::ClientBody;
use crate::ledger::{InUse, Ledger};
use crate::load::InFlight;
use crate::metrics as names;
use crate::origin::Body;
use crate::origins::Origins;
use crate::pages::NoticeKind;
use crate::reception::{Brought, Reception, Ruling, Site, TokenMemory};
use crate::room::decision::{Credential, Decision, Kind, decide};
use crate::room::event::EventSettings;
use crate::room::routes::{Asked, Route};
use crate::room::time::Timestamp;
use crate::server::ConnectionInfo;
use crate::token::Ticket;
use crate::tracking::Recorder;
use crate::visitor::address::TrustedProxies;
use crate::visitor::request_id::RequestIds;
use asker::{Asker, Held, Last};
use through::{Carry, Passage};
use unanswered::{Done, Unanswered, done};

/// What is kept until an answer's body (or a tunnel) has ended.
pub struct Visit {
    _in_flight: Option<InFlight>,
    /// The session that this body keeps alive.
    pub in_use: Option<InUse>,
    _counted: Counted,
}

/// An answer on its way out.
pub type Answer = Response<Body<Visit>>;

/// What the front door needs to know of the configuration.
pub struct Manner {
    /// Whose `X-Forwarded-*` are believed.
    pub trusted: TrustedProxies,
    /// Leave our cookies and tokens in what the origin gets.
    pub forward_token: bool,
    /// Origins whose scripts may read our answers.
    pub cors_origins: Vec<String>,
    /// Where each request has a line, if it has one.
    pub access_log: Option<Arc<AccessLog>>,
    /// What requests are called, if they are called anything.
    pub request_ids: Option<RequestIds>,
}

/// What is said of who gets the waiting page.
const WAIT: &str = "wait";

/// All events, as one thread holds them, by a count of its own: all threads
/// would write the shared one with each request.
type Here = Rc<Arc<Site>>;

/// One data thread's front door.
pub struct Gateway {
    reception: Arc<Reception>,
    manner: RefCell<Arc<Manner>>,
    origins: Origins,
    tokens: TokenMemory,
    last: Last,
    site: RefCell<Here>,
    counts: Counts,
    recorder: Rc<Recorder>,
}

/// A request in flight, for the gauge.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

type RequestLabels = (Option<usize>, &'static str, u16);

struct Counts {
    in_flight: Gauge,
    duration: Histogram,
    first_byte: Histogram,
    /// Requests beyond what one session may.
    beyond: limit::Beyond,
    /// The counters of the present site's events, by their place in its order.
    requests: RefCell<AHashMap<RequestLabels, Counter>>,
}

/// What is to be done with a request. What is seldom is boxed: every request holds one.
enum Way {
    /// An answer of our own.
    Own(Box<Answer>, Done),
    /// To the origin.
    Through(Passage, Done),
    /// The store is to be asked whether a session lives.
    Doubt(Box<Doubt>),
    /// The store is to be asked for a session or a place.
    Seek(Box<Seeker>),
}

impl Way {
    fn own(answer: Answer, done: Done) -> Self {
        Self::Own(Box::new(answer), done)
    }

    /// What is done about the request, as far as that is known.
    fn done(&self) -> Done {
        match self {
            Self::Own(_, done) | Self::Through(_, done) => *done,
            Self::Doubt(doubt) => done(Some(doubt.event), "unsettled"),
            Self::Seek(seeker) => done(Some(seeker.event), "unsettled"),
        }
    }
}

/// A bearer of passes past their time.
struct Doubt {
    event: usize,
    ledger: Arc<Ledger>,
    excluded: bool,
    held: Held,
}

/// A visitor who wants in.
struct Seeker {
    event: usize,
    ledger: Arc<Ledger>,
    ticket: Option<Ticket>,
    /// Who it was when it was here before.
    former: Option<String>,
    by_header: bool,
    /// Its place is exchanged for one at the end.
    is_sent_back: bool,
}

/// The event that covers a request.
struct At<'a> {
    /// Its place in the site's order.
    event: usize,
    ledger: &'a Arc<Ledger>,
    excluded: bool,
    /// The running time there.
    now: Timestamp,
}

impl At<'_> {
    fn done(&self, decision: &'static str) -> Done {
        done(Some(self.event), decision)
    }
}

/// What the decision is to know of what is held.
fn credential(ledger: &Ledger, held: &Held, kind: Kind) -> Credential {
    if held.pass.is_some() || held.neighbour && !kind.is_navigation() {
        return Credential::Pass;
    }
    held.ticket
        .as_ref()
        .map_or(Credential::Nothing, |ticket| Credential::Ticket {
            called: ledger
                .view()
                .is_some_and(|view| ticket.number < view.snapshot.meta.called),
        })
}

/// Whether the operator lets this one pass by.
fn is_bypassed(settings: &EventSettings, headers: &HeaderMap, asker: &Asker) -> bool {
    let bypass = &settings.bypass;
    let secret = (bypass.secret.as_ref()).and_then(|_| headers.get(bypass.header.as_str()));
    bypass.admits(asker.visitor.address, secret.map(HeaderValue::as_bytes))
}

impl Gateway {
    /// A front door for this thread.
    #[must_use]
    pub fn new(reception: Arc<Reception>, manner: Arc<Manner>, origins: Origins) -> Self {
        let metrics = &reception.metrics;
        let recorder = Recorder::new(&reception.tracker, reception.clock.clone());
        let site = reception.site.load_full();
        recorder.arrange(site.ledgers.iter().map(|ledger| &ledger.id));
        Self {
            recorder,
            counts: Counts {
                in_flight: metrics.gauge(&names::HTTP_IN_FLIGHT, &[]),
                duration: metrics.histogram(&names::HTTP_REQUEST_SECONDS, &[]),
                first_byte: metrics.histogram(&names::ORIGIN_FIRST_BYTE_SECONDS, &[]),
                beyond: limit::Beyond::new(metrics),
                requests: RefCell::default(),
            },
            site: RefCell::new(Rc::new(site)),
            reception,
            manner: RefCell::new(manner),
            origins,
            tokens: TokenMemory::default(),
            last: Last::default(),
        }
    }

    /// Goes by another manner from now on; which keys are good may have changed too.
    pub fn change(&self, manner: Arc<Manner>) {
        self.manner.replace(manner);
        self.tokens.forget();
    }

    /// What this thread counts of routes.
    #[must_use]
    pub fn recorder(&self) -> &Rc<Recorder> {
        &self.recorder
    }

    /// Answers one request that is not for `/__sumun/`.
    ///
    /// A request with a valid pass takes the short way: nothing is awaited but
    /// the origin. The future is moved with every request and held while the
    /// origin is at work: what has to ask the store is kept out of it by a box of
    /// its own, and what needs no waiting is done before it begins.
    pub fn answer(
        self: Rc<Self>,
        request: Request<ClientBody>,
        info: ConnectionInfo,
    ) -> impl Future<Output = Response<Logged<Body<Visit>>>> {
        let began = self.reception.clock.monotonic_ms();
        self.counts.in_flight.increment(1.0);
        let counted = Counted(self.counts.in_flight.clone());
        let site = self.site();
        let manner = self.manner.borrow();
        let visitor = manner
            .trusted
            .visitor(info.peer, info.tls, request.headers());
        let line = manner.access_log.as_ref().map(|log| {
            let said = (request.method(), request.uri().path(), request.version());
            LogLine::new(log, said, request.headers(), visitor.address)
                .called(manner.request_ids.as_ref(), request.headers())
        });
        drop(manner);
        let asker = Asker::new(&request, visitor, &self.last, began);
        let mut way = self.way(&site, &request, &asker);
        let known = way.done();
        let mut here = Unanswered {
            track: self.recorder.begin(known.event, asker.uri.path()),
            done: known,
            gateway: self,
            site,
            began_ms: began,
            line,
        };
        async move {
            if let Way::Doubt(doubt) = way {
                way = Box::pin(here.gateway.settle(*doubt, &request, &asker)).await;
            }
            if let Way::Seek(seeker) = way {
                way = Box::pin(here.gateway.seek(*seeker, &request, &asker)).await;
            }
            here.done = way.done();
            let (answer, done, through) = match way {
                Way::Own(answer, done) => (grpc::for_client(&asker, *answer), done, false),
                Way::Through(passage, done) => {
                    let through = here.gateway.through(request, &asker, passage, counted);
                    (through.await, done, true)
                }
                // Each was settled above.
                Way::Doubt(_) | Way::Seek(_) => (
                    own::notice(&asker, NoticeKind::UnknownKey, Some(3)),
                    done(None, "unsettled"),
                    false,
                ),
            };
            let (line, track) = here.answered(&asker, (done, through), answer.status());
            answer.map(|body| Logged::new(body, line, track))
        }
    }

    /// All events as they are now.
    fn site(&self) -> Here {
        let now = self.reception.site.load();
        let mut last = self.site.borrow_mut();
        if !Arc::ptr_eq(&now, &last) {
            *last = Rc::new(Arc::clone(&now));
            self.recorder
                .arrange(now.ledgers.iter().map(|ledger| &ledger.id));
            self.counts.requests.borrow_mut().clear();
        }
        Rc::clone(&last)
    }

    /// What is to be done with a request, as far as it can be told without
    /// asking the store.
    fn way(&self, site: &Site, request: &Request<ClientBody>, asker: &Asker) -> Way {
        let route = site.routes.find(&Asked {
            host: asker.host.as_deref(),
            path: request.uri().path(),
            query: request.uri().query(),
            method: request.method().as_str(),
            client: asker.visitor.address,
        });
        let (event, excluded) = match route {
            Route::UnknownHost => {
                let answer = own::notice(asker, NoticeKind::UnknownHost, None);
                return Way::own(answer, done(None, "unknown_host"));
            }
            Route::Ambiguous => {
                let text = "The path has more than one reading.\n";
                let answer = own::plain(StatusCode::BAD_REQUEST, text);
                return Way::own(answer, done(None, "ambiguous"));
            }
            Route::NoEvent => return Way::Through(Passage::default(), done(None, "no_event")),
            Route::Matched { event, excluded } => (event, excluded),
        };
        let Some(ledger) = site.ledgers.at(event) else {
            let text = "The event is being changed.\n";
            let answer = own::plain(StatusCode::SERVICE_UNAVAILABLE, text);
            return Way::own(answer, done(None, "changing"));
        };
        let at = At {
            event,
            ledger,
            excluded,
            now: ledger.now_at(asker.came_ms),
        };
        let held = self.credential(site, &at, request.headers(), asker);
        if held.pass.is_none() && !held.doubtful.is_empty() {
            return Way::Doubt(Box::new(Doubt {
                event,
                ledger: Arc::clone(ledger),
                excluded,
                held,
            }));
        }
        self.at_event(&at, held, request, asker)
    }

    /// The same, once the store was asked about passes past their time.
    async fn settle(&self, doubt: Doubt, request: &Request<ClientBody>, asker: &Asker) -> Way {
        let mut held = doubt.held;
        self.settle_doubts(&doubt.ledger, &mut held).await;
        let at = At {
            event: doubt.event,
            ledger: &doubt.ledger,
            excluded: doubt.excluded,
            now: doubt.ledger.now(),
        };
        self.at_event(&at, held, request, asker)
    }

    /// A request that an event covers.
    fn at_event(
        &self,
        at: &At<'_>,
        held: Held,
        request: &Request<ClientBody>,
        asker: &Asker,
    ) -> Way {
        let ledger = at.ledger;
        let settings = ledger.settings.load();
        let bypassed = is_bypassed(&settings, request.headers(), asker);
        let is_decoy = settings.bots.decoy() == Some(asker.uri.path());
        drop(settings);
        if bypassed || at.excluded {
            let stay = held.pass.map(|inside| inside.stay);
            if let Some(stay) = &stay {
                ledger.sessions.hear(stay, at.now);
            }
            let way = if bypassed { "bypass" } else { "excluded" };
            return Way::Through(Passage::uncounted(ledger, stay), at.done(way));
        }
        if is_decoy {
            return self.decoy(at, request, asker);
        }
        let credential = credential(ledger, &held, asker.kind);
        if credential == Credential::Nothing && asker.kind.is_navigation() {
            ledger.load.arrival(asker.came_ms);
        }
        let decision = decide(asker.kind, credential, || ledger.standing());
        let goes_through = matches!(decision, Decision::Inside | Decision::Uncounted);
        if held.only_unknown() && !goes_through {
            // Another gateway may know the key: the cookie must survive.
            let answer = own::notice(asker, NoticeKind::UnknownKey, Some(3));
            return Way::own(answer, at.done("unknown_key"));
        }
        if let (Decision::Inside, Some(inside)) = (&decision, &held.pass) {
            let brought = Brought {
                headers: request.headers(),
                visitor: &asker.visitor,
            };
            self.reception.count_there(ledger, inside, &brought, at.now);
        }
        match self.inspect(at, (&decision, held.ticket.is_some()), request, asker) {
            Ruling::TurnedAway(why) => {
                Way::own(self.reject(ledger, asker, &held, why), at.done("bot"))
            }
            ruling => self.carry_out(at, decision, held, (asker, ruling == Ruling::SentBack)),
        }
    }

    fn carry_out(
        &self,
        at: &At<'_>,
        decision: Decision,
        held: Held,
        (asker, is_sent_back): (&Asker, bool),
    ) -> Way {
        let ledger = at.ledger;
        match (decision, held.pass) {
            (Decision::Inside, Some(inside)) => {
                ledger.sessions.hear(&inside.stay, at.now);
                let carry = Carry {
                    by_header: held.by_header,
                    fresh: false,
                };
                self.within(at.event, ledger, asker, (inside, carry), "inside")
            }
            (Decision::Inside, None) => {
                self.lent(at.event, ledger, asker, held.neighbours.as_ref())
            }
            (Decision::Uncounted, _) => {
                Way::Through(Passage::uncounted(ledger, None), at.done("uncounted"))
            }
            (Decision::BusyProblem, _) => {
                Way::own(self.busy_problem(ledger, asker), at.done("busy"))
            }
            (Decision::BusyPlain, _) => Way::own(own::busy_plain(ledger), at.done("busy")),
            (Decision::Closed, _) => {
                // A ticket stays valid: its bearer is still there.
                if let Some(ticket) = &held.ticket {
                    ledger.heard.hear(ticket.number);
                }
                Way::own(own::closed(ledger, asker), at.done("closed"))
            }
            (Decision::Wait | Decision::Claim | Decision::Enter, _) => {
                Way::Seek(Box::new(Seeker {
                    event: at.event,
                    ledger: Arc::clone(ledger),
                    ticket: held.ticket,
                    former: held.former,
                    by_header: held.by_header,
                    is_sent_back,
                }))
            }
        }
    }
}

fn visit(in_flight: Option<InFlight>, in_use: Option<InUse>, counted: Counted) -> Visit {
    Visit {
        _in_flight: in_flight,
        in_use,
        _counted: counted,
    }
}

/// Sets a header of our own.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn body(text: impl Into<Bytes>) -> Body<Visit> {
    Body::Full(text.into())
}
