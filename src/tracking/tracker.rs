//! All threads' counts together: the gateway's routes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::fanout::Fanout;
use super::heavy::Heavy;
use super::rolls::Rolls;
use super::{Batch, Counts, Due, ROUTES_MAX, Sight, Tracking};
use crate::room::event::EventId;

/// Batches that may lie here until they are looked at.
const INBOX_MAX: usize = 8_192;

/// Weights are halved after so many gatherings: ten minutes of them.
const AGE_AFTER: u64 = 600;

/// Routes of one event that have series of their own...
pub(super) const SHOWN_PER_EVENT: usize = 20;

/// ...and of all events together.
const SHOWN_MAX: usize = 200;

/// Which ones they are is looked at after so many gatherings.
const RANK_AFTER: u64 = 10;

/// What one gateway knows of its routes.
#[derive(Default)]
pub struct Tracker {
    tracking: ArcSwap<Tracking>,
    pub(super) fanout: Fanout,
    threads: AtomicUsize,
    inbox: Mutex<Vec<Batch>>,
    events: Mutex<HashMap<EventId, Routes>>,
    rolls: Mutex<Rolls>,
    gathered: AtomicU64,
}

/// One event's routes.
pub(super) struct Routes {
    pub(super) heavy: Heavy<Series>,
    /// What was counted while it had no series of its own.
    pub(super) other: Counts,
    /// Answers under way, by thread.
    flying: HashMap<usize, Vec<(Arc<str>, u32)>>,
}

/// A route's series, which begins when it is shown and ends when it is no more.
#[derive(Default)]
pub(super) struct Series {
    pub(super) shown: Option<Box<Counts>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            heavy: Heavy::new(ROUTES_MAX),
            other: Counts::default(),
            flying: HashMap::new(),
        }
    }
}

impl Tracker {
    /// Tracks so from now on; threads follow within a second.
    pub fn change(&self, tracking: Tracking) {
        if **self.tracking.load() != tracking {
            self.tracking.store(Arc::new(tracking));
        }
    }

    /// What is tracked now.
    pub fn tracking(&self) -> Arc<Tracking> {
        self.tracking.load_full()
    }

    pub(super) fn join(&self) -> usize {
        self.threads.fetch_add(1, Ordering::Relaxed)
    }

