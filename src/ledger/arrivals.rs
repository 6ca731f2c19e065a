//! Visitors who arrived at one event, by what they are: a count for each word of
//! each sort, never for their combinations.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

use crate::metrics::{self as names, Metrics, Name};
use crate::tracking::Tallies;
use crate::visitor::profile::{Access, Browser, Device, Profile, Source, System};
use crate::visitor::region::Country;

/// Whether a visitor was here before, as far as it shows.
const VISITS: &[&str] = &["new", "returning"];

/// The sorts of words: the metric, its label (and name in the API), the words.
const SORTS: [(&Name, &str, &[&str]); 7] = [
    (&names::ARRIVALS, "visit", VISITS),
    (&names::ARRIVALS_BY_ACCESS, "access", Access::WORDS),
    (&names::ARRIVALS_BY_SOURCE, "source", Source::WORDS),
    (&names::ARRIVALS_BY_DEVICE, "device", Device::WORDS),
    (&names::ARRIVALS_BY_OS, "os", System::WORDS),
    (&names::ARRIVALS_BY_BROWSER, "browser", Browser::WORDS),
    (&names::ARRIVALS_BY_COUNTRY, "country", Country::WORDS),
];

/// One event's arrivals. What nobody arrived at takes no room.
#[derive(Default)]
pub struct Arrivals(OnceLock<[Box<[Word]>; SORTS.len()]>);

#[derive(Default)]
struct Word {
    total: AtomicU64,
    counter: OnceLock<Counter>,
}

/// Somebody who arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// What it is.
    pub profile: Profile,
    /// Where its address is; `None` where no file tells.
    pub country: Option<Country>,
    /// It brought a pass or a ticket of this event that is over.
    pub returning: bool,
}

impl Arrivals {
    /// The sorts of words that arrivals are counted by.
    pub fn sorts() -> impl Iterator<Item = &'static str> {
        SORTS.into_iter().map(|(_, sort, _)| sort)
    }

    /// Counts one.
    pub fn count(&self, metrics: &Metrics, event: &str, arrival: &Arrival) {
        let Profile {
            access,
            source,
            device,
            system,
            browser,
        } = arrival.profile;
        let at = [
            usize::from(arrival.returning),
            access as usize,
            source as usize,
            device as usize,
            system as usize,
            browser as usize,
            // Beyond all words: it is not counted.
            arrival.country.map_or(usize::MAX, Country::number),
        ];
        let counts = self.0.get_or_init(|| {
            SORTS.map(|(_, _, words)| words.iter().map(|_| Word::default()).collect())
        });
        for (((name, label, words), of_sort), at) in SORTS.iter().zip(counts).zip(at) {
            let (Some(word), Some(seen)) = (words.get(at), of_sort.get(at)) else {
                continue;
            };
            seen.total.fetch_add(1, Ordering::Relaxed);
            let counter = || metrics.counter(name, &[("event", event), (label, word)]);
            seen.counter.get_or_init(counter).increment(1);
        }
    }

    /// All that was counted by this process.
    #[must_use]
    pub fn totals(&self) -> Tallies {
        let mut totals = Tallies::default();
        for ((_, sort, words), counted) in SORTS.iter().zip(self.0.get().into_iter().flatten()) {
            for (word, counted) in words.iter().zip(counted.iter()) {
                let total = counted.total.load(Ordering::Relaxed);
                if total > 0 {
                    totals.count(sort, word, total);
                }
            }
        }
        totals
    }
}
