//! What a caller asks of statistics: the span, the step, the grouping, the form.

use std::borrow::Cow;

use cookie::time::OffsetDateTime;
use cookie::time::format_description::well_known::Rfc3339;
use http::{HeaderMap, header};
use url::form_urlencoded;

use super::super::problem::{Problem, short};
use crate::ledger::Arrivals;
use crate::tracking::STEPS;

/// Most slices that one call reads.
const SLICES_MAX: u64 = 2_200;

/// Slices of a step that is chosen for the caller, at most.
const SLICES_WANTED: u64 = 720;

/// The span when none is asked for, in seconds.
const HOUR: u64 = 3_600;

/// Beyond this no moment can be told.
const YEAR_9999: u64 = 253_402_300_799;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// From this Unix second on...
    pub(super) from: u64,
    /// ...up to this one.
    pub(super) to: u64,
    /// The length of a row in seconds; `None`: the whole span is one.
    pub(super) step: Option<u32>,
    pub(super) grouping: Option<Grouping>,
    pub(super) form: Form,
}

/// By what rows are told apart, beside time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    Route,
    /// Those who arrived, by the words of a sort.
    Arrived(&'static str),
}

impl Grouping {
    fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Route).chain(Arrivals::sorts().map(Self::Arrived))
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Arrived(sort) => sort,
        }
    }
}

/// How the answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
}

impl Asked {
    /// Reads a query.
    ///
    /// # Errors
    /// What cannot be used, with its name.
    pub(super) fn read(query: &str, headers: &HeaderMap, now: u64) -> Result<Self, Problem> {
        let (mut from, mut to, mut step) = (None, None, None);
        let (mut grouping, mut form) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = match name.as_ref() {
                "from" => from.replace(moment("from", &value)?).is_some(),
                "to" => to.replace(moment("to", &value)?).is_some(),
                "step" => step.replace(length(&value)?).is_some(),
                "group_by" => grouping.replace(group(&value)?).is_some(),
                "format" => form.replace(format(&value)?).is_some(),
                other => {
                    let detail = "this call knows from, to, step, group_by and format";
                    return Err(Problem::input(short(other), detail));
                }
            };
            if again {
                let detail = "given twice: keep one";
                return Err(Problem::input(short(&name), detail));
            }
        }
        // The present second is among them.
        let to = to.unwrap_or(now + 1);
        let from = from.unwrap_or_else(|| to.saturating_sub(HOUR));
        if from >= to {
            let detail = "must be before to (which is now unless it is given)";
            return Err(Problem::input("from", detail));
        }
        let [.., longest] = STEPS;
        if (to - from) / u64::from(longest) > 24 * 400 {
            return Err(Problem::input("from", "ask for 400 days at most"));
        }
        let step = step.unwrap_or_else(|| Some(step_of(from, to, now)));
        if let Some(length) = step
            && (to - from) / u64::from(length) > SLICES_MAX
        {
            let detail = format!(
                "this is more than {SLICES_MAX} slices: take a longer step, or a shorter span"
            );
            return Err(Problem::input("step", detail));
        }
        Ok(Self {
            from: step.map_or(from, |step| from - from % u64::from(step)),
            to,
            step,
            grouping,
            form: form.unwrap_or_else(|| wanted(headers)),
        })
    }
}

/// The finest step whose slices of a span are few, and may still be there
/// (by the spans that are kept unless `[statistics]` says otherwise).
pub(super) fn step_of(from: u64, to: u64, now: u64) -> u32 {
    let [seconds, minutes, hours] = STEPS;
    let age = now.saturating_sub(from);
    let fits =
        |step: u32, kept: u64, wanted: u64| age <= kept && (to - from) / u64::from(step) <= wanted;
    if fits(seconds, 2 * HOUR, SLICES_WANTED) {
        seconds
    } else if fits(minutes, 48 * HOUR, 4 * SLICES_WANTED) {
        minutes
    } else {
        hours
    }
}

