//! The admin door: events and their settings, what they are doing now, and
//! the levers of the operator; health and metrics beside them.
//!
//! `guard` keeps the rules of the door, `events`, `status` and `explain` answer the
//! calls, `wanted` reads what a caller wants an event to be.

mod events;
mod explain;
mod guard;
mod origins;
mod problem;
mod region;
mod stats;
mod status;
mod visitors;
mod wanted;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderValue, StatusCode, header};
use http_body_util::LengthLimitError;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::origins::Fleet;
use crate::reception::Reception;
use crate::room::secret::Secret;
use problem::Problem;

/// The largest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Most calls under way at once.
const CALLS_MAX: usize = 64;

/// The admin door.
pub struct AdminDoor(Arc<Door>);

/// What every call needs.
struct Door {
    listen: SocketAddr,
    token: ArcSwapOption<Secret>,
    reception: Arc<Reception>,
    catalog: Arc<Catalog>,
    fleet: Arc<Fleet>,
    calls: Semaphore,
}

impl AdminDoor {
    /// The door of a configuration, to these events and origins.
    #[must_use]
    pub fn new(
        config: &Config,
        reception: Arc<Reception>,
        catalog: Arc<Catalog>,
        fleet: Arc<Fleet>,
    ) -> Self {
        Self(Arc::new(Door {
            listen: config.admin.listen,
            token: ArcSwapOption::from_pointee(config.admin.token.clone()),
            reception,
            catalog,
            fleet,
            calls: Semaphore::new(CALLS_MAX),
        }))
    }

    /// Asks for another token from now on, or for none.
    pub fn change_token(&self, token: Option<Secret>) {
        self.0.token.store(token.map(Arc::new));
    }

    /// Everything: events, health and metrics.
    pub fn router(&self) -> Router {
        let guard = from_fn_with_state(Arc::clone(&self.0), guard::watch);
        open()
            .route("/v1/events", get(events::list).post(events::create))
            .route(
                "/v1/events/{event}",
                get(events::show)
                    .put(events::replace)
                    .patch(events::patch)
                    .delete(events::remove),
            )
            .route("/v1/origins", get(origins::list))
            .route("/v1/explain", post(explain::explain))
            .route("/v1/region", get(region::show))
            .route("/v1/events/{event}/limit", put(events::limit))
            .route("/v1/events/{event}/message", put(events::message))
            .route("/v1/events/{event}/status", get(status::show))
            .route("/v1/events/{event}/stats", get(stats::show))
            .route("/v1/events/{event}/visitors", get(visitors::show))
            .route(
                "/v1/events/{event}/sessions/{session}",
                delete(status::end_session),
            )
            .route("/v1/events/{event}/reset", post(status::reset))
            .fallback(no_path)
            .method_not_allowed_fallback(no_method)
            .layer(guard)
            .with_state(Arc::clone(&self.0))
    }

    /// Health and metrics alone, for a door of their own: it answers to any
    /// name, since what it shows is no secret and changes nothing.
    pub fn metrics_router(&self) -> Router {
        open()
            .fallback(no_path)
            .method_not_allowed_fallback(no_method)
            .layer(from_fn(guard::mark))
            .with_state(Arc::clone(&self.0))
    }
}

impl Door {
    /// What this gateway knows of an event in force.
    fn ledger(&self, event: &str) -> Option<Arc<Ledger>> {
        self.reception.site.load().ledgers.get(event).cloned()
    }
}

/// What needs no token.
fn open() -> Router<Arc<Door>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn healthz() -> Response {
    plain("alive\n".to_owned())
}

async fn readyz(State(door): State<Arc<Door>>) -> Response {
    if door.reception.is_ready() {
        return plain("ready\n".to_owned());
    }
    let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Not ready");
    let detail = "the gateway is starting or draining";
    Problem::new(status, "not-ready", title, detail).into_response()
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let text = door.reception.metrics.render() + &door.reception.tracker.render();
    let mut answer = plain(text);
    // The text format's version: the Prometheus exposition formats.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

async fn no_path() -> Problem {
    let detail = "the calls of this door are /v1/events and below, /v1/origins, /v1/explain, /v1/region, /healthz, /readyz and /metrics";
    Problem::new(StatusCode::NOT_FOUND, "path", "No such path", detail)
}

async fn no_method() -> Problem {
    let title = "Not by this method";
    let detail = "this path answers to the methods that the header Allow names";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, detail)
}

fn plain(text: String) -> Response {
    let mut answer = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn json(status: StatusCode, document: &Value) -> Response {
    let mut answer = Response::new(Body::from(document.to_string()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn no_content() -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The JSON object that a body is.
///
/// # Errors
/// When it is too large, too slow, broken off, no JSON or no object.
async fn object(body: Body) -> Result<Map<String, Value>, Problem> {
    let collected = tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_BYTES_MAX)).await;
    let Ok(collected) = collected else {
        let (status, title) = (StatusCode::REQUEST_TIMEOUT, "The body took too long");
        let detail = format!("send it within {} s", BODY_TIME.as_secs());
        return Err(Problem::new(status, "slow", title, detail));
    };
    let bytes = collected.map_err(|fault| cut(&fault))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::malformed("the body must be a JSON object")),
        Err(fault) => Err(Problem::malformed(format!("the body is no JSON: {fault}"))),
    }
}

/// Why a body could not be read whole.
fn cut(fault: &axum::Error) -> Problem {
    if fault
        .source()
        .is_some_and(<dyn Error>::is::<LengthLimitError>)
    {
        let (status, title) = (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
        let detail = format!("send at most {BODY_BYTES_MAX} bytes");
        return Problem::new(status, "too-large", title, detail);
    }
    Problem::malformed("the body broke off")
}
