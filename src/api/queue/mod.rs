//! The public door of the API: everything under `/__sumun/` on the public
//! listener (docs/api.md). The waiting page polls here, and servers and
//! single-page apps ask here for places, passes and their end.

mod caller;
mod counts;
mod inside;
mod inspect;
mod place;
mod said;
mod seek;
mod wait;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use serde_json::json;

use super::{Fields, Problem, document, empty, put};
use crate::config;
use crate::gateway::AccessLog;
use crate::incoming::WebSocket;
use crate::ledger::Ledger;
use crate::reception::{Reception, TokenMemory};
use crate::room::event::EventId;
use crate::tracking::Recorder;
use crate::visitor::address::Visitor;
use crate::visitor::request_id::RequestIds;
use caller::Caller;
use counts::Counts;

/// One data thread's public door of the API.
pub struct PublicDoor {
    reception: Arc<Reception>,
    settings: Arc<config::Api>,
    tokens: TokenMemory,
    counts: Counts,
    access_log: Option<Arc<AccessLog>>,
    request_ids: Option<RequestIds>,
    recorder: Option<Rc<Recorder>>,
}

/// The longest id of the customer's own, in characters.
const ID_CHARS_MAX: usize = 128;

/// How soon to come back when the store or another gateway has the answer.
const AWAY_RETRY_SECONDS: u64 = 3;

/// The calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Enter,
    Status,
    Verify,
    Touch,
    Complete,
    Leave,
    Keys,
    Wait,
    Livez,
    Readyz,
}

/// What says so to who asks for a WebSocket here, whose success would open one.
fn no_socket() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "protocol",
        "No WebSocket is here",
        "ask by an ordinary request; see docs/api.md for the calls under /__sumun/",
    )
}

impl Call {
    fn at(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/__sumun/")? {
            "v1/enter" => Self::Enter,
            "v1/status" => Self::Status,
            "v1/verify" => Self::Verify,
            "v1/touch" => Self::Touch,
            "v1/complete" => Self::Complete,
            "v1/leave" => Self::Leave,
            "v1/keys" => Self::Keys,
            "wait" => Self::Wait,
            "livez" => Self::Livez,
            "readyz" => Self::Readyz,
            _ => return None,
        })
    }

    fn allows(self) -> &'static str {
        match self {
            Self::Enter | Self::Verify | Self::Touch | Self::Complete | Self::Leave => {
                "POST, OPTIONS"
            }
            Self::Status => "GET, POST, OPTIONS",
            Self::Keys | Self::Livez | Self::Readyz => "GET, HEAD, OPTIONS",
            Self::Wait => "GET, OPTIONS",
        }
    }

    /// The fields that it knows.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Enter | Self::Status => &["eventId", "id", "ticket"],
            Self::Verify | Self::Touch => &["successToken"],
            Self::Complete => &["successToken", "eventId"],
            Self::Leave => &["eventId", "ticket"],
            Self::Wait => &["event", "return"],
            Self::Keys | Self::Livez | Self::Readyz => &[],
        }
    }
}

impl PublicDoor {
    /// A door for this thread.
    #[must_use]
    pub fn new(reception: Arc<Reception>, settings: &config::Api) -> Self {
        Self {
            counts: Counts::new(&reception.metrics),
            reception,
            settings: Arc::new(settings.clone()),
            tokens: TokenMemory::default(),
            access_log: None,
            request_ids: None,
            recorder: None,
        }
    }

    /// The same, with those who get in counted at the route where they waited.
    #[must_use]
    pub fn tracking(self, recorder: Rc<Recorder>) -> Self {
        Self {
            recorder: Some(recorder),
            ..self
        }
    }

    /// The same, with a line in the access log for each call, or without; in it
    /// the request's id, if requests have one.
    #[must_use]
    pub fn logging(
        self,
        access_log: Option<Arc<AccessLog>>,
        request_ids: Option<RequestIds>,
    ) -> Self {
        Self {
            access_log,
            request_ids,
            ..self
        }
    }