/// A Unix second, or RFC 3339.
fn moment(field: &'static str, text: &str) -> Result<u64, Problem> {
    let whole = text.parse::<u64>().ok();
    let spelt = || {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(moment.unix_timestamp()).ok()
    };
    let second = whole.or_else(spelt).filter(|second| *second <= YEAR_9999);
    second.ok_or_else(|| {
        let detail =
            "write a moment like 2026-12-01T09:00:00Z, or Unix seconds (a + in a query is %2B)";
        Problem::input(field, detail)
    })
}

fn length(text: &str) -> Result<Option<u32>, Problem> {
    let [seconds, minutes, hours] = STEPS;
    match text {
        "10s" | "10" => Ok(Some(seconds)),
        "1m" | "60s" | "60" => Ok(Some(minutes)),
        "1h" | "3600s" | "3600" => Ok(Some(hours)),
        "total" => Ok(None),
        _ => Err(Problem::input(
            "step",
            "write 10s, 1m, 1h, or total for one row of the whole span",
        )),
    }
}

fn group(text: &str) -> Result<Grouping, Problem> {
    let known = Grouping::all().find(|known| known.word() == text);
    known.ok_or_else(|| {
        let words: Vec<&str> = Grouping::all().map(Grouping::word).collect();
        let detail: Cow<'static, str> = format!("write one of {}", words.join(", ")).into();
        Problem::input("group_by", detail)
    })
}

fn format(text: &str) -> Result<Form, Problem> {
    match text {
        "json" => Ok(Form::Json),
        "csv" => Ok(Form::Csv),
        _ => Err(Problem::input("format", "write json or csv")),
    }
}

/// CSV for who accepts that and names no JSON.
fn wanted(headers: &HeaderMap) -> Form {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or_default();
    if accept.contains("text/csv") && !accept.contains("application/json") {
        Form::Csv
    } else {
        Form::Json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_005;

    fn read(query: &str) -> Result<Asked, Problem> {
        Asked::read(query, &HeaderMap::new(), NOW)
    }

    #[test]
    fn without_a_word_it_is_the_last_hour_in_slices_of_ten_seconds() {
        let asked = read("").unwrap();
        assert_eq!((asked.from, asked.to), (1_799_996_400, NOW + 1));
        assert_eq!(
            (asked.step, asked.grouping, asked.form),
            (Some(10), None, Form::Json)
        );
    }

    #[test]
    fn a_long_or_an_old_span_has_long_steps() {
        let step = |query: &str| read(query).unwrap().step;
        assert_eq!(step(&format!("from={}", NOW - 30_000)), Some(60));
        assert_eq!(step(&format!("from={}", NOW - 1_000_000)), Some(3_600));
        let old = format!("from={}&to={}", NOW - 1_000_000, NOW - 999_000);
        assert_eq!(step(&old), Some(3_600));
        assert_eq!(step("step=total"), None);
        let named = read("from=2027-01-15T07:00:00Z&to=2027-01-15T16:30:00%2B09:00").unwrap();
        assert_eq!(named.to - named.from, 1_800);
    }

    #[test]
    fn each_bad_parameter_is_named() {
        for (query, field) in [
            ("from=yesterday", "from"),
            ("to=-5", "to"),
            ("to=99999999999999", "to"),
            ("from=1800000006", "from"),
            ("from=1", "from"),
            ("step=5m", "step"),
            ("from=1799000000&step=10s", "step"),
            ("group_by=phase", "group_by"),
            ("format=xml", "format"),
            ("colour=red", "colour"),
            ("step=1m&step=1h", "step"),
        ] {
            let problem = read(query).expect_err(query).answer();
            let text = String::from_utf8_lossy(problem.body()).into_owned();
            assert!(
                text.contains(&format!("\"field\":\"{field}\"")),
                "{query}: {text}"
            );
            assert_eq!(problem.status(), 400);
        }
    }
}
