//! What one crowd went through, counted by the visitors themselves: from
//! outside, as people would, and in the same way with the gateway and without.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::summary::{Side, share};

/// The latency of the moment is that of the last few seconds.
const RECENT: Duration = Duration::from_secs(4);

/// One crowd's books.
pub(super) struct Tally {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    now: Counts,
    /// Pages of the last seconds, those waited for in vain included.
    recent: VecDeque<(Instant, Duration)>,
    /// All of these.
    all: Vec<Duration>,
    /// When each one arrived and came in, by arrival.
    entries: Vec<(Instant, Instant)>,
}

/// The counts of a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) arrived: u64,
    /// In line.
    pub(super) waiting: u64,
    /// Let in and not yet gone.
    pub(super) inside: u64,
    pub(super) inside_most: u64,
    pub(super) entered: u64,
    pub(super) ordered: u64,
    /// Went without buying, as they had meant to.
    pub(super) left: u64,
    /// Gave up on the shop.
    pub(super) lost: u64,
    pub(super) pages: u64,
    pub(super) failures: u64,
    pub(super) longest_wait: Duration,
}

/// What the picture shows of a crowd.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Glance {
    pub(super) counts: Counts,
    pub(super) inside_most: u64,
    /// Of the last seconds; `None` when nobody asked for a page.
    pub(super) median: Option<Duration>,
    pub(super) p95: Option<Duration>,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ordered,
    Left,
    Lost,
}

impl Tally {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::default(),
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self) {
        self.books().now.arrived += 1;
    }

    /// Somebody was given a place in line.
    pub(super) fn waits(&self) {
        self.books().now.waiting += 1;
    }

    /// Somebody gave up the place in line.
    pub(super) fn leaves_line(&self) {
        self.books().now.waiting -= 1;
    }

    /// Somebody who arrived at `since` is in.
    pub(super) fn entered(&self, since: Instant, waited: bool) {
        let mut books = self.books();
        let books = &mut *books;
        let now = &mut books.now;
        now.entered += 1;
        now.inside += 1;
        now.inside_most = now.inside_most.max(now.inside);
        if waited {
            now.waiting -= 1;
            now.longest_wait = now.longest_wait.max(since.elapsed());
        }
        books.entries.push((since, Instant::now()));
    }

    /// The last page is asked for, or nothing more.
    pub(super) fn going(&self) {
        self.books().now.inside -= 1;
    }

    pub(super) fn ended(&self, end: End) {
        let mut books = self.books();
        match end {
            End::Ordered => books.now.ordered += 1,
            End::Left => books.now.left += 1,
            End::Lost => books.now.lost += 1,
        }
    }

    /// A page came, or did not within a visitor's patience.
    pub(super) fn page(&self, took: Duration, in_vain: bool) {
        let mut books = self.books();
        books.now.pages += 1;
        books.now.failures += u64::from(in_vain);
        books.recent.push_back((Instant::now(), took));
        books.all.push(took);
    }

    /// An error came. However fast: it is no page, and has no latency.
    pub(super) fn error(&self) {
        let mut books = self.books();
        books.now.pages += 1;
        books.now.failures += 1;
    }

    pub(super) fn glance(&self) -> Glance {
        let mut books = self.books();
        while books
            .recent
            .front()
            .is_some_and(|(at, _)| at.elapsed() > RECENT)
        {
            books.recent.pop_front();
        }
        let mut recent: Vec<Duration> = books.recent.iter().map(|(_, took)| *took).collect();
        recent.sort_unstable();
        Glance {
            counts: books.now,
            inside_most: books.now.inside_most,
            median: share(&recent, 0.5),
            p95: share(&recent, 0.95),
        }
    }

    /// The whole wave, looked back upon.
    pub(super) fn side(&self) -> Side {
        let books = self.books();
        let mut all = books.all.clone();
        all.sort_unstable();
        let mut entries = books.entries.clone();
        entries.sort_unstable();
        let order: Vec<Instant> = entries.iter().map(|(_, entered)| *entered).collect();
        Side {
            arrived: books.now.arrived,
            entered: books.now.entered,
            waiting: books.now.waiting,
            ordered: books.now.ordered,
            left: books.now.left,
            gave_up: books.now.lost,
            pages: books.now.pages,
            failures: books.now.failures,
            median: share(&all, 0.5),
            p95: share(&all, 0.95),
            longest_wait: books.now.longest_wait,
            inside_most: books.now.inside_most,
            order: super::summary::kendall(&order),
        }
    }
}