    fn inbox(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many batches find room; else a thread counts on and tells later.
    pub(super) fn has_room(&self, batches: usize) -> bool {
        self.inbox().len() + batches <= INBOX_MAX
    }

    pub(super) fn hand_in(&self, batches: Vec<Batch>) {
        self.inbox().extend(batches);
    }

    pub(super) fn events(&self) -> MutexGuard<'_, HashMap<EventId, Routes>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rolls(&self) -> MutexGuard<'_, Rolls> {
        self.rolls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how an event stands.
    pub fn see(&self, event: &EventId, sight: Sight) {
        let is_counted = self.tracking.load().enabled;
        self.rolls().see(event, sight, is_counted);
    }

    /// The slices that are to be kept at this Unix second, and how many were
    /// given up because they could not be; at the end all that there are.
    pub fn due(&self, second: u64, at_the_end: bool) -> (BTreeMap<Due, Vec<u8>>, u64) {
        let mut rolls = self.rolls();
        rolls.turn(second, at_the_end);
        rolls.due()
    }

    /// What could not be kept: it is due again.
    pub fn put_back(&self, undone: BTreeMap<Due, Vec<u8>>) {
        self.rolls().put_back(undone);
    }

    /// Puts together what threads have told since; call it each second.
    /// `is_there` says which events are left.
    pub fn gather(&self, is_there: impl Fn(&EventId) -> bool) {
        let batches = std::mem::take(&mut *self.inbox());
        let mut events = self.events();
        events.retain(|event, _| is_there(event));
        let mut rolls = self.rolls();
        rolls.keep_events(&is_there);
        let mut shown: usize = events.values().map(Routes::shown).sum();
        for batch in batches {
            if is_there(&batch.event) {
                let routes = events.entry(batch.event.clone()).or_default();
                for told in &batch.routes {
                    let is_known = !told.is_hearsay || routes.heavy.find(&told.name).is_some();
                    let name = is_known.then_some(&*told.name);
                    rolls.count(&batch.event, name, &told.counts);
                }
                rolls.count(&batch.event, None, &batch.other);
                let before = routes.shown();
                routes.take_in(batch, SHOWN_MAX.saturating_sub(shown));
                shown = (shown + routes.shown()).saturating_sub(before);
            }
        }
        let number = self.gathered.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(AGE_AFTER) {
            events.values_mut().for_each(|routes| routes.heavy.age());
        }
        if number.is_multiple_of(RANK_AFTER) {
            rank(&mut events);
        }
    }
}

/// The heaviest routes have series, all others have none: so many of each
/// event, pages and calls before files, and so many of all events.
fn rank(events: &mut HashMap<EventId, Routes>) {
    let mut best: Vec<(u64, EventId, Arc<str>)> = Vec::new();
    for (event, routes) in &*events {
        let mut rows: Vec<_> = routes.heavy.rows().collect();
        rows.sort_by_key(|row| (row.name.contains("{*}."), Reverse(row.weight)));
        let top = rows.into_iter().take(SHOWN_PER_EVENT);
        best.extend(top.map(|row| (row.weight, event.clone(), Arc::clone(&row.name))));
    }
    best.sort_by_key(|(weight, ..)| Reverse(*weight));
    best.truncate(SHOWN_MAX);
    let best: HashSet<(EventId, Arc<str>)> = best
        .into_iter()
        .map(|(_, event, name)| (event, name))
        .collect();
    for (event, routes) in events {
        for row in routes.heavy.rows_mut() {
            if !best.contains(&(event.clone(), Arc::clone(&row.name))) {
                row.value.shown = None;
            } else if row.value.shown.is_none() {
                row.value.shown = Some(Box::default());
            }
        }
    }
}

impl Routes {
    /// Routes that have series.
    fn shown(&self) -> usize {
        let shown = self.heavy.rows().filter(|row| row.value.shown.is_some());
        shown.count()
    }

    /// Takes in what a thread told; while there is room a new route is shown at once.
    fn take_in(&mut self, batch: Batch, room: usize) {
        let mut room = room.min(SHOWN_PER_EVENT.saturating_sub(self.shown()));
        let mut flying = Vec::new();
        for told in batch.routes {
            if told.in_flight > 0 {
                flying.push((Arc::clone(&told.name), told.in_flight));
            }
            if told.is_hearsay && self.heavy.find(&told.name).is_none() {
                self.other.add(&told.counts);
                continue;
            }
            let placed = self.heavy.put(&told.name, told.counts.requests());
            let Some(row) = self.heavy.at(placed.place, placed.epoch) else {
                continue;
            };
            if row.value.shown.is_none() && room > 0 {
                row.value.shown = Some(Box::default());
                room -= 1;
            }
            match &mut row.value.shown {
                Some(shown) => shown.add(&told.counts),
                None => self.other.add(&told.counts),
            }
        }
        self.other.add(&batch.other);
        if flying.is_empty() {
            self.flying.remove(&batch.thread);
        } else {
            self.flying.insert(batch.thread, flying);
        }
    }

    /// Answers under way now, of routes that are wanted.
    pub(super) fn in_flight(&self, is_wanted: impl Fn(&str) -> bool) -> u64 {
        let all = self.flying.values().flatten();
        let wanted = all.filter(|(route, _)| is_wanted(route));
        wanted.map(|(_, count)| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Told;
    use super::*;

    fn event() -> EventId {
        EventId::new("main").unwrap()
    }

    fn told(name: &str, answers: u64) -> Told {
        Told {
            name: name.into(),
            counts: Counts {
                answers: [0, answers, 0, 0, 0],
                ..Counts::default()
            },
            in_flight: 1,
            is_hearsay: false,
        }
    }

    fn hand_in(tracker: &Tracker, routes: Vec<Told>) {
        tracker.hand_in(vec![Batch {
            thread: 0,
            event: event(),
            routes,
            other: Counts::default(),
        }]);
        tracker.gather(|_| true);
    }

    fn line(tracker: &Tracker, beginning: &str) -> Option<u64> {
        let text = tracker.render();
        let line = text.lines().find_map(|line| line.strip_prefix(beginning));
        line.map(|value| value.trim().parse().unwrap())
    }

    fn answers(tracker: &Tracker, route: &str) -> Option<u64> {
        let name = "sumun_route_answers_total";
        let series = format!("{name}{{event=\"main\",route=\"{route}\",class=\"2xx\"}}");
        line(tracker, &series)
    }

    #[test]
    fn a_heavy_latecomer_takes_the_series_of_a_light_route_and_no_count_shrinks() {
        let tracker = Tracker::default();
        let first = (0..SHOWN_PER_EVENT).map(|n| told(&format!("/{n}"), 5));
        hand_in(&tracker, first.collect());
        hand_in(&tracker, vec![told("/late", 70), told("/a/{*}.js", 900)]);
        assert_eq!(answers(&tracker, "/0"), Some(5));
        assert_eq!(answers(&tracker, "/late"), None);
        assert_eq!(answers(&tracker, "(other)"), Some(970));
        for _ in 2..RANK_AFTER {
            hand_in(&tracker, Vec::new());
        }
        hand_in(&tracker, vec![told("/late", 3)]);
        assert_eq!(answers(&tracker, "/late"), Some(3));
        assert_eq!(answers(&tracker, "(other)"), Some(970));
        // Files have a series only where pages leave room.
        assert_eq!(answers(&tracker, "/a/{*}.js"), None);
        let gauge = "sumun_route_requests_in_flight{event=\"main\",route=\"/late\"}";
        assert_eq!(line(&tracker, gauge), Some(1));
    }

    #[test]
    fn a_million_names_cost_no_more_than_the_most_that_are_kept() {
        let tracker = Tracker::default();
        for round in 0..100 {
            let many = (0..1_000).map(|n| told(&format!("/{round}/{n}"), 1));
            let mut routes: Vec<Told> = many.collect();
            routes.push(told("/heavy", 200));
            hand_in(&tracker, routes);
        }
        let events = tracker.events();
        let routes = &events[&event()];
        assert_eq!(routes.heavy.len(), ROUTES_MAX);
        assert!(routes.heavy.find("/heavy").is_some());
        drop(events);
        assert!(answers(&tracker, "/heavy").is_some());
        let series = tracker.render().lines().count();
        assert!(series < 30 * (SHOWN_PER_EVENT + 2), "{series}");
    }

    #[test]
    fn what_is_only_heard_of_makes_no_route() {
        let tracker = Tracker::default();
        let heard = |name: &str| Told {
            counts: Counts {
                conversions: 1,
                ..Counts::default()
            },
            is_hearsay: true,
            ..told(name, 0)
        };
        hand_in(&tracker, vec![told("/sale", 1)]);
        hand_in(&tracker, vec![heard("/sale"), heard("/forged")]);
        let conversions = |route: &str| {
            let name = "sumun_route_conversions_total";
            line(
                &tracker,
                &format!("{name}{{event=\"main\",route=\"{route}\"}}"),
            )
        };
        assert_eq!(conversions("/sale"), Some(1));
        assert_eq!(conversions("/forged"), None);
        assert_eq!(conversions("(other)"), Some(1));
    }

    #[test]
    fn an_event_that_is_gone_has_no_routes() {
        let tracker = Tracker::default();
        hand_in(&tracker, vec![told("/", 1)]);
        tracker.gather(|_| false);
        assert_eq!(tracker.render(), "");
    }
}
