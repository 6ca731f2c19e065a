//! What a connection is doing, and for how long. A sweep looks at every
//! connection of its thread once a second and ends those that take too long;
//! no timer is armed per request.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use super::limit::Place;
use super::patience::Patience;

/// While draining, how many sweeps a connection may have said nothing before it counts
/// as idle: who has just come is about to ask.
const JUST_COME: u32 = 2;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The head of a request is coming in, or a new connection has said nothing yet.
    Head,
    /// Between two requests.
    Idle,
    /// A request is being served; nothing is answered yet.
    Serving,
    /// The answer is going out.
    Answering,
    /// All is said; what the client still sends is thrown away for a moment, so
    /// that the answer is not lost in a reset.
    Lingering,
    /// No longer HTTP.
    Tunnel,
    /// HTTP/2: any number of requests at once.
    Streams,
}

/// What the sweep wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Nothing.
    Go,
    /// End it now.
    Close,
    /// Say that it took too long (408), and end it.
    TimedOut,
}

/// Sweeps after which a connection between two requests gives its buffers back.
const REST_AFTER: u32 = 2;

/// Shared by a connection's socket, its task and the sweep, all on one thread.
/// Atomic only because a socket that may be upgraded has to be `Send`.
pub(crate) struct Watch {
    phase: AtomicU8,
    /// Sweeps since the phase began or, while serving and answering, since a byte moved.
    pub(super) quiet: AtomicU32,
    /// Sweeps in which nothing moved since the client was seen to have sent its last byte.
    pub(super) ended: AtomicU32,
    order: AtomicU8,
    draining: AtomicBool,
    parting: AtomicBool,
    pub(super) wants_read: AtomicBool,
    pub(super) wants_write: AtomicBool,
    pub(super) wants_flush: AtomicBool,
    /// Whether a byte of the present head came.
    pub(super) began: AtomicBool,
    pub(super) fragment: AtomicBool,
    pub(super) has_body: AtomicBool,
    close_delimited: AtomicBool,
    pub(super) probe: AtomicBool,
    pub(super) half_closed: AtomicBool,
    pub(super) cut: AtomicBool,
    rests: AtomicBool,
    /// Requests of HTTP/2 that are being served, and tunnels.
    pub(super) streams: AtomicU32,
    waker: OnceLock<Waker>,
    place: Place,
}

