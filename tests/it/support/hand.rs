//! A site whose clock is moved by hand, for what takes minutes: the gateway,
//! the controller and the embedded store are the real ones, and each pass of
//! the controller is asked for.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use sumun::clock::Clock;
use sumun::controller::{Bench, Controller};
use sumun::gateway::{Gateway, Manner};
use sumun::ledger::{Ledger, Ledgers, View};
use sumun::metrics::Metrics;
use sumun::origin::OriginSettings;
use sumun::reception::{Reception, Site};
use sumun::room::routes::Routes;
use sumun::server::{self, Places, Settings};
use sumun::store::{MemoryStore, Store};
use sumun::visitor::address::TrustedProxies;
use tokio::sync::watch;

use super::{Origin, Plan, Visitor, ring};

/// When the clock starts: any moment will do.
const MORNING_MS: u64 = 1_800_000_000_000;

/// A site whose clock stands still until it is moved.
pub(crate) struct ByHand {
    pub(crate) origin: Origin,
    pub(crate) ledger: Arc<Ledger>,
    clock: Clock,
    controller: Controller,
    reception: Arc<Reception>,
    door: SocketAddr,
    drain: watch::Sender<bool>,
}

impl ByHand {
    /// One event of these settings (lines of TOML).
    pub(crate) async fn with(settings: &str) -> Self {
        let origin = Origin::open().await;
        let config = Plan::event(settings).config(origin.address);
        let event = config.events[0].clone();
        let clock = Clock::manual(MORNING_MS);
        let metrics = Arc::new(Metrics::default());
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let ledger = Ledger::open(event.clone(), &store, "hand", clock.clone(), &metrics);
        let bench = Arc::new(Bench {
            store,
            gateway: "hand".to_owned(),
            keys: vec!["a".to_owned()],
            config: arc_swap::ArcSwap::default(),
            metrics: Arc::clone(&metrics),
            catalog_read: std::sync::atomic::AtomicBool::new(true),
        });
        let controller = Controller::new(bench, Arc::clone(&ledger));
        let reception = Arc::new(Reception::new(ring(&["a"]), metrics, clock.clone()));
        reception.site.store(Arc::new(Site {
            ledgers: Ledgers::new(vec![Arc::clone(&ledger)]),
            routes: Routes::new(&[Arc::new(event)], &[]),
        }));
        let (drain, draining) = watch::channel(false);
        let door = serve(&reception, &origin, draining);
        let mut hand = Self {
            origin,
            ledger,
            clock,
            controller,
            reception,
            door,
            drain,
        };
        hand.pass(Duration::from_secs(2)).await;
        hand
    }

    /// Lets time pass, with two looks of the controller each second.
    pub(crate) async fn pass(&mut self, time: Duration) {
        const LOOK: u64 = 500;
        for _ in 0..time.as_millis() / u128::from(LOOK) {
            self.clock.advance(LOOK);
            self.controller.pass().await;
        }
    }

    /// Lets seconds pass.
    pub(crate) async fn pass_seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds)).await;
    }

    /// The same site, whose origin nobody answers for.
    pub(crate) async fn before_nobody(mut self) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.origin.address = listener.local_addr().unwrap();
        drop(listener);
        let (drain, draining) = watch::channel(false);
        self.door = serve(&self.reception, &self.origin, draining);
        self.drain = drain;
        self
    }

    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::at(self.door)
    }

    /// Somebody who walked in.
    pub(crate) async fn visitor_inside(&self) -> Visitor {
        let mut visitor = self.visitor();
        visitor.open("/").await.must_come_from_the_origin();
        visitor
    }

    /// Somebody who took a ticket.
    pub(crate) async fn visitor_in_line(&self) -> Visitor {
        let mut visitor = self.visitor();
        visitor.open("/").await.must_be_a_waiting_page();
        visitor
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.ledger.view().unwrap()
    }
}

/// A data thread, as the server has it.
fn serve(
    reception: &Arc<Reception>,
    origin: &Origin,
    draining: watch::Receiver<bool>,
) -> SocketAddr {
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    let door = listener.local_addr().unwrap();
    let origin = OriginSettings::new(&format!("http://{}", origin.address), &[]).unwrap();
    let reception = Arc::clone(reception);
    let manner = Arc::new(Manner {
        trusted: TrustedProxies::default(),
        forward_token: false,
        cors_origins: Vec::new(),
        access_log: false,
    });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let served = async move {
            let origin = sumun::origin::Origin::new(Arc::new(origin));
            let gateway = Rc::new(Gateway::new(reception, manner, origin));
            let service = move |request, info| {
                let gateway = Rc::clone(&gateway);
                async move { gateway.answer(request, info).await }
            };
            let settings = Arc::new(Settings {
                drain: Duration::ZERO,
                ..Settings::default()
            });
            let places = Places::new(1000, 1000, TrustedProxies::default());
            server::serve(listener, settings, places, service, draining).await
        };
        let _ended = tokio::task::LocalSet::new().block_on(&runtime, served);
    });
    door
}

/// Reads some of a body and leaves the rest.
pub(crate) async fn some(body: &mut hyper::body::Incoming) -> bytes::Bytes {
    let frame = tokio::time::timeout(super::BOUND, body.frame()).await;
    let frame = frame.expect("nothing came").expect("ended");
    frame.expect("broken").into_data().expect("trailers")
}
