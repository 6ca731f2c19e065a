//! The access log: a line for each request, never with a query, a cookie or a
//! token. It is written when the answer has gone out, so that its bytes are known.

mod form;
mod writer;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};

use crate::clock::Clock;
use crate::config::{AccessFormat, Log};
use crate::metrics::Metrics;
use crate::tracking::Track;
use crate::visitor::request_id::RequestIds;
use writer::Writer;

/// The longest path that is written, in characters.
const PATH_MAX: usize = 512;

/// The longest `Referer` and the longest `User-Agent`, in bytes.
const HEADER_MAX: usize = 512;

/// The longest method; what is longer is refused, and has a line too.
const METHOD_MAX: usize = 32;

/// Decisions that let a request through to the origin: with these a 5xx is a failure,
/// and no page of ours that a crowd is shown.
const THROUGH: [&str; 7] = [
    "inside",
    "enter",
    "uncounted",
    "neighbour",
    "bypass",
    "excluded",
    "no_event",
];

/// Where lines go. All data threads share it.
pub struct AccessLog {
    sink: Sink,
    /// The share of requests that have a line.
    sample: f64,
    clock: Clock,
}

enum Sink {
    /// Among the program's own lines.
    Program,
    /// To a file, or to standard output in a form of its own.
    Own(AccessFormat, Writer),
}

/// What is known of a request before it is answered.
pub struct LogLine {
    log: Arc<AccessLog>,
    began_ms: u64,
    method: Method,
    path: String,
    version: Version,
    client: IpAddr,
    request_id: Option<String>,
    /// Both only where the form has them.
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

/// A line without the bytes of its answer.
pub struct Finished {
    line: LogLine,
    event: String,
    decision: &'static str,
    status: StatusCode,
    took_ms: u64,
}

/// An answer's body that is counted and has its line written when it is over, whole
/// or not.
pub struct Logged<B> {
    body: B,
    bytes: u64,
    line: Option<Box<Finished>>,
    track: Track,
}

impl AccessLog {
    /// The log that the configuration asks for, if it asks for one. A file that
    /// cannot be opened is told of, and tried again with each line.
    #[must_use]
    pub fn open(log: &Log, metrics: &Metrics, clock: &Clock) -> Option<Arc<Self>> {
        if !log.access {
            return None;
        }
        let form = match (log.access_format, &log.access_file) {
            (AccessFormat::Auto, None) => None,
            (AccessFormat::Auto, Some(_)) => Some(AccessFormat::Json),
            (form @ (AccessFormat::Json | AccessFormat::Combined), _) => Some(form),
        };
        let sink = match form {
            Some(form) => {
                let file = log.access_file.clone();
                let writer = Writer::start(file, metrics)
                    .inspect_err(|fault| tracing::error!(%fault, "the access log has no thread"));
                Sink::Own(form, writer.ok()?)
            }
            None => Sink::Program,
        };
        Some(Arc::new(Self {
            sink,
            sample: log.access_sample,
            clock: clock.clone(),
        }))
    }

    /// Writes what is still on its way, for a second at most.
    pub fn finish(&self) {
        if let Sink::Own(_, writer) = &self.sink {
            writer.finish();
        }
    }

    fn has_headers(&self) -> bool {
        matches!(self.sink, Sink::Own(AccessFormat::Combined, _))
    }
}

impl LogLine {
    /// The line of a request, to be finished when it is answered.
    #[must_use]
    pub fn new(
        log: &Arc<AccessLog>,
        (method, path, version): (&Method, &str, Version),
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Self {
        let named = |name: HeaderName| headers.get(name).filter(|_| log.has_headers()).cloned();
        Self {
            began_ms: log.clock.unix_ms(),
            log: Arc::clone(log),
            method: if method.as_str().len() > METHOD_MAX {
                Method::from_bytes(b"-").unwrap_or_default()
            } else {
                method.clone()
            },
            path: match path {
                // A target that is a host.
                "" => "-".to_owned(),
                path => path.chars().take(PATH_MAX).collect(),
            },
            version,
            client,
            request_id: None,
            referer: named(header::REFERER),
            user_agent: named(header::USER_AGENT),
        }
    }

    /// The same, with the request's id.
    #[must_use]
    pub fn called(self, ids: Option<&RequestIds>, headers: &HeaderMap) -> Self {
        let id = ids.and_then(|ids| ids.of(headers));
        let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Self { request_id, ..self }
    }

    /// What became of the request, and in how many milliseconds the head of its
    /// answer was there. `None`: it was drawn to have no line.
    #[must_use]
    pub fn answered(
        self,
        event: &str,
        decision: &'static str,
        status: StatusCode,
        took_ms: u64,
    ) -> Option<Box<Finished>> {
        if !is_notable(decision, status) && self.log.sample < 1.0 {
            let drawn = rand::random::<f64>() < self.log.sample;
            drawn.then_some(())?;
        }
        Some(Box::new(Finished {
            line: self,
            event: event.to_owned(),
            decision,
            status,
            took_ms,
        }))
    }
}

/// Whether it has a line whatever the share: a failure, or a request that was refused
/// for what it is. Waiting and busy pages are drawn like the others; a crowd sees them.
fn is_notable(decision: &str, status: StatusCode) -> bool {
    let failed = status.is_server_error() && (THROUGH.contains(&decision) || decision == "api");
    failed || matches!(decision, "unknown_host" | "ambiguous" | "refused")
}

impl Finished {
    /// Writes it, with the bytes of the answer's body that were sent.
    pub fn write(&self, bytes: u64) {
        let Self { line, .. } = self;
        match &line.log.sink {
            Sink::Program => tracing::info!(
                target: "access",
                method = %line.method,
                path = line.path,
                status = self.status.as_u16(),
                event = self.event,
                decision = self.decision,
                client = %line.client,
                ms = self.took_ms,
                bytes,
                protocol = form::protocol(line.version),
                request_id = line.request_id,
            ),
            Sink::Own(AccessFormat::Combined, writer) => writer.write(form::combined(self, bytes)),
            Sink::Own(AccessFormat::Json | AccessFormat::Auto, writer) => {
                writer.write(form::json(self, bytes, line.log.clock.unix_ms()));
            }
        }
    }
}

impl<B> Logged<B> {
    /// A body, its line (none: it has none, or had one already) and the route that
    /// it is counted at.
    pub fn new(body: B, line: Option<Box<Finished>>, track: Track) -> Self {
        Self {
            body,
            bytes: 0,
            line,
            track,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Logged<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes += length as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Logged<B> {
    fn drop(&mut self) {
        self.track.ended(self.bytes);
        if let Some(line) = self.line.take() {
            line.write(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_refusals_have_a_line_and_a_crowds_pages_are_drawn() {
        for (decision, status, notable) in [
            ("inside", 200, false),
            ("inside", 404, false),
            ("inside", 502, true),
            ("no_event", 500, true),
            ("api", 503, true),
            ("wait", 503, false),
            ("busy", 503, false),
            ("closed", 503, false),
            ("unknown_host", 421, true),
            ("ambiguous", 400, true),
            ("refused", 414, true),
            ("inside", 499, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_notable(decision, status), notable, "{decision} {status}");
        }
    }
}
