//! What cannot be done, told as RFC 9457 wants it, with the field that is
//! wrong and all faults of a setting at once.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::room::faults::{Fault, Faults};

/// Most faults that one answer tells.
const ERRORS_MAX: usize = 100;

/// Longest name of a field that is repeated, in characters.
const FIELD_MAX: usize = 200;

/// Something that cannot be done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    word: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<String>,
    errors: Option<Box<Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of the type `urn:sumun:<word>`. The detail says what is to
    /// be done about it.
    pub(super) fn new(
        status: StatusCode,
        word: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            word,
            title,
            detail: detail.into(),
            field: None,
            errors: None,
            headers: Vec::new(),
        }
    }

    /// A body or query that cannot be read at all.
    pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        let title = "The request cannot be read";
        Self::new(StatusCode::BAD_REQUEST, "malformed", title, detail)
    }

    /// Input that cannot be used, with the field it stands in.
    pub(super) fn input(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        let title = "The input cannot be used";
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "input", title, detail);
        problem.field = Some(short(field));
        problem
    }

    /// Settings that cannot be used: the first fault in words, all of them
    /// (the first hundred) in `errors`.
    pub(super) fn faults(faults: &Faults) -> Self {
        let Some(first) = faults.iter().next() else {
            return Self::malformed("the settings cannot be used");
        };
        let mut problem = Self::input(&first.field(), told(first));
        let each = |fault: &Fault| json!({ "field": short(&fault.field()), "detail": told(fault) });
        problem.errors = Some(Box::new(faults.iter().take(ERRORS_MAX).map(each).collect()));
        problem
    }

    /// No event of this id.
    pub(super) fn no_event() -> Self {
        let detail = "no event of this id is in force; GET /v1/events lists all";
        Self::new(StatusCode::NOT_FOUND, "event", "No such event", detail)
    }

    /// The store cannot be asked.
    pub(super) fn away() -> Self {
        let detail = "the store does not answer; look whether the change was made, and try again";
        let title = "The store is away";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", title, detail).retry_after(1)
    }

    /// Whether it says that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// The same, with a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, worth trying again after so many seconds.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = json!({
            "type": format!("urn:sumun:{}", self.word),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "field": self.field,
        });
        if let (Some(errors), Some(members)) = (self.errors, document.as_object_mut()) {
            members.insert("errors".to_owned(), *errors);
        }
        let mut answer = Response::new(Body::from(document.to_string()));
        *answer.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/problem+json");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        for (name, value) in self.headers {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

fn short(field: &str) -> String {
    field.chars().take(FIELD_MAX).collect()
}

fn told(fault: &Fault) -> String {
    if fault.value.is_empty() {
        fault.remedy.clone()
    } else {
        format!("{} cannot be used: {}", fault.value, fault.remedy)
    }
}
