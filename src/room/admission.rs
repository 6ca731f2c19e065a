//! How many may enter, and which: pure functions of a snapshot.
//!
//! The store moves what is decided here, under a guard of its own, so a wrong
//! plan can waste a slot but never overrun the limit.

use super::event::Mode;
use super::gate::Gate;
use super::snapshot::{Meta, Snapshot};
use super::ticket::Number;
use super::time::Timestamp;

/// The show rate never falls below this, or one absent crowd would call everybody.
pub const SHOW_MIN: f64 = 1.0 / 64.0;

/// How far ahead sessions are expected to end and their slots are called for.
pub const STANDBY_SECONDS: f64 = 2.0;

/// Under pressure one visitor in this many milliseconds is called, so that a
/// weak origin is still probed by real use.
pub const PROBE_MS: u64 = 5_000;

/// Most numbers called in one step.
pub const CALLS_PER_STEP: usize = 10_000;

/// What the controller measured besides the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Pressure on the origin.
    pub pressure: f64,
    /// The operator's release ratio.
    pub release_ratio: f64,
    /// `queue_when.sessions`.
    pub sessions_threshold: Option<u64>,
    /// `queue_when.arrivals_per_second`: no pace exceeds it.
    pub arrivals_threshold: Option<f64>,
    /// Sessions begun a second over the last minute.
    pub begun_per_second: f64,
    /// Sessions ended a second over the last half minute.
    pub closed_per_second: f64,
}

/// The controller's decision about admissions.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The new watermark.
    pub to: Number,
    /// The living numbers below it that get an offer, in order.
    pub offers: Vec<Number>,
    /// The pace in force.
    pub pace: Option<f64>,
    /// The show rate.
    pub show: f64,
}

/// Plans one step: the pace, the show rate, how many and which are called.
///
/// `gate` is what the gate becomes in the same step.
#[must_use]
pub fn plan(snapshot: &Snapshot, gate: Gate, measured: &Measured) -> Plan {
    let meta = &snapshot.meta;
    let show = show_rate(meta);
    let pace = next_pace(meta, gate, measured);
    let paced = Meta {
        gate,
        pace,
        ..meta.clone()
    };
    let wanted = how_many(snapshot, &paced, show, measured);
    let (to, offers) = which(snapshot, wanted);
    let nobody_waits = to == meta.issued && offers.is_empty();
    let is_well = paced.gate() == Gate::Open
        || (meta.rules.mode == Mode::Queue && measured.pressure < measured.release_ratio);
    Plan {
        to,
        offers,
        pace: pace.filter(|_| !(nobody_waits && is_well)),
        show,
    }
}

/// Learns the share of called visitors who show up, from the offers settled
/// since the last step.
fn show_rate(meta: &Meta) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "offers of one step are far below 2^52"
    )]
    let (settled, shown) = (meta.settled as f64, meta.shown as f64);
    if settled < 1.0 {
        return meta.show;
    }
    let weight = 0.1 * (settled / 20.0).min(1.0);
    (meta.show + weight * (shown / settled - meta.show)).clamp(SHOW_MIN, 1.0)
}

