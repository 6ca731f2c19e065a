//! Living tickets as bits: sparse pages of 65,536 numbers, two rotating windows.
//!
//! A ticket lives while its bit is set in this window or in the one before.
//! Each page remembers the window it was last turned to, so a turn costs
//! nothing: a page catches up when it is next touched, and until then a reader
//! knows which of its two windows still counts.

use std::collections::BTreeMap;

use super::ticket::Number;

/// Numbers on a page.
pub const PAGE_NUMBERS: usize = 65_536;

/// Numbers in a bucket of the density table: an eighth of a page.
pub const BUCKET_NUMBERS: usize = 8_192;

/// The most pages one store call carries.
pub const PAGES_PER_CALL: usize = 64;

const WORDS: usize = PAGE_NUMBERS / 64;

/// One page of bits. Bit 0 is the highest bit of the first byte, as in a
/// Redis bitmap, so bytes go to the store as they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Bits(Box<[u64]>);

impl Default for Bits {
    fn default() -> Self {
        Self(vec![0; WORDS].into_boxed_slice())
    }
}

impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ones(0)).finish()
    }
}

impl Bits {
    /// Sets a bit, 0 to 65,535; returns whether it was clear before.
    pub fn set(&mut self, bit: usize) -> bool {
        let mask = mask(bit);
        self.0.get_mut(bit / 64).is_some_and(|word| {
            let was_clear = *word & mask == 0;
            *word |= mask;
            was_clear
        })
    }

    /// Clears a bit, 0 to 65,535.
    pub fn clear(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word &= !mask(bit);
        }
    }

    /// Whether a bit is set.
    #[must_use]
    pub fn get(&self, bit: usize) -> bool {
        self.0
            .get(bit / 64)
            .is_some_and(|word| word & mask(bit) != 0)
    }

    /// Adds every bit of `other`.
    pub fn or(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Takes away every bit of `other`.
    pub fn minus(&mut self, other: &Self) {
        for (word, less) in self.0.iter_mut().zip(&other.0) {
            *word &= !less;
        }
    }

    /// Whether no bit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many bits are set from `from` up to, not including, `to`.
    #[must_use]
    pub fn count(&self, from: usize, to: usize) -> u64 {
        let to = to.min(PAGE_NUMBERS);
        if from >= to {
            return 0;
        }
        let (first, last) = (from / 64, (to - 1) / 64);
        let mut sum = 0;
        for (index, word) in self.0.iter().enumerate().skip(first).take(last - first + 1) {
            let mut word = *word;
            if index == first {
                word &= u64::MAX >> (from % 64);
            }
            if index == last && !to.is_multiple_of(64) {
                word &= !(u64::MAX >> (to % 64));
            }
            sum += u64::from(word.count_ones());
        }
        sum
    }

    /// The set bits from `from` on, in order.
    pub fn ones(&self, from: usize) -> impl Iterator<Item = usize> + '_ {
        self.0
            .iter()
            .enumerate()
            .skip(from / 64)
            .flat_map(move |(index, word)| {
                let mut rest = *word;
                if index == from / 64 {
                    rest &= u64::MAX >> (from % 64);
                }
                std::iter::from_fn(move || {
                    if rest == 0 {
                        return None;
                    }
                    let bit = rest.leading_zeros() as usize;
                    rest &= !(1 << (63 - bit));
                    Some(index * 64 + bit)
                })
            })
    }

    /// The page as a Redis bitmap, without trailing zero bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_be_bytes()).collect();
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        bytes.truncate(used);
        bytes
    }

    /// Reads a Redis bitmap; bytes beyond a page are ignored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut bits = Self::default();
        for (word, chunk) in bits.0.iter_mut().zip(bytes.chunks(8)) {
            let mut full = [0; 8];
            for (to, from) in full.iter_mut().zip(chunk) {
                *to = *from;
            }
            *word = u64::from_be_bytes(full);
        }
        bits
    }

    /// Builds a page from its 64-bit words, first number highest.
    pub fn from_words(words: impl Iterator<Item = u64>) -> Self {
        let mut bits = Self::default();
        for (to, from) in bits.0.iter_mut().zip(words) {
            *to = from;
        }
        bits
    }

    /// The 64-bit words, first number highest.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// Living numbers per 8,192, in order: the page's row of the density table.
    #[must_use]
    pub fn density(&self) -> [u16; 8] {
        let mut row = [0; 8];
        for (index, count) in row.iter_mut().enumerate() {
            let from = index * BUCKET_NUMBERS;
            *count = u16::try_from(self.count(from, from + BUCKET_NUMBERS)).unwrap_or(u16::MAX);
        }
        row
    }
}

fn mask(bit: usize) -> u64 {
    1 << (63 - bit % 64)
}

/// A page of two windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotating {
    /// The window this page was last turned to.
    pub turned: u64,
    slots: [Bits; 2],
}

impl Rotating {
    fn turn(&mut self, window: u64) {
        let [even, odd] = &mut self.slots;
        if window > self.turned + 1 {
            *even = Bits::default();
            *odd = Bits::default();
        } else if window == self.turned + 1 {
            *(if window.is_multiple_of(2) { even } else { odd }) = Bits::default();
        }
        self.turned = self.turned.max(window);
    }

    fn slot(&self, window: u64) -> &Bits {
        let [even, odd] = &self.slots;
        if window.is_multiple_of(2) { even } else { odd }
    }

    fn slot_mut(&mut self, window: u64) -> &mut Bits {
        let [even, odd] = &mut self.slots;
        if window.is_multiple_of(2) { even } else { odd }
    }

