//! One origin as all threads share it: its settings, its addresses, and what is
//! under way to it. Requests only add to counts; nothing here is locked for them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::OwnedSemaphorePermit;

use super::names::{Names, Resolver};
use super::pool::Pool;
use super::settings::OriginSettings;
use super::slots::{Entry, Slots};
use super::{OriginError, check};
use crate::clock::Clock;

/// One origin, for all threads.
pub struct Remote {
    pub(crate) settings: OriginSettings,
    pub(crate) names: Names,
    pub(crate) slots: Option<Slots>,
    traffic: Arc<Traffic>,
}

/// What is under way to an origin; it outlives a change of its settings.
#[derive(Default)]
pub struct Traffic {
    in_flight: AtomicUsize,
    open: AtomicUsize,
    /// How waits for a connection ended, in the order of [`WAITS`].
    waits: [AtomicU64; 3],
}

/// How a wait for a connection may end.
pub const WAITS: [&str; 3] = ["served", "late", "crowded"];

/// A request on its way: it counts from the choice of the origin until its
/// answer (or its tunnel) has ended.
pub struct Underway {
    pub(crate) pool: Rc<Pool>,
    pub(crate) use_of_one: Option<OwnedSemaphorePermit>,
}

/// An open connection; it counts until its socket is closed.
pub(crate) struct Slot {
    remote: Arc<Remote>,
    _open: Option<OwnedSemaphorePermit>,
}

impl Traffic {
    /// Requests in flight, tunnels among them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many waits for a connection have ended in each way of [`WAITS`].
    pub fn waits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.waits.iter().map(|count| count.load(Ordering::Relaxed));
        WAITS.into_iter().zip(counts)
    }

    fn waited(&self, how: usize) {
        if let Some(count) = self.waits.get(how) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Remote {
    /// An origin of these settings. `traffic` is that of the same origin before
    /// its settings changed.
    #[must_use]
    pub fn new(
        settings: OriginSettings,
        (resolver, clock): (Resolver, Clock),
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            names: Names::new(
                (&settings.host, settings.port),
                settings.names_kept,
                resolver,
                clock,
            ),
            slots: (settings.connections > 0)
                .then(|| Slots::new(settings.connections, settings.connection_wait)),
            settings,
            traffic,
        }
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    /// Its addresses.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What is under way to it.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Most connections, if there is a limit.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        self.slots.as_ref().map(|slots| slots.limit)
    }

    /// How many requests wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.slots.as_ref().map_or(0, Slots::waiting)
    }

    /// Whether a request would have to wait for a connection.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.as_ref().is_some_and(Slots::is_full)
    }

    /// Asks the origin how it is, on a connection of its own: the status of the
    /// answer to a GET of `path`.
    ///
    /// # Errors
    /// When there is no answer within `limit`.
    pub async fn check(
        &self,
        path: &http::uri::PathAndQuery,
        limit: std::time::Duration,
    ) -> Result<http::StatusCode, OriginError> {
        check::ask(self, path, limit).await
    }

    /// The right to use a connection, where they are limited.
    pub(crate) async fn enter(&self, underway: &mut Underway) -> Result<(), OriginError> {
        if underway.use_of_one.is_none() {
            underway.use_of_one = self.turn().await?;
        }
        Ok(())
    }

    /// The same, apart from any request.
    pub(crate) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, OriginError> {
        let Some(slots) = &self.slots else {
            return Ok(None);
        };
        match slots.enter().await {
            Entry::Free(permit) => Ok(Some(permit)),
            Entry::Waited(permit) => {
                self.traffic.waited(0);
                Ok(Some(permit))
            }
            Entry::Late => {
                self.traffic.waited(1);
                Err(OriginError::NoConnectionFree)
            }
            Entry::Crowded => {
                self.traffic.waited(2);
                Err(OriginError::NoConnectionFree)
            }
        }
    }

    /// The right to open a connection.
    pub(crate) async fn slot(self: &Arc<Self>) -> Rc<Slot> {
        let open = match &self.slots {
            Some(slots) => slots.open().await,
            None => None,
        };
        self.traffic.open.fetch_add(1, Ordering::Relaxed);
        Rc::new(Slot {
            remote: Arc::clone(self),
            _open: open,
        })
    }
}

impl Underway {
    pub(crate) fn new(pool: &Rc<Pool>) -> Self {
        let in_flight = &pool.remote.traffic.in_flight;
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            pool: Rc::clone(pool),
            use_of_one: None,
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let in_flight = &self.pool.remote.traffic.in_flight;
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.remote.traffic.open.fetch_sub(1, Ordering::Relaxed);
    }
}
