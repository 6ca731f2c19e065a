//! What a visitor gets: a pass, a place in line, or a reason why not.
//!
//! The front door and the API both come here, so that a place and a pass mean
//! the same however they were asked for.

mod admission;
mod arrivals;
mod bearer;
mod complaints;
mod held;
mod inspection;
mod joins;
mod memory;
mod outcome;
mod page;
mod share;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use admission::inside;
pub use arrivals::{Brought, Newcomer, Users, Wanted};
pub use bearer::{Bearer, Who};
pub use complaints::Complaints;
pub use inspection::{Ruling, Suspect};
pub use joins::Joins;
pub use memory::{Known, TokenMemory};
pub use outcome::{Blocked, Inside, Line, Outcome};
pub use page::render;

use self::admission::{bearer_of, count_wait, let_in, let_in_from_line, session_of};
use crate::bots::Watch;
use crate::clock::Clock;
use crate::ledger::{Ledger, Ledgers, View};
use crate::metrics::Metrics;
use crate::room::estimate;
use crate::room::event::Mode;
use crate::room::routes::Routes;
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::{Timestamp, millis};
use crate::store::{Claim, Claimed, Entered, Entrant, LetIn};
use crate::token::{
    Keyring, Pass, SUCCESS_SECONDS, Success, TICKET_SECONDS, Ticket, Token, is_over,
};
use crate::tracking::Tracker;

/// Polls are spread by this share of their interval, either way.
const JITTER: f64 = 0.15;

/// A visitor who is called and held is asked to come back after this.
const HELD: Duration = Duration::from_secs(1);

/// The first in line may be called at any moment, and an offer stands for
/// five seconds: so many of them...
const FRONT: u64 = 8;

/// ...look again at least this often, spread included within the offer.
const FRONT_POLL: Duration = Duration::from_secs(3);

/// All events, and which requests they cover.
#[derive(Default)]
pub struct Site {
    /// The events.
    pub ledgers: Ledgers,
    /// Which requests they cover; indexes are those of the ledgers' order.
    pub routes: Routes,
}

/// What all doors share.
pub struct Reception {
    /// The events; replaced whole when they change.
    pub site: ArcSwap<Site>,
    /// The signing keys.
    pub keyring: Keyring,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// This machine's clock.
    pub clock: Clock,
    /// Newcomers per address.
    pub joins: Joins,
    /// Warnings about the origin.
    pub complaints: Complaints,
    /// Routes, and what is counted of them.
    pub tracker: Arc<Tracker>,
    /// What is counted of visitors.
    pub wanted: ArcSwap<Wanted>,
    /// What is known of those who may be no visitors.
    pub bots: Watch,
    held: held::Held,
    ready: AtomicBool,
    draining: AtomicBool,
    closing: AtomicBool,
}

impl Reception {
    /// A reception without events.
    #[must_use]
    pub fn new(keyring: Keyring, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            site: ArcSwap::default(),
            keyring,
            metrics,
            clock,
            joins: Joins::default(),
            complaints: Complaints::default(),
            tracker: Arc::default(),
            wanted: ArcSwap::default(),
            bots: Watch::default(),
            held: held::Held::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// Ready to serve: every event was looked at once, or the store is away,
    /// and the server does not drain.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire)
    }

    /// Every event was looked at, or the store is known to be away.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The server begins to drain.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The drain is over: what is left, such as tunnels, ends.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends what outlives the drain.
    pub fn set_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// A newcomer from `address`: let in or given a place, unless too many
    /// came from there while there is a line.
    pub async fn join(&self, ledger: &Arc<Ledger>, who: &Who, address: IpAddr) -> Outcome {
        let settings = ledger.settings.load();
        let per_minute = settings.joins_per_address_per_minute;
        let is_counted = ledger.standing().busy || ledger.lets_all_in();
        let is_counted = is_counted && !settings.is_shared(address);
        drop(settings);
        if is_counted && !self.joins.allow(&ledger.id, per_minute, address) {
            return Outcome::Blocked(Blocked::RateLimited);
        }
        let outcome = self.enter(ledger, who).await;
        if let Outcome::Inside(inside) = &outcome {
            share::begins_from(ledger, &inside.stay, address);
        }
        outcome
    }

    /// Lets a newcomer in or gives a place.
    pub async fn enter(&self, ledger: &Arc<Ledger>, who: &Who) -> Outcome {
        if let Some(blocked) = full(ledger) {
            return Outcome::Blocked(blocked);
        }
        let entrant = Entrant {
            session: SessionKey(rand::random()),
            id: who.id,
        };
        match ledger.desk.enter(entrant).await {
            Ok(Entered::Session {
                key,
                begun,
                expires,
            }) => {
                ledger.counts.walk_ins.increment(1);
                Outcome::Inside(inside(ledger, who, key, begun, expires))
            }
            Ok(Entered::Ticket { number }) => {
                ledger.stands_alone(number);
                ledger.counts.tickets.increment(1);
                Outcome::Waits(self.first(ledger, who, number))
            }
            Ok(Entered::Closed) => Outcome::Blocked(Blocked::Closed),
            Err(_) => self.enter_without_store(ledger, who),
        }
    }

