//! `GET /v1/events/{eventId}/stats`: what happened, slice by slice, of the
//! event, of each of its routes, or of those who arrived; as JSON or as CSV.

mod asked;
mod csv;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::Door;
use super::events::{Named, known};
use super::problem::Problem;
use crate::api::rfc3339;
use crate::room::gate::latency_bound;
use crate::store::slices::{Span, What};
use crate::tracking::{CLASS_WORDS, Counts, OTHER, Slice, wait_bound};
use asked::{Asked, Form, Grouping};

/// Most rows of one answer.
const ROWS_MAX: usize = 10_000;

/// A row: names and values in the order in which they are shown.
type Row = Vec<(&'static str, Value)>;

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = known(&door, &event)?;
    let now = door.reception.clock.unix_ms() / 1000;
    let asked = Asked::read(query.as_deref().unwrap_or_default(), &headers, now)?;
    let step = asked
        .step
        .unwrap_or_else(|| asked::step_of(asked.from, asked.to, now));
    let span = Span {
        what: What::Counts,
        step,
        // Of the first slice all is told.
        from: asked.from - asked.from % u64::from(step),
        to: asked.to,
    };
    let store = door.catalog.store();
    let found = store
        .slices(&id, &span)
        .await
        .map_err(|_| Problem::away())?;
    let mut slices: BTreeMap<u64, Slice> = BTreeMap::new();
    for (start, bytes) in found {
        // What another release wrote in another form is not guessed at.
        if let Some(slice) = Slice::decode(&bytes) {
            let start = if asked.step.is_some() {
                start
            } else {
                asked.from
            };
            slices.entry(start).or_default().join(&slice);
        }
    }
    let seconds = asked.step.map_or(asked.to - asked.from, u64::from);
    let rows = rows(&slices, asked.grouping, seconds)?;
    Ok(match asked.form {
        Form::Json => super::json(StatusCode::OK, &document(id.as_str(), &asked, rows)),
        Form::Csv => sheet(asked.grouping, &rows),
    })
}

fn rows(
    slices: &BTreeMap<u64, Slice>,
    grouping: Option<Grouping>,
    seconds: u64,
) -> Result<Vec<Row>, Problem> {
    let mut rows = Vec::new();
    for (start, slice) in slices {
        match grouping {
            None => rows.push(of_event(*start, slice, seconds)),
            Some(Grouping::Route) => rows.extend(of_routes(*start, slice, seconds)),
            Some(Grouping::Arrived(sort)) => rows.extend(arrived(*start, slice, sort)),
        }
        if rows.len() > ROWS_MAX {
            let detail = format!(
                "this is more than {ROWS_MAX} rows: take a longer step, step=total, or a shorter span"
            );
            return Err(Problem::input("step", detail));
        }
    }
    Ok(rows)
}

/// A row for each route, the one with most requests first.
fn of_routes(start: u64, slice: &Slice, seconds: u64) -> impl Iterator<Item = Row> {
    let routes = slice.routes.iter();
    let mut routes: Vec<(&str, &Counts)> = routes
        .map(|(name, counts)| (name.as_str(), counts))
        .collect();
    routes.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.requests()), *name));
    if !slice.other.is_empty() {
        routes.push((OTHER, &slice.other));
    }
    routes.into_iter().map(move |(route, counts)| {
        let mut row = begin(start);
        row.push(("route", route.into()));
        row.extend(counted(counts, seconds));
        row
    })
}

/// A row for each word of a sort that was met, the most frequent first.
fn arrived(start: u64, slice: &Slice, sort: &'static str) -> impl Iterator<Item = Row> {
    let words = slice.arrived.words(sort).into_iter();
    words.map(move |(word, count)| {
        let mut row = begin(start);
        row.extend([(sort, word.into()), ("arrivals", count.into())]);
        row
    })
}

fn begin(start: u64) -> Row {
    vec![("start", rfc3339(start.saturating_mul(1000)).into())]
}

