//! The HTTP API: what its two doors share. Problem documents, reading JSON
//! within a limit, and naming the field that is wrong.

pub mod admin;
mod input;
pub mod queue;

use std::borrow::Cow;

use bytes::Bytes;
use cookie::time::OffsetDateTime;
use cookie::time::format_description::well_known::Rfc3339;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use input::Fields;

/// The largest body of a request on the public door, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;

/// Something that cannot be done, as RFC 9457 tells it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    word: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    /// All faults of the input, where there may be several.
    errors: Option<Box<Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of the type `urn:sumun:<word>`. The detail says what is to
    /// be done about it, and never repeats a token.
    pub(crate) fn new(
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

    /// Input that cannot be used, with the field it stands in.
    pub(crate) fn input(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "input",
            "The input cannot be used",
            detail,
        )
        .field(field)
    }

    /// The same, about this field of the input.
    pub(crate) fn field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// The same, with a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, worth trying again after so many seconds.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }

    /// As an answer.
    pub(crate) fn answer(&self) -> Response<Bytes> {
        let mut document = json!({
            "type": format!("urn:sumun:{}", self.word),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "field": self.field,
        });
        if let (Some(errors), Some(members)) = (&self.errors, document.as_object_mut()) {
            members.insert("errors".to_owned(), Value::clone(errors));
        }
        let text = document.to_string();
        let mut answer = own(self.status, "application/problem+json", text.into());
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
        answer
    }
}

/// An answer of our own that nobody may store.
pub(crate) fn own(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    unstored(headers);
    answer
}

/// An answer of our own without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    unstored(answer.headers_mut());
    answer
}

/// Most documents take no more than this, in bytes: no room is sought twice.
const DOCUMENT_BYTES: usize = 1_024;

/// JSON that nobody may store.
pub(crate) fn document(status: StatusCode, document: &impl Serialize) -> Response<Bytes> {
    let mut text = Vec::with_capacity(DOCUMENT_BYTES);
    match serde_json::to_writer(&mut text, document) {
        Ok(()) => own(status, "application/json", text.into()),
        // Our own plain structs: there is nothing in them that JSON has not.
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Sets a header of our own.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A moment as RFC 3339 writes it, in UTC; `None` beyond the year 9999.
pub(crate) fn rfc3339(unix_ms: u64) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    moment.ok()?.format(&Rfc3339).ok()
}

fn unstored(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_field_or_says_null() {
        let text = |problem: Problem| String::from_utf8(problem.answer().body().to_vec()).unwrap();
        let with = text(Problem::input("eventId", "is missing"));
        assert!(with.contains(r#""field":"eventId""#), "{with}");
        let without = text(Problem::new(StatusCode::NOT_FOUND, "path", "No", "there"));
        assert!(without.contains(r#""field":null"#), "{without}");
    }

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(1_500).as_deref(), Some("1970-01-01T00:00:01.5Z"));
        let leap = rfc3339(1_709_210_096_789);
        assert_eq!(leap.as_deref(), Some("2024-02-29T12:34:56.789Z"));
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
