//! The picture of a look, line by line: what matters most stands at the top, so
//! that a small terminal shows it too.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::Value;

use super::look::{Look, ROUTES_SECONDS};
use super::screen::Screen;
use crate::operator::picture::{count, limit, number, ratio, text, wait};

/// The width of a bar, in characters.
const BAR: usize = 20;

/// Looks that the line of the past shows, a character each.
const PAST_SHOWN: usize = 60;

/// Most gateways, origins and routes that are shown, of each.
const ROWS: usize = 16;

/// Pressure from which on it is near the threshold.
const NEAR: f64 = 0.8;

/// Draws the screen; how many lines are above the window.
pub(super) fn draw(screen: &Screen, now_ms: u64, frame: &mut Frame<'_>) -> usize {
    let ink = Ink {
        colour: screen.colour,
    };
    let [top, window, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let mut lines = news(screen, now_ms, usize::from(window.width), ink);
    if let Some(look) = &screen.look {
        lines.extend(event(look, screen, ink));
        lines.extend(signals(&look.status, ink));
        lines.extend(gateways(&look.status, ink));
        lines.extend(origins(look, ink));
        lines.extend(events(look, ink));
        lines.extend(routes(look, ink));
    }
    let below = lines.len().saturating_sub(usize::from(window.height));
    let above = screen.scrolled.min(below);
    let lines: Vec<Line<'_>> = lines.into_iter().skip(above).collect();
    frame.render_widget(head(screen, ink), top);
    frame.render_widget(Paragraph::new(lines), window);
    frame.render_widget(foot(screen, below - above), bottom);
    above
}

const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// How things are emphasised, with colours or without.
#[derive(Clone, Copy)]
struct Ink {
    colour: bool,
}

impl Ink {
    fn alarm(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::REVERSED)
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warn(self) -> Style {
        self.coloured(Color::Yellow)
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// By how near something is to its threshold.
    fn pressed(self, pressure: Option<f64>) -> Style {
        match pressure {
            Some(pressure) if pressure >= 1.0 => self.bad(),
            Some(pressure) if pressure >= NEAR => self.warn(),
            Some(_) => self.good(),
            None => Style::new(),
        }
    }

    /// By how newcomers are met.
    fn status(self, status: &str) -> Style {
        let style = match status {
            "OPEN" => self.good(),
            "QUEUEING" => self.warn(),
            _ => self.bad(),
        };
        style.add_modifier(Modifier::BOLD)
    }
}

fn head(screen: &Screen, ink: Ink) -> Line<'static> {
    let Some(look) = &screen.look else {
        return Line::styled(format!("sumun at {}", screen.address), STRONG);
    };
    let status = &look.status;
    let word = text(&status["status"]);
    Line::from(vec![
        Span::styled(look.chosen.clone(), STRONG),
        Span::raw("  "),
        Span::styled(word.clone(), ink.status(&word)),
        Span::raw(format!(
            "  mode {}, gate {} since {}",
            text(&status["mode"]),
            text(&status["gate"]),
            time(&status["gateSince"]),
        )),
        Span::styled(
            format!("   {} UTC, by {}", time(&status["asOf"]), screen.address),
            DIM,
        ),
    ])
}

fn foot(screen: &Screen, below: usize) -> Line<'static> {
    let mut words = "q ends".to_owned();
    if screen
        .look
        .as_ref()
        .is_some_and(|look| look.events.len() > 1)
    {
        words.push_str("  ←→ another event");
    }
    if below > 0 || screen.scrolled > 0 {
        words.push_str("  ↑↓ scroll");
    }
    match below {
        0 => {}
        1 => words.push_str(", 1 line more"),
        more => {
            let _written = write!(words, ", {more} lines more");
        }
    }
    Line::styled(words, DIM)
}

/// What is out of order with the gateway, its store or its memory.
fn news(screen: &Screen, now_ms: u64, width: usize, ink: Ink) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let seconds = |ms: u64| wait(&Value::from(ms / 1000));
    if let Some(trouble) = &screen.trouble {
        let since = seconds(now_ms.saturating_sub(screen.seen_ms));
        let words = format!("what follows is {since} old: {trouble}");
        lines.extend(wrapped(&words, width, ink.alarm()));
    } else if let Some(away) = screen.was_away_ms(now_ms) {
        let words = format!("the gateway is back, after {}", seconds(away));
        lines.extend(wrapped(&words, width, ink.good()));
    }
    let Some(look) = &screen.look else {
        return lines;
    };
    let status = &look.status;
    if status["storeUp"] == Value::Bool(false) {
        let words = "the store is away: what follows is as the gateway last saw it";
        lines.extend(wrapped(words, width, ink.alarm()));
    }
    if let Some(cause) = status["recovery"]["cause"].as_str() {
        let until = time(&status["recovery"]["until"]);
        let words = format!("recovering ({cause}) until {until}: nobody is admitted meanwhile");
        lines.extend(wrapped(&words, width, ink.warn()));
    }
    lines
}

