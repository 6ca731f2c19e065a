//! The line, counted once for each look at the store.
//!
//! A million people ask where they stand between two looks; each answer is a
//! lookup here and one word's bits, whatever the length of the line. A place
//! is exact on the pages that were read and by density behind them.

use super::pages::{BUCKET_NUMBERS, Bits, PAGE_NUMBERS};
use super::snapshot::Snapshot;
use super::ticket::Number;

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many living tickets stand before, plus one.
    pub position: u64,
    /// How many stand behind.
    pub behind: u64,
    /// Whether the position is counted by density, not one by one.
    pub about: bool,
}

/// Who waits at one look, counted.
#[derive(Clone, Debug)]
pub struct Census {
    called: Number,
    issued: Number,
    /// Called numbers whose offers stand, in order.
    offers: Vec<Number>,
    /// The pages from the watermark on, in order.
    pages: Vec<Page>,
    /// Living tickets that are not called.
    waiting: u64,
}

/// A page of the line.
#[derive(Clone, Debug)]
struct Page {
    /// Which one.
    at: u64,
    /// Living tickets between the watermark and this page.
    before: u64,
    /// Whether a page up to this one is counted by density.
    about: bool,
    living: Living,
}

#[derive(Clone, Debug)]
enum Living {
    /// Read: its bits, and how many are set before each of its words.
    Read(Bits, Box<[u32]>),
    /// Counted per bucket.
    Counted([u16; 8]),
}

impl Living {
    fn read(bits: &Bits) -> Self {
        let mut sum = 0;
        let before = bits.words().map(|word| {
            let before = sum;
            sum += word.count_ones();
            before
        });
        let before = before.collect();
        Self::Read(bits.clone(), before)
    }

    /// How many live before a bit, which may be one past the last.
    fn before(&self, bit: usize) -> u64 {
        match self {
            Self::Read(bits, before) => match before.get(bit / 64) {
                Some(words) => u64::from(*words) + bits.count(bit / 64 * 64, bit),
                None => bits.count(0, PAGE_NUMBERS),
            },
            Self::Counted(row) => by_density(row, bit),
        }
    }

    fn between(&self, from: usize, to: usize) -> u64 {
        self.before(to).saturating_sub(self.before(from))
    }
}

/// Whole buckets as counted, the bucket that the bound cuts in proportion.
fn by_density(row: &[u16; 8], to: usize) -> u64 {
    row.iter()
        .enumerate()
        .map(|(index, living)| {
            let covered = to.saturating_sub(index * BUCKET_NUMBERS);
            let covered = covered.min(BUCKET_NUMBERS);
            (usize::from(*living) * covered / BUCKET_NUMBERS) as u64
        })
        .sum()
}

impl Census {
    /// Counts the line of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let meta = &snapshot.meta;
        let standing = snapshot.offers.iter();
        let standing = standing.filter(|(_, due)| *due > snapshot.now());
        let mut census = Self {
            called: meta.called,
            issued: meta.issued,
            offers: standing.map(|(number, _)| *number).collect(),
            pages: Vec::new(),
            waiting: 0,
        };
        census.offers.sort_unstable();
        let mut about = false;
        for page in &snapshot.pages {
            if *page < meta.called.page() || *page > meta.issued.page() {
                continue;
            }
            let read = snapshot.front.iter().find(|(front, _)| front == page);
            let living = if let Some((_, bits)) = read {
                Living::read(bits)
            } else {
                about = true;
                Living::Counted(snapshot.density.get(page).copied().unwrap_or_default())
            };
            let page = Page {
                at: *page,
                before: census.waiting,
                about,
                living,
            };
            census.waiting += census.on_page(&page, meta.issued);
            census.pages.push(page);
        }
        census
    }

    /// Living tickets of a page from the watermark up to `number`.
    fn on_page(&self, page: &Page, number: Number) -> u64 {
        let within = |number: Number, whole: usize| {
            if number.page() == page.at {
                number.bit()
            } else {
                whole
            }
        };
        let (from, to) = (within(self.called, 0), within(number, PAGE_NUMBERS));
        page.living.between(from, to)
    }

    /// Living tickets that are not called.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Where a number stands. A called one stands among those whose offers stand.
    #[must_use]
    pub fn place(&self, number: Number) -> Place {
        let offers = self.offers.partition_point(|offered| *offered < number) as u64;
        if number < self.called {
            return Place {
                position: offers + 1,
                behind: self.waiting,
                about: false,
            };
        }
        let (before, about) = if number < self.issued {
            self.living_before(number)
        } else {
            (
                self.waiting,
                self.pages.last().is_some_and(|page| page.about),
            )
        };
        Place {
            position: offers + before + 1,
            behind: self.waiting.saturating_sub(before + 1),
            about,
        }
    }

    /// Living tickets from the watermark up to `number`, and whether the count
    /// is by density.
    fn living_before(&self, number: Number) -> (u64, bool) {
        let at = self.pages.partition_point(|page| page.at <= number.page());
        let Some(page) = at.checked_sub(1).and_then(|at| self.pages.get(at)) else {
            return (0, false);
        };
        (page.before + self.on_page(page, number), page.about)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::admission::tests::{line, meta};
    use crate::room::time::Timestamp;

    #[test]
    fn a_position_counts_only_the_living_before_it() {
        let mut meta = meta();
        (meta.called, meta.issued) = (Number(3), Number(50));
        let census = Census::of(&line(meta, 0, &[1, 5, 9, 30]));
        let place = census.place(Number(30));
        assert_eq!((place.position, place.behind, place.about), (3, 0, false));
        assert_eq!(census.waiting(), 3);
    }

    #[test]
    fn behind_the_front_pages_a_position_is_by_density() {
        let mut meta = meta();
        meta.issued = Number(4 * 65_536);
        let mut snapshot = line(meta, 0, &[1, 2, 65_537]);
        snapshot.pages = vec![0, 1, 2];
        snapshot
            .density
            .insert(2, [8_000, 4_000, 0, 0, 0, 0, 0, 100]);
        let place = Census::of(&snapshot).place(Number::at(2, 8_192 + 4_096));
        assert_eq!((place.position, place.about), (3 + 8_000 + 2_000 + 1, true));
    }

    #[test]
    fn who_is_called_stands_among_the_offers_that_stand() {
        let mut meta = meta();
        (meta.called, meta.issued) = (Number(10), Number(50));
        let mut snapshot = line(meta, 0, &[20]);
        let (over, stands) = (snapshot.now(), Timestamp(snapshot.now().0 + 1));
        snapshot.offers = vec![(Number(7), stands), (Number(2), over), (Number(4), stands)];
        let census = Census::of(&snapshot);
        assert_eq!(census.place(Number(7)).position, 2);
        assert_eq!(census.place(Number(20)).position, 3);
    }

    proptest! {
        /// What is looked up is what counting one by one gives.
        #[test]
        fn a_lookup_agrees_with_counting(
            living in prop::collection::btree_set(0_u64..131_072, 0..400),
            called in 0_u64..131_072,
            asked in 0_u64..131_072,
        ) {
            let living: Vec<u64> = living.into_iter().collect();
            let mut meta = meta();
            (meta.called, meta.issued) = (Number(called), Number(131_072));
            let census = Census::of(&line(meta, 0, &living));
            let between = |from, to| living.iter().filter(|n| (from..to).contains(*n)).count() as u64;
            prop_assert_eq!(census.waiting(), between(called, u64::MAX));
            if asked >= called {
                let place = census.place(Number(asked));
                prop_assert_eq!(place.position, between(called, asked) + 1);
            }
        }
    }
}
