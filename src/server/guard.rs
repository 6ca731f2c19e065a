//! Which requests are refused before anything else sees them. What goes on must
//! have exactly one reading: a fault of framing or addressing is never repaired
//! by forwarding it in other words (RFC 9112 §2, §3, §6).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};

use super::extended;
use crate::visitor::address::Authority;

/// Why a request is refused. A connection of HTTP/1.1 is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client gets.
    pub status: StatusCode,
    /// A short name for metrics.
    pub reason: &'static str,
}

impl Refusal {
    /// What is said with it.
    #[must_use]
    pub fn words(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Refused")
    }
}

/// Checks the head and makes it plain: the target in origin form, exactly one
/// `Host` that agrees with it, an Extended CONNECT the upgrade that it stands for. `target_limit` is in bytes.
///
/// # Errors
/// The refusal to answer with.
pub fn check<B>(request: &mut Request<B>, target_limit: usize) -> Result<(), Refusal> {
    extended::unfold(request)?;
    method(request.method())?;
    coding(request)?;
    expectation(request)?;
    if request.version() == Version::HTTP_2 {
        one_cookie_line(request.headers_mut())?;
        one_length(request.headers_mut())?;
    }
    target(request, target_limit)?;
    host(request)
}

/// Longer than any registered method; what counts and logs requests by their method is
/// bounded by it.
const METHOD_MAX: usize = 32;

fn method(method: &Method) -> Result<(), Refusal> {
    match *method {
        _ if method.as_str().len() > METHOD_MAX => refuse(StatusCode::NOT_IMPLEMENTED, "method"),
        Method::CONNECT | Method::TRACE => refuse(StatusCode::METHOD_NOT_ALLOWED, "method"),
        _ => Ok(()),
    }
}

/// Nothing, or exactly one `chunked` (RFC 9112 §6.1).
fn coding<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut lines = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    if request.version() == Version::HTTP_10 {
        return bad("transfer_encoding");
    }
    let text = first.to_str().unwrap_or_default();
    if lines.next().is_none() && text.eq_ignore_ascii_case("chunked") {
        return Ok(());
    }
    let unknown = |value: &HeaderValue| {
        value
            .to_str()
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("chunked"))
    };
    if request
        .headers()
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .any(unknown)
    {
        return refuse(StatusCode::NOT_IMPLEMENTED, "transfer_encoding");
    }
    bad("transfer_encoding")
}

/// `100-continue` or nothing. hyper says it in HTTP/1.1 when the origin begins to
/// take the body, and never in HTTP/2: who waits for it there is to come without
/// (RFC 9110 §10.1.1).
fn expectation<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut lines = request.headers().get_all(header::EXPECT).iter();
    let is_said = request.version() != Version::HTTP_2;
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(value), None)
            if is_said && value.as_bytes().eq_ignore_ascii_case(b"100-continue") =>
        {
            Ok(())
        }
        _ => refuse(StatusCode::EXPECTATION_FAILED, "expectation"),
    }
}

/// HTTP/2 may send cookies in pieces (RFC 9113 §8.2.3); in HTTP/1.1 they are one line.
fn one_cookie_line(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let pieces: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if pieces.len() < 2 {
        return Ok(());
    }
    let Ok(line) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) else {
        return bad("cookie");
    };
    headers.insert(header::COOKIE, line);
    Ok(())
}

/// One plain number, or none: hyper compares repeated ones as numbers only, and
/// takes an empty one for nought.
fn one_length(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lines.next().map(HeaderValue::as_bytes) else {
        return Ok(());
    };
    let plain = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !plain || lines.any(|line| line.as_bytes() != first) {
        return bad("content_length");
    }
    let first = HeaderValue::from_bytes(first);
    if let Ok(first) = first {
        headers.insert(header::CONTENT_LENGTH, first);
    }
    Ok(())
}

/// Origin form, absolute form (which becomes origin form and wins over `Host`,
/// RFC 9112 §3.2.2), or `OPTIONS *`.
fn target<B>(request: &mut Request<B>, limit: usize) -> Result<(), Refusal> {
    let uri = request.uri();
    let Some(target) = uri.path_and_query() else {
        return bad("target");
    };
    if target.as_str().len() > limit {
        return refuse(StatusCode::URI_TOO_LONG, "target_length");
    }
    if !target.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        return bad("target");
    }
    let two = request.version() == Version::HTTP_2;
    if target.as_str() == "*" && request.method() == Method::OPTIONS {
        return match uri.authority() {
            None => Ok(()),
            Some(_) if two => {
                absolute(request)?;
                *request.uri_mut() = Uri::from_static("*");
                Ok(())
            }
            Some(_) => bad("target"),
        };
    }
    if two && !target.as_str().starts_with('/') {
        return bad("target");
    }
    if !target.as_str().starts_with('/') {
        // `http://host?query` has an empty path; origin form needs its slash.
        return match uri.authority() {
            Some(_) => absolute(request),
            None => bad("target"),
        };
    }
    if uri.scheme().is_none() && uri.authority().is_none() {
        return Ok(());
    }
    absolute(request)
}

