//! The proxy core over real sockets: a raw client, the core, and a raw origin
//! that records every byte it received. What is asserted is what was on the wire.

mod answers;
mod bodies;
mod clients;
mod connections;
mod drain;
mod headers;
mod limits;
mod messages;
mod reuse;
mod tunnels;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};
use sumun::incoming::ClientBody;
use sumun::origin::{Body, Client, Cookie, Forward, Forwarded, Origin, OriginSettings};
use sumun::server::{self, ConnectionInfo, Places, Settings};
use sumun::visitor::address::TrustedProxies;
use tokio::sync::{mpsc, watch};

use crate::support::raw::{Raw, RawAnswer, RawOrigin, whole_request};
use crate::support::{bounded, data_thread};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// How the core is set up.
struct Setup {
    server: Settings,
    origin: OriginSettings,
    places: Places,
    trusted: Vec<&'static str>,
    cookie: Cookie,
}

/// The core before an origin; dropping it drains it.
struct Gateway {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    in_flight: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gateway {
    fn before(origin: SocketAddr) -> Self {
        Self::with(origin, |_| ())
    }

    fn with(origin: SocketAddr, adjust: impl FnOnce(&mut Setup)) -> Self {
        let (go, begin) = std::sync::mpsc::channel();
        go.send(()).unwrap();
        Self::after(begin, origin, adjust)
    }

    /// One that listens, and accepts nobody until it is told to begin.
    fn after(
        begin: std::sync::mpsc::Receiver<()>,
        origin: SocketAddr,
        adjust: impl FnOnce(&mut Setup),
    ) -> Self {
        let mut setup = Setup {
            server: Settings {
                sweep: Duration::from_millis(20),
                ..Settings::default()
            },
            origin: OriginSettings::new(&format!("http://{origin}"), &[]).unwrap(),
            places: Places::new(1000, 1000, TrustedProxies::default()),
            trusted: vec![],
            cookie: Cookie::AsSent,
        };
        adjust(&mut setup);
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(false);
        let in_flight = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&in_flight);
        let thread = data_thread(move || {
            let _told_or_gone = begin.recv();
            run(listener, setup, draining, counted)
        });
        Self {
            address,
            drain,
            in_flight,
            thread: Some(thread),
        }
    }

    async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Sends these bytes on a connection of their own and reads to its end.
    async fn tell(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.rest().await
    }

    /// One exchange on a connection of its own.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> RawAnswer {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.answer().await
    }

    async fn until_idle(&self) {
        bounded("the end of what is in flight", async {
            while self.in_flight.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.drain.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn run(
    listener: std::net::TcpListener,
    setup: Setup,
    drain: watch::Receiver<bool>,
    in_flight: Arc<AtomicUsize>,
) {
    let origin = Origin::new(Arc::new(setup.origin));
    let proxies = Arc::new(TrustedProxies::new(&setup.trusted, "").unwrap());
    let cookie = setup.cookie;
    let mut server = setup.server;
    server.drain = server.drain.min(Duration::from_secs(2));
    let service = move |request: Request<ClientBody>, info: ConnectionInfo| {
        let (origin, proxies) = (origin.clone(), Arc::clone(&proxies));
        let (guard, cookie) = (InFlight::new(&in_flight), cookie.clone());
        async move { forward(&origin, &proxies, request, info, guard, cookie).await }
    };
    let settings = watch::channel(Arc::new(server)).1;
    server::serve(listener, settings, setup.places, service, drain)
        .await
        .unwrap();
}

async fn forward(
    origin: &Origin,
    proxies: &TrustedProxies,
    request: Request<ClientBody>,
    info: ConnectionInfo,
    guard: InFlight,
    cookie: Cookie,
) -> Response<Body<InFlight>> {
    let visitor = proxies.visitor(info.peer, info.tls, request.headers());
    let forward = Forward {
        client: Client {
            peer: visitor.peer,
            peer_label: visitor.peer.to_string().parse().unwrap(),
            trusted: visitor.behind_trusted_proxy,
            https: visitor.https,
            host: visitor.host,
            port: visitor.port,
        },
        headers: vec![(
            HeaderName::from_static("sumun-event"),
            HeaderValue::from_static("main"),
        )],
        cookie,
    };
    match origin.forward(request, forward, guard).await {
        Ok(Forwarded::Response(response, _)) => response,
        Ok(Forwarded::Tunnel(response, tunnel)) => {
            tokio::task::spawn_local(tunnel.run(pending()));
            response
        }
        Err(fault) => {
            let mut response =
                Response::new(Body::from(Bytes::from_static(fault.kind().as_bytes())));
            *response.status_mut() = fault.status();
            if fault.is_clients_fault() {
                response
                    .headers_mut()
                    .insert("connection", HeaderValue::from_static("close"));
            }
            response
        }
    }
}

/// An origin that never answers and tells when its connection has ended.
async fn patient() -> (RawOrigin, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let origin = RawOrigin::with(move |mut raw, _, _| {
        let tell = tell.clone();
        async move {
            whole_request(&mut raw).await;
            tell.send("asked").unwrap();
            while raw.more().await.is_ok_and(|came| came > 0) {}
            tell.send("left").unwrap();
        }
    })
    .await;
    (origin, told)
}
