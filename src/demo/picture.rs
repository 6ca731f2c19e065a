//! The live picture: on a terminal one screen that is drawn anew in place,
//! elsewhere a line every few seconds.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::summary::{clock, failures, grouped, milliseconds};
use super::tally::Glance;
use super::{Show, Size, write};
use crate::ledger::View;
use crate::room::gate::{Gate, Reading, Signal};

/// Points of a sparkline; one a second.
const POINTS: usize = 24;

/// The width of a bar.
const BAR: usize = 24;

/// The other screen, without a cursor (xterm's private modes 1049 and 25).
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// Everything at one moment.
pub(super) struct Scene<'a> {
    pub(super) elapsed: Duration,
    pub(super) size: Size,
    /// Whether the shops have their weak spell.
    pub(super) weak: bool,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) view: Option<&'a View>,
    pub(super) behind: Glance,
    pub(super) alone: Glance,
}

/// What is shown, with what it showed before. Dropped, the terminal is as it was.
pub(super) struct Picture {
    show: Show,
    /// The 95th percentile behind the gateway and alone, second by second.
    past: VecDeque<(Duration, Duration)>,
    drawn: Option<Duration>,
}

impl Picture {
    pub(super) fn open(show: Show) -> Self {
        if show == Show::Picture {
            write(OPEN);
        }
        Self {
            show,
            past: VecDeque::new(),
            drawn: None,
        }
    }

    pub(super) fn draw(&mut self, scene: &Scene<'_>) {
        let first = self.drawn.is_none();
        match self.show {
            Show::Picture => {
                self.remember(scene);
                write(&on_screen(&frame(scene, &self.past)));
            }
            Show::Lines => {
                self.drawn = Some(scene.elapsed);
                if first {
                    write(&format!(
                        "stand in line yourself: http://{}/\n",
                        scene.public
                    ));
                }
                write(&line(scene));
            }
            Show::Nothing => {}
        }
    }

    fn remember(&mut self, scene: &Scene<'_>) {
        let second = Duration::from_secs(1);
        if self
            .drawn
            .is_some_and(|drawn| scene.elapsed < drawn + second)
        {
            return;
        }
        self.drawn = Some(scene.elapsed);
        let of = |glance: &Glance| glance.p95.unwrap_or_default();
        self.past.push_back((of(&scene.behind), of(&scene.alone)));
        if self.past.len() > POINTS {
            self.past.pop_front();
        }
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        if self.show == Show::Picture {
            write(CLOSE);
        }
    }
}

/// A frame as the terminal takes it: from the upper left corner, each line
/// cleared to its end, in one piece where the terminal knows how (mode 2026).
fn on_screen(frame: &str) -> String {
    let lines = frame.replace('\n', "\x1b[K\r\n");
    format!("\x1b[?2026h\x1b[H{lines}\x1b[J\x1b[?2026l")
}

fn line(scene: &Scene<'_>) -> String {
    let (behind, alone) = (&scene.behind, &scene.alone);
    let gate = scene
        .view
        .map_or("-", |view| view.snapshot.meta.gate().word());
    format!(
        "{:>5}  gate {gate:<8}  inside {:>3}/{}  in line {:>4}  ordered {:>4} | alone: in the shop {:>4}  ordered {:>4} | p95 {} | alone {} | failed {} | alone {}\n",
        clock(scene.elapsed),
        scene.view.map_or(0, |view| view.snapshot.sessions),
        scene.size.limit,
        behind.counts.waiting,
        behind.counts.ordered,
        alone.counts.inside,
        alone.counts.ordered,
        milliseconds(behind.p95),
        milliseconds(alone.p95),
        behind.counts.failures,
        alone.counts.failures,
    )
}

fn frame(scene: &Scene<'_>, past: &VecDeque<(Duration, Duration)>) -> String {
    let mut text = String::with_capacity(4096);
    head(&mut text, scene);
    match scene.view {
        Some(view) => gateway(&mut text, scene, view),
        None => text.push_str("  the gateway has not looked yet\n"),
    }
    both(&mut text, scene, past);
    text
}

