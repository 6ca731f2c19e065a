//! The whole server from a configuration: the control thread with the store,
//! the controllers and the admin door, and the data threads that serve
//! visitors.

mod bots;
mod certificates;
mod force;
mod keys;
pub mod log;
mod memory;
mod open;
mod origins;
mod regions;
pub mod reload;
mod statistics;
mod threads;
mod turn;
mod visitors;

use force::Helm;
pub use keys::fresh_secret;
use memory::Kept;
use origins::Planner;
pub use reload::Reload;
use statistics::Statistician;
use threads::Steering;
pub use turn::take_over;
use turn::{Lock, Step};

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::api::admin::AdminDoor;
use crate::catalog::{Base, Catalog};
use crate::clock::Clock;
use crate::config::{Config, OnFailure, StoreUrl};
use crate::controller::Bench;
use crate::gateway::{AccessLog, Manner};
use crate::metrics::{self as names, Metrics};
use crate::origin::Resolver;
use crate::origins::{Fleet, Keeper};
use crate::reception::Reception;
use crate::server;
use crate::store::StoreError;
use crate::tls::{self, Front};
use crate::token::{KeyError, Keyring};
use crate::visitor::address::InvalidProxies;
use crate::visitor::region::{self, Regions};

/// How long the first look at the store may take before the server goes on
/// without it.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Why the server could not start, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error(
        "{0}: cannot listen on {1}: {2}; choose another address or end the process that is there; a port below 1024 needs CAP_NET_BIND_SERVICE"
    )]
    Listen(&'static str, SocketAddr, std::io::Error),
    /// The origin's URL cannot be used.
    #[error("origin: {0}")]
    Origin(String),
    /// The state directory cannot be used.
    #[error("state_dir {0}: {1}; make it writable, or set state_dir = \"\" to keep nothing")]
    State(PathBuf, std::io::Error),
    /// Another process lives in the state directory: both would write one
    /// state, and number visitors under one name.
    #[error(
        "state_dir {0}: another sumun uses it; give each one a folder of its own, or wait until that one has stopped"
    )]
    StateInUse(PathBuf),
    /// A signing key cannot be used.
    #[error("signing.keys: {0}")]
    Key(#[from] KeyError),
    /// A certificate or its key cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] tls::Fault),
    /// TLS cannot be spoken as the settings say.
    #[error("tls.min_version: TLS cannot be set up so: {0}")]
    Versions(#[from] rustls::Error),
    /// A database of regions or networks cannot be used.
    #[error("visitor: {0}")]
    Region(#[from] region::Fault),
    /// The proxies cannot be read.
    #[error("trusted_proxies: {0}")]
    Proxies(#[from] InvalidProxies),
    /// The store cannot be used at all.
    #[error("store.url: {0}")]
    Store(StoreError),
    /// A thread could not be started.
    #[error("a data thread cannot start: {0}")]
    Thread(std::io::Error),
}

/// The open doors.
pub struct Listeners {
    /// The public door, one listener per data thread.
    pub public: Vec<TcpListener>,
    /// The admin door.
    pub admin: TcpListener,
    /// The metrics' own door.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Opens the doors that a configuration names.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn open(config: &Config) -> Result<Self, RunError> {
        let public = Self::public(config)?;
        let (admin, metrics) = Self::others(config)?;
        Ok(Self {
            public,
            admin,
            metrics,
        })
    }

    fn public(config: &Config) -> Result<Vec<TcpListener>, RunError> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let taken = server::is_taken(config.listen);
        let public = server::listen(config.listen, threads)
            .map_err(|fault| RunError::Listen("listen", config.listen, fault))?;
        if taken {
            warn!(
                listen = %config.listen,
                "another process listens at this address too, and the system spreads visitors over both: right while this one takes its place, wrong for two gateways of different settings"
            );
        }
        Ok(public)
    }

    /// The admin door, and the metrics' own. One listener each: a second process at the
    /// same admin address is a mistake, not a replica.
    fn others(config: &Config) -> Result<(TcpListener, Option<TcpListener>), RunError> {
        let one = |key, address| {
            let listener = TcpListener::bind(address);
            let listener = listener.and_then(|l| l.set_nonblocking(true).map(|()| l));
            listener.map_err(|fault| RunError::Listen(key, address, fault))
        };
        let metrics = config.metrics.listen;
        let metrics = metrics.map(|address| one("metrics.listen", address));
        Ok((
            one("admin.listen", config.admin.listen)?,
            metrics.transpose()?,
        ))
    }

    /// Where the public door is, its port included if the system chose it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        let first = self.public.first().ok_or(std::io::ErrorKind::NotFound)?;
        first.local_addr()
    }

    /// Where the admin door is.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }
}

