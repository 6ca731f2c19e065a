//! How things stand, for a person at a terminal.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

use std::fmt::Write as _;

use serde_json::Value;

/// What nobody knows at the moment.
const UNKNOWN: &str = "-";

/// All events, a line each.
pub(super) fn list(all: &[Value]) -> String {
    let mut lines = vec![
        [
            "EVENT", "STATUS", "MODE", "INSIDE", "LIMIT", "WAITING", "PRESSURE",
        ]
        .map(str::to_owned),
    ];
    lines.extend(all.iter().map(|status| {
        [
            text(&status["eventId"]),
            text(&status["status"]),
            text(&status["mode"]),
            count(&status["counts"]["sessions"]),
            limit(&status["limitCnt"]),
            count(&status["counts"]["waiting"]),
            ratio(&status["pressure"]),
        ]
    }));
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |cells: &[String; 7]| {
        let mut line = String::new();
        for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Words to the left, numbers to the right.
            let _written = if place < 3 {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        line.trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One event in full.
pub(super) fn whole(status: &Value) -> String {
    let counts = &status["counts"];
    let mut lines = vec![format!(
        "{}  {}  (mode {}, gate {} since {})",
        text(&status["eventId"]),
        text(&status["status"]),
        text(&status["mode"]),
        text(&status["gate"]),
        text(&status["gateSince"]),
    )];
    if status["storeUp"] != Value::Bool(true) {
        lines.push("  the store is away: what follows is as it was last seen".to_owned());
    }
    if let Some(cause) = status["recovery"]["cause"].as_str() {
        let until = text(&status["recovery"]["until"]);
        lines.push(format!(
            "  recovering ({cause}) until {until}: nobody is admitted meanwhile"
        ));
    }
    lines.push(format!(
        "  inside     {} of {}, {} called and not yet in, {} unheard of since a loss",
        count(&counts["sessions"]),
        limit(&status["limitCnt"]),
        count(&counts["offers"]),
        count(&counts["ghosts"]),
    ));
    let rates = &status["rates"];
    lines.push(format!(
        "  waiting    {}, {} a second admitted; {} sessions a second begun, {} closed",
        count(&counts["waiting"]),
        number(&rates["admittedPerSecond"]),
        number(&rates["begunPerSecond"]),
        number(&rates["closedPerSecond"]),
    ));
    let estimate = &status["estimate"];
    lines.push(format!(
        "  a newcomer waits {} ({} to {})",
        wait(&estimate["seconds"]),
        wait(&estimate["low"]),
        wait(&estimate["high"]),
    ));
    let (totals, peaks) = (&status["totals"], &status["peaks"]);
    lines.push(format!(
        "  since {}: {} sessions begun, {} tickets given, {} abandoned; at most {} inside, {} waiting",
        text(&totals["generationSince"]),
        count(&totals["sessionsBegun"]),
        count(&totals["ticketsIssued"]),
        count(&totals["ticketsAbandoned"]),
        count(&peaks["sessions"]),
        count(&peaks["waiting"]),
    ));
    lines.push(format!("  pressure   {}", ratio(&status["pressure"])));
    if let Some(signals) = status["signals"].as_object() {
        for (signal, reading) in signals {
            let load = number(&reading["load"]);
            lines.push(match reading["threshold"].as_f64() {
                None => format!("    {signal:<18} {load:>10}"),
                Some(_) => format!(
                    "    {signal:<18} {load:>10} of {:<10} {}",
                    number(&reading["threshold"]),
                    ratio(&reading["pressure"]),
                ),
            });
        }
    }
    lines.push(gateways(status));
    lines.join("\n")
}

/// What a request would meet.
pub(super) fn explained(method: &str, url: &str, said: &Value) -> String {
    let rule = &said["rule"];
    let mut why = text(&rule["detail"]);
    if let Some(path) = rule["path"].as_str() {
        let _written = write!(why, " ({path})");
    }
    if let Some(exclude) = rule.get("exclude") {
        let _written = write!(why, " ({exclude})");
    }
    let mut lines = vec![
        format!("{method} {url}"),
        format!("  client   {}", text(&said["client"])),
    ];
    if let Some(event) = said["eventId"].as_str() {
        let (status, mode) = (text(&said["status"]), text(&said["mode"]));
        lines.push(format!("  event    {event}, {status} (mode {mode})"));
    }
    lines.push(format!("  rule     {}: {why}", text(&rule["kind"])));
    let holders = [
        ("nothing", "who holds nothing"),
        ("ticket", "who stands in line"),
        ("calledTicket", "who was called"),
        ("pass", "who is inside"),
    ];
    for (holds, who) in holders {
        if let Some(detail) = said["answers"][holds]["detail"].as_str() {
            lines.push(format!("  {who:<18} {detail}"));
        }
    }
    lines.join("\n")
}

fn gateways(status: &Value) -> String {
    let all = status["gateways"].as_array().map_or(&[][..], Vec::as_slice);
    let (here, gone): (Vec<&Value>, Vec<&Value>) = all
        .iter()
        .partition(|row| row["present"] == Value::Bool(true));
    let names = |rows: &[&Value]| {
        let names: Vec<String> = rows.iter().map(|row| text(&row["gateway"])).collect();
        names.join(", ")
    };
    let mut line = format!("  gateways   {} ({})", here.len(), names(&here));
    if !gone.is_empty() {
        let _written = write!(line, "; not heard from: {}", names(&gone));
    }
    if status["configsAgree"] == Value::Bool(false) {
        line.push_str("; their files differ");
    }
    line
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or(UNKNOWN).to_owned()
}

pub(super) fn limit(value: &Value) -> String {
    if value.is_null() {
        return "no limit".to_owned();
    }
    count(value)
}

/// A count, by thousands.
pub(super) fn count(value: &Value) -> String {
    let Some(count) = value.as_u64() else {
        return UNKNOWN.to_owned();
    };
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(super) fn number(value: &Value) -> String {
    match value.as_f64() {
        None => UNKNOWN.to_owned(),
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        Some(number) if number.abs() < 1.0 => format!("{number:.3}"),
        Some(number) => format!("{number:.1}"),
    }
}

pub(super) fn ratio(value: &Value) -> String {
    let ratio = value.as_f64();
    ratio.map_or_else(|| UNKNOWN.to_owned(), |ratio| format!("{ratio:.2}"))
}

/// A wait in hours, minutes and seconds.
pub(super) fn wait(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else {
        return UNKNOWN.to_owned();
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a wait is not negative; an absurd one is shown as the longest"
    )]
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_for_people_and_what_is_unknown_is_a_dash() {
        let counts = [
            json!(7),
            json!(999),
            json!(1_000),
            json!(1_234_567),
            json!(null),
        ];
        let counts = counts.map(|value| count(&value));
        assert_eq!(counts, ["7", "999", "1,000", "1,234,567", "-"]);
        let waits = [json!(0.4), json!(61), json!(7_260.0), json!(null)];
        let waits = waits.map(|value| wait(&value));
        assert_eq!(waits, ["0 s", "1 min 1 s", "2 h 1 min", "-"]);
        let numbers = [json!(3.0), json!(0.0421), json!(8.25), json!(null)];
        let numbers = numbers.map(|value| number(&value));
        assert_eq!(numbers, ["3", "0.042", "8.2", "-"]);
    }

    #[test]
    fn the_columns_of_a_list_stand_below_each_other() {
        let event = |id: &str, limit: Value| {
            json!({ "eventId": id, "status": "OPEN", "mode": "auto", "limitCnt": limit,
                "counts": { "sessions": 12, "waiting": 1_000 }, "pressure": 0.5 })
        };
        let shown = list(&[event("a", json!(500)), event("a-long-name", json!(null))]);
        let ends = shown.lines().map(|line| line.chars().count());
        assert_eq!(
            ends.collect::<std::collections::HashSet<_>>().len(),
            1,
            "{shown}"
        );
        assert!(shown.contains("no limit"), "{shown}");
    }
}
