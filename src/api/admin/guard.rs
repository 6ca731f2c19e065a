//! The rules of the admin door, before any call: under which names it
//! answers, whose pages may speak to it, and who holds the token.
//!
//! A page of somebody else can make its visitor's browser call any address
//! that this browser reaches, also the loopback one, under a name of the
//! page's own (DNS rebinding). So the door answers to no name but its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Door;
use super::problem::Problem;
use crate::room::secret::Secret;

/// What answers without a token.
const WITHOUT_TOKEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Lets a request through that keeps the rules, and marks every answer as
/// one that nobody may store.
pub(super) async fn watch(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let permit = match admit(&door, &request) {
        Ok(permit) => permit,
        Err(problem) => return unstored(problem.into_response()),
    };
    let answer = next.run(request).await;
    drop(permit);
    unstored(answer)
}

/// For the metrics' own door: it only shows what needs no token.
pub(super) async fn mark(request: Request, next: Next) -> Response {
    unstored(next.run(request).await)
}

/// The place among the calls under way that a request may take.
fn admit<'a>(
    door: &'a Door,
    request: &Request,
) -> Result<Option<tokio::sync::SemaphorePermit<'a>>, Problem> {
    let headers = request.headers();
    let host = named(door.listen, request)?;
    same_site(headers, host.as_ref())?;
    if WITHOUT_TOKEN.contains(&request.uri().path()) {
        return Ok(None);
    }
    if let Some(token) = door.token.load().as_deref() {
        holds(headers, token)?;
    }
    is_json(request.method(), headers)?;
    let crowded = || {
        let detail = "too many calls are under way at once; try again";
        let title = "Too many calls";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", title, detail).retry_after(1)
    };
    door.calls.try_acquire().map(Some).map_err(|_| crowded())
}

/// Whether every name that the request gives to this door is its own.
fn named(listen: SocketAddr, request: &Request) -> Result<Option<Authority>, Problem> {
    let misdirected = || {
        let detail = "this door answers to localhost and to its own address: \
                      call it by IP address, or as localhost";
        let title = "Not the name of this door";
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", title, detail)
    };
    let mut names = request.headers().get_all(header::HOST).iter();
    let (host, others) = (names.next(), names.next());
    let host: Authority = host
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse().ok())
        .filter(|_| others.is_none())
        .ok_or_else(misdirected)?;
    let target = request.uri().authority();
    if is_own(listen.ip(), host.host()) && target.is_none_or(|t| is_own(listen.ip(), t.host())) {
        Ok(Some(host))
    } else {
        Err(misdirected())
    }
}

/// An address cannot be rebound, only a name can. A door that listens at
/// every address of the machine cannot know them all (port mappings), so it
/// answers to any address.
fn is_own(listen: IpAddr, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let plain = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let Ok(address) = plain.unwrap_or(host).parse::<IpAddr>() else {
        return false;
    };
    let (address, listen) = (address.to_canonical(), listen.to_canonical());
    address.is_loopback() || listen.is_unspecified() || address == listen
}

/// A browser says where a call comes from: only this door's own pages, and
/// what the operator types, may call it.
fn same_site(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let by_site = site.is_none_or(|site| matches!(site, b"same-origin" | b"none"));
    let by_origin = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        host.is_some_and(|host| is_of(origin, host))
    });
    if by_site && by_origin {
        return Ok(());
    }
    let detail = "a page of another site made this call; the admin door answers to its own only";
    let title = "Not from another site";
    Err(Problem::new(StatusCode::FORBIDDEN, "origin", title, detail))
}

/// Whether an `Origin` (RFC 6454 §6.2) is this host and port.
fn is_of(origin: &str, host: &Authority) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(origin) = authority.parse::<Authority>() else {
        return false;
    };
    origin.host().eq_ignore_ascii_case(host.host())
        && origin.port_u16().unwrap_or(usual) == host.port_u16().unwrap_or(usual)
}

/// Whether the caller holds the token (RFC 6750 §2.1).
fn holds(headers: &HeaderMap, token: &Secret) -> Result<(), Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let held = match (given.next(), given.next()) {
        (Some(one), None) => bearer(one.as_bytes()).is_some_and(|held| token.is(held)),
        _ => false,
    };
    if held {
        return Ok(());
    }
    let detail = "send the token of [admin] as \"Authorization: Bearer <token>\"";
    let title = "The token is missing or wrong";
    let challenge = HeaderValue::from_static("Bearer realm=\"sumun admin\"");
    Err(
        Problem::new(StatusCode::UNAUTHORIZED, "token", title, detail)
            .header(header::WWW_AUTHENTICATE, challenge),
    )
}

/// The credentials of the scheme `Bearer`, in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| rest.trim_ascii())
}

/// A form can be sent by any page without asking; JSON cannot.
fn is_json(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let writes = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    let kind = headers.get(header::CONTENT_TYPE);
    let essence = kind
        .and_then(|kind| kind.to_str().ok())
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let fits = match essence {
        Some(essence) => {
            essence.eq_ignore_ascii_case("application/json")
                || (*method == Method::PATCH
                    && essence.eq_ignore_ascii_case("application/merge-patch+json"))
        }
        None => !writes && kind.is_none(),
    };
    if fits || !(writes || *method == Method::DELETE) {
        return Ok(());
    }
    let detail = "send the body as JSON, with \"Content-Type: application/json\"";
    let (status, title) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Not JSON");
    let accept = HeaderValue::from_static("application/json");
    Err(Problem::new(status, "media-type", title, detail).header(header::ACCEPT, accept))
}

fn unstored(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_answers_to_loopback_and_to_its_own_address_alone() {
        let own = |listen: &str, host: &str| is_own(listen.parse().unwrap(), host);
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(own("127.0.0.1", host), "{host}");
            assert!(own("10.0.0.5", host), "{host}");
        }
        assert!(own("10.0.0.5", "10.0.0.5"));
        assert!(own("10.0.0.5", "[::ffff:10.0.0.5]"));
        assert!(own("0.0.0.0", "192.0.2.9"));
        assert!(own("::", "192.0.2.9"));
        for host in ["10.0.0.6", "evil.example", "localhost.evil.example", ""] {
            assert!(!own("10.0.0.5", host), "{host}");
        }
        assert!(!own("0.0.0.0", "evil.example"));
        assert!(!own("127.0.0.1", "192.0.2.9"));
    }

    #[test]
    fn an_origin_is_ours_by_host_and_port() {
        let of = |origin: &str, host: &str| is_of(origin, &host.parse().unwrap());
        assert!(of("http://localhost:9090", "LOCALHOST:9090"));
        assert!(of("https://127.0.0.1", "127.0.0.1:443"));
        assert!(of("http://127.0.0.1", "127.0.0.1"));
        assert!(!of("http://localhost:3000", "localhost:9090"));
        assert!(!of("http://localhost", "localhost:9090"));
        assert!(!of("null", "localhost"));
        assert!(!of("file://localhost", "localhost"));
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