/// What the running server is made of, for those who look at it from inside
/// the process.
#[derive(Clone)]
pub struct Running {
    /// The reception: events, readiness, metrics.
    pub reception: Arc<Reception>,
    /// The events.
    pub catalog: Arc<Catalog>,
}

/// Runs the server until `shutdown` resolves and what ran has finished.
/// `reload` brings a new configuration whenever the file has changed. Must be
/// called on a Tokio runtime, which becomes the control thread.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    config: Config,
    listeners: Listeners,
    reload: tokio::sync::mpsc::Receiver<Reload>,
    shutdown: impl Future<Output = ()>,
    tell: impl FnOnce(Running),
) -> Result<(), RunError> {
    let (parts, planner) = Parts::build(&config).await?;
    let (drain, draining) = watch::channel(false);
    let steering = Steering::new(&config, &parts);
    let data = threads::start(&parts, &steering, listeners.public, &draining)?;
    let admin = Arc::new(AdminDoor::new(
        &config,
        Arc::clone(&parts.reception),
        Arc::clone(&parts.catalog),
        Arc::clone(&parts.fleet),
    ));
    let doors = [Some(listeners.admin), listeners.metrics]
        .into_iter()
        .enumerate()
        .filter_map(|(index, listener)| {
            let router = if index == 0 {
                admin.router()
            } else {
                admin.metrics_router()
            };
            listener.map(|listener| serve_admin(listener, router))
        });
    let mut tasks: Vec<_> = doors.map(tokio::spawn).collect();
    let catalog = Arc::clone(&parts.catalog);
    tasks.push(tokio::spawn(async move { catalog.run().await }));
    tasks.push(tokio::spawn(upkeep(Arc::clone(&parts.reception))));
    let statistician = Arc::new(Statistician::new(&parts.bench, &parts.reception));
    tasks.push(statistician.begin());
    tasks.push(tokio::spawn(Keeper::new(Arc::clone(&parts.fleet)).run()));
    let origins: Vec<String> = config.origins.iter().map(ToString::to_string).collect();
    let (listen, events) = (config.listen, config.events.len());
    let helm = Arc::new(Mutex::new(Helm {
        runs: config,
        planner,
        fleet: Arc::clone(&parts.fleet),
        bench: Arc::clone(&parts.bench),
        catalog: Arc::clone(&parts.catalog),
        reception: Arc::clone(&parts.reception),
        front: parts.front.clone(),
        admin,
        threads: steering,
    }));
    let (looks, watching) = watch_files(&parts);
    tasks.extend(watching);
    let steered = force::reloads(reload, Arc::clone(&helm), looks);
    tasks.push(tokio::spawn(steered));
    if let Some(kept) = &parts.kept {
        tasks.push(tokio::spawn(Arc::clone(kept).keep()));
    }
    parts.reception.set_ready();
    tell(parts.running());
    info!(%listen, origins = %origins.join(", "), events, "sumun is ready");
    shutdown.await;
    parts.drain(&helm, &drain, data).await;
    for task in tasks {
        task.abort();
    }
    statistician.finish().await;
    parts.save();
    info!("sumun has stopped");
    Ok(())
}