/// Who is inside and who waits.
fn event(look: &Look, screen: &Screen, ink: Ink) -> Vec<Line<'static>> {
    let (status, counts) = (&look.status, &look.status["counts"]);
    let taken = [&counts["sessions"], &counts["ghosts"], &counts["reserved"]];
    let taken: Vec<f64> = taken.iter().filter_map(|count| count.as_f64()).collect();
    let full = status["limitCnt"].as_f64().filter(|limit| *limit > 0.0);
    let full = full.map(|limit| taken.iter().sum::<f64>() / limit);
    let mut inside = vec![Span::raw(format!(
        "inside     {:>9} of {:<9} ",
        count(&counts["sessions"]),
        limit(&status["limitCnt"]),
    ))];
    if full.is_some() {
        inside.push(Span::styled(bar(full), ink.good()));
    }
    for (name, words) in [
        ("offers", "called and not yet in"),
        ("ghosts", "unheard of since a loss"),
        ("reserved", "kept by gateways"),
    ] {
        if counts[name].as_u64().is_some_and(|some| some > 0) {
            inside.push(Span::raw(format!("  {} {words}", count(&counts[name]))));
        }
    }
    let (estimate, rates) = (&status["estimate"], &status["rates"]);
    vec![
        Line::from(inside),
        Line::from(vec![
            Span::raw(format!("waiting    {:>9}  ", count(&counts["waiting"]))),
            Span::styled(past(screen), ink.warn()),
        ]),
        Line::raw(format!(
            "a newcomer waits {} ({} to {})",
            wait(&estimate["seconds"]),
            wait(&estimate["low"]),
            wait(&estimate["high"]),
        )),
        Line::raw(format!(
            "a second   {} admitted; {} sessions begun, {} closed; {} of the line give up",
            number(&rates["admittedPerSecond"]),
            number(&rates["begunPerSecond"]),
            number(&rates["closedPerSecond"]),
            share(&rates["abandonedRatioPerSecond"]),
        )),
        Line::raw(format!(
            "at most    {} inside, {} waiting; {} sessions, {} tickets, {} abandoned since {}",
            count(&status["peaks"]["sessions"]),
            count(&status["peaks"]["waiting"]),
            count(&status["totals"]["sessionsBegun"]),
            count(&status["totals"]["ticketsIssued"]),
            count(&status["totals"]["ticketsAbandoned"]),
            text(&status["totals"]["generationSince"]),
        )),
    ]
}

/// The load against the thresholds; what has none stands below.
fn signals(status: &Value, ink: Ink) -> Vec<Line<'static>> {
    let pressure = status["pressure"].as_f64();
    let mut lines = vec![
        Line::default(),
        Line::from(vec![
            Span::styled("pressure   ", STRONG),
            Span::styled(ratio(&status["pressure"]), ink.pressed(pressure)),
        ]),
    ];
    let Some(all) = status["signals"].as_object() else {
        return lines;
    };
    let (bounded, free): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|(_, reading)| !reading["threshold"].is_null());
    for (signal, reading) in bounded {
        let pressure = reading["pressure"].as_f64();
        let (load, most) = (number(&reading["load"]), number(&reading["threshold"]));
        lines.push(Line::from(vec![
            Span::raw(format!("  {signal:<18} {load:>9} of {most:<9} ")),
            Span::styled(bar(pressure), ink.pressed(pressure)),
            Span::raw(format!(" {}", ratio(&reading["pressure"]))),
        ]));
    }
    for (signal, reading) in free {
        let load = number(&reading["load"]);
        lines.push(Line::styled(format!("  {signal:<18} {load:>9}"), DIM));
    }
    lines
}

