//! What happened in a slice of time, in a form that adds up over gateways and
//! into longer slices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::{CLASSES, Counts};
use super::tallies::Tallies;

/// Buckets of waits: up to a second, and each twice the one before.
pub const WAIT_BUCKETS: usize = 18;

/// Routes of a slice that is under way; all others are one.
const ROUTES_OPEN_MAX: usize = 512;

/// Routes of a slice that is kept: the heaviest.
const ROUTES_KEPT_MAX: usize = 64;

/// The form of a slice; another form is left out, not guessed at.
const VERSION: u8 = 1;

/// Counters of an event as they stand; what a slice has is their growth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Visitors who came and held nothing.
    pub arrivals: u64,
    /// Sessions begun without waiting.
    pub walk_ins: u64,
    /// Sessions begun by a called ticket.
    pub claims: u64,
    /// Sessions completed.
    pub completed: u64,
    /// Offers that lapsed unclaimed.
    pub abandoned: u64,
    /// Waits of those who got in, by [`wait_bucket`].
    pub waits: [u64; WAIT_BUCKETS],
}

/// A slice of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// What the event's counters grew by.
    pub totals: Totals,
    /// Most who waited at once.
    pub waiting_peak: u64,
    /// Most sessions at once.
    pub inside_peak: u64,
    /// Who arrived, by what they are.
    pub arrived: Tallies,
    /// Each route that was kept.
    pub routes: BTreeMap<String, Counts>,
    /// All others.
    pub other: Counts,
}

/// The bucket of a wait, in seconds.
#[must_use]
pub fn wait_bucket(seconds: u64) -> usize {
    let bits = u64::BITS - seconds.saturating_sub(1).leading_zeros();
    usize::try_from(bits)
        .unwrap_or(WAIT_BUCKETS)
        .min(WAIT_BUCKETS - 1)
}

/// The longest wait of a bucket, in seconds.
#[must_use]
pub fn wait_bound(bucket: usize) -> u64 {
    1 << bucket.min(WAIT_BUCKETS - 1)
}

impl Totals {
    /// Adds growth.
    pub fn add(&mut self, more: &Self) {
        self.each(more, u64::saturating_add);
    }

    /// What these have more than `before`; a counter that began anew has all.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut grown = self.clone();
        grown.each(before, |now, before| now.checked_sub(before).unwrap_or(now));
        grown
    }

    fn each(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.arrivals, other.arrivals),
            (&mut self.walk_ins, other.walk_ins),
            (&mut self.claims, other.claims),
            (&mut self.completed, other.completed),
            (&mut self.abandoned, other.abandoned),
        ];
        let waits = self.waits.iter_mut().zip(other.waits);
        for (own, other) in pairs.into_iter().chain(waits) {
            *own = change(*own, other);
        }
    }
}

impl Slice {
    /// Whether nothing happened, and nobody was there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts at a route.
    pub fn count(&mut self, route: &str, counts: &Counts) {
        if let Some(known) = self.routes.get_mut(route) {
            known.add(counts);
        } else if self.routes.len() < ROUTES_OPEN_MAX {
            self.routes.insert(route.to_owned(), counts.clone());
        } else {
            self.other.add(counts);
        }
    }

    /// Adds what happened later.
    pub fn follow(&mut self, later: &Self) {
        self.add(later);
        self.waiting_peak = self.waiting_peak.max(later.waiting_peak);
        self.inside_peak = self.inside_peak.max(later.inside_peak);
    }

    /// Adds what another gateway counted in the same time. Who waits and who is
    /// inside all gateways see alike.
    pub fn join(&mut self, beside: &Self) {
        self.follow(beside);
    }

    fn add(&mut self, more: &Self) {
        self.totals.add(&more.totals);
        self.arrived.add(&more.arrived);
        for (route, counts) in &more.routes {
            self.count(route, counts);
        }
        self.other.add(&more.other);
    }

    /// All routes together.
    #[must_use]
    pub fn all_routes(&self) -> Counts {
        let mut all = self.other.clone();
        self.routes.values().for_each(|counts| all.add(counts));
        all
    }

    /// As it is kept: of its routes the heaviest, the rest as one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut routes: Vec<(&String, &Counts)> = self.routes.iter().collect();
        routes.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.requests()), *name));
        let mut other = self.other.clone();
        let rest = routes.split_off(routes.len().min(ROUTES_KEPT_MAX));
        for (_, counts) in &rest {
            other.add(counts);
        }
        let kept = Kept {
            version: VERSION,
            totals: self.totals.clone(),
            peaks: [self.waiting_peak, self.inside_peak],
            routes: routes
                .into_iter()
                .map(|(name, counts)| (name.clone(), Row::of(counts)))
                .collect(),
            other: Row::of(&other),
            arrived: self.arrived.clone(),
        };
        // Plain numbers and texts: there is nothing that the form has not.
        rmp_serde::to_vec(&kept).unwrap_or_default()
    }

    /// What was kept; `None`: it is damaged, or of another form.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = rmp_serde::from_slice(bytes).ok()?;
        if kept.version != VERSION {
            return None;
        }
        let [waiting_peak, inside_peak] = kept.peaks;
        let mut slice = Self {
            totals: kept.totals,
            waiting_peak,
            inside_peak,
            other: kept.other.counts(),
            arrived: kept.arrived,
            ..Self::default()
        };
        for (name, row) in kept.routes {
            slice.count(&name, &row.counts());
        }
        Some(slice)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u8,
    totals: Totals,
    peaks: [u64; 2],
    routes: Vec<(String, Row)>,
    other: Row,
    /// Slices of before have none.
    #[serde(default)]
    arrived: Tallies,
}

