//! The way to the customer's origin: one request out, one answer back, with every
//! duty of an intermediary (RFC 9110 §7) and as little work as that allows.
//! One [`Origin`] lives on each data thread; what threads share of it is a [`Remote`].

mod body;
mod check;
mod connect;
mod errand;
mod fault;
mod framing;
mod headers;
mod names;
mod pool;
mod remote;
mod secure;
mod settings;
mod slots;
mod tunnel;
mod two;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};

pub use body::{Body, Ending, OriginBody};
pub use errand::{Arrived, Errand, Setback};
pub use fault::{Broken, OriginError};
pub use names::{Names, Resolver, Script};
pub use remote::{Remote, Traffic, Underway, WAITS};
pub use rustls::pki_types::CertificateDer;
pub use secure::{OriginTls, Trust};
pub use settings::{HostHeader, InvalidOrigin, OriginSettings};
pub use tunnel::{Tunnel, TunnelEnd};
pub use two::is_grpc;

use crate::alarm::Ticker;
use crate::clock::Clock;
use crate::incoming::ClientBody;
use pool::Pool;

/// What was decided about one request before it is forwarded.
pub struct Forward {
    /// Who asks, as the origin shall see it.
    pub client: Client,
    /// Headers of our own, set after the client's spoofed ones are dropped.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What becomes of the `Cookie` header.
    pub cookie: Cookie,
}

/// Who asks: what the `X-Forwarded-*` headers say.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection, appended to `X-Forwarded-For`.
    pub peer: IpAddr,
    /// The same as a header's value.
    pub peer_label: HeaderValue,
    /// Whether the peer is a trusted proxy, whose own `X-Forwarded-*` and `Forwarded` stay.
    pub trusted: bool,
    /// Whether the visitor came by https.
    pub https: bool,
    /// The host that the visitor asked for, port included if it was named.
    pub host: Option<HeaderValue>,
    /// The port that the visitor came to.
    pub port: u16,
}

/// What becomes of the client's `Cookie` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// It goes on byte for byte.
    AsSent,
    /// It becomes this.
    Replaced(HeaderValue),
    /// Nothing was left of it.
    Removed,
}

/// An answer from the origin.
pub enum Forwarded<G> {
    /// An ordinary one.
    Response(Response<Body<G>>, Timing),
    /// Both sides leave HTTP: answer with the response and run the tunnel in a task of its own.
    Tunnel(Response<Body<G>>, Tunnel<G>),
}

/// How long the origin took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the beginning of forwarding to the head of the answer, connecting included.
    pub first_byte: Duration,
}

/// The origin, as one data thread sees it. Cloning is cheap.
#[derive(Clone)]
pub struct Origin {
    shared: Rc<Shared>,
}

struct Shared {
    pool: Rc<Pool>,
    pulse: Rc<Pulse>,
    ticker: Rc<Ticker>,
    first_byte: u32,
    idle: u32,
}

/// The coarse time of one data thread, for all its origins: deadlines are looked
/// at and unused connections lapse with each tick.
pub struct Pulse {
    ticker: Rc<Ticker>,
    pools: RefCell<Vec<Weak<Pool>>>,
}

impl Pulse {
    /// A pulse fast enough for these settings. Must be called inside a `LocalSet`,
    /// where it leaves a task that ends when the pulse is dropped.
    #[must_use]
    pub fn new(settings: &OriginSettings) -> Rc<Self> {
        let shortest = settings
            .first_byte
            .min(settings.idle)
            .min(settings.pool_idle);
        Self::each((shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1)))
    }

    /// The slowest pulse. Must be called inside a `LocalSet`.
    #[must_use]
    pub fn every_second() -> Rc<Self> {
        Self::each(Duration::from_secs(1))
    }

    fn each(tick: Duration) -> Rc<Self> {
        let pulse = Rc::new(Self {
            ticker: Ticker::new(tick),
            pools: RefCell::default(),
        });
        let watched = Rc::downgrade(&pulse);
        tokio::task::spawn_local(async move {
            let mut interval = tokio::time::interval(tick);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval.tick().await;
            loop {
                interval.tick().await;
                let Some(pulse) = watched.upgrade() else {
                    return;
                };
                pulse.beat();
            }
        });
        pulse
    }

    /// What counts the ticks.
    #[must_use]
    pub fn ticker(&self) -> &Rc<Ticker> {
        &self.ticker
    }

    fn beat(&self) {
        self.ticker.advance();
        self.pools.borrow_mut().retain(|pool| {
            let pool = pool.upgrade();
            if let Some(pool) = &pool {
                pool.expire();
            }
            pool.is_some()
        });
    }
}

impl Origin {
    /// The only origin, for this thread. Must be called inside a `LocalSet`, where
    /// it leaves a task that looks at deadlines until the last clone is dropped.
    #[must_use]
    pub fn new(settings: Arc<OriginSettings>) -> Self {
        let pulse = Pulse::new(&settings);
        let settings = Arc::unwrap_or_clone(settings);
        let remote = Remote::new(
            settings,
            (Resolver::System, Clock::system()),
            Arc::default(),
        );
        Self::on(&pulse, Arc::new(remote))
    }

    /// An origin that other threads use too, for this thread.
    #[must_use]
    pub fn on(pulse: &Rc<Pulse>, remote: Arc<Remote>) -> Self {
        let ticker = Rc::clone(&pulse.ticker);
        let (first_byte, idle) = (remote.settings.first_byte, remote.settings.idle);
        let pool = Pool::new(remote, Rc::clone(&ticker));
        pulse.pools.borrow_mut().push(Rc::downgrade(&pool));
        Self {
            shared: Rc::new(Shared {
                pool,
                pulse: Rc::clone(pulse),
                first_byte: ticker.ticks(first_byte),
                idle: ticker.ticks(idle),
                ticker,
            }),
        }
    }

    /// How many unused connections are kept at the moment.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.shared.pool.len()
    }

    /// What all threads share of it.
    #[must_use]
    pub fn remote(&self) -> &Arc<Remote> {
        &self.shared.pool.remote
    }

    /// Forwards one request, already checked by the server, and gives the head of
    /// the answer as soon as it is there. `guard` lives until the answer's body
    /// (or the tunnel) has ended. Dropping the future cancels the request.
    ///
    /// # Errors
    /// See [`OriginError`]; [`OriginError::status`] is what the client should get.
    pub async fn forward<G: 'static>(
        &self,
        request: Request<ClientBody>,
        forward: Forward,
        guard: G,
    ) -> Result<Forwarded<G>, OriginError> {
        let connect = self.remote().settings.connect;
        let ticker = self.shared.pulse.ticker();
        let Some(mut errand) = Errand::new(request, forward, ticker, connect) else {
            return Ok(Errand::last_forward());
        };
        let attempt = self.attempt(&mut errand, connect, self.begin());
        let arrived = attempt.await.map_err(Setback::into_fault)?;
        self.settle(&mut errand, arrived, guard)
    }
}
