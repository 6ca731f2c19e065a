//! The front door: a request becomes a decision becomes an answer.
//!
//! One gateway per data thread. Everything about one request is read once
//! into an `Asker`, decided by `room::decision`, and answered by the origin
//! or by a page of our own (DESIGN §5).

mod asker;
mod own;
mod through;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use metrics::{Counter, Gauge, Histogram};

use crate::ledger::{InUse, Ledger};
use crate::load::InFlight;
use crate::metrics as names;
use crate::origin::{Body, Origin};
use crate::pages::NoticeKind;
use crate::reception::{Outcome, Reception, Site, TokenMemory, Who};
use crate::room::decision::{Credential, Decision, Kind, decide};
use crate::room::routes::{Asked, Route};
use crate::server::ConnectionInfo;
use crate::visitor::address::TrustedProxies;
use asker::{Asker, Held};
use through::Carry;

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
    /// Write a line for each request.
    pub access_log: bool,
}

/// One data thread's front door.
pub struct Gateway {
    reception: Arc<Reception>,
    manner: Arc<Manner>,
    origin: Origin,
    tokens: TokenMemory,
    counts: Counts,
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
    requests: RefCell<HashMap<RequestLabels, Counter>>,
}

/// What was done, for the metric and the log.
#[derive(Clone, Copy)]
struct Done {
    /// The event's place in the site's order.
    event: Option<usize>,
    decision: &'static str,
}

impl Gateway {
    /// A front door for this thread.
    #[must_use]
    pub fn new(reception: Arc<Reception>, manner: Arc<Manner>, origin: Origin) -> Self {
        let metrics = &reception.metrics;
        Self {
            counts: Counts {
                in_flight: metrics.gauge(&names::HTTP_IN_FLIGHT, &[]),
                duration: metrics.histogram(&names::HTTP_REQUEST_SECONDS, &[]),
                first_byte: metrics.histogram(&names::ORIGIN_FIRST_BYTE_SECONDS, &[]),
                requests: RefCell::default(),
            },
            reception,
            manner,
            origin,
            tokens: TokenMemory::default(),
        }
    }

    /// Answers one request that is not for `/__sumun/`.
    pub async fn answer(
        self: &Rc<Self>,
        request: Request<Incoming>,
        info: ConnectionInfo,
    ) -> Answer {
        let began = self.reception.clock.monotonic_ms();
        self.counts.in_flight.increment(1.0);
        let counted = Counted(self.counts.in_flight.clone());
        let site = self.reception.site.load_full();
        let line = self.manner.access_log.then(|| LogLine::of(&request));
        let (answer, done) = self.route(&site, request, info, counted).await;
        let took = self.reception.clock.monotonic_ms().saturating_sub(began);
        self.count(&site, done, answer.status(), took);
        if let Some(line) = line {
            line.write(&site, done, answer.status(), took);
        }
        answer
    }

    async fn route(
        self: &Rc<Self>,
        site: &Site,
        request: Request<Incoming>,
        info: ConnectionInfo,
        counted: Counted,
    ) -> (Answer, Done) {
        let visitor = self
            .manner
            .trusted
            .visitor(info.peer, info.tls, request.headers());
        let host = visitor
            .host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let route = site.routes.find(&Asked {
            host,
            path: request.uri().path(),
            query: request.uri().query(),
            method: request.method().as_str(),
            client: visitor.address,
        });
        let asker = Asker::new(&request, visitor);
        match route {
            Route::UnknownHost => (
                own::notice(&asker, NoticeKind::UnknownHost, None),
                done(None, "unknown_host"),
            ),
            Route::Ambiguous => (
                own::plain(
                    StatusCode::BAD_REQUEST,
                    "The path has more than one reading.\n",
                ),
                done(None, "ambiguous"),
            ),
            Route::NoEvent => {
                let visit = visit(None, None, counted);
                (
                    self.pass_through(request, &asker, None, visit).await,
                    done(None, "no_event"),
                )
            }
            Route::Matched { event, excluded } => {
                let Some(ledger) = site.ledgers.at(event) else {
                    return (
                        own::plain(
                            StatusCode::SERVICE_UNAVAILABLE,
                            "The event is being changed.\n",
                        ),
                        done(None, "changing"),
                    );
                };
                let (answer, decision) = self
                    .at_event(site, ledger, excluded, request, &asker, counted)
                    .await;
                (answer, done(Some(event), decision))
            }
        }
    }

    /// A request that an event covers.
    async fn at_event(
        self: &Rc<Self>,
        site: &Site,
        ledger: &Arc<Ledger>,
        excluded: bool,
        request: Request<Incoming>,
        asker: &Asker,
        counted: Counted,
    ) -> (Answer, &'static str) {
        let settings = ledger.settings.load();
        let header = request.headers().get(settings.bypass.header.as_str());
        let bypassed = settings
            .bypass
            .admits(asker.visitor.address, header.map(HeaderValue::as_bytes));
        drop(settings);
        let held = self
            .credential(site, ledger, request.headers(), asker)
            .await;
        if bypassed || excluded {
            let stay = held.pass.as_ref().map(|inside| &inside.stay);
            if let Some(stay) = stay {
                ledger.sessions.hear(stay, ledger.now());
            }
            let way = if bypassed { "bypass" } else { "excluded" };
            let answer = self.uncounted(ledger, request, asker, stay, counted).await;
            return (answer, way);
        }
        let standing = ledger.standing();
        let credential = match &held {
            Held { pass: Some(_), .. } => Credential::Pass,
            Held {
                neighbour: true, ..
            } if !asker.kind.is_navigation() => Credential::Pass,
            Held {
                ticket: Some(ticket),
                ..
            } => Credential::Ticket {
                called: ledger
                    .view()
                    .is_some_and(|view| ticket.number < view.snapshot.meta.called),
            },
            _ => Credential::Nothing,
        };
        if matches!(credential, Credential::Nothing) && asker.kind.is_navigation() {
            ledger.load.arrival(ledger.monotonic_ms());
        }
        let decision = decide(asker.kind, credential, standing);
        let goes_through = matches!(decision, Decision::Inside | Decision::Uncounted);
        if held.unknown_key && !goes_through {
            // Another gateway may know the key: the cookie must survive.
            return (
                own::notice(asker, NoticeKind::UnknownKey, Some(3)),
                "unknown_key",
            );
        }
        self.carry_out(ledger, decision, held, request, asker, counted)
            .await
    }

