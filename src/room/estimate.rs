//! How long a ticket will wait, said honestly.
//!
//! A wait is the line ÷ the measured rate, corrected for those
//! who give up, with a range of 2.1 standard deviations (in
//! simulation a nominal 80 % band covered half of the cases).

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Mode;
use super::snapshot::Snapshot;
use super::ticket::Number;
use super::time::{Timestamp, millis};

/// A wait in seconds: the estimate and the range that it lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    /// The estimate.
    pub seconds: f64,
    /// The lower end of the range.
    pub low: f64,
    /// The upper end of the range.
    pub high: f64,
}

/// Rates measured from the snapshots of the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Admissions a second: the last half minute and the last five agree, or the faster.
    pub admitted: Option<f64>,
    /// How far the two disagree, relative.
    pub unsteady: f64,
    /// Admissions counted.
    pub counted: f64,
    /// Over so many seconds, while people were called.
    pub watched: f64,
    /// The share of the waiting who give up, a second.
    pub abandoned: f64,
    /// Sessions begun a second over the last minute.
    pub begun: f64,
    /// Sessions ended a second over the last half minute.
    pub closed: f64,
}

/// A line that has moved for fewer seconds is reckoned at its pace, where there
/// is one.
const BEGINNING: f64 = 10.0;

/// How long the ticket at `position` will wait. `None` when nothing was
/// measured yet and no pace is known.
#[must_use]
pub fn wait(position: u64, rates: &Rates, pace: Option<f64>) -> Option<Wait> {
    // A line that has only begun to move is faster than what was counted yet: who
    // is called comes at the next poll.
    let begins = rates.watched < BEGINNING && pace.is_some();
    let rate = rates.admitted.filter(|_| !begins).or(pace);
    let rate = rate.filter(|rate| *rate > 0.0)?;
    #[expect(clippy::cast_precision_loss, reason = "positions are far below 2^52")]
    let line = position as f64;
    let theta = rates.abandoned;
    let seconds = if theta > 1e-6 {
        (theta * line / rate).ln_1p() / theta
    } else {
        line / rate
    };
    let counted = rates.counted.max(1.0);
    let relative = (1.0 / line + 1.0 / counted + rates.unsteady.powi(2)).sqrt();
    let spread = (2.1 * relative).min(0.9);
    Some(Wait {
        seconds,
        low: seconds * (1.0 - spread),
        high: seconds * (1.0 + spread),
    })
}

/// Where nothing is known of the wait, as in a pause, it is reckoned at this
/// many admissions a second: a long line must not poll like its front.
const UNKNOWN_RATE: f64 = 100.0;

/// So many polls a second one gateway is asked to bear, where the window lets
/// it be: who waits for a time `t` and asks again after each `d`-th part of it
/// asks about `3 d` times in all.
const POLLS_PER_GATEWAY: f64 = 10_000.0;

/// The next poll of who stands at `position`, before jitter: 3 s at first, then
/// an eighth of the wait (5 s at least where that is unknown), between 2 s and
/// the window ÷ 2.5. Where so many are admitted a second that the gateways would
/// drown in polls, a larger part of it, a half at most.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "positions are far below 2^52")]
pub fn poll_after(
    wait: Option<Wait>,
    position: u64,
    gateways: u64,
    first: bool,
    window: Duration,
) -> Duration {
    let longest = window.div_f64(2.5).max(Duration::from_secs(2));
    let part = |seconds: f64, parts: f64| Duration::from_secs_f64((seconds / parts).min(3600.0));
    let next = match wait {
        _ if first => Duration::from_secs(3),
        Some(wait) => {
            let admitted = position as f64 / wait.seconds.max(1.0);
            let borne = POLLS_PER_GATEWAY * gateways.max(1) as f64;
            let parts = borne / (3.0 * admitted.max(1.0));
            part(wait.seconds, parts.clamp(2.0, 8.0))
        }
        None => part(position as f64 / UNKNOWN_RATE, 8.0).max(Duration::from_secs(5)),
    };
    next.clamp(Duration::from_secs(2), longest)
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    time: Timestamp,
    begun: u64,
    closed: u64,
    issued: Number,
    called: Number,
    offered: u64,
    waiting: u64,
    /// Nobody is called: by order, or in a recovery.
    held: bool,
}

/// The counters of past snapshots, at most one a second for five minutes.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    offered: u64,
}

const KEPT: Duration = Duration::from_secs(300);

impl History {
    /// Counts numbers that were called.
    pub fn called(&mut self, offers: usize) {
        self.offered += offers as u64;
    }