fn head(text: &mut String, scene: &Scene<'_>) {
    let arrived = grouped(scene.behind.counts.arrived);
    let came = if scene.weak {
        "a report in the back office slows the shop".to_owned()
    } else {
        format!("{arrived} of {} came", grouped(scene.size.visitors.into()))
    };
    let _ = write!(
        text,
        "  {BOLD}{CYAN}sumun demo{PLAIN}  {:>5}   {came:<43}{DIM}Ctrl-C ends it{PLAIN}\n\n\
         \x20 Stand in line yourself  {BOLD}http://{}/{PLAIN}\n\
         \x20 {DIM}Metrics                 http://{}/metrics{PLAIN}\n\n",
        clock(scene.elapsed),
        scene.public,
        scene.admin,
    );
}

/// What the gateway itself knows.
fn gateway(text: &mut String, scene: &Scene<'_>, view: &View) {
    let meta = &view.snapshot.meta;
    let limit = u64::from(scene.size.limit);
    let (colour, word) = match meta.gate() {
        Gate::Open => (GREEN, "open"),
        Gate::Queueing => (YELLOW, "queueing"),
        Gate::Closed => (RED, "closed"),
    };
    let why = match meta.gate() {
        Gate::Open if view.is_busy() => "the shop is well, and full: who is new stands in line",
        Gate::Open => "the shop is well: who is new walks in",
        Gate::Queueing => "the shop is under load: who is new stands in line",
        Gate::Closed => "",
    };
    let inside = view.snapshot.sessions;
    let _ = writeln!(text, "  gate         {colour}{BOLD}{word:<10}{PLAIN}{why}");
    let _ = writeln!(
        text,
        "  inside       {}  {inside} of {limit}",
        bar(ratio(inside, limit), CYAN)
    );
    let _ = writeln!(
        text,
        "  in line      {}  {} and {} called",
        bar(ratio(view.waiting(), scene.size.visitors.into()), CYAN),
        grouped(view.waiting()),
        view.snapshot.offers.len(),
    );
    let rate = view
        .rates
        .admitted
        .map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1} a second"));
    let next = view.waiting() + 1;
    let wait = match view.wait(next) {
        _ if !view.is_busy() => "does not wait".to_owned(),
        Some(wait) => format!("waits {} to {}", seconds(wait.low), seconds(wait.high)),
        None => "waits".to_owned(),
    };
    let _ = writeln!(text, "  let in       {rate}; who comes now {wait}\n");
    for reading in &view.readings {
        if let Some(pressure) = reading.pressure() {
            pressed(text, reading, pressure);
        } else if let (None, Some(_)) = (reading.value, reading.threshold) {
            pressed(text, reading, 0.0);
        }
    }
    text.push('\n');
}

/// One signal and how near it is to closing the gate.
fn pressed(text: &mut String, reading: &Reading, pressure: f64) {
    let colour = match pressure {
        _ if pressure >= 1.0 => RED,
        _ if pressure >= 0.8 => YELLOW,
        _ => GREEN,
    };
    let name = match reading.signal {
        Signal::Sessions => "sessions",
        Signal::Arrivals => "arrivals",
        Signal::Requests => "requests",
        Signal::InFlight => "in flight",
        Signal::Latency => "latency p95",
        Signal::Failures => "failures",
    };
    let value = |value: f64| match reading.signal {
        Signal::Latency => milliseconds(Duration::try_from_secs_f64(value).ok()),
        Signal::Failures => format!("{:.0} %", value * 100.0),
        Signal::Arrivals | Signal::Requests => format!("{value:.1} a second"),
        Signal::Sessions | Signal::InFlight => format!("{value:.0}"),
    };
    let measured = reading.value.map_or_else(|| "–".to_owned(), value);
    let threshold = reading.threshold.map_or_else(|| "–".to_owned(), value);
    let _ = writeln!(
        text,
        "  {name:<12} {}  {measured}, queues at {threshold}",
        bar(pressure, colour)
    );
}

