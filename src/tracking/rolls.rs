//! From seconds to slices: ten seconds, added up to minutes and hours, and
//! what of them is still to be kept.

use std::collections::{BTreeMap, HashMap};

use super::Counts;
use super::slice::{Slice, Totals};
use super::tallies::Tallies;
use crate::room::event::EventId;

/// The lengths of slices in seconds, the finest first.
pub const STEPS: [u32; 3] = [10, 60, 3_600];

/// Slices that wait to be kept while the store is away.
const PENDING_MAX: usize = 4_096;

/// What is seen of an event now.
pub struct Sight {
    /// Its counters.
    pub totals: Totals,
    /// Who arrived, by what they are.
    pub arrived: Tallies,
    /// Who waits.
    pub waiting: u64,
    /// Who is inside.
    pub inside: u64,
}

/// A slice that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Its length in seconds.
    pub step: u32,
    /// When it began, in Unix seconds.
    pub start: u64,
    /// Of which event.
    pub event: EventId,
}

/// The slices of all events.
#[derive(Default)]
pub(super) struct Rolls {
    events: HashMap<EventId, Roll>,
    pending: BTreeMap<Due, Vec<u8>>,
    lost: u64,
}

/// The slices of one event that are under way.
#[derive(Default)]
struct Roll {
    finest: Slice,
    start: u64,
    longer: [(u64, Slice); 2],
    totals: Totals,
    arrived: Tallies,
}

fn begin(second: u64, step: u32) -> u64 {
    second - second % u64::from(step)
}

impl Rolls {
    pub(super) fn count(&mut self, event: &EventId, route: Option<&str>, counts: &Counts) {
        let finest = &mut self.events.entry(event.clone()).or_default().finest;
        match route {
            Some(route) => finest.count(route, counts),
            None => finest.other.add(counts),
        }
    }

    /// An event as it is seen at this second.
    pub(super) fn see(&mut self, event: &EventId, sight: Sight, is_counted: bool) {
        let roll = self.events.entry(event.clone()).or_default();
        let before = std::mem::replace(&mut roll.totals, sight.totals);
        let arrived = sight.arrived.since(&roll.arrived);
        roll.arrived = sight.arrived;
        if !is_counted {
            return;
        }
        roll.finest.totals.add(&roll.totals.since(&before));
        roll.finest.arrived.add(&arrived);
        roll.finest.waiting_peak = roll.finest.waiting_peak.max(sight.waiting);
        roll.finest.inside_peak = roll.finest.inside_peak.max(sight.inside);
    }

    /// Closes the slices that are over at this second; all of them at the end.
    pub(super) fn turn(&mut self, second: u64, at_the_end: bool) {
        let [finest, ..] = STEPS;
        for (event, roll) in &mut self.events {
            let start = begin(second, finest);
            if roll.start == start && !at_the_end {
                continue;
            }
            let over = std::mem::replace(&mut roll.start, start);
            let slice = std::mem::take(&mut roll.finest);
            if slice.is_empty() || over == 0 && !at_the_end {
                // Of the first second it is not known when it began.
                roll.finest = if over == 0 { slice } else { Slice::default() };
                continue;
            }
            let over = if over == 0 { start } else { over };
            let due = |step, start| Due {
                step,
                start,
                event: event.clone(),
            };
            self.pending.insert(due(finest, over), slice.encode());
            for ((began, longer), step) in roll.longer.iter_mut().zip(STEPS.into_iter().skip(1)) {
                let start = begin(over, step);
                if *began != start {
                    (*began, *longer) = (start, Slice::default());
                }
                longer.follow(&slice);
                self.pending.insert(due(step, start), longer.encode());
            }
        }
        while self.pending.len() > PENDING_MAX {
            self.pending.pop_first();
            self.lost += 1;
        }
    }

    pub(super) fn keep_events(&mut self, is_there: impl Fn(&EventId) -> bool) {
        self.events.retain(|event, _| is_there(event));
    }

    /// What is to be kept, and how many slices were given up.
    pub(super) fn due(&mut self) -> (BTreeMap<Due, Vec<u8>>, u64) {
        (
            std::mem::take(&mut self.pending),
            std::mem::take(&mut self.lost),
        )
    }

    /// What could not be kept now, to be tried again; what is newer stays.
    pub(super) fn put_back(&mut self, undone: BTreeMap<Due, Vec<u8>>) {
        for (due, bytes) in undone {
            self.pending.entry(due).or_insert(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventId {
        EventId::new("main").unwrap()
    }

    fn sight(arrivals: u64, waiting: u64) -> Sight {
        let totals = Totals {
            arrivals,
            ..Totals::default()
        };
        let mut arrived = Tallies::default();
        arrived.count("device", "mobile", arrivals);
        Sight {
            totals,
            arrived,
            waiting,
            inside: 0,
        }
    }

    #[test]
    fn seconds_become_slices_that_add_up_to_longer_ones() {
        let mut rolls = Rolls::default();
        let begin = 7_200 - 20;
        for second in begin..begin + 40 {
            rolls.turn(second, false);
            rolls.see(&event(), sight(second - begin, second % 7), true);
        }
        rolls.turn(begin + 40, true);
        let (due, lost) = rolls.due();
        assert_eq!(lost, 0);
        let arrivals: Vec<(u32, u64, u64)> = due
            .iter()
            .map(|(due, bytes)| {
                let slice = Slice::decode(bytes).unwrap();
                let mobile = slice
                    .arrived
                    .words("device")
                    .first()
                    .map(|(_, count)| *count);
                assert_eq!(mobile, Some(slice.totals.arrivals));
                (due.step, due.start, slice.totals.arrivals)
            })
            .collect();
        let expected = [
            (10, 7_180, 9),
            (10, 7_190, 10),
            (10, 7_200, 10),
            (10, 7_210, 10),
            (60, 7_140, 19),
            (60, 7_200, 20),
            (3_600, 3_600, 19),
            (3_600, 7_200, 20),
        ];
        assert_eq!(arrivals, expected);
    }

    #[test]
    fn what_came_while_nothing_was_counted_is_not_counted_afterwards() {
        let mut rolls = Rolls::default();
        rolls.see(&event(), sight(50, 3), false);
        rolls.see(&event(), sight(52, 1), true);
        rolls.turn(100, true);
        let (due, _) = rolls.due();
        let slice = Slice::decode(due.values().next().unwrap()).unwrap();
        assert_eq!((slice.totals.arrivals, slice.waiting_peak), (2, 1));
    }

    #[test]
    fn what_cannot_be_kept_is_bounded_and_the_finest_goes_first() {
        let mut rolls = Rolls::default();
        let one = Counts {
            views: 1,
            ..Counts::default()
        };
        for round in 1..5_000_u64 {
            rolls.count(&event(), Some("/"), &one);
            rolls.turn(round * 10, false);
        }
        let (due, lost) = rolls.due();
        assert_eq!(due.len(), PENDING_MAX);
        assert!(lost > 0);
        let hours = due.keys().filter(|due| due.step == 3_600).count();
        assert_eq!(hours, 14);
        rolls.put_back(due);
        assert_eq!(rolls.due().0.len(), PENDING_MAX);
    }
}