/// The pace: in force from the closing of the gate until nobody waits.
fn next_pace(meta: &Meta, gate: Gate, measured: &Measured) -> Option<f64> {
    let cap = |pace: f64| {
        let most = meta.rules.admit_per_second.unwrap_or(f64::INFINITY);
        pace.min(most)
            .min(measured.arrivals_threshold.unwrap_or(f64::INFINITY))
    };
    let Some(pace) = meta.pace else {
        // Also for a gate that was found closed (after a loss, or after `off`),
        // and in mode `queue` when the origin weakens.
        let begins = match meta.rules.mode {
            Mode::Auto => gate == Gate::Queueing,
            Mode::Queue => measured.pressure >= measured.release_ratio && measured.pressure > 0.0,
            Mode::Pause | Mode::Off | Mode::Shadow | Mode::Closed => false,
        };
        return begins.then(|| cap((measured.begun_per_second / 2.0).max(1.0)));
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds between two steps")]
    let seconds = (meta.time.0.saturating_sub(meta.stepped.0) as f64 / 1000.0).min(2.0);
    let next = if measured.pressure >= 1.0 {
        pace * 0.7_f64.powf(seconds)
    } else if measured.pressure >= measured.release_ratio {
        pace
    } else {
        pace * 1.1_f64.powf(seconds) + 0.5 * seconds
    };
    Some(cap(next.clamp(0.01, 1e6)))
}

/// How many may be called now.
#[expect(
    clippy::cast_precision_loss,
    reason = "sessions and offers are far below 2^52"
)]
fn how_many(snapshot: &Snapshot, paced: &Meta, show: f64, measured: &Measured) -> usize {
    let now = snapshot.now();
    if matches!(paced.rules.mode, Mode::Pause | Mode::Closed) || paced.recovery.is_some() {
        return 0;
    }
    let sessions_most = measured
        .sessions_threshold
        .filter(|_| paced.gate() == Gate::Queueing);
    let limit = match (paced.rules.limit, sessions_most) {
        (Some(limit), Some(most)) => Some(limit.min(most)),
        (limit, most) => limit.or(most),
    };
    let standing = standing_offers(snapshot, now) as f64;
    let free = limit.map_or(f64::INFINITY, |limit| {
        let taken = (snapshot.sessions + paced.ghosts + paced.reserved()) as f64;
        limit as f64 - taken + measured.closed_per_second * STANDBY_SECONDS - standing * show
    });
    let by_slots = (free / show).floor();
    let by_pace = if measured.pressure >= 1.0 && paced.pace.is_some() {
        let probes = now.0 >= paced.called_at.0 + PROBE_MS && standing < 1.0;
        f64::from(u8::from(probes))
    } else {
        paced.tokens(now).floor()
    };
    let wanted = by_slots.min(by_pace).clamp(0.0, CALLS_PER_STEP as f64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=CALLS_PER_STEP"
    )]
    let wanted = wanted as usize;
    wanted
}

fn standing_offers(snapshot: &Snapshot, now: Timestamp) -> usize {
    snapshot.offers.iter().filter(|(_, due)| *due > now).count()
}

/// Which numbers: the first `wanted` living ones from the watermark on. The
/// watermark also passes over numbers on which nobody lives any more, so that
/// an abandoned line does not keep newcomers out.
fn which(snapshot: &Snapshot, wanted: usize) -> (Number, Vec<Number>) {
    let Meta { called, issued, .. } = snapshot.meta;
    let mut offers = Vec::new();
    for page in snapshot.pages.iter().filter(|page| **page >= called.page()) {
        if *page > issued.page() {
            break;
        }
        let Some((_, bits)) = snapshot.front.iter().find(|(front, _)| front == page) else {
            return (Number::at(*page, 0).max(called).min(issued), offers);
        };
        let from = if *page == called.page() {
            called.bit()
        } else {
            0
        };
        for bit in bits.ones(from) {
            let number = Number::at(*page, bit);
            if number >= issued {
                break;
            }
            if offers.len() == wanted {
                return (number, offers);
            }
            offers.push(number);
        }
    }
    (issued, offers)
}