    async fn carry_out(
        self: &Rc<Self>,
        ledger: &Arc<Ledger>,
        decision: Decision,
        held: Held,
        request: Request<Incoming>,
        asker: &Asker,
        counted: Counted,
    ) -> (Answer, &'static str) {
        match decision {
            Decision::Inside => match held.pass {
                Some(inside) => {
                    ledger.sessions.hear(&inside.stay, ledger.now());
                    let carry = Carry {
                        by_header: held.by_header,
                        fresh: false,
                    };
                    (
                        self.inside(ledger, request, asker, inside, carry, counted)
                            .await,
                        "inside",
                    )
                }
                None => (
                    self.uncounted(ledger, request, asker, None, counted).await,
                    "neighbour",
                ),
            },
            Decision::Uncounted => (
                self.uncounted(ledger, request, asker, None, counted).await,
                "uncounted",
            ),
            Decision::BusyProblem => (self.busy_problem(ledger, asker), "busy"),
            Decision::BusyPlain => (own::busy_plain(ledger), "busy"),
            Decision::Closed => {
                // A ticket stays valid: its bearer is still there.
                if let Some(ticket) = &held.ticket {
                    ledger.heard.hear(ticket.number);
                }
                (own::closed(ledger, asker), "closed")
            }
            Decision::Wait | Decision::Claim | Decision::Enter => {
                let outcome = self.seek(ledger, &held, asker).await;
                self.give(ledger, outcome, held.by_header, request, asker, counted)
                    .await
            }
        }
    }

    /// A visitor who wants in, with or without a ticket.
    async fn seek(&self, ledger: &Arc<Ledger>, held: &Held, asker: &Asker) -> Outcome {
        let mut who = Who::stranger(Some(asker.scope(ledger)));
        if let Some(ticket) = &held.ticket {
            who = Who::bearer(ticket);
            if let Some(outcome) = self.reception.ask(ledger, ticket, &who).await {
                return outcome;
            }
        }
        let address = asker.visitor.address;
        self.reception.join(ledger, &who, address).await
    }

    async fn give(
        self: &Rc<Self>,
        ledger: &Arc<Ledger>,
        outcome: Outcome,
        by_header: bool,
        request: Request<Incoming>,
        asker: &Asker,
        counted: Counted,
    ) -> (Answer, &'static str) {
        match outcome {
            Outcome::Inside(inside) => {
                let carry = Carry {
                    by_header,
                    fresh: true,
                };
                let answer = self
                    .inside(ledger, request, asker, inside, carry, counted)
                    .await;
                (answer, "enter")
            }
            Outcome::Uncounted => (
                self.uncounted(ledger, request, asker, None, counted).await,
                "uncounted",
            ),
            Outcome::Waits(line) => (self.waiting_page(ledger, asker, &line, by_header), "wait"),
            Outcome::Blocked(blocked) => (own::blocked(ledger, asker, blocked), "block"),
        }
    }

    fn count(&self, site: &Site, done: Done, status: StatusCode, took_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a request's milliseconds")]
        self.counts.duration.record(took_ms as f64 / 1000.0);
        let key = (done.event, done.decision, status.as_u16());
        if let Some(counter) = self.counts.requests.borrow().get(&key) {
            return counter.increment(1);
        }
        let event = event_name(site, done);
        let labels = [
            ("event", event.as_str()),
            ("decision", done.decision),
            ("code", status.as_str()),
        ];
        let counter = self
            .reception
            .metrics
            .counter(&names::HTTP_REQUESTS, &labels);
        counter.increment(1);
        let mut requests = self.counts.requests.borrow_mut();
        // Places in the order change when events are made or deleted.
        if requests.len() > 1_000 {
            requests.clear();
        }
        requests.insert(key, counter);
    }
}

fn done(event: Option<usize>, decision: &'static str) -> Done {
    Done { event, decision }
}

fn event_name(site: &Site, done: Done) -> String {
    done.event
        .and_then(|index| site.ledgers.at(index))
        .map_or_else(|| "none".to_owned(), |ledger| ledger.id.to_string())
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

/// One request's line in the access log: never a query, a cookie or a token.
struct LogLine {
    method: http::Method,
    path: String,
}

impl LogLine {
    fn of<B>(request: &Request<B>) -> Self {
        const PATH_MAX: usize = 512;
        Self {
            method: request.method().clone(),
            path: request.uri().path().chars().take(PATH_MAX).collect(),
        }
    }

    fn write(&self, site: &Site, done: Done, status: StatusCode, took_ms: u64) {
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            event = event_name(site, done),
            decision = done.decision,
            ms = took_ms,
        );
    }
}

/// What a kind of client gets as an answer that is not a page.
fn wants_problem(kind: Kind) -> bool {
    kind == Kind::Api
}