    /// Remembers a snapshot's counters. Counters that went back (another life
    /// of the store) begin the history anew.
    pub fn record(&mut self, snapshot: &Snapshot, waiting: u64) {
        let meta = &snapshot.meta;
        let sample = Sample {
            time: meta.time,
            begun: meta.begun,
            closed: meta.closed,
            issued: meta.issued,
            called: meta.called,
            offered: self.offered,
            waiting,
            held: matches!(meta.rules.mode, Mode::Pause | Mode::Closed) || meta.recovery.is_some(),
        };
        if self.samples.back().is_some_and(|last| {
            last.begun > sample.begun
                || last.closed > sample.closed
                || last.time > sample.time
                || sample.issued.0 > last.issued.0 + (1 << 20)
        }) {
            self.samples.clear();
        }
        if self
            .samples
            .back()
            .is_none_or(|last| sample.time.since(last.time) >= Duration::from_secs(1))
        {
            self.samples.push_back(sample);
        }
        while self
            .samples
            .front()
            .is_some_and(|first| sample.time.since(first.time) > KEPT)
        {
            self.samples.pop_front();
        }
    }

    /// The rates at present.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let line = self.since_it_moves();
        let fast = line.per_second(Duration::from_secs(30), |sample| sample.begun);
        let slow = line.per_second(KEPT, |sample| sample.begun);
        let (admitted, unsteady) = match (fast, slow) {
            (Some(fast), Some(slow)) if fast + slow > 0.0 => {
                let apart = (fast - slow).abs() / (fast + slow);
                let mixed = if apart <= 0.125 {
                    f64::midpoint(fast, slow)
                } else {
                    fast
                };
                (Some(mixed).filter(|rate| *rate > 0.0), apart)
            }
            _ => (None, 0.0),
        };
        let counted = line
            .over(Duration::from_secs(30), |sample| sample.begun)
            .map_or(0.0, |(count, _)| count);
        let watched = line
            .over(KEPT, |sample| sample.begun)
            .map_or(0.0, |(_, seconds)| seconds);
        Rates {
            admitted,
            unsteady,
            counted,
            watched,
            abandoned: self.abandoned(),
            begun: self
                .per_second(Duration::from_secs(60), |sample| sample.begun)
                .unwrap_or(0.0),
            closed: self
                .per_second(Duration::from_secs(30), |sample| sample.closed)
                .unwrap_or(0.0),
        }
    }

    /// The history of the present line: who walked in before it, or a time in which
    /// nobody was called, says nothing about how fast it moves.
    fn since_it_moves(&self) -> Self {
        let last = |is: fn(&Sample) -> bool| self.samples.iter().rposition(is);
        let nobody = last(|sample| sample.waiting == 0);
        let still_nobody = nobody.is_some_and(|at| at + 1 == self.samples.len());
        let nobody = nobody.filter(|_| !still_nobody).unwrap_or(0);
        let from = nobody.max(last(|sample| sample.held).unwrap_or(0));
        Self {
            samples: self.samples.iter().skip(from).copied().collect(),
            offered: self.offered,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "differences of five minutes are far below 2^52"
    )]
    fn over(&self, span: Duration, value: impl Fn(&Sample) -> u64) -> Option<(f64, f64)> {
        let last = self.samples.back()?;
        let first = self
            .samples
            .iter()
            .find(|sample| last.time.since(sample.time) <= span)?;
        let seconds = millis(last.time.since(first.time)) as f64 / 1000.0;
        (seconds >= 1.0).then(|| ((value(last) - value(first)) as f64, seconds))
    }

    fn per_second(&self, span: Duration, value: impl Fn(&Sample) -> u64) -> Option<f64> {
        self.over(span, value)
            .map(|(count, seconds)| count / seconds)
    }

    /// The hazard of giving up: who left the line without being called, per
    /// waiting visitor and second, over the last minute.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a line is far shorter than 2^52"
    )]
    fn abandoned(&self) -> f64 {
        let Some(last) = self.samples.back() else {
            return 0.0;
        };
        let Some(first) = self
            .samples
            .iter()
            .find(|sample| last.time.since(sample.time) <= Duration::from_secs(60))
        else {
            return 0.0;
        };
        let seconds = millis(last.time.since(first.time)) as f64 / 1000.0;
        let joined = (last.issued.0 - first.issued.0) as f64;
        let called = (last.offered - first.offered) as f64;
        let mean = f64::midpoint(first.waiting as f64, last.waiting as f64);
        if seconds < 10.0 || mean < 10.0 || last.called < first.called {
            return 0.0;
        }
        let left = first.waiting as f64 + joined - called - last.waiting as f64;
        (left / (mean * seconds)).clamp(0.0, 0.05)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::admission::tests::{line, meta};

    #[test]
    fn a_line_that_moves_steadily_is_estimated_by_its_rate() {
        let mut history = History::default();
        for second in 0..=60 {
            let mut meta = meta();
            meta.time = Timestamp(second * 1000);
            meta.begun = second * 5;
            history.record(&line(meta, 0, &[]), 0);
        }
        let rates = history.rates();
        assert!((rates.admitted.unwrap() - 5.0).abs() < 1e-9);
        let wait = wait(500, &rates, None).unwrap();
        assert!((wait.seconds - 100.0).abs() < 1e-6);
        assert!(wait.low < 100.0 && wait.high > 100.0);
    }

    #[test]
    fn a_rush_that_walked_in_promises_nothing_to_those_who_wait_after_it() {
        let mut history = History::default();
        for second in 0..=20 {
            let mut meta = meta();
            meta.time = Timestamp(second * 1000);
            // A hundred a second walk in, then a line stands and moves by one.
            meta.begun = if second <= 10 {
                second * 100
            } else {
                990 + second
            };
            let waiting = if second > 10 { 3 } else { 0 };
            history.record(&line(meta, 0, &[]), waiting);
        }
        let admitted = history.rates().admitted.unwrap();
        assert!(admitted < 2.0, "{admitted}");
    }

    #[test]
    fn who_gives_up_shortens_the_wait_of_those_behind() {
        let rates = Rates {
            admitted: Some(1.0),
            counted: 30.0,
            ..Rates::default()
        };
        let leaving = Rates {
            abandoned: 0.002,
            ..rates
        };
        let patient = wait(1_000, &rates, None).unwrap().seconds;
        let impatient = wait(1_000, &leaving, None).unwrap().seconds;
        assert!(impatient < patient);
    }

    #[test]
    fn without_any_rate_nothing_is_promised() {
        assert_eq!(wait(10, &Rates::default(), None), None);
        assert!(wait(10, &Rates::default(), Some(2.0)).is_some());
    }

    #[test]
    fn polls_slow_down_with_the_wait_and_stay_within_the_window() {
        let window = Duration::from_secs(90);
        let at = |seconds| Wait {
            seconds,
            low: 0.0,
            high: 0.0,
        };
        assert_eq!(poll_after(None, 1, 1, true, window), Duration::from_secs(3));
        assert_eq!(
            poll_after(Some(at(1.0)), 1, 1, false, window),
            Duration::from_secs(2)
        );
        assert_eq!(
            poll_after(Some(at(80.0)), 1, 1, false, window),
            Duration::from_secs(10)
        );
        assert_eq!(
            poll_after(Some(at(9_999.0)), 1, 1, false, window),
            Duration::from_secs(36)
        );
    }

    #[test]
    fn a_long_line_that_nobody_is_called_from_does_not_poll_like_its_front() {
        let window = Duration::from_secs(90);
        let at = |position| poll_after(None, position, 1, false, window).as_secs();
        assert_eq!([at(1), at(4_000), at(8_000)], [5, 5, 10]);
        assert_eq!([at(100_000), at(1_000_000)], [36, 36]);
    }

    #[test]
    fn a_line_that_moves_fast_does_not_drown_its_gateways_in_polls() {
        let window = Duration::from_secs(90);
        let polls = |admitted: u64, gateways| {
            // Everybody of a line of an hour, asking as told.
            let line = (1..admitted * 3600).step_by(100);
            let each = line.map(|position| {
                #[expect(clippy::cast_precision_loss, reason = "positions are small")]
                let seconds = position as f64 / admitted as f64;
                let wait = Wait {
                    seconds,
                    low: seconds,
                    high: seconds,
                };
                let after = poll_after(Some(wait), position, gateways, false, window);
                100.0 / after.as_secs_f64()
            });
            each.sum::<f64>()
        };
        // 3,240 s of the hour are beyond what the window lets wait longer.
        #[expect(clippy::cast_precision_loss, reason = "rates are small")]
        let far = |admitted: u64, parts: u64| admitted as f64 * (3600 - 36 * parts) as f64 / 36.0;
        assert!(polls(300, 1) - far(300, 8) < 15_000.0);
        assert!(polls(5_000, 8) - far(5_000, 8) < 8.0 * 25_000.0);
        let alone = polls(5_000, 1) - far(5_000, 2);
        assert!(alone < 45_000.0, "{alone}");
    }

    #[test]
    fn a_pause_says_nothing_about_how_fast_a_line_moves() {
        let mut history = History::default();
        for second in 0..=40 {
            let mut meta = meta();
            meta.time = Timestamp(second * 1000);
            if second <= 25 {
                meta.rules.mode = Mode::Pause;
            }
            meta.begun = 100 * second.saturating_sub(25);
            history.record(&line(meta, 0, &[]), 9_000);
            if second == 30 {
                // Three seconds of a hundred, of which the first came late.
                let begins = wait(1_000, &history.rates(), Some(500.0)).unwrap();
                assert!((begins.seconds - 2.0).abs() < 1e-9);
            }
        }
        assert!((history.rates().admitted.unwrap() - 100.0).abs() < 1e-9);
        let moves = wait(1_000, &history.rates(), Some(500.0)).unwrap();
        assert!((moves.seconds - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_store_born_anew_begins_the_history_anew() {
        let mut history = History::default();
        for (second, begun) in [(0, 100), (1, 110), (2, 0)] {
            let mut meta = meta();
            meta.time = Timestamp(second * 1000);
            meta.begun = begun;
            history.record(&line(meta, 0, &[]), 0);
        }
        assert_eq!(history.rates().admitted, None);
    }
}