/// Counts in few bytes: most buckets of latency are empty.
#[derive(Serialize, Deserialize)]
struct Row {
    numbers: [u64; 7],
    answers: [u64; CLASSES],
    first_byte: Vec<(u8, u32)>,
}

impl Row {
    fn of(counts: &Counts) -> Self {
        let buckets = counts.first_byte.iter().enumerate();
        Self {
            numbers: [
                counts.views,
                counts.exposures,
                counts.refused,
                counts.conversions,
                counts.bytes,
                counts.busy_ms,
                counts.first_byte_us,
            ],
            answers: counts.answers,
            first_byte: buckets
                .filter(|(_, count)| **count > 0)
                .filter_map(|(at, count)| Some((u8::try_from(at).ok()?, *count)))
                .collect(),
        }
    }

    fn counts(&self) -> Counts {
        let [
            views,
            exposures,
            refused,
            conversions,
            bytes,
            busy_ms,
            first_byte_us,
        ] = self.numbers;
        let mut counts = Counts {
            views,
            exposures,
            refused,
            conversions,
            bytes,
            busy_ms,
            first_byte_us,
            answers: self.answers,
            ..Counts::default()
        };
        for (at, count) in &self.first_byte {
            if let Some(bucket) = counts.first_byte.get_mut(usize::from(*at)) {
                *bucket = *count;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(count: u64) -> Counts {
        let mut counts = Counts {
            answers: [0, count, 0, 0, 0],
            bytes: 7,
            ..Counts::default()
        };
        counts.first_byte(20_000);
        counts
    }

    fn slice() -> Slice {
        let mut slice = Slice {
            waiting_peak: 9,
            inside_peak: 4,
            ..Slice::default()
        };
        slice.totals.arrivals = 5;
        slice.totals.waits[3] = 2;
        slice.arrived.count("device", "mobile", 4);
        slice.count("/a", &answers(3));
        slice.other.add(&answers(1));
        slice
    }

    #[test]
    fn what_is_kept_comes_back() {
        assert_eq!(Slice::decode(&slice().encode()), Some(slice()));
        let mut bytes = slice().encode();
        bytes.truncate(bytes.len() / 2);
        assert_eq!(Slice::decode(&bytes), None);
        assert_eq!(Slice::decode(b""), None);
    }

    #[test]
    fn a_slice_of_before_arrivals_were_in_it_is_read() {
        #[derive(Serialize)]
        struct Before {
            version: u8,
            totals: Totals,
            peaks: [u64; 2],
            routes: Vec<(String, Row)>,
            other: Row,
        }
        let totals = Totals {
            arrivals: 5,
            ..Totals::default()
        };
        let before = Before {
            version: VERSION,
            totals,
            peaks: [1, 2],
            routes: Vec::new(),
            other: Row::of(&Counts::default()),
        };
        let slice = Slice::decode(&rmp_serde::to_vec(&before).unwrap()).unwrap();
        assert_eq!((slice.totals.arrivals, slice.inside_peak), (5, 2));
    }

    #[test]
    fn slices_add_up_and_peaks_do_not() {
        let mut sum = slice();
        sum.join(&slice());
        assert_eq!((sum.totals.arrivals, sum.totals.waits[3]), (10, 4));
        assert_eq!((sum.waiting_peak, sum.inside_peak), (9, 4));
        assert_eq!(sum.routes["/a"].answers[1], 6);
        assert_eq!(sum.all_routes().requests(), 8);
    }

    #[test]
    fn of_many_routes_the_heaviest_are_kept_and_nothing_is_lost() {
        let mut slice = Slice::default();
        for route in 0..2_000 {
            slice.count(&format!("/{route}"), &answers(1));
        }
        slice.count("/7", &answers(10));
        let kept = Slice::decode(&slice.encode()).unwrap();
        assert_eq!(kept.routes.len(), ROUTES_KEPT_MAX);
        assert_eq!(kept.routes["/7"].answers[1], 11);
        assert_eq!(kept.all_routes(), slice.all_routes());
        assert!(slice.encode().len() < 64 * 80, "{}", slice.encode().len());
    }

    #[test]
    fn totals_grow_and_begin_anew() {
        let (mut before, mut now) = (Totals::default(), Totals::default());
        (before.arrivals, now.arrivals) = (3, 8);
        (before.claims, now.claims) = (9, 2);
        let grown = now.since(&before);
        assert_eq!((grown.arrivals, grown.claims), (5, 2));
    }

    #[test]
    fn waits_fall_into_doubling_buckets() {
        for (seconds, bucket) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (1 << 40, 17),
        ] {
            assert_eq!(wait_bucket(seconds), bucket, "{seconds}");
        }
        assert_eq!((wait_bound(0), wait_bound(3)), (1, 8));
    }
}
