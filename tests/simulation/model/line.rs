//! Who waits, who was called, and who gets in (promises 2, 3, 5 and 8).

use std::collections::HashSet;

use sumun::room::snapshot::OFFER_MS;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;

use super::{Model, Place, Promise};

/// How long ago a called ticket may have been called and still enter.
const LATE_MS: u64 = 600_000;

/// What a truth about a waiting visitor rests on: his last poll, if it is
/// younger than this part of the window, counts as a sign of life.
const POLL_MARGIN_MS: u64 = 10_000;

/// How long a sign of life may be under way: kept at the gateway, and late on
/// the network.
pub(super) const UNDER_WAY_MS: u64 = 40_000;

/// A move may be planned on a look at the store that is so old.
const PLANNED_MS: u64 = 2_000;

impl Model {
    /// A ticket given out by the store or by a gateway on its own.
    pub(crate) fn issued(&mut self, number: Number, by: Option<usize>, sure: bool) {
        let new = self.issued.insert(number);
        self.demand(Promise::Place, new, || format!("{number} was issued twice"));
        if by.is_none() {
            let highest = self.highest;
            self.demand(Promise::Order, number > highest, || {
                format!("{number} was issued after {highest}")
            });
            self.highest = number;
        }
        // A reset makes numbers void that are ahead of it; a gateway that has not
        // heard of it may give one of those.
        let void = by.is_some() && self.is_void(number);
        // One whose disk is older than a step of the store's clock may number below
        // the watermark: its visitor is called already, before his turn.
        let is_called = number < self.called;
        let place = Place {
            generation: if void { Generation(0) } else { self.generation },
            polled: (self.time, by),
            fresh: by.is_none(),
            delivered: by.is_some(),
            by,
            sure,
            sure_since: Timestamp(0),
            called: is_called.then_some(self.time),
        };
        self.line.insert(number, place);
        if !is_called {
            self.uncalled.insert(number);
        }
        self.counts.issued += 1;
    }

    /// Whether the last reset made a number void.
    pub(crate) fn is_void(&self, number: Number) -> bool {
        let floor = self.floors.get(&self.generation);
        floor.is_some_and(|floor| number < *floor)
    }

    /// Whether this number's visitor was heard from lately, without a gap
    /// that the store cannot know about.
    pub(super) fn waits(&self, number: Number) -> bool {
        let Some(place) = self.line.get(&number) else {
            return false;
        };
        let margin = self.rules.window_ms - POLL_MARGIN_MS.min(self.rules.window_ms / 3);
        // A number never heard from again lives for 20 s only.
        let most = if place.fresh {
            margin.min(15_000)
        } else {
            margin
        };
        place.sure && place.generation == self.generation && self.time.0 < place.polled.0.0 + most
    }

    /// A visitor polled and a gateway heard him.
    pub(crate) fn polled(&mut self, number: Number, gateway: usize, passed_on: bool) {
        let waits = self.waits(number) && passed_on;
        let time = self.time;
        if let Some(place) = self.line.get_mut(&number) {
            place.sure = waits;
            place.polled = (time, Some(gateway));
            place.fresh = false;
        }
    }

    pub(crate) fn delivered(&mut self, number: Number, gateway: usize) {
        if let Some(place) = self.line.get_mut(&number) {
            (place.delivered, place.by) = (true, Some(gateway));
        }
    }

    /// The store heard of a living number.
    pub(crate) fn heard(&mut self, number: Number) {
        let time = self.time;
        let window = self.rules.window_ms;
        if let Some(place) = self.line.get_mut(&number)
            && !place.sure
            && time.0 < place.polled.0.0 + window
        {
            (place.sure, place.sure_since) = (true, time);
        }
    }

    /// A number leaves the line: admitted, given up, or void.
    pub(crate) fn gone(&mut self, number: Number) {
        self.line.remove(&number);
        self.voided.remove(&number);
        self.uncalled.remove(&number);
        self.offers.remove(&number);
    }

    /// A ticket was let in (promises 1, 2 and 3).
    pub(crate) fn claimed(&mut self, number: Number, key: SessionKey, expires: Timestamp) {
        self.admits("a ticket");
        let inside = self.inside();
        let now = self.time;
        let before = self
            .offers
            .range(..number)
            .filter(|(_, due)| **due > now)
            .count() as u64;
        let limit = self.rules.limit.unwrap_or(u64::MAX);
        self.demand(Promise::Order, inside + before < limit, || {
            format!("{number} took a slot of {limit} with {inside} inside and {before} before it")
        });
        let place = self.line.get(&number);
        let uncalled = place.is_some_and(|place| place.called.is_none());
        self.demand(Promise::Order, !uncalled, || {
            format!("{number} went in uncalled")
        });
        let valid = place.is_some() || self.is_unproven(key);
        self.demand(Promise::Token, valid, || {
            format!("{number} is void or used, and went in")
        });
        self.admitted(key, expires, "a ticket");
        self.gone(number);
        self.counts.claimed += 1;
    }