    /// The store is away (`store.on_failure`): the gateway numbers by itself, or lets in.
    fn enter_without_store(&self, ledger: &Arc<Ledger>, who: &Who) -> Outcome {
        let visitor = LetIn {
            session: SessionKey(rand::random()),
            number: None,
            proven: false,
            until: Timestamp(0),
            id: who.id,
        };
        if let Some(inside) = let_in(ledger, who, visitor) {
            ledger.counts.walk_ins.increment(1);
            return inside;
        }
        let mode = ledger.settings.load().mode;
        if !ledger.can_queue() || matches!(mode, Mode::Off | Mode::Shadow) {
            return Outcome::Uncounted;
        }
        let Some(number) = ledger.number_without_store() else {
            return Outcome::Blocked(Blocked::RateLimited);
        };
        ledger.heard.hear(number);
        ledger.stands_alone(number);
        ledger.counts.tickets.increment(1);
        Outcome::Waits(self.first(ledger, who, number))
    }

    /// A new place in line.
    fn first(&self, ledger: &Arc<Ledger>, who: &Who, number: Number) -> Line {
        let ticket = place_of(ledger, who, number);
        let mut line = self.line(ledger, &ticket, true);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "waits are positive and far below 2^53 seconds"
        )]
        let estimate = line.wait.map(|wait| wait.seconds.min(1e9) as u64);
        line.ticket.estimate = estimate;
        line
    }

    /// Where a ticket stands now, re-signed with what is shown. `first` is the
    /// answer that gives the place.
    #[must_use]
    pub fn line(&self, ledger: &Arc<Ledger>, ticket: &Ticket, first: bool) -> Line {
        let now = ledger.now();
        let window = ledger.window();
        let Some(view) = ledger.view() else {
            return Self::unknown(ticket, now, first, window);
        };
        let called = ticket.number < view.snapshot.meta.called;
        let place = view.place(ticket.number);
        // A position once shown never grows.
        let position = ticket
            .position
            .map_or(place.position, |shown| shown.min(place.position));
        let wait = view.wait(position).filter(|_| !called);
        let poll_after = if called && view.store_up {
            HELD
        } else {
            let usual = view.poll_after(wait, position, first, window);
            spread(if position <= FRONT {
                usual.min(FRONT_POLL)
            } else {
                usual
            })
        };
        Line {
            ticket: Ticket {
                issued_at: now.seconds(),
                expires: now.seconds() + TICKET_SECONDS,
                position: Some(position),
                called,
                next_poll: now.plus(poll_after).seconds(),
                ..ticket.clone()
            },
            behind: Some(place.behind),
            about: place.about,
            wait,
            poll_after,
            degraded: !view.store_up,
            shared: false,
        }
    }

    fn unknown(ticket: &Ticket, now: Timestamp, first: bool, window: Duration) -> Line {
        let position = ticket.position.unwrap_or_default();
        let poll_after = spread(estimate::poll_after(None, position, 1, first, window));
        Line {
            ticket: Ticket {
                next_poll: now.plus(poll_after).seconds(),
                ..ticket.clone()
            },
            behind: None,
            about: true,
            wait: None,
            poll_after,
            degraded: true,
            shared: false,
        }
    }

    /// A ticket asks: heard from, and let in when it was called. `None` when
    /// it is worth nothing any more: used, or called too long ago.
    ///
    /// Polls of tickets that are not called end here: nothing is worked out
    /// for them that only a claim needs.
    pub async fn ask(
        &self,
        ledger: &Arc<Ledger>,
        ticket: &Ticket,
        named: Option<&Who>,
        from: IpAddr,
    ) -> Option<Outcome> {
        ledger.heard.hear(ticket.number);
        self.count_waiting(ledger, ticket);
        if ledger.store_is_away()
            && let Some(inside) = let_in_from_line(ledger, ticket, named)
        {
            return Some(inside);
        }
        let open = matches!(
            ledger.settings.load().mode,
            Mode::Auto | Mode::Queue | Mode::Pause
        );
        let is_called = ledger
            .view()
            .is_some_and(|view| ticket.number < view.snapshot.meta.called);
        if open && !is_called {
            return Some(Outcome::Waits(self.line(ledger, ticket, false)));
        }
        if open && let Some(line) = self.over_its_share(ledger, ticket, from) {
            return Some(Outcome::Waits(line));
        }
        let now_ms = ledger.monotonic_ms();
        if self.held.lately(&ledger.id, ticket.number, now_ms) {
            return Some(Outcome::Waits(self.line(ledger, ticket, false)));
        }
        let session = session_of(ticket);
        let who = bearer_of(ticket, named);
        let claim = Claim {
            number: ticket.number,
            session,
            id: who.id,
        };
        Some(match ledger.desk.claim(claim).await {
            Ok(Claimed::Admitted { expires, fresh }) => {
                ledger.heard.spend(ticket.number);
                let begun = if fresh {
                    let now = ledger.now();
                    count_wait(ledger, ticket, now);
                    now
                } else {
                    // It began elsewhere, or at a claim whose reply was lost: after
                    // the last answer that gave this ticket, and not long after.
                    Timestamp(ticket.issued_at.saturating_mul(1000))
                };
                let inside = inside(ledger, &who, session, begun, expires);
                share::begins_from(ledger, &inside.stay, from);
                Outcome::Inside(inside)
            }
            Ok(Claimed::Spent | Claimed::TooLate) => return None,
            Ok(Claimed::Held) => {
                self.held.note(&ledger.id, ticket.number, now_ms);
                Outcome::Waits(self.line(ledger, ticket, false))
            }
            Ok(Claimed::NotYet) | Err(_) => Outcome::Waits(self.line(ledger, ticket, false)),
        })
    }

    /// Signs a ticket or a pass.
    #[must_use]
    pub fn sign(&self, ledger: &Ledger, token: &Token) -> Option<String> {
        let view = ledger.view();
        let shared = view.as_ref().map_or(&[][..], |view| &view.shared_keys);
        self.keyring.sign(token, shared)
    }

    /// The same right as a pass, for other servers.
    #[must_use]
    pub fn success(&self, ledger: &Ledger, pass: &Pass) -> Option<String> {
        let now = ledger.unix_seconds();
        let success = Success {
            event: pass.event.clone(),
            visitor: pass.visitor.clone(),
            issued_at: now,
            expires: now + SUCCESS_SECONDS,
            session: pass.session,
            begun: pass.begun,
        };
        self.sign(ledger, &Token::Success(success))
    }

    /// Whether a ticket is a place in this event's line as it is now. A valid
    /// one that is older than all that the store knows tells of a loss.
    #[must_use]
    pub fn is_good(&self, ledger: &Ledger, ticket: &Ticket) -> bool {
        let view = ledger.view();
        // The store's clock may have been set back since it was issued.
        let issued = view.as_ref().map(|view| view.snapshot.meta.issued);
        let near = issued.map(|issued| Number::restart(issued.unix_second() * 1000));
        let known = near.is_some_and(|near| ticket.number < near);
        let plausible = known || ticket.number.is_plausible(ledger.unix_seconds());
        if is_over(ticket.expires, ledger.now()) || !plausible {
            return false;
        }
        let Some(view) = view else {
            return true;
        };
        let meta = &view.snapshot.meta;
        doubt(ledger, &view, ticket.since);
        // A reset puts the floor above every place that it made void. A number
        // above it was given after the reset, though under an older name: by a
        // gateway that had not heard of it yet.
        ticket.generation == meta.generation || ticket.number >= meta.floor()
    }
}

