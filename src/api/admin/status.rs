//! What an event is doing now, and the two levers that touch visitors:
//! ending a session and voiding every place in line.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use super::events::{Named, known};
use super::problem::{Problem, short};
use super::{Door, no_content, object};
use crate::api::rfc3339;
use crate::ledger::{Ledger, View};
use crate::room::decision::Standing;
use crate::room::event::Mode;
use crate::room::faults::camel;
use crate::room::gate::{self, Gate, Reading};
use crate::room::snapshot::{Meta, Snapshot};
use crate::room::ticket::SessionKey;
use crate::room::time::Timestamp;

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
) -> Result<Response, Problem> {
    let ledger = ledger(&door, &event)?;
    let document = document(&ledger);
    Ok(super::json(StatusCode::OK, &document))
}

pub(super) async fn end_session(
    State(door): State<Arc<Door>>,
    Named((event, session)): Named<(String, String)>,
) -> Result<Response, Problem> {
    let ledger = ledger(&door, &event)?;
    let Some(session) = SessionKey::parse(&session) else {
        let detail = "a session is named by 32 hexadecimal digits, the sid of its pass";
        let title = "No such session";
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "session",
            title,
            detail,
        ));
    };
    let was_there = ledger
        .desk
        .end(session)
        .await
        .map_err(|_| Problem::away())?;
    ledger.sessions.note_ended(&[(session, ledger.now())]);
    if was_there {
        ledger.counts.revoked.increment(1);
    }
    info!(event = %ledger.id, was_there, "a session was ended through the API");
    Ok(no_content())
}

pub(super) async fn reset(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
    body: Body,
) -> Result<Response, Problem> {
    let ledger = ledger(&door, &event)?;
    let body = object(body).await?;
    if let Some(other) = body.keys().find(|name| *name != "confirm") {
        return Err(Problem::input(
            short(other),
            "this call takes confirm alone",
        ));
    }
    if body.get("confirm").and_then(Value::as_str) != Some(ledger.id.as_str()) {
        let detail = format!("every place in line becomes void: write \"{}\"", ledger.id);
        return Err(Problem::input("confirm", detail));
    }
    let generation = ledger.desk.reset().await.map_err(|_| Problem::away())?;
    warn!(event = %ledger.id, generation = generation.0, "reset through the API: every place in line is void");
    let document = json!({ "eventId": ledger.id.as_str(), "generation": generation.0 });
    Ok(super::json(StatusCode::OK, &document))
}

/// How newcomers are met, in one word.
pub(super) fn word(standing: Standing) -> &'static str {
    match (standing.mode, standing.gate) {
        (Mode::Pause, _) => "PAUSED",
        (Mode::Closed, _) | (_, Gate::Closed) => "CLOSED",
        (_, Gate::Queueing) => "QUEUEING",
        (_, Gate::Open) if standing.busy => "QUEUEING",
        (_, Gate::Open) => "OPEN",
    }
}

fn ledger(door: &Door, event: &str) -> Result<Arc<Ledger>, Problem> {
    let id = known(door, event)?;
    door.ledger(id.as_str()).ok_or_else(Problem::no_event)
}

