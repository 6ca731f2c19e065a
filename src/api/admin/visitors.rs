//! Who comes to an event, over all gateways: who is there, how many different ones
//! there were, and who arrived.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Door;
use super::events::{Named, known};
use super::problem::{Problem, short};
use crate::api::rfc3339;
use crate::ledger::{Ledger, Sketch, Uniques, View, start_of};
use crate::room::event::EventId;
use crate::store::slices::{Span, What};
use crate::tracking::{Slice, Tallies};

/// The spans, by their names.
const SPANS: [(&str, u32); 3] = [("minute", 60), ("hour", 3_600), ("day", 86_400)];

/// Hours of arrivals without a word...
const HOURS: u64 = 24;

/// ...and the most of them.
const HOURS_MAX: u64 = 48;

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let id = known(&door, &event)?;
    let hours = hours(&query.unwrap_or_default())?;
    let ledger = door.ledger(id.as_str()).ok_or_else(Problem::no_event)?;
    let view = ledger.view();
    let view = view.as_deref();
    let arrivals = arrivals(&door, &ledger, hours).await?;
    let visitors = unique(&door, &ledger, (What::Visitors, &ledger.visitors)).await?;
    let users = if door.reception.wanted.load().users.is_some() {
        unique(&door, &ledger, (What::Users, &ledger.users)).await?
    } else {
        Value::Null
    };
    let document = json!({
        "eventId": ledger.id.as_str(),
        "asOf": rfc3339(ledger.now().0),
        "inside": view.map(|view| view.snapshot.sessions),
        "waiting": view.map(View::waiting),
        "unique": { "visitors": visitors, "users": users },
        "arrivals": arrivals,
    });
    Ok(super::json(StatusCode::OK, &document))
}

fn hours(query: &str) -> Result<u64, Problem> {
    let mut hours = HOURS;
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "hours" {
            return Err(Problem::input(short(&name), "this call takes hours alone"));
        }
        let number = text.parse().ok();
        hours = number
            .filter(|hours| (1..=HOURS_MAX).contains(hours))
            .ok_or_else(|| {
                Problem::input(
                    "hours",
                    format!("write a whole number from 1 to {HOURS_MAX}"),
                )
            })?;
    }
    Ok(hours)
}

/// How many different ones there were: in the present span so far, and in the one
/// before. What this gateway has heard since it last wrote is in it too.
async fn unique(
    door: &Door,
    ledger: &Ledger,
    (what, own): (What, &Uniques),
) -> Result<Value, Problem> {
    let now = ledger.now().seconds();
    let mut shown = Map::new();
    for (word, step) in SPANS {
        let length = u64::from(step);
        let start = start_of(length, now);
        let before = start.saturating_sub(length);
        let span = Span {
            what,
            step,
            from: before,
            to: start + 1,
        };
        let found = found(door, &ledger.id, &span).await?;
        let count = |start: u64| {
            let mut sketch = own.of(length, start).unwrap_or_default();
            let of_span = found.iter().filter(|(at, _)| *at == start);
            of_span.for_each(|(_, bytes)| Sketch::unite(&mut sketch, bytes));
            sketch.count()
        };
        let document = json!({
            "since": rfc3339(start * 1000),
            "count": count(start),
            "before": count(before),
        });
        shown.insert(word.to_owned(), document);
    }
    Ok(Value::Object(shown))
}

async fn arrivals(door: &Door, ledger: &Ledger, hours: u64) -> Result<Value, Problem> {
    let now = door.reception.clock.unix_ms() / 1000;
    let from = start_of(3_600, now).saturating_sub((hours - 1) * 3_600);
    let span = Span {
        what: What::Counts,
        step: 3_600,
        from,
        to: now + 1,
    };
    let mut sum = Tallies::default();
    for (_, bytes) in found(door, &ledger.id, &span).await? {
        // What another release wrote in another form is not guessed at.
        if let Some(slice) = Slice::decode(&bytes) {
            sum.add(&slice.arrived);
        }
    }
    let mut document = json!(sum);
    if let Some(document) = document.as_object_mut() {
        document.insert("since".to_owned(), json!(rfc3339(from * 1000)));
    }
    Ok(document)
}

async fn found(door: &Door, event: &EventId, span: &Span) -> Result<Vec<(u64, Vec<u8>)>, Problem> {
    let store = door.catalog.store();
    store.slices(event, span).await.map_err(|_| Problem::away())
}
