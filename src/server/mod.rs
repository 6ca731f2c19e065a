//! The door: listeners, one per data thread on the same port, the limits of who
//! may come in, TLS where it is asked for, and the orderly end. It knows nothing
//! but a function from request to answer.

mod announced;
mod connection;
mod extended;
mod greeting;
pub mod guard;
mod leave;
mod limit;
mod patience;
mod streams;
mod watch;
mod watched;
mod wire;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch as signal};
use tokio::time::Instant;

use crate::alarm::Ticker;
use crate::incoming::ClientBody;
pub use connection::ConnectionInfo;
use connection::Terms;
pub use limit::Places;

use patience::Patience;
use watch::{Order, Watch};

/// The limits of connections and heads. Shared by all data threads.
#[derive(Clone)]
pub struct Settings {
    /// The largest head, in bytes (431 above it).
    pub header_bytes: usize,
    /// The longest target, in bytes (414 above it).
    pub target_bytes: usize,
    /// The most that is buffered of what a client sends, in bytes; at least 8192.
    pub buffer_bytes: usize,
    /// The longest that a head may take to come in.
    pub head: Duration,
    /// The longest between two requests.
    pub keep_alive: Duration,
    /// The longest that a client may neither send its body nor take its answer.
    pub body_idle: Duration,
    /// How long an answer is still waited for once the client has sent its last
    /// byte. A client that closed looks the same as one that closed only its half.
    pub half_close: Duration,
    /// How long, after the last answer, what a client still sends is thrown away.
    pub linger: Duration,
    /// How much of it at most, in bytes.
    pub linger_bytes: usize,
    /// How often connections are looked at: the grain of all these limits.
    pub sweep: Duration,
    /// The longest that running requests may take once draining has begun.
    pub drain: Duration,
    /// Before that, how long handshakes that have begun may take to end. Newcomers are
    /// not heard meanwhile: they ask again after a second, so that above it nothing is gained.
    pub handshakes: Duration,
    /// Whether each answer of HTTP/1.1 is the last one of its connection: this process is
    /// about to go, and only a client that is told so comes back without a failed request.
    pub parting: bool,
    /// TLS, if the door speaks it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether HTTP/2 is spoken: under TLS by ALPN, which `tls` has to offer,
    /// without by prior knowledge (RFC 9113 §3.3).
    pub http2: bool,
    /// Whether the proxies that [`Places`] trusts begin each connection with a header of
    /// the PROXY protocol. From others none is read: their first bytes are TLS or HTTP.
    pub proxy_protocol: bool,
    /// Told the reason of each refusal, for metrics: `connections`, `connections_per_address`,
    /// `proxy_protocol`, `tls`, `head_size`, `malformed`, `http2`, `timeout`, or that of a
    /// [`guard::Refusal`].
    pub on_refusal: Option<Arc<dyn Fn(&'static str) + Send + Sync>>,
    /// Told of each request that [`guard`] refuses, for the access log.
    pub on_refused_request: Option<Arc<OnRefused>>,
}

/// Takes a request's head, where it came from, and why it was refused.
pub type OnRefused = dyn Fn(&Parts, ConnectionInfo, guard::Refusal) + Send + Sync;

/// The connections of one data thread.
struct House {
    patience: Cell<Patience>,
    watched: RefCell<Vec<Weak<Watch>>>,
    /// Clients that are being told that there is no room.
    turned_away: Cell<usize>,
    freed: Arc<Notify>,
}

/// Connections that may be told at one time that there is no room; others are just closed.
const TURNED_AWAY_AT_ONCE: usize = 256;

const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
    cache-control: no-store\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            target_bytes: 8 * 1024,
            buffer_bytes: 256 * 1024,
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            half_close: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            linger_bytes: 1024 * 1024,
            sweep: Duration::from_secs(1),
            drain: Duration::from_secs(20),
            handshakes: Duration::ZERO,
            parting: false,
            tls: None,
            http2: false,
            proxy_protocol: false,
            on_refusal: None,
            on_refused_request: None,
        }
    }
}

impl Settings {
    fn refused(&self, reason: &'static str) {
        if let Some(told) = &self.on_refusal {
            told(reason);
        }
    }

    fn turned_down<B>(&self, request: Request<B>, info: ConnectionInfo, why: guard::Refusal) {
        if let Some(told) = &self.on_refused_request {
            told(&request.into_parts().0, info, why);
        }
    }
}

/// Opens `count` listeners on one address; the kernel spreads connections over
/// them. Port 0 takes a free one, the same for all.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bind(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(bind(address)?);
    }
    Ok(listeners)
}

/// Whether somebody listens at an address already: [`listen`] would share the
/// port with another process without a word.
#[must_use]
pub fn is_taken(address: SocketAddr) -> bool {
    let alone = || socket(address)?.bind(&address.into());
    address.port() != 0 && alone().is_err_and(|fault| fault.kind() == io::ErrorKind::AddrInUse)
}

/// What a data thread meets newcomers with.
struct Threshold<S> {
    house: Rc<House>,
    settings: Arc<Settings>,
    places: Places,
    service: Rc<S>,
    ticker: Rc<Ticker>,
}