/// The two crowds side by side.
fn both(text: &mut String, scene: &Scene<'_>, past: &VecDeque<(Duration, Duration)>) {
    let (behind, alone) = (&scene.behind, &scene.alone);
    let (b, a) = (&behind.counts, &alone.counts);
    let _ = writeln!(
        text,
        "  {BOLD}{:<16}{:<30}the same shop alone{PLAIN}",
        "", "the shop behind Sumun"
    );
    let longest = past
        .iter()
        .map(|(behind, alone)| *behind.max(alone))
        .max()
        .unwrap_or_default();
    let here = |count: u64| format!("{} in the shop", grouped(count));
    let rows = [
        ("visitors", here(b.inside), here(a.inside)),
        (
            "page, median",
            milliseconds(behind.median),
            milliseconds(alone.median),
        ),
        (
            "page, p95",
            milliseconds(behind.p95),
            milliseconds(alone.p95),
        ),
    ];
    for (name, behind, alone) in rows {
        let _ = writeln!(text, "  {name:<16}{behind:<30}{alone}");
    }
    let behind_spark: String = past.iter().map(|(one, _)| spark(*one, longest)).collect();
    let alone_spark: String = past.iter().map(|(_, one)| spark(*one, longest)).collect();
    let _ = writeln!(
        text,
        "  {:<16}{GREEN}{behind_spark:<30}{RED}{alone_spark}{PLAIN}",
        ""
    );
    let failed = [failures(b.failures, b.pages), failures(a.failures, a.pages)];
    let [behind_failed, alone_failed] = failed;
    let _ = writeln!(
        text,
        "  {:<16}{behind_failed:<30}{}{alone_failed}{PLAIN}",
        "failed pages",
        if a.failures > 0 { RED } else { PLAIN },
    );
    let rows = [
        ("ordered", b.ordered, a.ordered),
        ("gave up", b.lost, a.lost),
    ];
    for (name, behind, alone) in rows {
        let (behind, alone) = (grouped(behind), grouped(alone));
        let _ = writeln!(text, "  {name:<16}{behind:<30}{alone}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 0 and the bar's width"
)]
fn bar(ratio: f64, colour: &str) -> String {
    let full = (ratio.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let (full, rest) = ("█".repeat(full), "░".repeat(BAR - full));
    format!("{colour}{full}{DIM}{rest}{PLAIN}")
}

fn spark(one: Duration, longest: Duration) -> char {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if longest.is_zero() {
        return ' ';
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 7"
    )]
    let step = (one.as_secs_f64() / longest.as_secs_f64() * 7.0).round() as usize;
    STEPS.get(step).copied().unwrap_or('█')
}

fn seconds(seconds: f64) -> String {
    clock(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_wide_whatever_it_shows() {
        for ratio in [0.0, 0.4, 1.0, 7.0, f64::NAN] {
            let bar = bar(ratio, "");
            let cells = bar.chars().filter(|cell| "█░".contains(*cell));
            assert_eq!(cells.count(), BAR, "{ratio}");
        }
    }

    #[test]
    fn a_spark_is_low_for_nothing_and_high_for_the_longest() {
        let second = Duration::from_secs(1);
        assert_eq!(spark(Duration::ZERO, second), '▁');
        assert_eq!(spark(second, second), '█');
        assert_eq!(spark(Duration::ZERO, Duration::ZERO), ' ');
    }

    #[test]
    fn the_picture_fits_a_terminal_of_80_by_24() {
        let scene = Scene {
            elapsed: Duration::from_secs(75),
            size: Size::of(&super::super::Options {
                visitors: 3_000,
                wave: Duration::from_secs(90),
                port: None,
                show: Show::Nothing,
            })
            .unwrap(),
            weak: true,
            public: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:9090".parse().unwrap(),
            view: None,
            behind: Glance::default(),
            alone: Glance::default(),
        };
        let past = VecDeque::from(vec![(Duration::ZERO, Duration::from_secs(8)); POINTS]);
        let frame = frame(&scene, &past);
        // The gateway's part has nine lines where there is one here.
        assert!(frame.lines().count() + 8 <= 24, "{frame}");
        for line in frame.lines() {
            let mut shown = 0;
            let mut escaped = false;
            for letter in line.chars() {
                match letter {
                    '\x1b' => escaped = true,
                    'm' if escaped => escaped = false,
                    _ if escaped => {}
                    _ => shown += 1,
                }
            }
            assert!(shown <= 80, "{line}");
        }
    }
}
