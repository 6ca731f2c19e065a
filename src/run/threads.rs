//! The data threads: each with a runtime, a listener, an origin pool and a
//! front door of its own. Nothing there needs a lock.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::sync::watch;
use tracing::{error, warn};

use super::{Parts, RunError};
use crate::api::queue::PublicDoor;
use crate::config::Config;
use crate::gateway::{Gateway, Logged, Manner};
use crate::incoming::ClientBody;
use crate::metrics as names;
use crate::origin::Body;
use crate::origins::{Fleet, Origins};
use crate::reception::{Complaints, Reception};
use crate::room::paths::{Readings, covers, readings};
use crate::server::{self, Places, Settings};

/// The prefix of everything that is ours.
const OURS: &[u8] = b"/__sumun";

/// Told at most once in ten seconds.
const NO_HEADER: &str = "a connection from one of trusted_proxies began without a good PROXY \
    header and was closed: is proxy_protocol meant to be on, and the balancer to send it?";

/// Starts one thread per listener.
pub(super) fn start(
    config: &Config,
    parts: &Parts,
    listeners: Vec<TcpListener>,
    draining: &watch::Receiver<bool>,
) -> Result<Vec<std::thread::JoinHandle<()>>, RunError> {
    let places = Places::new(
        usize::try_from(config.limits.connections).unwrap_or(usize::MAX),
        usize::try_from(config.limits.connections_per_address).unwrap_or(usize::MAX),
        parts.trusted.clone(),
    );
    let reception = Arc::clone(&parts.reception);
    let complaints = Complaints::default();
    let settings = Arc::new(Settings {
        header_bytes: config.limits.header_bytes,
        head: config.timeouts.head,
        keep_alive: config.timeouts.idle,
        body_idle: config.timeouts.idle,
        drain: config.drain_timeout,
        tls: parts.front.as_ref().map(|front| front.server()),
        http2: config.http2,
        proxy_protocol: config.proxy_protocol,
        on_refusal: Some(Arc::new(move |reason| {
            let counter = reception
                .metrics
                .counter(&names::REFUSALS, &[("reason", reason)]);
            counter.increment(1);
            if reason == "proxy_protocol"
                && let Some(passed_over) = complaints.note(reason, reception.clock.monotonic_ms())
            {
                warn!(passed_over, "{NO_HEADER}");
            }
        })),
        ..Settings::default()
    });
    listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let thread = DataThread {
                listener,
                settings: Arc::clone(&settings),
                places: places.clone(),
                reception: Arc::clone(&parts.reception),
                manner: Arc::clone(&parts.manner),
                fleet: Arc::clone(&parts.fleet),
                api: config.api.clone(),
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
    settings: Arc<Settings>,
    places: Places,
    reception: Arc<Reception>,
    manner: Arc<Manner>,
    fleet: Arc<Fleet>,
    api: crate::config::Api,
    draining: watch::Receiver<bool>,
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
        let gateway = Rc::new(Gateway::new(
            Arc::clone(&self.reception),
            Arc::clone(&self.manner),
            Origins::new(self.fleet),
        ));
        let manner = self.manner;
        let door = PublicDoor::new(self.reception, &self.api)
            .logging(manner.access_log.clone(), manner.request_ids.clone());
        let door = Rc::new(door);
        let ids = manner.request_ids.clone().map(Rc::new);
        // No `async` here: the future is moved with every request, and would hold it twice.
        let service = move |mut request: http::Request<ClientBody>,
                            info: server::ConnectionInfo| {
            let called = ids.clone().map(|ids| {
                let trusted = manner.trusted.contains(info.peer.ip());
                let id = ids.assign(request.headers_mut(), trusted);
                (ids, id)
            });
            let answering = if is_ours(request.uri().path()) {
                let visitor = manner
                    .trusted
                    .visitor(info.peer, info.tls, request.headers());
                let door = Rc::clone(&door);
                Either::Left(Box::pin(async move {
                    let answer = door.answer(request, visitor).await;
                    answer.map(|body| Logged::new(Body::Full(body), None))
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