/// How long until offers settle, for the answer to a visitor whose slot is
/// not free yet, in milliseconds.
pub const HELD_RETRY_MS: u64 = 1_000;

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::room::pages::Bits;
    use crate::room::snapshot::{Rules, Tally};

    pub(crate) fn meta() -> Meta {
        Meta {
            born: 1,
            born_at: Timestamp(0),
            generation: crate::room::ticket::Generation(0),
            issued: Number(0),
            called: Number(0),
            seq: 0,
            run: "run".into(),
            raw: 100_000,
            time: Timestamp(100_000),
            stepped: Timestamp(99_500),
            window: 0,
            window_since: Timestamp(0),
            fresh_window: 0,
            fresh_since: Timestamp(0),
            gate: Gate::Open,
            since: Timestamp(0),
            calm_since: None,
            pace: None,
            called_at: Timestamp(0),
            tokens: 0.0,
            tokens_at: Timestamp(100_000),
            show: 1.0,
            settled: 0,
            shown: 0,
            begun: 0,
            closed: 0,
            rules: Rules {
                mode: Mode::Auto,
                limit: Some(10),
                admit_per_second: None,
                session_idle_ms: 600_000,
                session_max_ms: 3_600_000,
                window_ms: 90_000,
            },
            cfgver: 0,
            recoveries: 0,
            recovery: None,
            ghosts: 0,
            ghosts_until: Timestamp(0),
            marks: Vec::new(),
            shares: Vec::new(),
        }
    }

    pub(crate) fn line(meta: Meta, sessions: u64, living: &[u64]) -> Snapshot {
        let mut pages: BTreeMap<u64, Bits> = BTreeMap::new();
        for number in living {
            let number = Number(*number);
            pages.entry(number.page()).or_default().set(number.bit());
        }
        Snapshot {
            meta,
            unix_seconds: 1_800_000_000,
            sessions,
            offers: Vec::new(),
            pages: pages.keys().copied().collect(),
            front: pages.into_iter().take(2).collect(),
            density: BTreeMap::new(),
            ended: Vec::new(),
            gateways: Vec::new(),
            slot: 0,
            expired: 0,
            tally: Tally::default(),
        }
    }

    fn measured() -> Measured {
        Measured {
            release_ratio: 0.8,
            ..Measured::default()
        }
    }

    #[test]
    fn the_first_living_numbers_are_called_for_the_free_slots() {
        let mut meta = meta();
        meta.issued = Number(20);
        let plan = plan(&line(meta, 8, &[1, 4, 6, 9]), Gate::Open, &measured());
        assert_eq!(plan.offers, vec![Number(1), Number(4)]);
        assert_eq!(plan.to, Number(6));
    }

    #[test]
    fn a_line_in_which_nobody_lives_is_passed_to_its_end() {
        let mut meta = meta();
        meta.issued = Number(20);
        let plan = plan(&line(meta, 10, &[]), Gate::Open, &measured());
        assert_eq!((plan.to, plan.offers.len()), (Number(20), 0));
    }

    #[test]
    fn a_page_that_was_not_read_stops_the_watermark() {
        let mut meta = meta();
        meta.issued = Number(4 * 65_536);
        let mut snapshot = line(meta, 0, &[1, 65_536, 131_072]);
        snapshot.pages = vec![0, 1, 2];
        let plan = plan(&snapshot, Gate::Open, &measured());
        assert_eq!(plan.to, Number(131_072));
        assert_eq!(plan.offers, vec![Number(1), Number(65_536)]);
    }

    #[test]
    fn ghosts_and_standing_offers_take_slots() {
        let mut meta = meta();
        meta.issued = Number(20);
        meta.ghosts = 3;
        let mut snapshot = line(meta, 4, &[5, 6, 7]);
        snapshot.offers = vec![
            (Number(1), Timestamp(101_000)),
            (Number(2), Timestamp(99_000)),
        ];
        let plan = plan(&snapshot, Gate::Open, &measured());
        assert_eq!(plan.offers, vec![Number(5), Number(6)]);
    }

    #[test]
    fn absent_visitors_are_called_over() {
        let mut meta = meta();
        meta.issued = Number(100);
        meta.show = 0.5;
        let living: Vec<u64> = (0..50).collect();
        let plan = plan(&line(meta, 8, &living), Gate::Open, &measured());
        assert_eq!(plan.offers.len(), 4);
    }

    #[test]
    fn nobody_is_called_in_pause_or_recovery() {
        let mut meta = meta();
        meta.issued = Number(20);
        meta.rules.mode = Mode::Pause;
        let plan = plan(&line(meta, 0, &[3]), Gate::Queueing, &measured());
        assert_eq!((plan.to, plan.offers.len()), (Number(3), 0));
    }

    #[test]
    fn pressure_takes_the_pace_down_and_calls_one_in_five_seconds() {
        let mut meta = meta();
        meta.gate = Gate::Queueing;
        meta.issued = Number(20);
        meta.pace = Some(10.0);
        meta.tokens = 10.0;
        meta.stepped = Timestamp(99_000);
        let measured = Measured {
            pressure: 1.2,
            ..measured()
        };
        let first = plan(
            &line(meta.clone(), 0, &[3, 4, 5]),
            Gate::Queueing,
            &measured,
        );
        assert!((first.pace.unwrap() - 7.0).abs() < 1e-9);
        assert_eq!(first.offers, vec![Number(3)]);
        meta.called_at = Timestamp(98_000);
        let second = plan(&line(meta, 0, &[4, 5]), Gate::Queueing, &measured);
        assert!(second.offers.is_empty());
    }

    #[test]
    fn the_pace_begins_at_half_of_what_came_in_and_grows_while_the_site_is_well() {
        let mut meta = meta();
        meta.issued = Number(20);
        let measured = Measured {
            begun_per_second: 8.0,
            ..measured()
        };
        let begun = plan(&line(meta.clone(), 0, &[3]), Gate::Queueing, &measured);
        assert_eq!(begun.pace, Some(4.0));
        meta.gate = Gate::Queueing;
        meta.pace = Some(4.0);
        meta.stepped = Timestamp(99_000);
        let grown = plan(&line(meta, 0, &[3]), Gate::Queueing, &measured);
        assert!((grown.pace.unwrap() - 4.9).abs() < 1e-9);
    }

    #[test]
    fn a_gate_that_is_found_closed_has_a_pace_and_so_has_mode_queue_under_pressure() {
        let mut meta = meta();
        meta.gate = Gate::Queueing;
        meta.issued = Number(20);
        let found = plan(&line(meta.clone(), 0, &[3]), Gate::Queueing, &measured());
        assert_eq!(found.pace, Some(1.0));
        meta.gate = Gate::Open;
        meta.rules.mode = Mode::Queue;
        let weak = Measured {
            pressure: 1.2,
            ..measured()
        };
        let ordered = plan(&line(meta.clone(), 0, &[3]), Gate::Open, &weak);
        assert_eq!(ordered.pace, Some(1.0));
        let well = plan(&line(meta, 0, &[3]), Gate::Open, &measured());
        assert_eq!(well.pace, None);
    }

    #[test]
    fn the_pace_goes_when_the_gate_is_open_and_nobody_waits() {
        let mut meta = meta();
        meta.gate = Gate::Queueing;
        meta.pace = Some(4.0);
        let gone = plan(&line(meta.clone(), 0, &[]), Gate::Open, &measured());
        assert_eq!(gone.pace, None);
        let kept = plan(&line(meta, 0, &[]), Gate::Queueing, &measured());
        assert!(kept.pace.is_some());
    }

    #[test]
    fn the_show_rate_follows_those_who_came() {
        let mut meta = meta();
        (meta.settled, meta.shown) = (20, 0);
        let plan = plan(&line(meta, 0, &[]), Gate::Open, &measured());
        assert!((plan.show - 0.9).abs() < 1e-9);
    }

    #[test]
    fn a_session_threshold_is_the_limit_while_queueing() {
        let mut meta = meta();
        meta.gate = Gate::Queueing;
        (meta.pace, meta.tokens) = (Some(10.0), 10.0);
        meta.issued = Number(20);
        let measured = Measured {
            sessions_threshold: Some(5),
            ..measured()
        };
        let plan = plan(&line(meta, 4, &[1, 2, 3]), Gate::Queueing, &measured);
        assert_eq!(plan.offers.len(), 1);
    }
}
