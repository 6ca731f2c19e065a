//! Whether an origin is trusted with requests: it is ejected for a while after
//! failures in a row, and out for as long as its checks fail; afterwards its
//! share grows slowly. Times are milliseconds that are handed in.

use super::choice::WHOLE;

/// The share with which an origin begins again, in thousandths.
const SHARE_LEAST: u32 = 50;

/// When an origin is ejected and how it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that eject it; 0: never.
    pub eject_after: u32,
    /// How long the first ejection lasts, in milliseconds; the second in a row twice as long.
    pub eject_ms: u64,
    /// The longest ejection, in milliseconds.
    pub eject_max_ms: u64,
    /// Over how long its share grows after a return, in milliseconds; 0: whole at once.
    pub slow_start_ms: u64,
    /// Failed checks in a row after which it is out.
    pub fall: u32,
    /// Good checks in a row after which it is in again.
    pub rise: u32,
}

/// What is known of one origin. Begins as trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    cuts: u32,
    ejections: u32,
    ejected_until: Option<u64>,
    back_since: Option<u64>,
    checks_failed: u32,
    checks_passed: u32,
    down: bool,
}

/// The part of an answer by which a request failed or went well. Each has a count of
/// failures in a row of its own: an origin whose heads are well would else never be
/// ejected for its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The head: whether there was an answer.
    Head,
    /// The body: whether it was whole.
    Body,
}

/// What has just become of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ejected for so many milliseconds.
    Ejected(u64),
    /// The ejection is over: it is tried again.
    Returned,
    /// Its checks failed: out until they succeed.
    Down,
    /// Its checks succeed again.
    Up,
}

/// Whether it gets requests, as of some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// It does again, since this moment: a share of them.
    Returning(u64),
    /// Not before this moment.
    Ejected(u64),
    /// Not until its checks succeed.
    Down,
}

impl Health {
    /// Failures in a row as of now, by the part that fails more.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.max(self.cuts)
    }

    /// Failures in a row by one part.
    #[must_use]
    pub fn failures_by(&self, part: Part) -> u32 {
        match part {
            Part::Head => self.failures,
            Part::Body => self.cuts,
        }
    }

    fn count(&mut self, part: Part) -> &mut u32 {
        match part {
            Part::Head => &mut self.failures,
            Part::Body => &mut self.cuts,
        }
    }

    fn forgive(&mut self) {
        (self.failures, self.cuts) = (0, 0);
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self, now: u64) -> State {
        match (self.down, self.ejected_until, self.back_since) {
            (true, ..) => State::Down,
            (_, Some(until), _) if now < until => State::Ejected(until),
            (_, Some(until), _) => State::Returning(until),
            (_, None, Some(since)) => State::Returning(since),
            (_, None, None) => State::Up,
        }
    }

    /// A request failed by the origin's fault. `may_eject`: enough others are there.
    pub fn failed(&mut self, rules: &Rules, now: u64, part: Part, may_eject: bool) -> Option<Turn> {
        let count = self.count(part);
        *count = count.saturating_add(1);
        let enough = rules.eject_after > 0 && *count >= rules.eject_after;
        if !enough || !may_eject || self.down || self.ejected_until.is_some() {
            return None;
        }
        // For each time that it went well for as long as an ejection lasts, one is forgotten.
        let well = self
            .back_since
            .map_or(u64::MAX, |since| now.saturating_sub(since));
        let forgotten = u32::try_from(well / rules.eject_ms.max(1)).unwrap_or(u32::MAX);
        self.ejections = self.ejections.saturating_sub(forgotten).saturating_add(1);
        let lasts = rules.eject_ms.saturating_mul(u64::from(self.ejections));
        let lasts = lasts.min(rules.eject_max_ms).max(1);
        self.ejected_until = Some(now.saturating_add(lasts));
        self.back_since = None;
        self.forgive();
        Some(Turn::Ejected(lasts))
    }

    /// A part of an answer went well.
    pub fn succeeded(&mut self, part: Part) {
        *self.count(part) = 0;
    }

    /// A check was made.
    pub fn checked(&mut self, rules: &Rules, now: u64, passed: bool) -> Option<Turn> {
        if passed {
            self.checks_failed = 0;
            self.checks_passed = self.checks_passed.saturating_add(1);
            if self.down && self.checks_passed >= rules.rise {
                self.down = false;
                self.forgive();
                self.ejected_until = None;
                self.back_since = Some(now);
                return Some(Turn::Up);
            }
            return None;
        }
        self.checks_passed = 0;
        self.checks_failed = self.checks_failed.saturating_add(1);
        if !self.down && self.checks_failed >= rules.fall {
            self.down = true;
            return Some(Turn::Down);
        }
        None
    }

    /// No checks are made any more: nothing would ever bring it back.
    pub fn unchecked(&mut self, now: u64) -> Option<Turn> {
        (self.checks_failed, self.checks_passed) = (0, 0);
        if !std::mem::take(&mut self.down) {
            return None;
        }
        self.back_since = Some(now);
        Some(Turn::Up)
    }

    /// Time has passed. An ejection that is over is told of once.
    pub fn tick(&mut self, now: u64) -> Option<Turn> {
        let until = self.ejected_until.filter(|until| now >= *until)?;
        self.ejected_until = None;
        self.back_since = Some(until);
        (!self.down).then_some(Turn::Returned)
    }
}

