//! Visitors who arrived at one event, by what they are: a count for each word of
//! each sort, never for their combinations.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use serde::{Deserialize, Serialize};

use crate::metrics::{self as names, Metrics, Name};
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
                    let sort = totals.0.entry((*sort).to_owned()).or_default();
                    sort.insert((*word).to_owned(), total);
                }
            }
        }
        totals
    }
}

/// How often each word of each sort was met; words that were not are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies(BTreeMap<String, BTreeMap<String, u64>>);

impl Tallies {
    /// What came to it since it stood so.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self::default();
        for (sort, words) in &self.0 {
            let earlier = before.0.get(sort);
            for (word, count) in words {
                let earlier = earlier.and_then(|words| words.get(word));
                let came = count.saturating_sub(earlier.copied().unwrap_or_default());
                if came > 0 {
                    let sort = since.0.entry(sort.clone()).or_default();
                    sort.insert(word.clone(), came);
                }
            }
        }
        since
    }

    /// Adds others to it, those that are of our words.
    pub fn add(&mut self, others: &Self) {
        for (_, sort, words) in SORTS {
            let Some(counts) = others.0.get(sort) else {
                continue;
            };
            let own = self.0.entry(sort.to_owned()).or_default();
            for (word, count) in counts
                .iter()
                .filter(|(word, _)| words.contains(&word.as_str()))
            {
                let sum = own.entry(word.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Maps of texts and numbers can always be written.
        rmp_serde::to_vec(self).unwrap_or_default()
    }

    /// What was kept; `None` for what is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(words: &[(&str, &str, u64)]) -> Tallies {
        let mut tallies = Tallies::default();
        for (sort, word, count) in words {
            let sort = tallies.0.entry((*sort).to_owned()).or_default();
            sort.insert((*word).to_owned(), *count);
        }
        tallies
    }

    #[test]
    fn what_came_since_is_kept_and_added_up_by_our_own_words_alone() {
        let before = tallies(&[("device", "mobile", 3), ("os", "ios", 1)]);
        let now = tallies(&[
            ("device", "mobile", 5),
            ("device", "tv", 1),
            ("os", "ios", 1),
        ]);
        let since = now.since(&before);
        assert_eq!(
            since,
            tallies(&[("device", "mobile", 2), ("device", "tv", 1)])
        );
        assert_eq!(Tallies::decode(&since.encode()), Some(since.clone()));
        assert_eq!(Tallies::decode(b"\xff nothing"), None);
        let mut sum = since;
        sum.add(&tallies(&[
            ("device", "mobile", u64::MAX),
            ("device", "<b>", 1),
            ("x", "y", 1),
        ]));
        let expected = tallies(&[("device", "mobile", u64::MAX), ("device", "tv", 1)]);
        assert_eq!(sum, expected);
    }
}