fn gateways(status: &Value, ink: Ink) -> Vec<Line<'static>> {
    let all = status["gateways"].as_array().map_or(&[][..], Vec::as_slice);
    let store = match &status["storeUp"] {
        Value::Bool(true) => Span::styled("store up", ink.good()),
        Value::Bool(false) => Span::styled("store away", ink.bad()),
        _ => Span::raw("store not asked yet"),
    };
    let mut first = vec![
        Span::styled("gateways   ", STRONG),
        Span::raw(format!("{}, ", all.len())),
        store,
    ];
    if status["configsAgree"] == Value::Bool(false) {
        first.push(Span::styled("  their files differ", ink.warn()));
    }
    let rows = all.iter().map(|row| {
        let is_here = row["present"] == Value::Bool(true);
        let (word, style) = if is_here {
            ("here", ink.good())
        } else {
            ("not heard from", ink.bad())
        };
        let config = text(&row["config"]);
        Line::from(vec![
            Span::raw(format!("  {:<28} ", text(&row["gateway"]))),
            Span::styled(format!("{word:<15}"), style),
            Span::styled(
                format!("seen {}  file {config:.8}", time(&row["seen"])),
                DIM,
            ),
        ])
    });
    section(Line::from(first), rows.collect())
}

fn origins(look: &Look, ink: Ink) -> Vec<Line<'static>> {
    let rows = look.origins.iter().map(|origin| {
        let state = text(&origin["state"]);
        let style = match state.as_str() {
            "UP" => ink.good(),
            "RETURNING" => ink.warn(),
            _ => ink.bad(),
        };
        let mut row = vec![
            Span::raw(format!("  {:<28} ", text(&origin["origin"]))),
            Span::styled(format!("{state:<10}"), style),
            Span::raw(format!(
                "{:>6} in flight {:>6} failed in a row {:>6} connections",
                count(&origin["inFlight"]),
                count(&origin["failures"]),
                count(&origin["connections"]["open"]),
            )),
        ];
        if let Some(reason) = origin["reason"].as_str() {
            row.push(Span::styled(format!("  {reason}"), ink.bad()));
        }
        if !origin["until"].is_null() {
            row.push(Span::raw(format!(" until {}", time(&origin["until"]))));
        }
        Line::from(row)
    });
    let first = Line::styled("origins    of this gateway", STRONG);
    section(first, rows.collect())
}

/// Other events beside this one.
fn events(look: &Look, ink: Ink) -> Vec<Line<'static>> {
    let rows: Vec<Line<'static>> = look
        .beside
        .iter()
        .map(|status| {
            let (id, word) = (text(&status["eventId"]), text(&status["status"]));
            let is_chosen = id == look.chosen;
            let pressure = status["pressure"].as_f64();
            Line::from(vec![
                Span::raw(if is_chosen { "▶ " } else { "  " }),
                Span::styled(
                    format!("{id:<28} "),
                    if is_chosen { STRONG } else { Style::new() },
                ),
                Span::styled(format!("{word:<10}"), ink.status(&word)),
                Span::raw(format!(
                    "{:>9} inside {:>9} waiting   pressure ",
                    count(&status["counts"]["sessions"]),
                    count(&status["counts"]["waiting"]),
                )),
                Span::styled(ratio(&status["pressure"]), ink.pressed(pressure)),
            ])
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    let first = Line::styled(format!("events     {}", look.events.len()), STRONG);
    section(first, rows)
}

/// What each route bore of late.
fn routes(look: &Look, ink: Ink) -> Vec<Line<'static>> {
    let rows: Vec<Line<'static>> = look
        .routes
        .iter()
        .map(|route| {
            let failed = &route["5xx"];
            let style = match failed.as_u64() {
                Some(1..) => ink.bad(),
                _ => Style::new(),
            };
            Line::from(vec![
                Span::raw(format!(
                    "  {:<28.28} {:>9} requests {:>9} views ",
                    text(&route["route"]),
                    count(&route["requests"]),
                    count(&route["views"]),
                )),
                Span::styled(format!("{:>6} failed", count(failed)), style),
                Span::raw(format!(
                    "   95 % within {} ms",
                    number(&route["firstByteP95Ms"])
                )),
            ])
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    let words = format!("routes     of the last {ROUTES_SECONDS} s, the heaviest first");
    section(Line::styled(words, STRONG), rows)
}

/// An empty line, a headline and its rows, as many as there may be.
fn section(first: Line<'static>, mut rows: Vec<Line<'static>>) -> Vec<Line<'static>> {
    let more = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    if more > 0 {
        rows.push(Line::styled(format!("  and {more} more"), DIM));
    }
    let mut lines = vec![Line::default(), first];
    lines.append(&mut rows);
    lines
}

/// How much of the whole, as a bar; beyond the whole it is full.
fn bar(part: Option<f64>) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "it is between nothing and the width of a bar"
    )]
    let filled = (part.unwrap_or(0.0).clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let empty = BAR.saturating_sub(filled);
    format!("{}{}", "█".repeat(filled), "░".repeat(empty))
}

