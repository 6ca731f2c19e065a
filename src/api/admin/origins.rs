//! The origins: whether each gets requests, why not, and what is under way.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::Door;
use crate::api::rfc3339;
use crate::origins::Shown;
use crate::room::event::EventId;

pub(super) async fn list(State(door): State<Arc<Door>>) -> Response {
    let now = door.reception.clock.unix_ms();
    let origins = door.fleet.shown();
    let items: Vec<Value> = origins.iter().map(|shown| document(shown, now)).collect();
    super::json(StatusCode::OK, &json!({ "items": items, "next": null }))
}

/// One origin; what is not known is `null`.
fn document(shown: &Shown, now: u64) -> Value {
    let events: Vec<&str> = shown.events.iter().map(EventId::as_str).collect();
    let before = |ms: u64| rfc3339(now.saturating_sub(ms));
    json!({
        "origin": shown.name,
        "url": shown.url,
        "state": shown.state.word(),
        "reason": shown.why,
        "since": shown.for_ms.and_then(before),
        "until": shown.left_ms.and_then(|ms| rfc3339(now.saturating_add(ms))),
        "share": shown.share,
        "failures": shown.failures,
        "ejections": shown.ejections,
        "inFlight": shown.in_flight,
        "connections": {
            "open": shown.open,
            "limit": shown.limit,
            "waiting": shown.waiting,
        },
        "addresses": shown.addresses,
        "gateway": shown.is_gateways,
        "events": events,
    })
}