/// What the control thread holds.
struct Parts {
    bench: Arc<Bench>,
    reception: Arc<Reception>,
    catalog: Arc<Catalog>,
    kept: Option<Arc<Kept>>,
    /// Keeps other processes out of the state directory.
    state_lock: Option<Lock>,
    manner: Arc<Manner>,
    fleet: Arc<Fleet>,
    front: Option<Arc<Front>>,
}

impl Parts {
    async fn build(config: &Config) -> Result<(Self, Planner), RunError> {
        open::files(config.limits.connections);
        let state_dir = config.state_dir.as_deref();
        let state_lock = state_dir.map(Lock::take).transpose()?;
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::default());
        let secrets = keys::secrets(config)?;
        let keyring = Keyring::new(keys::signing(&secrets)?);
        let regions = Arc::new(Regions::open(&config.visitor.files())?);
        let wanted = force::wanted(config, regions, &secrets);
        let secrets = secrets.into_iter().map(|(_, secret)| secret);
        let mut planner = Planner::new(secrets.collect());
        let fleet = Fleet::new(
            planner.plan(config)?,
            clock.clone(),
            Arc::clone(&metrics),
            Resolver::System,
        );
        let gateway = keys::gateway_name(state_dir)?;
        let front = certificates::open(config)?;
        let (store, memory) = open::store(config, &clock).await?;
        let bench = Arc::new(Bench {
            store: store.measured(Arc::clone(&metrics)),
            gateway,
            keys: ArcSwap::from_pointee(keyring.ids()),
            config: ArcSwap::from_pointee(config.hash()),
            metrics: Arc::clone(&metrics),
            catalog_read: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        });
        describe(&metrics, &bench.config.load());
        let reception = Arc::new(Reception::new(keyring, metrics, clock));
        reception.tracker.change(force::tracking(config));
        reception.wanted.store(Arc::new(wanted));
        let catalog = Catalog::new(Arc::clone(&bench), Arc::clone(&reception), base(config));
        let catalog = Arc::new(catalog);
        let kept = open::kept(config, memory, &catalog).map(Arc::new);
        first_look(&reception, &catalog).await;
        if let Some(kept) = &kept
            && let Err(fault) = kept.save()
        {
            error!(%fault, "the state cannot be written to state_dir");
        }
        let access_log = AccessLog::open(&config.log, &reception.metrics, &reception.clock);
        let parts = Self {
            manner: Arc::new(force::manner(config, force::trusted(config)?, access_log)),
            fleet: Arc::new(fleet),
            bench,
            reception,
            catalog,
            kept,
            state_lock,
            front,
        };
        Ok((parts, planner))
    }

    fn running(&self) -> Running {
        Running {
            reception: Arc::clone(&self.reception),
            catalog: Arc::clone(&self.catalog),
        }
    }

    fn save(&self) {
        if let Some(kept) = &self.kept
            && let Err(fault) = kept.save().and_then(|()| kept.save_statistics())
        {
            error!(%fault, "the state cannot be written to state_dir");
        }
    }

    fn tell_next(&self, step: Step) {
        if let Some(lock) = &self.state_lock {
            lock.tell(step);
        }
    }

    /// Not ready at once, accepting for `drain_delay`, then what runs may
    /// finish within `drain_timeout`.
    async fn drain(
        &self,
        helm: &Mutex<Helm>,
        drain: &watch::Sender<bool>,
        data: Vec<std::thread::JoinHandle<()>>,
    ) {
        self.reception.set_draining();
        self.bench.leaving.store(true, Ordering::Release);
        let (delay, handshakes, timeout) = {
            let helm = helm.lock().unwrap_or_else(PoisonError::into_inner);
            helm.part();
            let runs = &helm.runs;
            (runs.drain_delay, handshakes(runs), runs.drain_timeout)
        };
        info!(?delay, "draining: not ready, still accepting");
        self.tell_next(Step::Leaving);
        tokio::time::sleep(delay.saturating_sub(handshakes)).await;
        self.tell_next(Step::Closing);
        let _ = drain.send(true);
        let reception = Arc::clone(&self.reception);
        // Tunnels have half of the time to end by themselves.
        let tunnels = handshakes + timeout / 2;
        let closing = tokio::spawn(async move {
            tokio::time::sleep(tunnels).await;
            reception.set_closing();
        });
        let joined = tokio::task::spawn_blocking(move || {
            for thread in data {
                if thread.join().is_err() {
                    error!("a data thread broke off");
                }
            }
        });
        if joined.await.is_err() {
            error!("the data threads could not be waited for");
        }
        let log = {
            let helm = helm.lock().unwrap_or_else(PoisonError::into_inner);
            helm.threads.manner().access_log.clone()
        };
        if let Some(log) = log {
            let _ended = tokio::task::spawn_blocking(move || log.finish()).await;
        }
        closing.abort();
    }
}

