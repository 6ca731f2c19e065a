//! How a line of the access log looks: JSON as the program's own lines, or Apache's
//! combined format. Whatever a client writes stays within its field.

use std::io::Write as _;

use http::{HeaderValue, Version};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::{Finished, HEADER_MAX};

/// The time of the Common Log Format, in UTC.
const CLF: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

#[derive(Serialize)]
struct Json<'a> {
    timestamp: String,
    level: &'static str,
    fields: Fields<'a>,
    target: &'static str,
}

#[derive(Serialize)]
struct Fields<'a> {
    method: &'a str,
    path: &'a str,
    status: u16,
    event: &'a str,
    decision: &'a str,
    client: String,
    ms: u64,
    bytes: u64,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// The protocol's name as in a request line.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// One object and a line's end, of the shape of the program's own lines.
pub(super) fn json(finished: &Finished, bytes: u64, now_ms: u64) -> Vec<u8> {
    let line = &finished.line;
    let shape = Json {
        timestamp: at(now_ms).format(&Rfc3339).unwrap_or_default(),
        level: "INFO",
        fields: Fields {
            method: line.method.as_str(),
            path: &line.path,
            status: finished.status.as_u16(),
            event: &finished.event,
            decision: finished.decision,
            client: line.client.to_string(),
            ms: finished.took_ms,
            bytes,
            protocol: protocol(line.version),
            request_id: line.request_id.as_deref(),
        },
        target: "access",
    };
    let mut text = serde_json::to_vec(&shape).unwrap_or_default();
    text.push(b'\n');
    text
}

/// `%h - - %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"` of Apache's `mod_log_config`,
/// without queries: neither the request's nor the referer's.
pub(super) fn combined(finished: &Finished, bytes: u64) -> Vec<u8> {
    let line = &finished.line;
    let time = at(line.began_ms).format(CLF).unwrap_or_default();
    let mut text = Vec::with_capacity(256);
    // Writing to a Vec cannot fail.
    let _written = write!(text, "{} - - [{time}] \"", line.client);
    escape(&mut text, line.method.as_str().as_bytes());
    text.push(b' ');
    escape(&mut text, line.path.as_bytes());
    let status = finished.status.as_u16();
    let _written = write!(text, " {}\" {status} ", protocol(line.version));
    let _written = match bytes {
        0 => write!(text, "-"),
        bytes => write!(text, "{bytes}"),
    };
    for (value, ends) in [(&line.referer, &b"?#"[..]), (&line.user_agent, b"")] {
        text.extend_from_slice(b" \"");
        field(&mut text, value.as_ref(), ends);
        text.push(b'"');
    }
    text.push(b'\n');
    text
}

/// A header's beginning, up to any of the bytes `ends`; `-` for none.
fn field(text: &mut Vec<u8>, value: Option<&HeaderValue>, ends: &[u8]) {
    let Some(value) = value.map(HeaderValue::as_bytes) else {
        return text.push(b'-');
    };
    let length = value
        .iter()
        .position(|byte| ends.contains(byte))
        .unwrap_or(value.len());
    escape(text, value.get(..length.min(HEADER_MAX)).unwrap_or(value));
}

/// As `ap_escape_logitem` of Apache: what ends a field or a line, or moves a
/// terminal's cursor, is written out.
fn escape(text: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            b' '..=b'~' => text.push(*byte),
            other => {
                let _written = write!(text, "\\x{other:02x}");
            }
        }
    }
}

fn at(unix_ms: u64) -> OffsetDateTime {
    let nanos = i128::from(unix_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::super::{AccessLog, LogLine};
    use super::*;
    use crate::clock::Clock;
    use crate::config::{AccessFormat, Log};
    use crate::metrics::Metrics;

    fn finished(path: &str, headers: &[(&'static str, &[u8])]) -> Box<Finished> {
        let log = Log {
            access_format: AccessFormat::Combined,
            ..Log::default()
        };
        let clock = Clock::manual(1_700_000_000_123);
        let log = AccessLog::open(&log, &Metrics::default(), &clock).unwrap();
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value).unwrap();
                (name.parse().unwrap(), value)
            })
            .collect();
        let request = (&Method::GET, path, Version::HTTP_2);
        let line = LogLine::new(&log, request, &headers, "2001:db8::7".parse().unwrap());
        line.answered("main", "inside", StatusCode::OK, 7).unwrap()
    }

    #[test]
    fn a_combined_line_is_apaches() {
        let headers: &[(_, &[u8])] = &[
            ("referer", b"https://shop.example/a?token=secret#part"),
            ("user-agent", b"Mozilla/5.0 (X11)"),
        ];
        let line = String::from_utf8(combined(&finished("/a/b", headers), 1234)).unwrap();
        assert_eq!(
            line,
            "2001:db8::7 - - [14/Nov/2023:22:13:20 +0000] \"GET /a/b HTTP/2.0\" 200 1234 \
             \"https://shop.example/a\" \"Mozilla/5.0 (X11)\"\n"
        );
        let line = String::from_utf8(combined(&finished("/", &[]), 0)).unwrap();
        assert!(
            line.ends_with("\"GET / HTTP/2.0\" 200 - \"-\" \"-\"\n"),
            "{line}"
        );
    }

    #[test]
    fn nobody_writes_a_line_or_a_field_of_their_own() {
        let agent: &[u8] = b"a\" 200 1 \"\\\t\x80\xff\x1b";
        // HeaderValue refuses ESC; the others it lets through.
        let agent = agent.strip_suffix(b"\x1b").unwrap();
        let line = combined(&finished("/\"\\", &[("user-agent", agent)]), 1);
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("\"GET /\\\"\\\\ HTTP/2.0\""), "{line}");
        assert!(
            line.ends_with("\"a\\\" 200 1 \\\"\\\\\\t\\x80\\xff\"\n"),
            "{line}"
        );
        let long = vec![b'a'; 5000];
        let line = combined(
            &finished("/", &[("user-agent", &long), ("referer", &long)]),
            1,
        );
        assert!(line.len() < 2 * HEADER_MAX + 100);
        let mut control = Vec::new();
        escape(&mut control, b"\x1b[2J\n\r\0\x7f");
        assert_eq!(control, b"\\x1b[2J\\n\\r\\x00\\x7f");
    }

    #[test]
    fn a_json_line_is_of_the_shape_of_the_others() {
        let line = json(&finished("/a\"\u{7f}", &[]), 5, 1_700_000_000_123);
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["target"], "access");
        assert_eq!(read["timestamp"], "2023-11-14T22:13:20.123Z");
        assert_eq!(read["fields"]["path"], "/a\"\u{7f}");
        assert_eq!(read["fields"]["bytes"], 5);
        assert_eq!(read["fields"]["protocol"], "HTTP/2.0");
        assert_eq!(read["fields"].get("request_id"), None);
    }
}
