//! What visitors see and what each page bears: routes found by themselves, and
//! counts for each of them.
//!
//! Each data thread counts in tables of its own ([`Recorder`]): no lock, no
//! line of another thread, nothing allocated for a route seen before. Once a
//! second it hands on what is new; the control thread puts it together
//! ([`Tracker`]). Both keep the heaviest routes (Space-Saving) and count the
//! rest as one, so that a million paths cost no more than a hundred.

mod counts;
mod fanout;
mod heavy;
mod naming;
mod pattern;
mod recorder;
mod rolls;
mod shown;
mod slice;
mod table;
mod tallies;
mod template;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use crate::room::event::EventId;

pub use counts::{CLASS_WORDS, CLASSES, Counts};
pub use naming::ROUTE_BYTES_MAX;
pub use pattern::Pattern;
pub use recorder::{Came, Recorder, Track};
pub use rolls::{Due, STEPS, Sight};
pub use slice::{Slice, Totals, WAIT_BUCKETS, wait_bound, wait_bucket};
pub use tallies::Tallies;
pub use tracker::Tracker;

/// Routes that are kept for each event, by each thread and by the gateway.
pub const ROUTES_MAX: usize = 256;

/// Routes that one thread keeps for all events together.
const THREAD_ROUTES_MAX: usize = 8_192;

/// What stands for all routes that are not kept. No route is called so: they
/// begin with a slash.
pub const OTHER: &str = "(other)";

/// A route that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which paths it is.
    pub pattern: Pattern,
    /// For this event alone.
    pub event: Option<EventId>,
}

/// What is tracked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Whether anything is.
    pub enabled: bool,
    /// The operator's routes, in order: the first that fits names a path.
    pub named: Arc<[Named]>,
    /// How long slices are kept, by [`STEPS`].
    pub keep: [Duration; STEPS.len()],
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            enabled: true,
            named: Arc::default(),
            keep: [2, 48, 90 * 24].map(|hours| Duration::from_secs(hours * 3_600)),
        }
    }
}

/// What a thread counted of one event since it last told.
struct Batch {
    thread: usize,
    event: EventId,
    routes: Vec<Told>,
    other: Counts,
}

/// The same of one route.
struct Told {
    name: Arc<str>,
    counts: Counts,
    /// Answers under way now.
    in_flight: u32,
    /// It is counted only where another thread has seen the route.
    is_hearsay: bool,
}