fn of_event(start: u64, slice: &Slice, seconds: u64) -> Row {
    let totals = &slice.totals;
    let wait = |share| wait_at(&totals.waits, share).map_or(Value::Null, Value::from);
    let mut row = begin(start);
    row.extend([
        ("arrivals", totals.arrivals.into()),
        ("admitted", (totals.walk_ins + totals.claims).into()),
        ("walkedIn", totals.walk_ins.into()),
        ("waited", totals.claims.into()),
        ("waitP50Seconds", wait(0.5)),
        ("waitP90Seconds", wait(0.9)),
        ("waitP99Seconds", wait(0.99)),
        ("abandoned", totals.abandoned.into()),
        ("completed", totals.completed.into()),
        ("waitingPeak", slice.waiting_peak.into()),
        ("insidePeak", slice.inside_peak.into()),
    ]);
    row.extend(counted(&slice.all_routes(), seconds));
    row
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn counted(counts: &Counts, seconds: u64) -> Row {
    let answered: u64 = counts
        .first_byte
        .iter()
        .map(|count| u64::from(*count))
        .sum();
    let mean = (answered > 0).then(|| counts.first_byte_us as f64 / 1000.0 / answered as f64);
    let at = |share| first_byte_at(counts, share).map_or(Value::Null, Value::from);
    let in_flight = counts.busy_ms as f64 / 1000.0 / seconds.max(1) as f64;
    let mut row: Row = vec![
        ("requests", counts.requests().into()),
        ("views", counts.views.into()),
    ];
    let answers = CLASS_WORDS.into_iter().zip(counts.answers);
    row.extend(answers.map(|(class, count)| (class, count.into())));
    row.extend([
        ("waitingPages", counts.exposures.into()),
        ("refused", counts.refused.into()),
        ("conversions", counts.conversions.into()),
        ("bytes", counts.bytes.into()),
        ("inFlightMean", in_flight.into()),
        ("firstByteMeanMs", mean.map_or(Value::Null, Value::from)),
        ("firstByteP50Ms", at(0.5)),
        ("firstByteP95Ms", at(0.95)),
        ("firstByteP99Ms", at(0.99)),
    ]);
    row
}

/// The bucket below which so large a share lies.
fn bucket_at(buckets: impl Iterator<Item = u64> + Clone, share: f64) -> Option<usize> {
    let all: u64 = buckets.clone().sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52"
    )]
    let rank = ((all as f64 * share).ceil() as u64).max(1);
    let mut below = 0;
    buckets.enumerate().find_map(|(at, count)| {
        below += count;
        (below >= rank).then_some(at)
    })
}

fn wait_at(waits: &[u64], share: f64) -> Option<u64> {
    bucket_at(waits.iter().copied(), share).map(wait_bound)
}

fn first_byte_at(counts: &Counts, share: f64) -> Option<f64> {
    let buckets = counts.first_byte.iter().map(|count| u64::from(*count));
    let bucket = bucket_at(buckets, share)?;
    Some(latency_bound(bucket).as_secs_f64() * 1000.0)
}

fn document(event: &str, asked: &Asked, rows: Vec<Row>) -> Value {
    let item = |row: Row| -> Value {
        let fields = row
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    let moment = |second: u64| rfc3339(second.saturating_mul(1000));
    json!({
        "eventId": event,
        "from": moment(asked.from),
        "to": moment(asked.to),
        "step": asked.step,
        "groupBy": asked.grouping.map(Grouping::word),
        "items": rows.into_iter().map(item).collect::<Vec<Value>>(),
        "next": null,
    })
}

fn sheet(grouping: Option<Grouping>, rows: &[Row]) -> Response {
    // Without a row the columns are told all the same.
    let empty = match grouping {
        None => of_event(0, &Slice::default(), 1),
        Some(Grouping::Route) => {
            let mut row = begin(0);
            row.push(("route", Value::Null));
            row.extend(counted(&Counts::default(), 1));
            row
        }
        Some(Grouping::Arrived(sort)) => {
            let mut row = begin(0);
            row.extend([(sort, Value::Null), ("arrivals", Value::Null)]);
            row
        }
    };
    let names = empty.into_iter().map(|(name, _)| name);
    let mut text = csv::line(names.map(Value::from).collect::<Vec<_>>().iter());
    for row in rows {
        text += &csv::line(row.iter().map(|(_, value)| value));
    }
    let mut answer = Response::new(Body::from(text));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    headers.insert(header::CONTENT_TYPE, kind);
    let name = HeaderValue::from_static("attachment; filename=\"stats.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_waits_and_of_first_bytes_lies_below_a_bound() {
        let mut slice = Slice::default();
        assert_eq!(wait_at(&slice.totals.waits, 0.5), None);
        slice.totals.waits[0] = 5;
        slice.totals.waits[4] = 4;
        slice.totals.waits[6] = 1;
        let at = |share| wait_at(&slice.totals.waits, share);
        assert_eq!((at(0.5), at(0.9), at(0.99)), (Some(1), Some(16), Some(64)));
    }

    #[test]
    fn more_rows_than_the_most_are_refused_with_the_remedy() {
        let mut slices = BTreeMap::new();
        for start in 0..200 {
            let mut slice = Slice::default();
            for route in 0..64 {
                let one = Counts {
                    views: 1,
                    ..Counts::default()
                };
                slice.count(&format!("/{route}"), &one);
            }
            slices.insert(start * 10, slice);
        }
        assert_eq!(rows(&slices, None, 10).unwrap().len(), 200);
        assert!(rows(&slices, Some(Grouping::Route), 10).is_err());
    }
}
