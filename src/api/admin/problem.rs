//! The problems of the admin door: all faults of a setting at once, and what
//! only an operator is told.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

pub(super) use crate::api::Problem;
use crate::room::faults::{Fault, Faults};

/// Most faults that one answer tells.
const ERRORS_MAX: usize = 100;

/// Longest name of a field that is repeated, in characters.
const FIELD_MAX: usize = 200;

impl Problem {
    /// A body or query that cannot be read at all.
    pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        let title = "The request cannot be read";
        Self::new(StatusCode::BAD_REQUEST, "malformed", title, detail)
    }

    /// Settings that cannot be used: the first fault in words, all of them
    /// (the first hundred) in `errors`.
    pub(super) fn faults(faults: &Faults) -> Self {
        let Some(first) = faults.iter().next() else {
            return Self::malformed("the settings cannot be used");
        };
        let mut problem = Self::input(short(&first.field()), told(first));
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
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.answer().map(Body::from)
    }
}

pub(super) fn short(field: &str) -> String {
    field.chars().take(FIELD_MAX).collect()
}

fn told(fault: &Fault) -> String {
    if fault.value.is_empty() {
        fault.remedy.clone()
    } else {
        format!("{} cannot be used: {}", fault.value, fault.remedy)
    }
}
