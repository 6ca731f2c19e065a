//! Who was held a moment ago: a called ticket for which no slot is free asks
//! the store at most once a second, however often its bearer comes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::HELD;
use crate::room::event::EventId;
use crate::room::ticket::Number;
use crate::room::time::millis;

/// Tickets remembered before those of an earlier second are forgotten.
const TICKETS_MAX: usize = 16_384;

/// The tickets held, and when, in milliseconds of this machine's clock.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<(EventId, Number), u64>>);

impl Held {
    /// Whether this ticket was held within the last second.
    pub(super) fn lately(&self, event: &EventId, number: Number, now_ms: u64) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&(event.clone(), number))
            .is_some_and(|at| now_ms < at + millis(HELD))
    }

    /// It was held.
    pub(super) fn note(&self, event: &EventId, number: Number, now_ms: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= TICKETS_MAX {
            held.retain(|_, at| now_ms < *at + millis(HELD));
        }
        if held.len() < TICKETS_MAX {
            held.insert((event.clone(), number), now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_held_for_a_second_and_memory_is_bounded() {
        let held = Held::default();
        let event = EventId::new("main").unwrap();
        for number in 0..20_000 {
            held.note(&event, Number(number), 5_000);
        }
        assert!(held.0.lock().unwrap().len() <= TICKETS_MAX);
        assert!(held.lately(&event, Number(7), 5_999));
        assert!(!held.lately(&event, Number(7), 6_000));
        held.note(&event, Number(20_001), 6_000);
        assert_eq!(held.0.lock().unwrap().len(), 1);
    }
}