/// Keeps fresh what stands in files of its own: what to ring for a look before its
/// time, and who looks.
fn watch_files(parts: &Parts) -> ([Arc<Notify>; 2], Vec<JoinHandle<()>>) {
    let looks: [Arc<Notify>; 2] = Default::default();
    let [certificates, databases] = &looks;
    let reception = Arc::clone(&parts.reception);
    let regions = regions::keep(reception, Arc::clone(databases));
    let mut watching = vec![tokio::spawn(regions), bots::begin(parts)];
    if let Some(front) = &parts.front {
        let metrics = Arc::clone(&parts.bench.metrics);
        let certificates = Arc::clone(certificates);
        let certificates = certificates::keep(Arc::clone(front), metrics, certificates);
        watching.push(tokio::spawn(certificates));
    }
    (looks, watching)
}

fn base(config: &Config) -> Base {
    Base {
        written: config.written_events.clone(),
        events: config.events.clone(),
        pass_hosts: config.pass_hosts.clone(),
        on_failure: match config.store.url {
            // It is never away: nothing need be kept for that time.
            StoreUrl::Memory => OnFailure::Hold,
            StoreUrl::Redis(_) => config.store.on_failure,
        },
    }
}

/// Waits until every event was looked at once; a store that is away does not
/// keep the server from starting.
async fn first_look(reception: &Reception, catalog: &Catalog) {
    let look = async {
        if let Err(fault) = catalog.refresh().await {
            warn!(%fault, "starting without the store");
            return;
        }
        while reception
            .site
            .load()
            .ledgers
            .iter()
            .any(|ledger| ledger.view().is_none_or(|view| !view.store_up))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(FIRST_LOOK, look).await.is_err() {
        warn!("starting without the store: it did not answer in time");
        catalog.settle_without_store();
    }
}

/// The end of `drain_delay`, in which newcomers are kept for who listens next while
/// handshakes end: a round trip around the world, and less than the second after which
/// who was kept away asks again.
const HANDSHAKES: Duration = Duration::from_millis(500);

fn handshakes(config: &Config) -> Duration {
    HANDSHAKES.min(config.drain_delay)
}

fn describe(metrics: &Metrics, config: &str) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.gauge(&names::BUILD_INFO, &version).set(1.0);
    metrics
        .gauge(&names::CONFIG_INFO, &[("hash", config)])
        .set(1.0);
    metrics.gauge(&names::CONFIG_RELOADED, &[]).set(1.0);
}

async fn serve_admin(listener: TcpListener, router: axum::Router) {
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, router).await
    };
    if let Err(fault) = served.await {
        error!(%fault, "the admin door is shut");
    }
}

async fn upkeep(reception: Arc<Reception>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        reception.metrics.upkeep();
        let now_ms = reception.clock.monotonic_ms();
        for (kind, passed_over) in reception.complaints.overdue(now_ms) {
            warn!(
                kind,
                passed_over, "the origin did not answer, so many times more"
            );
        }
    }
}
