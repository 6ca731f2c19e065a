//! The data threads: each with a runtime, a listener, an origin pool and a
//! front door of its own. Nothing there needs a lock.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use http::request::Parts as Head;
use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::{error, warn};

use super::{Parts, RunError};
use crate::api::queue::PublicDoor;
use crate::config::{self, Config};
use crate::gateway::{Gateway, LogLine, Logged, Manner};
use crate::incoming::ClientBody;
use crate::metrics as names;
use crate::origin::Body;
use crate::origins::{Fleet, Origins};
use crate::reception::{Complaints, Reception};
use crate::room::paths::{Readings, covers, readings};
use crate::server::{self, Places, Settings};
use crate::tracking::{Recorder, Track};
use crate::visitor::address::TrustedProxies;
use crate::visitor::request_id::RequestIds;

/// The prefix of everything that is ours.
const OURS: &[u8] = b"/__sumun";

/// Told at most once in ten seconds.
const NO_HEADER: &str = "a connection from one of trusted_proxies began without a good PROXY \
    header and was closed: is proxy_protocol meant to be on, and the balancer to send it?";

/// How often a thread tells what it has counted of routes.
const TELL: Duration = Duration::from_secs(1);

/// What all data threads go by, and how each of them is told of what changes.
pub(super) struct Steering {
    places: Places,
    server: watch::Sender<Arc<Settings>>,
    desk: watch::Sender<Arc<Terms>>,
}

/// What requests are met with; each thread has its own of all that it needs for each.
struct Terms {
    manner: Arc<Manner>,
    api: config::Api,
}

impl Steering {
    /// What the first configuration says.
    pub(super) fn new(config: &Config, parts: &Parts) -> Self {
        let (all, each) = limits(config);
        let reception = Arc::clone(&parts.reception);
        let complaints = Complaints::default();
        let desk = watch::Sender::new(Arc::new(Terms {
            manner: Arc::clone(&parts.manner),
            api: config.api.clone(),
        }));
        let now = desk.subscribe();
        let settings = Settings {
            on_refused_request: Some(Arc::new(move |head: &Head, info, refusal| {
                log_refused(&now.borrow().manner, head, info, refusal);
            })),
            on_refusal: Some(Arc::new(move |reason| {
                let counter = reception
                    .metrics
                    .counter(&names::REFUSALS, &[("reason", reason)]);
                counter.increment(1);
                if reason == "proxy_protocol"
                    && let Some(passed_over) =
                        complaints.note(reason, reception.clock.monotonic_ms())
                {
                    warn!(passed_over, "{NO_HEADER}");
                }
            })),
            ..Settings::default()
        };
        let tls = parts.front.as_ref().map(|front| front.server());
        Self {
            places: Places::new(all, each, parts.manner.trusted.clone()),
            server: watch::Sender::new(Arc::new(said(config, settings, tls))),
            desk,
        }
    }

    /// How requests are met now.
    pub(super) fn manner(&self) -> Arc<Manner> {
        Arc::clone(&self.desk.borrow().manner)
    }

    /// What handshakes are made with now.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.server.borrow().tls.clone()
    }

    /// Puts another configuration in force on all threads, each in a moment of its own.
    pub(super) fn change(
        &self,
        config: &Config,
        manner: Manner,
        trusted: TrustedProxies,
        tls: Option<Arc<ServerConfig>>,
    ) {
        let (all, each) = limits(config);
        self.places.change(all, each, trusted);
        let before = Settings::clone(&self.server.borrow());
        self.server
            .send_replace(Arc::new(said(config, before, tls)));
        self.desk.send_replace(Arc::new(Terms {
            manner: Arc::new(manner),
            api: config.api.clone(),
        }));
    }

    /// The process is about to go.
    pub(super) fn part(&self) {
        let before = Settings::clone(&self.server.borrow());
        self.server.send_replace(Arc::new(Settings {
            parting: true,
            ..before
        }));
    }
}

/// The line of a request that never came to a decision.
fn log_refused(
    manner: &Manner,
    head: &Head,
    info: server::ConnectionInfo,
    refusal: server::guard::Refusal,
) {
    let Some(log) = &manner.access_log else {
        return;
    };
    let visitor = manner.trusted.visitor(info.peer, info.tls, &head.headers);
    let said = (&head.method, head.uri.path(), head.version);
    let line = LogLine::new(log, said, &head.headers, visitor.address);
    let is_head = head.method == http::Method::HEAD;
    let bytes = if is_head { 0 } else { refusal.words().len() };
    if let Some(line) = line.answered("none", "refused", refusal.status, 0) {
        line.write(bytes as u64);
    }
}

fn limits(config: &Config) -> (usize, usize) {
    let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let limits = &config.limits;
    (
        count(limits.connections),
        count(limits.connections_per_address),
    )
}

