//! The connections to one origin when they are limited, over all threads: who
//! may use one, in order of arrival, and who may open one. Whoever may use one
//! and has none on its own thread asks for one that rests elsewhere to be closed:
//! since the users are no more than the connections, there always is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most requests that wait for one origin's connections at once.
const WAITING_MAX: usize = 4_096;

/// The limit and what is left of it.
pub(crate) struct Slots {
    pub(crate) limit: usize,
    wait: Duration,
    uses: Arc<Semaphore>,
    open: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Connections at rest that somebody wants closed.
    wanted: AtomicUsize,
    /// Who waits to open one.
    openers: AtomicUsize,
    call: watch::Sender<()>,
}

/// How a request came by a connection.
#[derive(Debug)]
pub(crate) enum Entry {
    /// One was free.
    Free(OwnedSemaphorePermit),
    /// After a wait.
    Waited(OwnedSemaphorePermit),
    /// None came free in time.
    Late,
    /// Too many wait already.
    Crowded,
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// So many connections, for which a request waits so long.
    pub(crate) fn new(limit: usize, wait: Duration) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            wait,
            uses: Arc::new(Semaphore::new(limit)),
            open: Arc::new(Semaphore::new(limit)),
            waiting: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            openers: AtomicUsize::new(0),
            call: watch::Sender::new(()),
        }
    }

    /// Whether a request would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.uses.available_permits() == 0
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The right to use a connection, in order of arrival. Who drops the future
    /// has left the line.
    pub(crate) async fn enter(&self) -> Entry {
        if let Ok(permit) = Arc::clone(&self.uses).try_acquire_owned() {
            return Entry::Free(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Entry::Crowded;
        }
        let turn = Arc::clone(&self.uses).acquire_owned();
        match tokio::time::timeout(self.wait, turn).await {
            Ok(Ok(permit)) => Entry::Waited(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Entry::Late,
        }
    }

    /// The right to open a connection; for one who may use one.
    pub(crate) async fn open(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() {
            return Some(permit);
        }
        self.openers.fetch_add(1, Ordering::AcqRel);
        let _opener = Opener(self);
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.call.send_replace(());
        Arc::clone(&self.open).acquire_owned().await.ok()
    }

    /// Hears when connections at rest are wanted.
    pub(crate) fn calls(&self) -> watch::Receiver<()> {
        self.call.subscribe()
    }

    /// Whether one more connection at rest is to be closed; it counts as done.
    pub(crate) fn gives_one_up(&self) -> bool {
        let less = |wanted: usize| wanted.checked_sub(1);
        self.wanted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
    }
}

/// One who wants to open a connection. What nobody wants any more, because another
/// connection ended or its visitor left, is no reason to close one.
struct Opener<'a>(&'a Slots);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        let slots = self.0;
        slots.openers.fetch_sub(1, Ordering::AcqRel);
        // Looked at anew whenever somebody else has come to want one meanwhile.
        let more = |wanted: usize| {
            let left = slots.openers.load(Ordering::Acquire);
            (wanted > left).then_some(left)
        };
        let _none_too_many = slots
            .wanted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_served_in_order_and_who_leaves_is_passed_over() {
        let slots = Arc::new(Slots::new(1, Duration::from_secs(60)));
        let Entry::Free(held) = slots.enter().await else {
            panic!("nobody was there")
        };
        assert!(slots.is_full());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (line, tell) = (Arc::clone(&slots), tell.clone());
            tasks.push(tokio::spawn(async move {
                let entry = line.enter().await;
                assert!(matches!(entry, Entry::Waited(_)), "{entry:?}");
                tell.send(number).unwrap();
            }));
            while slots.waiting() <= number {
                tokio::task::yield_now().await;
            }
        }
        tasks[1].abort();
        while slots.waiting() > 2 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert_eq!(told.recv().await, Some(0));
        assert_eq!(told.recv().await, Some(2));
        assert_eq!(slots.waiting(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_said() {
        let slots = Slots::new(1, Duration::ZERO);
        let _held = slots.enter().await;
        assert!(matches!(slots.enter().await, Entry::Late));
        assert_eq!(slots.waiting(), 0);
    }

    #[tokio::test]
    async fn one_that_rests_is_closed_for_one_who_may_use_it() {
        let slots = Arc::new(Slots::new(1, Duration::from_secs(60)));
        let resting = slots.open().await.unwrap();
        let mut calls = slots.calls();
        let opening = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.open().await.is_some() }
        });
        calls.changed().await.unwrap();
        assert!(slots.gives_one_up());
        assert!(!slots.gives_one_up(), "once is enough");
        drop(resting);
        assert!(opening.await.unwrap());
    }

    #[tokio::test]
    async fn nothing_is_closed_for_one_who_has_left() {
        let slots = Arc::new(Slots::new(1, Duration::from_secs(60)));
        let _resting = slots.open().await.unwrap();
        let mut calls = slots.calls();
        let opening = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.open().await.is_some() }
        });
        calls.changed().await.unwrap();
        opening.abort();
        assert!(opening.await.unwrap_err().is_cancelled());
        assert!(!slots.gives_one_up());
    }
}
