//! What a request would meet now, and why: which event, by which rule, what kind
//! of client, which answer. Nothing is counted and nobody gets a place by asking.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::{Problem, short};
use super::{Door, object, status};
use crate::room::decision::{Credential, Decision, Kind, Standing, decide};
use crate::room::event::{EventId, EventSettings, Exclude, Mode};
use crate::room::host;
use crate::room::routes::{Asked, Route, Routes};
use crate::visitor::kind::kind;

/// Most headers of a request that is asked about.
const HEADERS_MAX: usize = 100;

/// What the public door keeps for itself.
const OWN: &str = "/__sumun/";

/// Nobody's address: no rule that goes by addresses holds for it.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The request that is asked about.
struct Question {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    host: Option<String>,
    client: IpAddr,
}

pub(super) async fn explain(
    State(door): State<Arc<Door>>,
    body: Body,
) -> Result<Response, Problem> {
    let question = Question::read(&object(body).await?)?;
    let told = serde_json::to_value(question.answer(&door)).unwrap_or_default();
    Ok(super::json(StatusCode::OK, &told))
}

impl Question {
    fn read(body: &Map<String, Value>) -> Result<Self, Problem> {
        const FIELDS: [&str; 4] = ["url", "method", "headers", "address"];
        if let Some(other) = body.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let detail = format!("is not known here; known are {}", FIELDS.join(", "));
            return Err(Problem::input(short(other), detail));
        }
        let url = text(body, "url")?.unwrap_or_default();
        let uri: Uri = url
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.path_and_query().is_some() && uri.path().starts_with('/'))
            .ok_or_else(|| {
                let detail =
                    "write a URL like \"https://shop.example/sale\", or a path like \"/sale\"";
                Problem::input("url", detail)
            })?;
        let method = text(body, "method")?.unwrap_or(Cow::Borrowed("GET"));
        let method = method
            .parse()
            .map_err(|_| Problem::input("method", "write a method like \"GET\""))?;
        let client = match text(body, "address")? {
            None => NOBODY,
            Some(text) => text.parse().map_err(|_| {
                Problem::input("address", "write an IP address like \"203.0.113.7\"")
            })?,
        };
        let headers = headers(body)?;
        let named = uri.authority().map(http::uri::Authority::as_str);
        let named = named.or_else(|| headers.get(header::HOST)?.to_str().ok());
        Ok(Self {
            host: named.and_then(host::normal).map(Cow::into_owned),
            method,
            headers,
            client,
            uri,
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            host: self.host.as_deref(),
            path: self.uri.path(),
            query: self.uri.query(),
            method: self.method.as_str(),
            client: self.client,
        }
    }

    fn answer(&self, door: &Door) -> Told<'_> {
        let site = door.reception.site.load();
        let kind = kind(&self.method, &self.headers);
        let told = |rule| Told {
            host: self.host.as_deref(),
            path: self.uri.path(),
            client: kind.word(),
            event: None,
            status: None,
            mode: None,
            waiting_status: None,
            rule,
            answers: None,
        };
        if self.uri.path().starts_with(OWN) {
            let detail = "it is the gateway's own, and never forwarded";
            return told(Rule::new("own", detail));
        }
        let (event, excluded) = match site.routes.find(&self.asked()) {
            Route::Matched { event, excluded } => (event, excluded),
            other => return told(without_event(other)),
        };
        let Some(ledger) = site.ledgers.at(event) else {
            return told(Rule::new("changing", "the event is being changed: 503"));
        };
        let settings = ledger.settings.load();
        let standing = ledger.standing();
        let uncounted = self.uncounted(&site.routes, (event, excluded), &settings);
        let answers = uncounted.is_none();
        let by_path = || Rule {
            path: (site.routes.claim(event, &self.asked())).map(str::to_owned),
            ..Rule::new("path", "a path of the event covers it")
        };
        Told {
            event: Some(ledger.id.clone()),
            status: Some(status::word(standing)),
            mode: Some(standing.mode),
            waiting_status: Some(settings.waiting_status),
            answers: answers.then(|| Answers::of(&settings, kind, standing)),
            ..told(uncounted.unwrap_or_else(by_path))
        }
    }

    /// The rule by which the event lets it pass uncounted, if there is one.
    fn uncounted(
        &self,
        routes: &Routes,
        (event, excluded): (usize, bool),
        settings: &EventSettings,
    ) -> Option<Rule> {
        let bypass = &settings.bypass;
        let secret = self.headers.get(bypass.header.as_str());
        if bypass.admits(self.client, secret.map(HeaderValue::as_bytes)) {
            let detail = "the operator lets this client pass: forwarded, uncounted";
            return Some(Rule::new("bypass", detail));
        }
        let detail = "an exclude of the event holds: forwarded, counted as load only";
        excluded.then(|| Rule {
            exclude: routes.exclusion(event, &self.asked()).cloned(),
            ..Rule::new("exclude", detail)
        })
    }
}