/// Accepts and serves connections until `drain` becomes true (or its sender is
/// gone), then lets what runs finish within `settings.drain`. Must run inside a
/// `LocalSet`; tunnels are counted, but ended by whoever runs them.
///
/// Settings that change are in force for connections that come then; how long a
/// connection may be silent or idle, and `parting`, for those that stand too. The
/// `sweep` stays the first one.
///
/// # Errors
/// When the listener cannot be used by this runtime.
pub async fn serve<S, F, B>(
    listener: std::net::TcpListener,
    mut settings: signal::Receiver<Arc<Settings>>,
    places: Places,
    service: S,
    mut drain: signal::Receiver<bool>,
) -> io::Result<()>
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::from_std(listener)?;
    let first = Arc::clone(&settings.borrow_and_update());
    let house = Rc::new(House {
        patience: Cell::new(Patience::of(&first, first.sweep)),
        watched: RefCell::default(),
        turned_away: Cell::new(0),
        freed: Arc::new(Notify::new()),
    });
    let ticker = Ticker::new(first.sweep);
    let swept = sweep(Rc::clone(&house), first.sweep, Rc::clone(&ticker));
    let sweeper = tokio::task::spawn_local(swept);
    let sweep = first.sweep;
    let mut threshold = Threshold {
        house: Rc::clone(&house),
        settings: first,
        places,
        service: Rc::new(service),
        ticker,
    };
    let mut is_told = true;
    loop {
        tokio::select! {
            biased;
            _told = drain.wait_for(|drain| *drain) => break,
            told = settings.changed(), if is_told => {
                is_told = told.is_ok();
                threshold.settings = Arc::clone(&settings.borrow_and_update());
                house.patience.set(Patience::of(&threshold.settings, sweep));
                let parting = threshold.settings.parting;
                house.each(|watch| watch.part(parting));
            }
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => threshold.let_in(tcp, peer),
                Err(fault) => rest_after(&fault).await,
            }
        }
    }
    let handshakes = threshold.settings.handshakes;
    leave::close(listener, handshakes, |tcp, peer| {
        threshold.let_in(tcp, peer);
    })
    .await;
    house.empty(threshold.settings.drain).await;
    sweeper.abort();
    Ok(())
}

impl<S, F, B> Threshold<S>
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves a connection, if there is room for it.
    fn let_in(&self, tcp: TcpStream, peer: SocketAddr) {
        let (house, settings) = (&self.house, &self.settings);
        let place = match self.places.take(peer.ip(), &house.freed) {
            Ok(place) => place,
            Err(reason) => {
                settings.refused(reason);
                // Under TLS there is nobody to say it to.
                if settings.tls.is_none() {
                    turn_away(house, tcp);
                }
                return;
            }
        };
        let Ok(local) = tcp
            .local_addr()
            .and_then(|local| tcp.set_nodelay(true).map(|()| local))
        else {
            return;
        };
        let is_announced = settings.proxy_protocol && place.is_a_proxys();
        let watch = Watch::new(place);
        watch.part(settings.parting);
        house.watched.borrow_mut().push(Arc::downgrade(&watch));
        let terms = Terms {
            watch,
            info: ConnectionInfo {
                peer,
                local,
                tls: settings.tls.is_some(),
            },
            settings: Arc::clone(settings),
            service: Rc::clone(&self.service),
            ticker: Rc::clone(&self.ticker),
        };
        let house = is_announced.then(|| Rc::clone(house));
        tokio::task::spawn_local(greeting::welcome(tcp, terms, house));
    }
}

impl House {
    /// Lets all connections finish, then ends those that have not.
    async fn empty(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.each(Watch::drain);
        while self.each(|_| ()) > 0 {
            if tokio::time::timeout_at(deadline, self.freed.notified())
                .await
                .is_err()
            {
                self.each(|watch| watch.tell(Order::Close));
                // One turn for the tasks to notice.
                tokio::task::yield_now().await;
                return;
            }
        }
    }

    /// Does something with each living connection and says how many there are.
    fn each(&self, act: impl Fn(&Watch)) -> usize {
        let mut watched = self.watched.borrow_mut();
        watched.retain(|watch| watch.strong_count() > 0);
        for watch in watched.iter().filter_map(Weak::upgrade) {
            act(&watch);
        }
        watched.len()
    }
}

async fn sweep(house: Rc<House>, every: Duration, ticker: Rc<Ticker>) {
    let mut interval = tokio::time::interval(every.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let patience = house.patience.get();
        house.each(|watch| watch.sweep(&patience));
        ticker.advance();
    }
}

/// After a failed accept: a connection that is already gone costs nothing, but
/// out of file descriptors the same error would come back at once, forever.
async fn rest_after(fault: &io::Error) {
    if !is_of_one(fault) {
        tracing::warn!(%fault, "cannot accept connections; waiting a moment");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a failed accept is that of a connection which is gone, or of none.
fn is_of_one(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

/// Says briefly that there is no room.
fn turn_away(house: &Rc<House>, tcp: TcpStream) {
    if house.turned_away.get() >= TURNED_AWAY_AT_ONCE {
        return;
    }
    house.turned_away.set(house.turned_away.get() + 1);
    let house = Rc::clone(house);
    tokio::task::spawn_local(async move {
        greeting::farewell(tcp, NO_ROOM).await;
        house.turned_away.set(house.turned_away.get() - 1);
    });
}

/// A socket that is to listen at an address, and does not share it yet.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // One listener for both families where the address is unspecified.
        socket.set_only_v6(false)?;
    }
    // Connections of before that are still closing are in nobody's way.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
