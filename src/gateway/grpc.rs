//! Our own answers as a client of gRPC understands them: it looks for `grpc-status`,
//! and takes anything else for a broken server.

use http::StatusCode;
use http::header::{self, HeaderValue};

use super::asker::Asker;
use super::{Answer, put};
use crate::origin::Body;

/// How soon a call may be repeated, in milliseconds (gRPC's retry design, A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// An answer of ours as whoever asked understands it.
pub(super) fn for_client(asker: &Asker, answer: Answer) -> Answer {
    if asker.is_grpc {
        trailers_only(answer)
    } else {
        answer
    }
}

/// The same refusal as a call's status, in a head that ends the stream. The other
/// headers (`Sumun-Status`, `Retry-After`, cookies) stay.
fn trailers_only(mut answer: Answer) -> Answer {
    let (status, message) = status(answer.status());
    *answer.status_mut() = StatusCode::OK;
    *answer.body_mut() = Body::Empty;
    let headers = answer.headers_mut();
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_SECURITY_POLICY,
        header::CONTENT_LANGUAGE,
    ] {
        headers.remove(name);
    }
    let grpc = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, grpc);
    put(headers, "grpc-status", status);
    let waits = headers
        .get("sumun-status")
        .is_some_and(|said| said == "wait");
    put(
        headers,
        "grpc-message",
        if waits {
            "Visitors are queueing"
        } else {
            message
        },
    );
    let seconds = headers.get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        put(
            headers,
            PUSHBACK,
            &seconds.saturating_mul(1_000).to_string(),
        );
    }
    answer
}

/// The status of a call that stands for one of HTTP (gRPC: "HTTP to gRPC Status Code
/// Mapping"), and words that need no percent-encoding.
fn status(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::BAD_REQUEST => ("13", "The request could not be understood"),
        StatusCode::FORBIDDEN => ("7", "Not allowed"),
        StatusCode::NOT_FOUND => ("12", "Not found"),
        StatusCode::GATEWAY_TIMEOUT => ("14", "The site did not answer in time"),
        StatusCode::BAD_GATEWAY => ("14", "The site cannot be reached"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            ("14", "Not available at the moment")
        }
        _ => ("2", "Refused"),
    }
}