impl Watch {
    pub(crate) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Head as u8),
            quiet: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            order: AtomicU8::new(Order::Go as u8),
            draining: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            wants_read: AtomicBool::new(false),
            wants_write: AtomicBool::new(false),
            wants_flush: AtomicBool::new(false),
            began: AtomicBool::new(false),
            fragment: AtomicBool::new(false),
            has_body: AtomicBool::new(false),
            close_delimited: AtomicBool::new(false),
            probe: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            waker: OnceLock::new(),
            place,
        })
    }

    /// The place that the connection takes up.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Head,
            1 => Phase::Idle,
            2 => Phase::Serving,
            3 => Phase::Answering,
            4 => Phase::Lingering,
            5 => Phase::Tunnel,
            _ => Phase::Streams,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.quiet.store(0, Relaxed);
    }

    /// A request begins to be served.
    pub(crate) fn begin(&self, has_body: bool, close_delimited: bool) {
        self.has_body.store(has_body, Relaxed);
        self.close_delimited.store(close_delimited, Relaxed);
        self.began.store(false, Relaxed);
        self.enter(Phase::Serving);
    }

    /// A request of HTTP/2 begins to be served, or becomes a tunnel.
    pub(crate) fn begin_stream(&self) {
        self.streams.fetch_add(1, Relaxed);
        self.quiet.store(0, Relaxed);
    }

    /// A request of HTTP/2 is over, served or not, or a tunnel.
    pub(crate) fn end_stream(&self) {
        self.streams.fetch_sub(1, Relaxed);
        self.quiet.store(0, Relaxed);
    }

    /// The answer's body has ended; a tunnel and the farewell are phases of their own.
    pub(crate) fn answered(&self) {
        if matches!(self.phase(), Phase::Serving | Phase::Answering) {
            self.enter(Phase::Idle);
        }
    }

    /// Whether the present request line had a fragment, which hyper cuts off silently.
    pub(crate) fn take_fragment(&self) -> bool {
        self.fragment.swap(false, Relaxed)
    }

    pub(crate) fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Go,
            1 => Order::Close,
            _ => Order::TimedOut,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether the next answer is to be the last one, where a header can say so.
    pub(crate) fn is_parting(&self) -> bool {
        self.parting.load(Relaxed)
    }

    pub(crate) fn part(&self, parting: bool) {
        self.parting.store(parting, Relaxed);
    }

    /// Whether nothing has been asked on it yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.phase() == Phase::Head && !self.began.load(Relaxed)
    }

    /// Whether a 408 says something: part of a request has come, nothing was answered.
    pub(crate) fn may_say_408(&self) -> bool {
        match self.phase() {
            Phase::Head => self.began.load(Relaxed),
            phase => phase == Phase::Serving,
        }
    }

    /// An answer broke off. Where its end is only the end of the connection, that
    /// end has to be a reset, or it would look whole.
    pub(crate) fn cut(&self) {
        self.cut.store(self.close_delimited.load(Relaxed), Relaxed);
    }

    /// Whether nothing has come for a while and nothing is left to be sent, so that
    /// only the socket need be kept. Said once.
    pub(crate) fn may_rest(&self) -> bool {
        self.rests.load(Relaxed) && self.rests.swap(false, Relaxed) && self.phase() == Phase::Idle
    }

    #[cfg(test)]
    pub(crate) fn is_called_to_rest(&self) -> bool {
        self.rests.load(Relaxed)
    }

    /// Remembers whom to wake. A connection's task is the same for life.
    pub(crate) fn attend(&self, context: &Context<'_>) {
        if self.waker.get().is_none() {
            let _same = self.waker.set(context.waker().clone());
        }
    }

    /// Waits until the connection is told to end.
    pub(crate) async fn ordered(&self) {
        poll_fn(|context| {
            self.attend(context);
            match self.order() {
                Order::Go => Poll::Pending,
                Order::Close | Order::TimedOut => Poll::Ready(()),
            }
        })
        .await;
    }

    /// No more requests are taken but the first one of who has just come.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.part(true);
        if self.is_silent() && self.quiet.load(Relaxed) > JUST_COME {
            return self.tell(Order::Close);
        }
        self.wake();
    }

    pub(crate) fn tell(&self, order: Order) {
        self.order.store(order as u8, Relaxed);
        self.wake();
    }

    /// One sweep.
    pub(crate) fn sweep(&self, patience: &Patience) {
        let quiet = self.quiet.load(Relaxed).saturating_add(1);
        self.quiet.store(quiet, Relaxed);
        match self.phase() {
            Phase::Head if quiet > JUST_COME && self.is_draining() && self.is_silent() => {
                self.tell(Order::Close);
            }
            Phase::Head if quiet > patience.head => self.tell(Order::TimedOut),
            Phase::Idle if quiet > patience.idle => self.tell(Order::Close),
            Phase::Idle if quiet == REST_AFTER && !self.takes_nothing() => {
                self.rests.store(true, Relaxed);
                self.wake();
            }
            Phase::Lingering if quiet > patience.linger => self.tell(Order::Close),
            Phase::Serving | Phase::Answering => self.sweep_active(quiet, patience),
            Phase::Streams => self.sweep_streams(quiet, patience),
            Phase::Head | Phase::Idle | Phase::Lingering | Phase::Tunnel => {}
        }
    }

    fn sweep_active(&self, quiet: u32, patience: &Patience) {
        let stalled = self.wants_read.load(Relaxed) || self.takes_nothing();
        if stalled && quiet > patience.body {
            return self.tell(Order::TimedOut);
        }
        if self.half_closed.load(Relaxed) {
            let ended = self.ended.load(Relaxed).saturating_add(1);
            self.ended.store(ended, Relaxed);
            if ended > patience.half_close {
                self.tell(Order::Close);
            }
        } else if !stalled {
            self.probe.store(true, Relaxed);
            self.wake();
        }
    }

    /// Without a request it ends like an idle connection, with a GOAWAY first; with
    /// some it ends when the client takes nothing of what is sent.
    fn sweep_streams(&self, quiet: u32, patience: &Patience) {
        if self.streams.load(Relaxed) > 0 {
            if self.takes_nothing() && quiet > patience.body {
                self.tell(Order::Close);
            }
        } else if quiet > patience.idle.saturating_add(patience.linger) {
            self.tell(Order::Close);
        } else if quiet > patience.idle {
            self.drain();
        }
    }

    /// Whether the socket takes no more of what is to be sent.
    pub(crate) fn takes_nothing(&self) -> bool {
        self.wants_write.load(Relaxed) || self.wants_flush.load(Relaxed)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}
