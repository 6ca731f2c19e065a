//! A site whose clock is moved by hand, for what takes minutes: the gateway,
//! the controller and the embedded store are the real ones, and each pass of
//! the controller is asked for.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use sumun::gateway::{Gateway, Manner};
use sumun::ledger::{Ledger, View};
use sumun::origin::OriginSettings;
use sumun::reception::Reception;
use sumun::server::{self, Places, Settings};
use sumun::visitor::address::TrustedProxies;
use tokio::sync::watch;

use super::{Clockwork, Origin, Plan, Visitor, data_thread};

/// A site whose clock stands still until it is moved.
pub(crate) struct ByHand {
    pub(crate) origin: Origin,
    pub(crate) ledger: Arc<Ledger>,
    work: Clockwork,
    door: SocketAddr,
    drain: watch::Sender<bool>,
}

impl ByHand {
    /// One event of these settings (lines of TOML).
    pub(crate) async fn with(settings: &str) -> Self {
        let origin = Origin::open().await;
        let config = Plan::event(settings).config(origin.address);
        let work = Clockwork::of(config.events);
        let (drain, draining) = watch::channel(false);
        let door = serve(&work.reception, &origin, draining);
        let mut hand = Self {
            origin,
            ledger: work.ledger("main"),
            work,
            door,
            drain,
        };
        hand.pass(Duration::from_secs(2)).await;
        hand
    }

    /// Lets time pass, with two looks of the controller each second.
    pub(crate) async fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 500 {
            self.work.half_a_second(1).await;
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
        self.door = serve(&self.work.reception, &self.origin, draining);
        self.drain = drain;
        self
    }

    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::at(self.door)
    }

    /// Somebody who walked in.
    pub(crate) async fn visitor_inside(&self) -> Visitor {
        self.visitor().inside().await
    }

    /// Somebody who took a ticket.
    pub(crate) async fn visitor_in_line(&self) -> Visitor {
        self.visitor().in_line().await
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
        access_log: None,
        request_ids: None,
    });
    data_thread(move || async move {
        let origin = sumun::origins::Origins::alone(origin);
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
        server::serve(
            listener,
            watch::channel(settings).1,
            places,
            service,
            draining,
        )
        .await
    });
    door
}

/// Reads some of a body and leaves the rest.
pub(crate) async fn some(body: &mut hyper::body::Incoming) -> bytes::Bytes {
    let frame = tokio::time::timeout(super::BOUND, body.frame()).await;
    let frame = frame.expect("nothing came").expect("ended");
    frame.expect("broken").into_data().expect("trailers")
}