    /// What lives in `window`: heard from in it or in the one before.
    #[must_use]
    pub fn living(&self, window: u64) -> Bits {
        if window > self.turned + 1 {
            return Bits::default();
        }
        let mut bits = self.slot(self.turned).clone();
        if window <= self.turned {
            bits.or(self.slot(self.turned + 1));
        }
        bits
    }

    fn lives(&self, bit: usize, window: u64) -> bool {
        window <= self.turned + 1
            && (self.slot(self.turned).get(bit)
                || (window <= self.turned && self.slot(self.turned + 1).get(bit)))
    }
}

/// Sparse pages of two rotating windows. Nothing here ever loops from number
/// to number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    pages: BTreeMap<u64, Rotating>,
}

impl Windows {
    /// Marks a number as heard from in `window`.
    pub fn set(&mut self, number: Number, window: u64) {
        let page = self.turned_page(number.page(), window);
        page.slot_mut(window).set(number.bit());
    }

    /// Marks every number of `bits` on a page as heard from in `window`.
    pub fn or(&mut self, page: u64, bits: &Bits, window: u64) {
        self.turned_page(page, window).slot_mut(window).or(bits);
    }

    /// Forgets a number in both windows.
    pub fn clear(&mut self, number: Number) {
        if let Some(page) = self.pages.get_mut(&number.page()) {
            for slot in &mut page.slots {
                slot.clear(number.bit());
            }
        }
    }

    /// Forgets every number of `bits` on a page, in both windows.
    pub fn minus(&mut self, page: u64, bits: &Bits) {
        if let Some(page) = self.pages.get_mut(&page) {
            for slot in &mut page.slots {
                slot.minus(bits);
            }
        }
    }

    /// Whether a number was heard from in `window` or the one before.
    #[must_use]
    pub fn lives(&self, number: Number, window: u64) -> bool {
        self.pages
            .get(&number.page())
            .is_some_and(|page| page.lives(number.bit(), window))
    }

    /// What lives on a page.
    #[must_use]
    pub fn living(&self, page: u64, window: u64) -> Option<Bits> {
        self.pages.get(&page).map(|page| page.living(window))
    }

    /// The pages that exist, in order, with the window each was turned to.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pages
            .iter()
            .map(|(page, rotating)| (*page, rotating.turned))
    }

    /// Drops a page on which nothing can live in `window` any more; returns
    /// whether it was dropped.
    pub fn drop_dead(&mut self, page: u64, window: u64) -> bool {
        let dead = self
            .pages
            .get(&page)
            .is_some_and(|rotating| window > rotating.turned + 1);
        if dead {
            self.pages.remove(&page);
        }
        dead
    }

    /// One page with its windows, for the state file and for comparisons.
    #[must_use]
    pub fn page(&self, page: u64) -> Option<(u64, [&Bits; 2])> {
        self.pages
            .get(&page)
            .map(|rotating| (rotating.turned, rotating.slots.each_ref()))
    }

    /// Puts a page back as `page` gave it.
    pub fn insert(&mut self, page: u64, turned: u64, slots: [Bits; 2]) {
        self.pages.insert(page, Rotating { turned, slots });
    }

    /// Forgets everything.
    pub fn clear_all(&mut self) {
        self.pages.clear();
    }

    fn turned_page(&mut self, page: u64, window: u64) -> &mut Rotating {
        let page = self.pages.entry(page).or_insert_with(|| Rotating {
            turned: window,
            ..Rotating::default()
        });
        page.turn(window);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_lives_in_its_window_and_in_the_next_and_not_longer() {
        let mut windows = Windows::default();
        let number = Number(70_000);
        windows.set(number, 8);
        assert!(windows.lives(number, 8));
        assert!(windows.lives(number, 9));
        assert!(!windows.lives(number, 10));
    }

    #[test]
    fn a_page_turned_by_one_ticket_keeps_another_for_one_window() {
        let mut windows = Windows::default();
        windows.set(Number(1), 8);
        windows.set(Number(2), 9);
        assert!(windows.lives(Number(1), 9));
        windows.set(Number(3), 10);
        assert!(!windows.lives(Number(1), 10));
        assert!(windows.lives(Number(2), 10));
    }

    #[test]
    fn a_page_left_alone_for_long_starts_clean() {
        let mut windows = Windows::default();
        windows.set(Number(1), 8);
        windows.set(Number(2), 10);
        assert!(!windows.lives(Number(1), 10));
        assert_eq!(windows.living(0, 10).unwrap().count(0, PAGE_NUMBERS), 1);
    }

    #[test]
    fn counting_a_range_agrees_with_listing_it() {
        let mut bits = Bits::default();
        for bit in [0, 1, 63, 64, 65, 127, 128, 8_191, 8_192, 65_535] {
            bits.set(bit);
        }
        for (from, to) in [(0, 65_536), (1, 64), (64, 64), (63, 66), (8_192, 65_536)] {
            let listed = bits.ones(from).filter(|bit| *bit < to).count() as u64;
            assert_eq!(bits.count(from, to), listed, "{from}..{to}");
        }
    }

    #[test]
    fn bytes_are_a_redis_bitmap() {
        let mut bits = Bits::default();
        bits.set(0);
        bits.set(9);
        assert_eq!(bits.to_bytes(), vec![0x80, 0x40]);
        assert_eq!(Bits::from_bytes(&[0x80, 0x40]), bits);
    }

    #[test]
    fn a_dead_page_is_dropped_and_a_living_one_is_not() {
        let mut windows = Windows::default();
        windows.set(Number(1), 8);
        assert!(!windows.drop_dead(0, 9));
        assert!(windows.drop_dead(0, 10));
        assert_eq!(windows.pages().count(), 0);
    }
}
