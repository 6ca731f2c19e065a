//! What the wave came to, as numbers and as the table that the demo ends with.

use std::fmt;
use std::time::Duration;

/// What came of the wave.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How many were to come, to each of the two shops.
    pub visitors: u32,
    /// Sessions allowed inside at once.
    pub limit: u32,
    /// Workers of each shop.
    pub workers: u32,
    /// From the first visitor to the end.
    pub took: Duration,
    /// Whether it was ended before everybody was through.
    pub interrupted: bool,
    /// The most who were inside at once: the greater of the gateway's own
    /// count, looked at four times a second, and the crowd's.
    pub inside_most: u64,
    /// The crowd that met the gateway.
    pub behind: Side,
    /// The crowd that met the shop alone.
    pub alone: Side,
}

/// One crowd.
#[derive(Clone, Debug)]
pub struct Side {
    /// Who came.
    pub arrived: u64,
    /// Who got a page of the shop.
    pub entered: u64,
    /// Who still stands in line.
    pub waiting: u64,
    /// Who ordered.
    pub ordered: u64,
    /// Who went without buying, as they had meant to.
    pub left: u64,
    /// Who gave up on the shop.
    pub gave_up: u64,
    /// Pages asked of the shop.
    pub pages: u64,
    /// Of these, the errors and those that took too long.
    pub failures: u64,
    /// Half of the pages were faster.
    pub median: Option<Duration>,
    /// 95 of 100 pages were faster.
    pub p95: Option<Duration>,
    /// From arrival to being let in, of those who stood in line.
    pub longest_wait: Duration,
    /// The most who were in the shop at once, by the crowd's own count.
    pub inside_most: u64,
    /// Kendall's tau of arriving against coming in: 1 is exactly first come,
    /// first served, 0 is chance. `None` for fewer than two.
    pub order: Option<f64>,
}

/// The value below which `share` of the sorted values lie.
pub(super) fn share(sorted: &[Duration], share: f64) -> Option<Duration> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().checked_sub(1)?)).copied()
}

/// Kendall's tau of a list against its own sorted order.
pub(super) fn kendall<T: Ord>(list: &[T]) -> Option<f64> {
    let mut turned = 0_u32;
    let mut pairs = 0_u32;
    for (index, one) in list.iter().enumerate() {
        for later in list.iter().skip(index + 1) {
            pairs += 1;
            turned += u32::from(later < one);
        }
    }
    (pairs > 0).then(|| 1.0 - 2.0 * f64::from(turned) / f64::from(pairs))
}

/// A duration as minutes and seconds.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A count with its thousands apart.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency in milliseconds.
pub(super) fn milliseconds(latency: Option<Duration>) -> String {
    latency.map_or_else(
        || "–".to_owned(),
        |latency| {
            let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            format!("{} ms", grouped(ms))
        },
    )
}

/// Failures, with their share of the pages.
pub(super) fn failures(failures: u64, pages: u64) -> String {
    if failures == 0 {
        return "0".to_owned();
    }
    let percent = (failures * 100).div_ceil(pages.max(1));
    format!("{} ({percent} %)", grouped(failures))
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (behind, alone) = (&self.behind, &self.alone);
        let ended = if self.interrupted {
            "The demo was ended"
        } else {
            "The wave is through"
        };
        writeln!(
            out,
            "{ended} after {}. {} visitors to each of two shops of {} workers:\n\
             one behind Sumun, at most {} inside, and one alone.\n",
            clock(self.took),
            grouped(u64::from(self.visitors)),
            self.workers,
            self.limit,
        )?;
        let order = behind
            .order
            .map_or_else(|| "–".to_owned(), |tau| format!("tau {tau:.3}"));
        let none = || "–".to_owned();
        let rows = [
            ("", "behind Sumun".to_owned(), "alone".to_owned()),
            ("came", grouped(behind.arrived), grouped(alone.arrived)),
            ("ordered", grouped(behind.ordered), grouped(alone.ordered)),
            (
                "only looked, as meant",
                grouped(behind.left),
                grouped(alone.left),
            ),
            ("gave up", grouped(behind.gave_up), grouped(alone.gave_up)),
            (
                "failed pages",
                failures(behind.failures, behind.pages),
                failures(alone.failures, alone.pages),
            ),
            (
                "page, median",
                milliseconds(behind.median),
                milliseconds(alone.median),
            ),
            (
                "page, 95th percentile",
                milliseconds(behind.p95),
                milliseconds(alone.p95),
            ),
            (
                "most in the shop at once",
                format!("{} of {}", self.inside_most, self.limit),
                grouped(alone.inside_most),
            ),
            ("longest wait in line", clock(behind.longest_wait), none()),
            ("first come, first served", order, none()),
        ];
        for (name, behind, alone) in rows {
            writeln!(out, "  {name:<28}{behind:>16}{alone:>18}")?;
        }
        if behind.waiting > 0 {
            writeln!(
                out,
                "  {:<28}{:>16}",
                "still in line",
                grouped(behind.waiting)
            )?;
        }
        writeln!(
            out,
            "\n  A line before your own site:  sumun --origin http://127.0.0.1:3000 --limit 50"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_is_one_in_order_and_minus_one_in_reverse() {
        assert_eq!(kendall(&[1, 2, 3, 4]), Some(1.0));
        assert_eq!(kendall(&[4, 3, 2, 1]), Some(-1.0));
        assert_eq!(kendall(&[1]), None);
    }

    #[test]
    fn a_percentile_of_nothing_is_unknown_and_of_one_is_that_one() {
        let one = [Duration::from_millis(7)];
        assert_eq!(share(&[], 0.95), None);
        assert_eq!(share(&one, 0.95), Some(one[0]));
    }

    #[test]
    fn counts_are_grouped_and_failures_have_their_share() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(failures(5, 1_000), "5 (1 %)");
        assert_eq!(failures(0, 0), "0");
    }
}