/// The share of one that returned at `since`, in thousandths: it grows evenly.
#[must_use]
pub fn share(rules: &Rules, since: u64, now: u64) -> u32 {
    let passed = now.saturating_sub(since);
    if passed >= rules.slow_start_ms {
        return WHOLE;
    }
    let grown = u64::from(WHOLE - SHARE_LEAST).saturating_mul(passed) / rules.slow_start_ms.max(1);
    SHARE_LEAST + u32::try_from(grown).unwrap_or(WHOLE - SHARE_LEAST)
}

/// Whether one more of `all` may be ejected when `out` are out already: at most
/// this share of them, but always one, and never the last that is in.
#[must_use]
pub fn may_eject(all: usize, out: usize, share: f64) -> bool {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a list has 64 origins at most, and the share is between 0 and 1"
    )]
    let most = (all as f64 * share) as usize;
    out < most.max(1) && out + 1 < all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        eject_after: 3,
        eject_ms: 10_000,
        eject_max_ms: 25_000,
        slow_start_ms: 20_000,
        fall: 2,
        rise: 2,
    };

    fn fail(health: &mut Health, now: u64) -> Option<Turn> {
        (0..RULES.eject_after).fold(None, |_, _| health.failed(&RULES, now, Part::Head, true))
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let mut health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.failed(&RULES, 0, Part::Head, true), None);
            assert_eq!(health.failed(&RULES, 0, Part::Head, true), None);
            health.succeeded(Part::Head);
        }
        assert_eq!(fail(&mut health, 5), Some(Turn::Ejected(10_000)));
        assert_eq!(health.state(5), State::Ejected(10_005));
        let again = health.failed(&RULES, 6, Part::Head, true);
        assert_eq!(again, None, "it is out already");
    }

    #[test]
    fn heads_that_are_well_excuse_no_bodies_that_are_cut() {
        let mut health = Health::default();
        for cut in 1..RULES.eject_after {
            health.succeeded(Part::Head);
            assert_eq!(health.failed(&RULES, 0, Part::Body, true), None);
            assert_eq!(health.failures(), cut);
        }
        health.succeeded(Part::Head);
        let ejected = health.failed(&RULES, 5, Part::Body, true);
        assert_eq!(ejected, Some(Turn::Ejected(10_000)));
        assert_eq!(health.failures(), 0);
    }

    #[test]
    fn an_ejection_in_a_row_lasts_longer_up_to_a_limit_and_is_forgotten_after_good_times() {
        let mut health = Health::default();
        let mut now = 0;
        for lasts in [10_000, 20_000, 25_000, 25_000] {
            assert_eq!(fail(&mut health, now), Some(Turn::Ejected(lasts)));
            now += lasts;
            assert_eq!(health.tick(now - 1), None);
            assert_eq!(health.tick(now), Some(Turn::Returned));
            assert_eq!(health.tick(now), None);
        }
        now += 1_000_000;
        assert_eq!(fail(&mut health, now), Some(Turn::Ejected(10_000)));
    }

    #[test]
    fn nobody_is_ejected_where_the_others_are_too_few() {
        let mut health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.failed(&RULES, 0, Part::Head, false), None);
        }
        let one_more = health.failed(&RULES, 0, Part::Head, true);
        assert_eq!(one_more, Some(Turn::Ejected(10_000)));
        assert!(!may_eject(1, 0, 1.0), "the last one");
        assert!(may_eject(2, 0, 0.1), "always one");
        assert!(!may_eject(2, 1, 1.0));
        assert!(may_eject(4, 1, 0.5) && !may_eject(4, 2, 0.5));
    }

    #[test]
    fn checks_take_it_out_and_in_again_after_so_many_in_a_row() {
        let mut health = Health::default();
        assert_eq!(health.checked(&RULES, 0, false), None);
        assert_eq!(health.checked(&RULES, 0, true), None);
        assert_eq!(health.checked(&RULES, 0, false), None);
        assert_eq!(health.checked(&RULES, 0, false), Some(Turn::Down));
        assert_eq!(health.state(9), State::Down);
        assert_eq!(health.checked(&RULES, 7, true), None);
        assert_eq!(health.checked(&RULES, 9, true), Some(Turn::Up));
        assert_eq!(health.state(9), State::Returning(9));
    }

    #[test]
    fn without_checks_nobody_stays_down() {
        let mut health = Health::default();
        assert_eq!(health.unchecked(0), None);
        health.checked(&RULES, 0, false);
        health.checked(&RULES, 0, false);
        assert_eq!(health.unchecked(4), Some(Turn::Up));
        assert_eq!(health.state(4), State::Returning(4));
    }

    #[test]
    fn the_share_grows_evenly_to_the_whole() {
        assert_eq!(share(&RULES, 100, 100), SHARE_LEAST);
        assert_eq!(share(&RULES, 100, 10_100), 525);
        assert_eq!(share(&RULES, 100, 20_100), WHOLE);
        let at_once = Rules {
            slow_start_ms: 0,
            ..RULES
        };
        assert_eq!(share(&at_once, 100, 100), WHOLE);
    }

    proptest! {
        #[test]
        fn whatever_happens_an_ejection_ends_within_its_limit(
            steps in proptest::collection::vec((0..6_u8, 0..30_000_u64), 1..200),
        ) {
            let (mut health, mut now) = (Health::default(), 0);
            for (step, passes) in steps {
                now += passes;
                let turn = match step {
                    0 => health.failed(&RULES, now, Part::Head, true),
                    1 => health.failed(&RULES, now, Part::Body, true),
                    2 => { health.succeeded(Part::Head); None }
                    3 => { health.succeeded(Part::Body); None }
                    4 => health.checked(&RULES, now, true),
                    _ => health.tick(now),
                };
                if let Some(Turn::Ejected(lasts)) = turn {
                    prop_assert!((1..=RULES.eject_max_ms).contains(&lasts));
                }
                if let State::Ejected(until) = health.state(now) {
                    prop_assert!(until > now && until <= now + RULES.eject_max_ms);
                }
            }
            health.tick(now + RULES.eject_max_ms);
            prop_assert!(!matches!(health.state(now + RULES.eject_max_ms), State::Ejected(_)));
        }

        #[test]
        fn the_share_never_shrinks(since: u32, one in 0..100_000_u64, other in 0..100_000_u64) {
            let at = |passed: u64| share(&RULES, u64::from(since), u64::from(since) + passed);
            prop_assert!(at(one.min(other)) <= at(one.max(other)));
            prop_assert!((1..=WHOLE).contains(&at(one)));
        }
    }
}