    /// Let in before, and nobody was told before the store was lost, or he was
    /// never heard from inside: the claim may come once more.
    fn is_unproven(&self, key: SessionKey) -> bool {
        self.sessions.get(&key).is_some_and(|session| {
            session.acknowledged == Timestamp(0) || !session.proven && !session.ended
        })
    }

    /// A called ticket asked and was told to wait: its offer stands.
    pub(crate) fn held(&mut self, number: Number) {
        self.counts.held += 1;
        if self.recovering.is_none() && self.line.contains_key(&number) {
            self.offers
                .insert(number, Timestamp(self.time.0 + OFFER_MS));
        }
    }

    pub(crate) fn refused_as_late(&mut self, number: Number) {
        self.counts.too_late += 1;
        let Some(place) = self.line.get(&number) else {
            return;
        };
        let called = place.called;
        let late = called.is_some_and(|at| self.time.0 >= at.0 + LATE_MS);
        self.demand(Promise::Place, late, || {
            format!(
                "{number}, called at {called:?}, is too late at {:?}",
                self.time
            )
        });
    }

    pub(crate) fn refused_as_spent(&self, number: Number) {
        let waits = self.line.contains_key(&number);
        self.demand(Promise::Place, !waits, || {
            format!("{number} is refused as spent and was never let in")
        });
    }

    /// The watermark moved: those passed over are absent, the others called,
    /// in order (promises 2 and 3).
    pub(crate) fn called(&mut self, to: Number, offers: &[Number]) {
        let before = self.called;
        for pair in offers.windows(2) {
            self.demand(Promise::Order, pair[0] < pair[1], || {
                format!("called out of order: {pair:?}")
            });
        }
        self.demand(
            Promise::Order,
            offers.first().is_none_or(|first| *first >= before),
            || format!("called again below {before}: {:?}", offers.first()),
        );
        let offered: HashSet<&Number> = offers.iter().collect();
        let passed: Vec<Number> = self.uncalled.range(..to).copied().collect();
        for number in passed {
            let known = self
                .line
                .get(&number)
                .map_or(Timestamp(0), |p| p.sure_since);
            let planned_before = self.time.0 < known.0 + PLANNED_MS;
            let absent = offered.contains(&number) || !self.waits(number) || planned_before;
            self.demand(Promise::Place, absent, || {
                format!(
                    "{number} waits and was passed over: {:?}",
                    self.line[&number]
                )
            });
            self.uncalled.remove(&number);
            if let Some(place) = self.line.get_mut(&number) {
                place.called = Some(self.time);
            }
        }
        for number in offers {
            self.is_there(*number);
            self.offers
                .insert(*number, Timestamp(self.time.0 + OFFER_MS));
        }
        self.called = before.max(to);
        let now = self.time;
        self.offers.retain(|_, due| *due > now);
    }

    /// Who is called was heard from within `ticket_idle`, but for what is on
    /// its way; a recovery begins every ticket's time anew.
    fn is_there(&self, number: Number) {
        let Some(place) = self.line.get(&number) else {
            return;
        };
        let heard = place.polled.0.max(self.recovered);
        let most = heard.0 + 2 * self.rules.window_ms + UNDER_WAY_MS;
        self.demand(Promise::Absent, self.time.0 <= most, || {
            format!("{number} is called and was heard from last at {heard:?}")
        });
    }

    /// A position that is said to be exact lies between those surely living
    /// and all who might.
    pub(crate) fn position(&mut self, number: Number, position: u64) {
        let before = self.uncalled.range(..number);
        let (mut sure, mut all) = (0, 0);
        for other in before {
            all += 1;
            sure += u64::from(self.waits(*other));
        }
        let most = all + self.called_before(number) + 1;
        self.demand(
            Promise::Position,
            sure < position && position <= most,
            || {
                format!(
                    "{number} is shown {position}, {sure} surely wait before it, at most {most}"
                )
            },
        );
        self.counts.checked_positions += 1;
    }

    fn called_before(&self, number: Number) -> u64 {
        self.line
            .range(..number)
            .filter(|(_, place)| place.called.is_some())
            .count() as u64
    }
}