/// The answer; what there is not is `null`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    host: Option<&'a str>,
    path: &'a str,
    client: &'static str,
    #[serde(rename = "eventId")]
    event: Option<EventId>,
    status: Option<&'static str>,
    mode: Option<Mode>,
    waiting_status: Option<u16>,
    rule: Rule,
    answers: Option<Answers>,
}

/// Why a request belongs where it does.
#[derive(Serialize)]
struct Rule {
    kind: &'static str,
    detail: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<Exclude>,
}

impl Rule {
    fn new(kind: &'static str, detail: &'static str) -> Self {
        Self {
            kind,
            detail,
            path: None,
            exclude: None,
        }
    }
}

fn without_event(route: Route) -> Rule {
    let (kind, detail) = match route {
        Route::UnknownHost => (
            "unknown_host",
            "no event and no pass_hosts names the host, while events name hosts: 421",
        ),
        Route::Ambiguous => (
            "ambiguous",
            "the path has more than one reading, and they are not of one event: 400",
        ),
        Route::NoEvent | Route::Matched { .. } => ("no_event", "no event covers it: forwarded"),
    };
    Rule::new(kind, detail)
}

/// What each visitor would get, by what they hold.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answers {
    nothing: Answer,
    ticket: Answer,
    called_ticket: Answer,
    pass: Answer,
}

#[derive(Serialize)]
struct Answer {
    decision: &'static str,
    detail: String,
}

impl Answers {
    fn of(settings: &EventSettings, kind: Kind, standing: Standing) -> Self {
        let answer = |credential| {
            let decision = decide(kind, credential, || standing);
            Answer {
                decision: word(decision),
                detail: detail(settings, decision, standing),
            }
        };
        Self {
            nothing: answer(Credential::Nothing),
            ticket: answer(Credential::Ticket { called: false }),
            called_ticket: answer(Credential::Ticket { called: true }),
            pass: answer(Credential::Pass),
        }
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Inside => "inside",
        Decision::Uncounted => "uncounted",
        Decision::Enter => "enter",
        Decision::Claim => "claim",
        Decision::Wait => "wait",
        Decision::BusyProblem | Decision::BusyPlain => "busy",
        Decision::Closed => "closed",
    }
}

fn detail(settings: &EventSettings, decision: Decision, standing: Standing) -> String {
    let page = || format!("the waiting page ({})", settings.waiting_status);
    match decision {
        Decision::Inside => "forwarded, inside the session".to_owned(),
        Decision::Uncounted => "forwarded outside any session, counted as load only".to_owned(),
        Decision::Enter if standing.busy => format!("a place in line, and {}", page()),
        Decision::Enter => "a session begins, and the request is forwarded".to_owned(),
        Decision::Claim => format!(
            "a session begins as soon as a slot is free, and the request is forwarded; else {}",
            page()
        ),
        Decision::Wait => page(),
        Decision::BusyProblem => "503 with a problem document and Retry-After".to_owned(),
        Decision::BusyPlain => "503 with a short text and Retry-After".to_owned(),
        Decision::Closed => "the page that says the event is closed".to_owned(),
    }
}

fn text<'a>(
    body: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.into())),
        Some(_) => Err(Problem::input(field, "write a text")),
    }
}

fn headers(body: &Map<String, Value>) -> Result<HeaderMap, Problem> {
    let wrong = || {
        let detail = format!(
            "write an object of names and texts, at most {HEADERS_MAX}, like {{\"Accept\": \"text/html\"}}"
        );
        Problem::input("headers", detail)
    };
    let lines = match body.get("headers") {
        None | Some(Value::Null) => return Ok(HeaderMap::new()),
        Some(Value::Object(lines)) if lines.len() <= HEADERS_MAX => lines,
        Some(_) => return Err(wrong()),
    };
    let mut headers = HeaderMap::with_capacity(lines.len());
    for (name, value) in lines {
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        let value = value.as_str().ok_or_else(wrong)?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        headers.append(name, value);
    }
    Ok(headers)
}