/// Everything that is known of an event now; what is not is `null`.
fn document(ledger: &Ledger) -> Value {
    let view = ledger.view();
    let view = view.as_deref();
    let snapshot = view.map(|view| &view.snapshot);
    let meta = snapshot.map(|snapshot| &snapshot.meta);
    let rates = view.map(|view| &view.rates);
    let standing = ledger.standing();
    let tally = snapshot.map(|snapshot| snapshot.tally);
    let time = |at: Timestamp| rfc3339(at.0);
    let known = |at: Timestamp| (at.0 > 0).then(|| rfc3339(at.0)).flatten();
    json!({
        "eventId": ledger.id.as_str(),
        "status": word(standing),
        "mode": standing.mode,
        "gate": standing.gate,
        "gateSince": meta.and_then(|meta| time(meta.since)),
        "generation": meta.map(|meta| meta.generation.0),
        "storeUp": view.map(|view| view.store_up),
        "asOf": view.and_then(|view| rfc3339(view.snapshot.now().0)),
        "limitCnt": meta.and_then(|meta| meta.rules.limit),
        "counts": {
            "sessions": snapshot.map(|snapshot| snapshot.sessions),
            "ghosts": meta.map(|meta| meta.ghosts),
            "reserved": meta.map(Meta::reserved),
            "waiting": view.map(View::waiting),
            "offers": snapshot.map(|snapshot| snapshot.offers.len()),
            "called": meta.map(|meta| meta.called.0),
            "issued": meta.map(|meta| meta.issued.0),
        },
        "rates": {
            "admittedPerSecond": rates.and_then(|rates| rates.admitted),
            "begunPerSecond": rates.map(|rates| rates.begun),
            "closedPerSecond": rates.map(|rates| rates.closed),
            "abandonedRatioPerSecond": rates.map(|rates| rates.abandoned),
        },
        "pressure": view.map(|view| gate::pressure(&view.readings)),
        "signals": view.map(signals),
        "estimate": estimate(view, standing),
        "pace": meta.and_then(|meta| meta.pace),
        "showRate": meta.map(|meta| meta.show),
        "recovery": meta.and_then(|meta| meta.recovery).map(|recovery| json!({
            "cause": recovery.cause.word(),
            "until": time(recovery.until),
            "deadline": time(recovery.deadline),
        })),
        "gateways": snapshot.map(gateways),
        "configsAgree": snapshot.map(configs_agree),
        "totals": {
            "begun": meta.map(|meta| meta.begun),
            "closed": meta.map(|meta| meta.closed),
            "since": meta.and_then(|meta| time(meta.born_at)),
            "sessionsBegun": tally.map(|tally| tally.begun),
            "sessionsClosed": tally.map(|tally| tally.closed),
            "ticketsIssued": tally.map(|tally| tally.issued),
            "ticketsAbandoned": tally.map(|tally| tally.abandoned),
            "generationSince": tally.and_then(|tally| known(tally.since)),
        },
        "peaks": {
            "sessions": tally.map(|tally| tally.sessions.most),
            "sessionsAt": tally.and_then(|tally| known(tally.sessions.at)),
            "waiting": tally.map(|tally| tally.waiting.most),
            "waitingAt": tally.and_then(|tally| known(tally.waiting.at)),
        },
    })
}

/// Each signal by the name of its threshold, in the threshold's unit.
fn signals(view: &View) -> Value {
    let signal = |reading: &Reading| {
        let shown = json!({
            "load": reading.value,
            "threshold": reading.threshold,
            "pressure": reading.pressure(),
        });
        (camel(reading.signal.word()), shown)
    };
    Value::Object(view.readings.iter().map(signal).collect::<Map<_, _>>())
}

/// The wait of somebody who came now. Nobody is called while the operator
/// pauses or closes the event, so nothing can be said then.
fn estimate(view: Option<&View>, standing: Standing) -> Value {
    let is_called = !matches!(standing.mode, Mode::Pause | Mode::Closed);
    let wait = match view.filter(|_| is_called) {
        Some(_) if !standing.busy => Some([0.0; 3]),
        Some(view) => view
            .wait(view.waiting() + 1)
            .map(|wait| [wait.seconds, wait.low, wait.high]),
        None => None,
    };
    let [seconds, low, high] = wait.map_or([None; 3], |wait| wait.map(Some));
    json!({ "seconds": seconds, "low": low, "high": high })
}

fn gateways(snapshot: &Snapshot) -> Value {
    let here: Vec<&str> = snapshot.present().map(|row| row.gateway.as_str()).collect();
    let shown = snapshot.gateways.iter().map(|row| {
        json!({
            "gateway": row.gateway,
            "slot": row.slot,
            "seen": rfc3339(row.seen.0),
            "present": here.contains(&row.gateway.as_str()),
            "config": row.report.config,
            "keys": row.report.keys,
        })
    });
    shown.collect()
}

/// Whether all gateways at work have read the same file.
fn configs_agree(snapshot: &Snapshot) -> bool {
    let mut configs = snapshot.present().map(|row| &row.report.config);
    let first = configs.next();
    configs.all(|config| Some(config) == first)
}