fn absolute<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let uri = request.uri();
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let two = request.version() == Version::HTTP_2;
    let (true, Some(authority)) = (known, uri.authority()) else {
        if known
            && two
            && let Some(target) = uri.path_and_query().cloned()
        {
            // Without `:authority` it is `Host` that names it (RFC 9113 §8.3.1).
            *request.uri_mut() = origin_form(&target)?;
            return Ok(());
        }
        return bad("target");
    };
    if Authority::parse(authority.as_str()).is_none() {
        return bad("target");
    }
    let Ok(host) = HeaderValue::from_str(authority.as_str()) else {
        return bad("target");
    };
    let plain = uri
        .path_and_query()
        .map_or(Ok(Uri::from_static("/")), origin_form)?;
    // The sent `Host` still has to be a single well-formed one, though it loses. In
    // HTTP/2 it may be missing, and must not say anything else (RFC 9113 §8.3.1).
    if !two {
        host_lines(request.headers(), request.version())?;
    } else if request
        .headers()
        .get_all(header::HOST)
        .iter()
        .any(|sent| *sent != host)
    {
        return bad("host");
    }
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = plain;
    Ok(())
}

/// A target that begins with a slash. Of one that was a fragment alone nothing is
/// left, though it shows a slash.
fn origin_form(target: &PathAndQuery) -> Result<Uri, Refusal> {
    match target.as_str() {
        "/" => Ok(Uri::from_static("/")),
        text if text.starts_with('/') => Ok(Uri::from(target.clone())),
        text => match PathAndQuery::try_from(format!("/{text}")) {
            Ok(target) => Ok(Uri::from(target)),
            Err(_) => Err(Refusal {
                status: StatusCode::BAD_REQUEST,
                reason: "target",
            }),
        },
    }
}

fn host<B>(request: &Request<B>) -> Result<(), Refusal> {
    host_lines(request.headers(), request.version())
}

/// One well-formed `Host`; only HTTP/1.0 may do without (RFC 9112 §3.2).
fn host_lines(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    const HOST: HeaderName = header::HOST;
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (Some(value), None)
            if value
                .to_str()
                .is_ok_and(|text| Authority::parse(text).is_some()) =>
        {
            Ok(())
        }
        _ => bad("host"),
    }
}

fn bad(reason: &'static str) -> Result<(), Refusal> {
    refuse(StatusCode::BAD_REQUEST, reason)
}

fn refuse(status: StatusCode, reason: &'static str) -> Result<(), Refusal> {
    Err(Refusal { status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, lines: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in lines {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn absolute_form_wins_over_host() {
        let mut one = request("GET", "http://a.example:81/p?q", &[("host", "b.example")]);
        assert_eq!(check(&mut one, 8192), Ok(()));
        assert_eq!(one.headers().get("host").unwrap(), "a.example:81");
        assert_eq!(one.uri(), "/p?q");
        let mut bare = request("GET", "http://a.example?q", &[("host", "a.example")]);
        assert_eq!(check(&mut bare, 8192), Ok(()));
        assert_eq!(bare.uri(), "/?q");
        // hyper has cut the fragment off, and nothing is left.
        for target in ["http://a.example#x", "http://a.example/#x"] {
            let mut cut = request("GET", target, &[("host", "a.example")]);
            assert_eq!(check(&mut cut, 8192), Ok(()));
            assert_eq!((cut.uri().path(), cut.uri().to_string()), ("/", "/".into()));
        }
    }

    #[test]
    fn targets_of_other_forms_are_refused() {
        for (method, target, status) in [
            ("GET", "a.example:80", 400),
            ("CONNECT", "a.example:80", 405),
            ("TRACE", "/", 405),
            ("A-METHOD-THAT-NOBODY-EVER-REGISTERED", "/", 501),
            ("GET", "*", 400),
            ("GET", "ftp://a.example/", 400),
            ("GET", "http://user@a.example/", 400),
            ("GET", "/ä", 400),
        ] {
            let mut one = request(method, target, &[("host", "a.example")]);
            let refusal = check(&mut one, 8192).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{method} {target}");
        }
        let mut long = request("GET", "/0123456789", &[("host", "a")]);
        assert_eq!(
            check(&mut long, 8).unwrap_err().status,
            StatusCode::URI_TOO_LONG
        );
    }
}