/// What the configuration says of connections.
fn said(config: &Config, before: Settings, tls: Option<Arc<ServerConfig>>) -> Settings {
    Settings {
        header_bytes: config.limits.header_bytes,
        head: config.timeouts.head,
        keep_alive: config.timeouts.idle,
        body_idle: config.timeouts.idle,
        drain: config.drain_timeout,
        handshakes: super::handshakes(config),
        tls,
        http2: config.http2,
        proxy_protocol: config.proxy_protocol,
        ..before
    }
}

/// Starts one thread per listener.
pub(super) fn start(
    parts: &Parts,
    steering: &Steering,
    listeners: Vec<TcpListener>,
    draining: &watch::Receiver<bool>,
) -> Result<Vec<std::thread::JoinHandle<()>>, RunError> {
    listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let thread = DataThread {
                listener,
                settings: steering.server.subscribe(),
                terms: steering.desk.subscribe(),
                places: steering.places.clone(),
                reception: Arc::clone(&parts.reception),
                fleet: Arc::clone(&parts.fleet),
                draining: draining.clone(),
            };
            std::thread::Builder::new()
                .name(format!("sumun-data-{index}"))
                .spawn(move || thread.run())
                .map_err(RunError::Thread)
        })
        .collect()
}

/// Everything that one data thread starts with.
struct DataThread {
    listener: TcpListener,
    settings: watch::Receiver<Arc<Settings>>,
    terms: watch::Receiver<Arc<Terms>>,
    places: Places,
    reception: Arc<Reception>,
    fleet: Arc<Fleet>,
    draining: watch::Receiver<bool>,
}

/// What one data thread meets a request with; exchanged whole.
struct Desk {
    manner: Arc<Manner>,
    door: Rc<PublicDoor>,
    ids: Option<Rc<RequestIds>>,
}

impl Desk {
    fn of(terms: &Terms, reception: &Arc<Reception>, recorder: &Rc<Recorder>) -> Self {
        let manner = Arc::clone(&terms.manner);
        let door = PublicDoor::new(Arc::clone(reception), &terms.api)
            .logging(manner.access_log.clone(), manner.request_ids.clone())
            .tracking(Rc::clone(recorder));
        Self {
            door: Rc::new(door),
            ids: manner.request_ids.clone().map(Rc::new),
            manner,
        }
    }
}

impl DataThread {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(fault) => return error!(%fault, "a data thread has no runtime"),
        };
        tokio::task::LocalSet::new().block_on(&runtime, self.serve());
    }

    async fn serve(self) {
        let Self {
            reception,
            mut terms,
            ..
        } = self;
        let first = Arc::clone(&terms.borrow_and_update());
        let gateway = Rc::new(Gateway::new(
            Arc::clone(&reception),
            Arc::clone(&first.manner),
            Origins::new(self.fleet),
        ));
        let recorder = Rc::clone(gateway.recorder());
        let desk = Desk::of(&first, &reception, &recorder);
        let desk = Rc::new(RefCell::new(desk));
        let told = Rc::clone(&recorder);
        let (changed, gateways) = (Rc::clone(&desk), Rc::clone(&gateway));
        tokio::task::spawn_local(async move {
            while terms.changed().await.is_ok() {
                let terms = Arc::clone(&terms.borrow_and_update());
                gateways.change(Arc::clone(&terms.manner));
                changed.replace(Desk::of(&terms, &reception, &recorder));
            }
        });
        let telling = Rc::clone(&told);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(TELL).await;
                telling.tell();
            }
        });
        // No `async` here: the future is moved with every request, and would hold it twice.
        let service = move |mut request: http::Request<ClientBody>,
                            info: server::ConnectionInfo| {
            let Desk { manner, door, ids } = &*desk.borrow();
            let called = ids.clone().map(|ids| {
                let trusted = manner.trusted.contains(info.peer.ip());
                let id = ids.assign(request.headers_mut(), trusted);
                (ids, id)
            });
            let answering = if is_ours(request.uri().path()) {
                let visitor = manner
                    .trusted
                    .visitor(info.peer, info.tls, request.headers());
                let door = Rc::clone(door);
                Either::Left(Box::pin(async move {
                    let answer = door.answer(request, visitor).await;
                    answer.map(|body| Logged::new(Body::Full(body), None, Track::none()))
                }))
            } else {
                Either::Right(Rc::clone(&gateway).answer(request, info))
            };
            answering.map(move |mut answer| {
                if let Some((ids, id)) = called {
                    ids.tell(answer.headers_mut(), id);
                }
                answer
            })
        };
        let served = server::serve(
            self.listener,
            self.settings,
            self.places,
            service,
            self.draining,
        );
        if let Err(fault) = served.await {
            error!(%fault, "a data thread cannot listen");
        }
        told.tell();
    }
}

/// Whether a path is ours in any reading that an origin may give it: what is
/// ours never reaches the origin.
fn is_ours(path: &str) -> bool {
    match readings(path) {
        Readings::One(one) => covers(OURS, one.as_ref()),
        Readings::Many(many) => many.iter().any(|one| covers(OURS, one.as_ref())),
        Readings::TooMany => false,
    }
}