    /// Answers one request for a path under `/__sumun/`.
    pub async fn answer<B>(&self, request: Request<B>, visitor: Visitor) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let began = self.reception.clock.monotonic_ms();
        let is_socket = request.extensions().get::<WebSocket>().is_some();
        let (head, body) = request.into_parts();
        let mut caller = Caller::new(head, visitor, &self.settings.cors_origins);
        let call = Call::at(caller.uri.path());
        let _counted = self.counts.begin(call);
        if call == Some(Call::Wait) {
            caller = caller.on_a_visit();
        }
        let mut fields = Fields::default();
        let mut answer = match self.route(call, &caller, body, &mut fields).await {
            Ok(answer) => answer,
            Err(problem) => {
                let mut answer = problem.answer();
                put(answer.headers_mut(), "sumun-status", "block");
                answer
            }
        };
        if is_socket && answer.status().is_success() {
            answer = no_socket().answer();
        }
        caller.allow_origin(answer.headers_mut());
        let took = self.reception.clock.monotonic_ms().saturating_sub(began);
        self.count(&caller, &fields, &answer, took);
        answer
    }

    async fn route<B>(
        &self,
        call: Option<Call>,
        caller: &Caller,
        body: B,
        fields: &mut Fields,
    ) -> Result<Response<Bytes>, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let call = call.ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "path",
                "Nothing is here",
                "see docs/api.md for the calls under /__sumun/",
            )
        })?;
        let allow = HeaderValue::from_static(call.allows());
        if caller.method == Method::OPTIONS {
            let mut answer = empty(StatusCode::NO_CONTENT);
            answer.headers_mut().insert(header::ALLOW, allow);
            caller.allow_methods(answer.headers_mut(), call.allows());
            return Ok(answer);
        }
        let allowed = |method| method == caller.method.as_str();
        if !call.allows().split(", ").any(allowed) {
            let problem = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "This method is not known here",
                format!("use {}", call.allows()),
            );
            return Err(problem.header(header::ALLOW, allow));
        }
        *fields = if caller.method == Method::POST {
            Fields::read(body, call.fields()).await?
        } else {
            Fields::query(caller.uri.query(), call.fields())?
        };
        self.serve(call, caller, fields).await
    }

    async fn serve(
        &self,
        call: Call,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        match call {
            Call::Enter => self.enter(caller, fields).await,
            Call::Status => self.status(caller, fields).await,
            Call::Verify => self.verify(fields).await,
            Call::Touch => self.touch(fields).await,
            Call::Complete => self.complete(caller, fields).await,
            Call::Leave => self.leave(caller, fields).await,
            Call::Keys => Ok(document(StatusCode::OK, &self.reception.keyring.jwks())),
            Call::Wait => self.wait(caller, fields).await,
            Call::Livez => Ok(document(StatusCode::OK, &json!({ "live": true }))),
            Call::Readyz => {
                let ready = self.reception.is_ready();
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Ok(document(status, &json!({ "ready": ready })))
            }
        }
    }

    /// The event that a field names.
    fn event(&self, fields: &Fields, name: &'static str) -> Result<Arc<Ledger>, Problem> {
        let id = fields.required(name)?;
        let site = self.reception.site.load();
        site.ledgers.get(id).cloned().ok_or_else(|| {
            if EventId::new(id).is_err() {
                return Problem::input(name, "an event's id is 1 to 32 of a-z, 0-9 and -");
            }
            let detail = format!("there is no event {id}");
            Problem::new(StatusCode::NOT_FOUND, "event", "No such event", detail).field(name)
        })
    }

    /// Whether the caller showed one of our API keys.
    fn has_key(&self, caller: &Caller) -> bool {
        let Some(secret) = caller.bearer() else {
            return false;
        };
        // Every key is looked at, so that time tells nothing of their order.
        self.settings
            .keys
            .iter()
            .fold(false, |found, key| key.secret.is(secret) | found)
    }

    fn needs_key(&self, caller: &Caller, what: &'static str) -> Result<(), Problem> {
        if self.settings.keys.is_empty() || self.has_key(caller) {
            return Ok(());
        }
        Err(no_key(what))
    }
}

fn no_key(what: &'static str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "key",
        "An API key is needed",
        format!("{what}: send Authorization: Bearer with a secret of [api] keys"),
    )
    .header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"sumun\""),
    )
}

/// Another gateway may know the key: what is held stays good, and nothing is
/// taken away.
fn unknown_key() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "away",
        "Try again in a moment",
        "the token's signing key is not known here yet",
    )
    .retry_after(AWAY_RETRY_SECONDS)
}

/// The store is away, and the call cannot be done without it.
fn away(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "away",
        "Try again in a moment",
        detail,
    )
    .retry_after(AWAY_RETRY_SECONDS)
    .header(
        HeaderName::from_static("sumun-degraded"),
        HeaderValue::from_static("store"),
    )
}

/// No page of another site may use a visitor's cookie.
fn foreign() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin",
        "Sent by another site",
        "a cookie is good only for pages of this host and of [api] cors_origins",
    )
}
