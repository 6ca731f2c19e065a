//! The access log: a line for each request, never with a query, a cookie or a
//! token.

use http::{Method, StatusCode};

/// One request's line.
pub struct LogLine {
    method: Method,
    path: String,
}

impl LogLine {
    /// The line of a request, to be written when it is answered.
    #[must_use]
    pub fn new(method: &Method, path: &str) -> Self {
        const PATH_MAX: usize = 512;
        Self {
            method: method.clone(),
            path: path.chars().take(PATH_MAX).collect(),
        }
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
            ms = took_ms,
        );
    }
}
