//! The tickets that this gateway heard from, as bits: what is still to be
//! told to the store, and what two windows remember.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::room::pages::{Bits, PAGE_NUMBERS};
use crate::room::ticket::Number;

/// A page of bits that many threads set at once.
struct AtomicPage(Box<[AtomicU64]>);

impl AtomicPage {
    fn new() -> Self {
        Self((0..PAGE_NUMBERS / 64).map(|_| AtomicU64::new(0)).collect())
    }

    fn of(bits: &Bits) -> Self {
        let page = Self::new();
        for bit in bits.ones(0) {
            page.set(bit);
        }
        page
    }

    fn set(&self, bit: usize) {
        if let Some(word) = self.0.get(bit / 64) {
            let mask = 1 << (63 - bit % 64);
            // Most polls come from tickets heard from already.
            if word.load(Ordering::Relaxed) & mask == 0 {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    fn clear_below(&self, bit: usize) {
        for (index, word) in self.0.iter().enumerate().take(bit / 64 + 1) {
            let kept = if index < bit / 64 {
                0
            } else {
                u64::MAX >> (bit % 64)
            };
            word.fetch_and(kept, Ordering::Relaxed);
        }
    }

    fn bits(&self) -> Bits {
        Bits::from_words(self.0.iter().map(|word| word.load(Ordering::Relaxed)))
    }
}

type Pages = BTreeMap<u64, Arc<AtomicPage>>;

fn memory_of(pages: &Pages) -> Vec<(u64, Bits)> {
    pages
        .iter()
        .map(|(page, bits)| (*page, bits.bits()))
        .collect()
}

#[derive(Default)]
struct Windows {
    window: u64,
    now: Pages,
    before: Pages,
    untold: Pages,
}

/// The tickets heard from.
#[derive(Default)]
pub struct Heard {
    windows: RwLock<Windows>,
    spent: Mutex<BTreeMap<u64, Bits>>,
}

impl Heard {
    /// A ticket was heard from.
    pub fn hear(&self, number: Number) {
        let (page, bit) = (number.page(), number.bit());
        {
            let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
            if let (Some(now), Some(untold)) = (windows.now.get(&page), windows.untold.get(&page)) {
                now.set(bit);
                untold.set(bit);
                return;
            }
        }
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let windows = &mut *windows;
        for pages in [&mut windows.now, &mut windows.untold] {
            pages
                .entry(page)
                .or_insert_with(|| Arc::new(AtomicPage::new()))
                .set(bit);
        }
    }

    /// A number was claimed or given back.
    pub fn spend(&self, number: Number) {
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(number.page())
            .or_default()
            .set(number.bit());
    }

    /// Whether a number is known to be claimed or given back.
    #[must_use]
    pub fn is_spent(&self, number: Number) -> bool {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent
            .get(&number.page())
            .is_some_and(|page| page.get(number.bit()))
    }

    /// What the store has not been told yet; it counts as told from here on.
    #[must_use]
    pub fn take_untold(&self) -> Vec<(u64, Bits)> {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let untold = std::mem::take(&mut windows.untold);
        drop(windows);
        memory_of(&untold)
    }

    /// Telling failed: it is to be told again.
    pub fn put_back(&self, pages: &[(u64, Bits)]) {
        for (page, bits) in pages {
            for bit in bits.ones(0) {
                self.hear(Number::at(*page, bit));
            }
        }
    }

    /// Follows the store's window, and forgets the spent pages that `keeps` does not
    /// name: nobody on them may claim any more.
    pub fn turn(&self, window: u64, keeps: impl Fn(u64) -> bool) {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        if window != windows.window {
            let now = std::mem::take(&mut windows.now);
            windows.before = if window == windows.window + 1 {
                now
            } else {
                // A store begun anew counts its windows anew: nothing heard
                // lately may be forgotten by that.
                let mut both = std::mem::take(&mut windows.before);
                both.extend(now);
                both
            };
            windows.window = window;
        }
        drop(windows);
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|page, _| keeps(*page));
    }

    /// Everything remembered: living pages of both windows, and spent ones.
    #[must_use]
    #[expect(clippy::type_complexity, reason = "two lists of pages")]
    pub fn memory(&self) -> (Vec<(u64, Bits)>, Vec<(u64, Bits)>) {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        let mut live: BTreeMap<u64, Bits> = BTreeMap::new();
        for pages in [&windows.before, &windows.now, &windows.untold] {
            for (page, bits) in memory_of(pages) {
                live.entry(page).or_default().or(&bits);
            }
        }
        drop(windows);
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = spent.iter().map(|(page, bits)| (*page, bits.clone()));
        (live.into_iter().collect(), spent.collect())
    }

    /// Takes in what an earlier process remembered. All of it counts as told:
    /// what lived then is not heard from now.
    pub(super) fn recall(&self, window: u64, live: Vec<(u64, Bits)>, spent: Vec<(u64, Bits)>) {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        windows.window = window;
        windows.now = live
            .into_iter()
            .map(|(page, bits)| (page, Arc::new(AtomicPage::of(&bits))))
            .collect();
        drop(windows);
        let mut known = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(spent);
    }

    /// Forgets who lived, but for those of whom the store was not told yet.
    pub(super) fn forget_told(&self) {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        windows.now.clear();
        windows.before.clear();
    }

    /// Forgets every place below `floor`: the operator's reset made them void. One
    /// above it was given since, by a gateway that had not heard of the reset.
    pub fn forget_below(&self, floor: Number) {
        let (page, bit) = (floor.page(), floor.bit());
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let windows = &mut *windows;
        for pages in [&mut windows.now, &mut windows.before, &mut windows.untold] {
            *pages = pages.split_off(&page);
            if let Some(first) = pages.get(&page) {
                first.clear_below(bit);
            }
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = spent.split_off(&page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_told_once_and_remembered_for_two_windows() {
        let heard = Heard::default();
        heard.hear(Number(7));
        heard.hear(Number(70_000));
        assert_eq!(heard.take_untold().len(), 2);
        assert_eq!(heard.take_untold().len(), 0);
        heard.turn(1, |_| true);
        assert_eq!(heard.memory().0.len(), 2);
        heard.turn(2, |_| true);
        assert_eq!(heard.memory().0.len(), 0);
    }

    #[test]
    fn what_could_not_be_told_is_told_again() {
        let heard = Heard::default();
        heard.hear(Number(7));
        let untold = heard.take_untold();
        heard.put_back(&untold);
        assert_eq!(heard.take_untold(), untold);
    }

    #[test]
    fn a_reset_forgets_the_places_below_its_floor_and_no_others() {
        let heard = Heard::default();
        let page = 3 * 65_536;
        for number in [7, page + 5, page + 70, page + 71, page + 200] {
            heard.hear(Number(number));
        }
        heard.turn(1, |_| true);
        heard.hear(Number(page + 69));
        heard.forget_below(Number(page + 70));
        let (live, _) = heard.memory();
        let numbers: Vec<u64> = live
            .iter()
            .flat_map(|(page, bits)| bits.ones(0).map(|bit| Number::at(*page, bit).0))
            .collect();
        assert_eq!(numbers, [page + 70, page + 71, page + 200]);
    }

    #[test]
    fn a_store_that_counts_its_windows_anew_makes_nobody_forgotten() {
        let heard = Heard::default();
        heard.turn(40, |_| true);
        heard.hear(Number(7));
        heard.turn(0, |_| true);
        let (live, _) = heard.memory();
        assert!(live.iter().any(|(page, bits)| *page == 0 && bits.get(7)));
    }
}
