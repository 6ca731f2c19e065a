//! One client's connection of HTTP/2 (RFC 9113): many exchanges at once, each with
//! its own patience.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{ConnectionInfo, End, Terms, run};
use super::watch::{Phase, Watch};
use super::watched::Watched;
use crate::alarm::{Alarm, Ticker};
use crate::incoming::{ClientBody, Exchange};

/// Exchanges of one connection at once.
const STREAMS_MAX: u32 = 128;

/// What a client may send of one body before it is taken, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What is held of one answer that the client does not take, in bytes: so much, and
/// two pieces of the origin's (64 KiB each).
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that a client has opened and given up again before they were looked
/// at; one more ends the connection (CVE-2023-44487).
const RESETS_MAX: usize = 32;

/// Streams that we gave up for a client's faults; one more ends the connection.
const ERRORS_MAX: usize = 256;

/// How often a client is asked whether it is there. It may take as long to say so as
/// it may take nothing: the question stands behind all that is sent. One that has
/// only begun a head cannot say anything else (RFC 9113 §4.3).
const PING: Duration = Duration::from_secs(20);

/// How often it is looked at within its limit whether an exchange goes on: it ends
/// late by a part at most.
const LOOKS: u32 = 4;

tokio::task_local! {
    static EXCHANGE: Arc<Exchange>;
}

/// The exchange that is being served, in HTTP/2.
pub(super) fn exchange() -> Option<Arc<Exchange>> {
    EXCHANGE.try_with(Arc::clone).ok()
}

/// Serves one connection until it ends.
pub(super) async fn serve_two<S, F, B>(socket: Watched, terms: Terms<S>)
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (watch, settings) = (Arc::clone(&terms.watch), Arc::clone(&terms.settings));
    watch.enter(Phase::Streams);
    let ticker = Rc::clone(&terms.ticker);
    let told = Arc::clone(&settings);
    let exchanges = Exchanges {
        watch: Arc::clone(&watch),
        look: (ticker.ticks(settings.body_idle) / LOOKS).max(1),
        ticker,
        on_timeout: Rc::new(move || told.refused("timeout")),
    };
    let desk = terms.desk();
    let respond = service_fn(move |request| Rc::clone(&desk).answer(request));
    let mut http = http2::Builder::new(exchanges);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol()
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .keep_alive_interval(settings.body_idle.min(PING))
        .keep_alive_timeout(settings.body_idle);
    let mut connection = http.serve_connection(TokioIo::new(socket), respond);
    let end = run(&watch, &mut connection, |connection| {
        connection.graceful_shutdown();
    });
    if let End::Finished(Err(fault)) = end.await {
        settings.refused("http2");
        tracing::debug!(%fault, "connection ended");
    }
}

/// A stream that is served, or that has become a tunnel: hyper runs the sending half
/// of one here, until it ends. Neither makes the connection an idle one.
struct Running(Arc<Watch>);

impl Running {
    fn begin(watch: &Arc<Watch>) -> Self {
        watch.begin_stream();
        Self(Arc::clone(watch))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end_stream();
    }
}

/// Runs the exchanges of a connection on its thread, and gives up those in which
/// the client neither sends nor takes anything for too long.
#[derive(Clone)]
struct Exchanges {
    watch: Arc<Watch>,
    ticker: Rc<Ticker>,
    /// Ticks between two looks.
    look: u32,
    on_timeout: Rc<dyn Fn()>,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Exchanges {
    fn execute(&self, future: F) {
        let this = self.clone();
        let running = Running::begin(&self.watch);
        // Large, and tokio moves a task's future with each stage of its life.
        let future = Box::pin(future);
        tokio::task::spawn_local(async move {
            let _running = running;
            let exchange = Arc::<Exchange>::default();
            let served = EXCHANGE.scope(Arc::clone(&exchange), future);
            if !this.attend(served, &exchange).await {
                (this.on_timeout)();
            }
        });
    }
}

impl Exchanges {
    /// Whether it came to its end; if not, dropping it resets the stream.
    async fn attend(&self, served: impl Future, exchange: &Exchange) -> bool {
        let mut served = pin!(served);
        let mut alarm = Alarm::new(Rc::clone(&self.ticker));
        let mut due = self.ticker.now().saturating_add(self.look);
        let (mut moved, mut looks) = (0, 0);
        poll_fn(|context| {
            if served.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            while alarm.poll_until(due, context).is_ready() {
                due = self.ticker.now().saturating_add(self.look);
                // Where the connection itself is full, that has its own limit.
                let stalled = exchange.waits_for_client()
                    && exchange.moved() == moved
                    && !self.watch.takes_nothing();
                looks = if stalled { looks + 1 } else { 0 };
                moved = exchange.moved();
                if looks >= LOOKS {
                    return Poll::Ready(false);
                }
            }
            Poll::Pending
        })
        .await
    }
}