/// The cookie scope of an event at a host in normal form.
#[must_use]
pub fn scope(ledger: &Ledger, host: Option<&str>) -> String {
    let settings = ledger.settings.load();
    let domain = settings.cookie.domain.as_deref();
    domain.or(host).unwrap_or_default().to_owned()
}

/// Whether a token of this scope belongs to an event at a host in normal form.
#[must_use]
pub fn is_in_scope(ledger: &Ledger, host: Option<&str>, scope: &str) -> bool {
    let settings = ledger.settings.load();
    let domain = settings.cookie.domain.as_deref();
    domain.or(host).unwrap_or_default() == scope
}

fn doubt(ledger: &Ledger, view: &View, since: u64) {
    let meta = &view.snapshot.meta;
    if view.store_up
        && meta.recoveries == 0
        && since.saturating_mul(1000) < meta.born_at.0.saturating_sub(1000)
    {
        ledger.doubt.notify_one();
    }
}

/// Whether the line takes nobody more.
fn full(ledger: &Ledger) -> Option<Blocked> {
    let view = ledger.view()?;
    let most = ledger.settings.load().waiting_max;
    (view.is_busy() && view.waiting() >= most).then_some(Blocked::Full)
}

/// The place in line that the store names: of an id whose ticket was not brought.
#[must_use]
pub fn place_of(ledger: &Ledger, who: &Who, number: Number) -> Ticket {
    let now = ledger.now().seconds();
    let view = ledger.view();
    Ticket {
        event: ledger.id.clone(),
        scope: who.scope.clone(),
        visitor: who.visitor.clone(),
        issued_at: now,
        expires: now + TICKET_SECONDS,
        number,
        generation: view
            .as_ref()
            .map(|view| view.snapshot.meta.generation)
            .unwrap_or_default(),
        position: None,
        called: false,
        next_poll: now,
        since: now,
        estimate: None,
    }
}

fn spread(interval: Duration) -> Duration {
    let factor = 1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>();
    Duration::from_millis(millis(interval.mul_f64(factor)))
}