/// How many waited of late, the present at the right end.
fn past(screen: &Screen) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let from = screen.past.len().saturating_sub(PAST_SHOWN);
    let most = screen.past.iter().skip(from).max().copied().unwrap_or(0);
    let step = |waiting: u64| match waiting {
        0 => ' ',
        some => {
            let step = u128::from(some) * 8 / u128::from(most) - u128::from(some == most);
            let step = usize::try_from(step).unwrap_or(0);
            STEPS.get(step).copied().unwrap_or('█')
        }
    };
    screen
        .past
        .iter()
        .skip(from)
        .map(|one| step(*one))
        .collect()
}

/// A share, in percent.
fn share(value: &Value) -> String {
    let share = value.as_f64();
    share.map_or_else(|| text(value), |share| format!("{:.1} %", share * 100.0))
}

/// The time of a day, of a moment of RFC 3339.
fn time(value: &Value) -> String {
    let moment = value.as_str().and_then(|moment| moment.get(11..19));
    moment.map_or_else(|| text(&Value::Null), str::to_owned)
}

/// Lines of whole words, as wide as there is room.
fn wrapped(words: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in words.split_whitespace() {
        let Some(line) = lines.last_mut() else {
            break;
        };
        let long = line.chars().count() + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if long < width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let lines = lines.into_iter();
    lines.map(|line| Line::styled(line, style)).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn look(status: Value) -> Look {
        Look {
            chosen: "main".to_owned(),
            status,
            events: vec!["main".to_owned()],
            beside: Vec::new(),
            origins: Vec::new(),
            routes: Vec::new(),
        }
    }

    fn drawn(look: Look) -> String {
        let mut screen = Screen::new("127.0.0.1:9090".parse().unwrap(), true);
        screen.take(0, Ok(look));
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| screen.draw(0, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_strangers_named_cannot_order_the_terminal_about() {
        let mut hostile = look(json!({
            "gateways": [{ "gateway": "\u{1b}[2J\u{7}gateway\r\n", "present": true }],
        }));
        hostile.routes = vec![json!({ "route": "/\u{1b}]0;title\u{9c}" })];
        hostile.origins = vec![json!({ "origin": "\u{9b}31m" })];
        let shown = drawn(hostile);
        assert!(
            shown.contains("gateway ") && shown.contains("]0;title"),
            "{shown}"
        );
        let control = |shown: char| shown.is_control() && shown != '\n';
        assert!(!shown.contains(control), "{shown:?}");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_what_is_out_of_order_is_said() {
        let shown = drawn(look(json!({})));
        assert!(shown.contains("- of no limit"), "{shown}");
        let shown = drawn(look(json!({
            "storeUp": false, "configsAgree": false,
            "recovery": { "cause": "silence", "until": "2026-03-01T09:00:10.123Z" },
            "counts": { "ghosts": 3 },
            "gateways": [{ "gateway": "b", "present": false, "seen": "2026-03-01T09:00:00.123Z" }],
        })));
        for part in [
            "the store is away",
            "recovering (silence) until 09:00:10",
            "3 unheard of since a loss",
            "their files differ",
            "not heard from seen 09:00:00",
            "store away",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn more_rows_than_are_shown_are_counted() {
        let mut many = look(json!({}));
        many.origins = (0..20)
            .map(|n| json!({ "origin": format!("o{n}") }))
            .collect();
        let shown = drawn(many);
        assert!(
            shown.contains("and 4 more") && !shown.contains("o16"),
            "{shown}"
        );
    }

    #[test]
    fn a_bar_is_never_longer_than_the_whole() {
        let filled = |part| bar(part).matches('█').count();
        let parts = [
            None,
            Some(0.0),
            Some(0.5),
            Some(1.0),
            Some(7.0),
            Some(-1.0),
            Some(f64::NAN),
        ];
        assert_eq!(parts.map(filled), [0, 0, 10, 20, 20, 0, 0]);
        assert!(parts.iter().all(|part| bar(*part).chars().count() == BAR));
    }

    #[test]
    fn words_are_kept_whole_and_a_window_without_width_takes_them_too() {
        let lines = |width| wrapped("one two three", width, Style::new());
        let texts = lines(8).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts, ["one two", "three"]);
        assert_eq!(lines(0).len(), 3);
    }
}
