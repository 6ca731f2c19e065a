//! Coarse deadlines for one data thread. A tokio timer per request costs a few
//! percent of a proxied request; here a deadline is a number in a slot, and one
//! task looks at all slots each tick, so that arming one costs next to nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Counts ticks and wakes those whose tick has come. One per data thread and origin.
pub struct Ticker {
    length: Duration,
    now: Cell<u32>,
    slots: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    /// The tick to wake at; `u32::MAX` while nobody waits.
    due: u32,
    waker: Option<Waker>,
}

/// One deadline that can be moved. It takes a slot when first waited for and
/// gives it back when dropped.
pub struct Alarm {
    ticker: Rc<Ticker>,
    slot: Option<usize>,
}

impl Ticker {
    /// A ticker whose tick lasts `length`; somebody must call [`Ticker::advance`] that often.
    #[must_use]
    pub fn new(length: Duration) -> Rc<Self> {
        Rc::new(Self {
            length,
            now: Cell::new(0),
            slots: RefCell::default(),
        })
    }

    /// The present tick.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.now.get()
    }

    /// `wait` in ticks, rounded up, and one more because the
    /// present tick has partly gone: late by up to one tick, never early.
    #[must_use]
    pub fn ticks(&self, wait: Duration) -> u32 {
        let ticks = wait.as_nanos().div_ceil(self.length.as_nanos().max(1));
        u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Lets one tick pass and wakes whoever is due.
    pub fn advance(&self) {
        let now = self.now().saturating_add(1);
        self.now.set(now);
        let mut slots = self.slots.borrow_mut();
        for slot in &mut slots.all {
            if slot.due <= now {
                slot.due = u32::MAX;
                // Waking only schedules the task, so nothing can come back into this borrow.
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

impl Alarm {
    /// An alarm that rings for nobody yet.
    #[must_use]
    pub fn new(ticker: Rc<Ticker>) -> Self {
        Self { ticker, slot: None }
    }

    /// The ticker it listens to.
    #[must_use]
    pub fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// Ready once tick `due` has come; otherwise the task is woken then.
    pub fn poll_until(&mut self, due: u32, context: &Context<'_>) -> Poll<()> {
        if self.ticker.now() >= due {
            return Poll::Ready(());
        }
        let mut slots = self.ticker.slots.borrow_mut();
        let key = *self.slot.get_or_insert_with(|| slots.take());
        if let Some(slot) = slots.all.get_mut(key) {
            slot.due = due;
            match &mut slot.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.slot {
            self.ticker.slots.borrow_mut().give_back(key);
        }
    }
}

impl Slots {
    fn take(&mut self) -> usize {
        if let Some(key) = self.free.pop() {
            return key;
        }
        self.all.push(Slot {
            due: u32::MAX,
            waker: None,
        });
        self.all.len() - 1
    }

    fn give_back(&mut self, key: usize) {
        if let Some(slot) = self.all.get_mut(key) {
            slot.due = u32::MAX;
            slot.waker = None;
            self.free.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_at_its_tick_and_not_before() {
        let ticker = Ticker::new(Duration::from_millis(10));
        let context = Context::from_waker(Waker::noop());
        let mut alarm = Alarm::new(Rc::clone(&ticker));
        let due = ticker.ticks(Duration::from_millis(15));
        assert_eq!(due, 3);
        for _ in 0..2 {
            ticker.advance();
            assert!(alarm.poll_until(due, &context).is_pending());
        }
        ticker.advance();
        assert!(alarm.poll_until(due, &context).is_ready());
    }

    #[test]
    fn slots_are_used_again() {
        let ticker = Ticker::new(Duration::from_millis(10));
        let context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            let mut alarm = Alarm::new(Rc::clone(&ticker));
            assert!(alarm.poll_until(5, &context).is_pending());
        }
        assert_eq!(ticker.slots.borrow().all.len(), 1);
    }
}
