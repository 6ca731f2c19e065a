//! The access log: a line for each request, never with a query, a cookie or a
//! token.

use std::net::IpAddr;

use http::{HeaderValue, Method, StatusCode};

/// One request's line.
pub struct LogLine {
    method: Method,
    path: String,
    client: IpAddr,
    request_id: Option<String>,
}

impl LogLine {
    /// The line of a request, to be written when it is answered.
    #[must_use]
    pub fn new(method: &Method, path: &str, client: IpAddr) -> Self {
        const PATH_MAX: usize = 512;
        Self {
            method: method.clone(),
            path: path.chars().take(PATH_MAX).collect(),
            client,
            request_id: None,
        }
    }

    /// The same, with the request's id.
    #[must_use]
    pub fn called(self, id: Option<&HeaderValue>) -> Self {
        let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Self { request_id, ..self }
    }

    /// Writes it: what became of the request, and in how many milliseconds.
    pub fn write(&self, event: &str, decision: &str, status: StatusCode, took_ms: u64) {
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            event,
            decision,
            client = %self.client,
            ms = took_ms,
            request_id = self.request_id,
        );
    }
}
