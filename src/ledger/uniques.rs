//! How many different visitors an event had in this minute, hour and day, and in
//! the ones before: sketches that all threads write to without a lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::sketch::{REGISTERS, Sketch, place};
use crate::room::time::Timestamp;

/// The lengths of what is counted over, in seconds: minute, hour, day (UTC).
pub(super) const SPANS: [u64; 3] = [60, 3_600, 86_400];

/// One event's sketches; where nobody came they take no room, else 24 KB.
#[derive(Default)]
pub struct Uniques {
    /// Of each span the present one and the one before, by whether its number is even.
    spans: OnceLock<Box<[[Window; 2]; SPANS.len()]>>,
    /// Held while a window is emptied.
    turning: Mutex<()>,
}

struct Window {
    /// When it began, Unix seconds; 0: never.
    start: AtomicU64,
    changed: AtomicBool,
    registers: [AtomicU8; REGISTERS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            start: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            registers: [const { AtomicU8::new(0) }; REGISTERS],
        }
    }
}

/// What was counted over a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its length in seconds.
    pub span: u64,
    /// When it began, Unix seconds.
    pub start: u64,
    /// Who was there.
    pub sketch: Sketch,
}

/// When the span began that a moment lies in, in Unix seconds.
#[must_use]
pub fn start_of(span: u64, seconds: u64) -> u64 {
    seconds - seconds % span.max(1)
}

impl Uniques {
    /// Somebody was heard from, by the hash of a name.
    pub fn hear(&self, hash: u64, now: Timestamp) {
        let spans = self.spans.get_or_init(Box::default);
        let (register, rank) = place(hash);
        for (span, windows) in SPANS.iter().zip(spans.iter()) {
            let start = start_of(*span, now.seconds());
            let [even, odd] = windows;
            let window = if (start / span).is_multiple_of(2) {
                even
            } else {
                odd
            };
            if self.is_at(window, start)
                && let Some(register) = window.registers.get(register)
                && register.load(Ordering::Relaxed) < rank
            {
                register.fetch_max(rank, Ordering::Relaxed);
                window.changed.store(true, Ordering::Release);
            }
        }
    }

    /// Whether a window is the one that began then; an older one is emptied for it.
    fn is_at(&self, window: &Window, start: u64) -> bool {
        let is = window.start.load(Ordering::Acquire);
        if is >= start {
            return is == start;
        }
        let _one = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        if window.start.load(Ordering::Acquire) < start {
            for register in &window.registers {
                register.store(0, Ordering::Relaxed);
            }
            window.changed.store(false, Ordering::Relaxed);
            window.start.store(start, Ordering::Release);
        }
        window.start.load(Ordering::Acquire) == start
    }

    fn windows(&self) -> impl Iterator<Item = (u64, &Window)> {
        let spans = self.spans.get().into_iter();
        let spans = spans.flat_map(|spans| SPANS.iter().zip(spans.iter()));
        let windows = spans.flat_map(|(span, windows)| windows.iter().map(|one| (*span, one)));
        windows.filter(|(_, window)| window.start.load(Ordering::Acquire) > 0)
    }

    /// What has changed since this was last asked.
    #[must_use]
    pub fn take_changed(&self) -> Vec<Counted> {
        let windows = self.windows();
        let changed = windows.filter(|(_, one)| one.changed.swap(false, Ordering::AcqRel));
        changed.map(|(span, window)| window.read(span)).collect()
    }

    /// It could not be kept: it has changed still.
    pub fn put_back(&self, counted: &Counted) {
        let mut windows = self.windows();
        let window = windows.find(|(span, window)| {
            *span == counted.span && window.start.load(Ordering::Acquire) == counted.start
        });
        if let Some((_, window)) = window {
            window.changed.store(true, Ordering::Release);
        }
    }

    /// Who was there in the span that began then, as far as this gateway heard.
    #[must_use]
    pub fn of(&self, span: u64, start: u64) -> Option<Sketch> {
        let mut windows = self.windows();
        let window = windows.find(|(length, window)| {
            *length == span && window.start.load(Ordering::Acquire) == start
        });
        window.map(|(span, window)| window.read(span).sketch)
    }

    /// Whether anybody ever came.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.spans.get().is_some()
    }
}

impl Window {
    fn read(&self, span: u64) -> Counted {
        let registers = self.registers.iter();
        Counted {
            span,
            start: self.start.load(Ordering::Acquire),
            sketch: Sketch::of(registers.map(|register| register.load(Ordering::Relaxed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sketch::hash;

    const DAY: u64 = 1_800_000_000 - 1_800_000_000 % 86_400;

    fn count(uniques: &Uniques, span: u64, second: u64) -> Option<u64> {
        let sketch = uniques.of(span, start_of(span, second));
        sketch.map(|sketch| sketch.count())
    }

    fn hear(uniques: &Uniques, names: std::ops::Range<u64>, second: u64) {
        for name in names {
            uniques.hear(hash(&name.to_be_bytes()), Timestamp(second * 1000));
        }
    }

    #[test]
    fn each_span_counts_its_own_and_the_one_before_stays_to_be_read() {
        let uniques = Uniques::default();
        assert!(!uniques.has_any());
        hear(&uniques, 0..5, DAY + 10);
        hear(&uniques, 0..5, DAY + 20);
        hear(&uniques, 3..9, DAY + 70);
        assert_eq!(count(&uniques, 60, DAY), Some(5));
        assert_eq!(count(&uniques, 60, DAY + 60), Some(6));
        assert_eq!(count(&uniques, 3_600, DAY), Some(9));
        assert_eq!(count(&uniques, 86_400, DAY), Some(9));
        hear(&uniques, 0..2, DAY + 130);
        assert_eq!(count(&uniques, 60, DAY), None, "two minutes ago");
        assert_eq!(count(&uniques, 60, DAY + 120), Some(2));
        // Who is told of too late changes nothing that is over.
        hear(&uniques, 50..60, DAY + 10);
        assert_eq!(count(&uniques, 60, DAY + 120), Some(2));
        hear(&uniques, 0..1, DAY + 86_400);
        assert_eq!(count(&uniques, 86_400, DAY + 86_400), Some(1));
        assert!(count(&uniques, 86_400, DAY).is_some_and(|count| count >= 9));
    }

    #[test]
    fn what_has_changed_is_told_once_and_again_when_it_could_not_be_kept() {
        let uniques = Uniques::default();
        hear(&uniques, 0..1, DAY);
        let changed = uniques.take_changed();
        let spans: Vec<_> = changed.iter().map(|one| (one.span, one.start)).collect();
        assert_eq!(spans, SPANS.map(|span| (span, DAY)));
        assert_eq!(uniques.take_changed(), []);
        hear(&uniques, 0..1, DAY + 1);
        assert_eq!(uniques.take_changed(), [], "nobody new");
        uniques.put_back(&changed[1]);
        assert_eq!(uniques.take_changed(), changed[1..2]);
    }

    #[test]
    fn threads_that_count_at_once_lose_nobody() {
        let uniques = Uniques::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let uniques = &uniques;
                scope.spawn(move || {
                    for minute in 0..3 {
                        let second = DAY + minute * 60;
                        hear(uniques, thread * 500..thread * 500 + 500, second);
                    }
                });
            }
        });
        let alone = Uniques::default();
        hear(&alone, 0..2_000, DAY);
        let day = |uniques: &Uniques| uniques.of(86_400, DAY);
        assert_eq!(day(&uniques), day(&alone));
    }
}
