//! What an intermediary takes off and puts on (RFC 9110 §7.6, RFC 9112 §6).
//! Nothing else of a message is touched.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Uri};

use super::framing::{length, sole_coding};
use super::{Cookie, Forward, HostHeader, OriginError, OriginSettings};
use crate::incoming::WebSocket;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// How many headers a request gets from us: `X-Forwarded-*`, `Via`, `Host`.
const PUT_ON: usize = 6;

/// What the client asked for that the answer is measured against.
pub(crate) struct Asked {
    /// The protocols of `Upgrade`, if it asked to leave HTTP and we go along.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// What the framing of an answer means for its connection.
pub(crate) struct Framing {
    /// Whether the connection may serve another request.
    pub(crate) reusable: bool,
    /// The length that a bodiless answer names.
    pub(crate) named_length: Option<u64>,
}

/// Makes the client's head the one that an origin gets, but for its `Host`.
pub(crate) fn prepare_request(parts: &mut Parts, has_body: bool, forward: Forward) -> Asked {
    let seen = Seen::of(&parts.headers);
    // HTTP/1.0 knows no upgrade (RFC 9110 §7.8), HTTP/2 that of a WebSocket alone.
    let may =
        parts.version == http::Version::HTTP_11 || parts.extensions.get::<WebSocket>().is_some();
    let upgrade = (seen.upgrade && !has_body && may)
        .then(|| asked_upgrade(&parts.headers))
        .flatten();
    let trailers = seen.te && has_token(&parts.headers, &header::TE, "trailers");
    // In HTTP/2 a body needs no header to be one.
    let chunked = has_body && (seen.transfer_encoding || !seen.content_length);
    let headers = &mut parts.headers;
    headers.reserve(PUT_ON + forward.headers.len());
    take_off_hop_by_hop(headers, &seen);
    if seen.request_only {
        headers.remove(header::PROXY_AUTHORIZATION);
        // hyper answers `100-continue` itself when the origin begins to take the body.
        headers.remove(header::EXPECT);
    }
    if let Some(protocols) = &upgrade {
        headers.insert(header::UPGRADE, protocols.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if chunked {
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    if seen.identity {
        take_off_spoofed(headers, forward.client.trusted);
    }
    put_on_identity(headers, &forward, &seen);
    match forward.cookie {
        Cookie::AsSent => {}
        Cookie::Replaced(value) => {
            headers.insert(header::COOKIE, value);
        }
        Cookie::Removed => {
            headers.remove(header::COOKIE);
        }
    }
    for (name, value) in forward.headers {
        headers.insert(name, value);
    }
    headers.append(header::VIA, via(parts.version));
    parts.version = http::Version::HTTP_11;
    origin_form(&mut parts.uri);
    Asked { upgrade }
}

/// The protocol that the message came by (RFC 9110 §7.6.3).
fn via(version: http::Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        http::Version::HTTP_10 => "1.0 sumun",
        http::Version::HTTP_2 => "2.0 sumun",
        _ => "1.1 sumun",
    })
}

/// Which headers that need looking after a message has: found in one pass, so
/// that those which most messages do not have are not looked for one by one.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of headers")]
struct Seen {
    connection: bool,
    te: bool,
    transfer_encoding: bool,
    upgrade: bool,
    /// Another that lives for one hop.
    other_hop: bool,
    content_length: bool,
    /// `Expect` or `Proxy-Authorization`.
    request_only: bool,
    /// One that says who the client is, or one of ours.
    identity: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            match *name {
                header::CONNECTION => seen.connection = true,
                header::CONTENT_LENGTH => seen.content_length = true,
                header::TE => seen.te = true,
                header::TRANSFER_ENCODING => seen.transfer_encoding = true,
                header::UPGRADE => seen.upgrade = true,
                header::EXPECT | header::PROXY_AUTHORIZATION => seen.request_only = true,
                _ if is_hop_by_hop(name) => seen.other_hop = true,
                _ => seen.identity |= is_identity(name),
            }
        }
        seen
    }

    fn any_hop(&self) -> bool {
        self.connection || self.te || self.transfer_encoding || self.upgrade || self.other_hop
    }
}

/// Takes one off `Max-Forwards` (RFC 9110 §7.6.2); true if it was zero and we must answer.
pub(crate) fn last_forward(headers: &mut HeaderMap) -> bool {
    let Some(left) = headers
        .get(header::MAX_FORWARDS)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse::<u64>().ok())
    else {
        return false;
    };
    let Some(left) = left.checked_sub(1) else {
        return true;
    };
    headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
    false
}

/// Makes the origin's head the one that the client gets.
pub(crate) fn prepare_response<B>(
    response: &mut Response<B>,
    bodiless: bool,
) -> Result<Framing, OriginError> {
    let headers = response.headers();
    let seen = Seen::of(headers);
    let chunked = seen.transfer_encoding && {
        let sole = sole_coding(headers);
        sole.map_err(|()| OriginError::Protocol("transfer-encoding is not chunked"))?
    };
    let (length, is_plain) = if seen.content_length {
        length(headers)?
    } else {
        (None, true)
    };
    let upgrade = (seen.upgrade && response.status() == StatusCode::UPGRADE_REQUIRED)
        .then(|| headers.get(header::UPGRADE).cloned())
        .flatten();
    let headers = response.headers_mut();
    take_off_hop_by_hop(headers, &seen);
    if let Some(protocols) = upgrade {
        // A 426 has to say which (RFC 9110 §15.5.22).
        headers.insert(header::UPGRADE, protocols);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let both = chunked && length.is_some();
    if both {
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = length
        && !is_plain
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.version_mut() = http::Version::HTTP_11;
    Ok(Framing {
        reusable: !both,
        named_length: if bodiless && !both { length } else { None },
    })
}

/// Makes the head of a 101 the one that the client gets, if it names a protocol that was asked for.
pub(crate) fn prepare_switch<B>(
    response: &mut Response<B>,
    asked: &HeaderValue,
) -> Result<(), OriginError> {
    let Some(protocol) = response.headers().get(header::UPGRADE).cloned() else {
        return Err(OriginError::UnsolicitedUpgrade);
    };
    let named = tokens(&protocol).next().is_some()
        && tokens(&protocol).all(|one| tokens(asked).any(|other| one.eq_ignore_ascii_case(other)));
    if !named {
        return Err(OriginError::UnsolicitedUpgrade);
    }
    let headers = response.headers_mut();
    take_off_hop_by_hop(headers, &Seen::of(headers));
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::UPGRADE, protocol);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    *response.version_mut() = http::Version::HTTP_11;
    Ok(())
}

/// Takes out of a trailer what only a head may say: a receiver may merge the two (RFC 9110 §6.5.1).
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    let doomed: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            is_identity(name)
                || is_hop_by_hop(name)
                || matches!(
                    **name,
                    header::COOKIE
                        | header::SET_COOKIE
                        | header::HOST
                        | header::AUTHORIZATION
                        | header::CONTENT_LENGTH
                        | header::EXPECT
                        | header::VIA
                )
        })
        .cloned()
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// `Connection`, what it names, and its like.
fn take_off_hop_by_hop(headers: &mut HeaderMap, seen: &Seen) {
    if !seen.any_hop() {
        return;
    }
    let mut doomed: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        // The two that nearly every message says name no header worth looking for.
        let usual = |token: &str| {
            token.eq_ignore_ascii_case("keep-alive") || token.eq_ignore_ascii_case("close")
        };
        for token in tokens(value).filter(|token| !usual(token)) {
            if let Ok(name) = HeaderName::from_bytes(token.as_bytes())
                && !is_protected(&name)
            {
                doomed.push(name);
            }
        }
    }
    if seen.te || seen.transfer_encoding || seen.upgrade || seen.other_hop {
        let hop = headers.keys().filter(|name| is_hop_by_hop(name)).cloned();
        doomed.extend(hop);
    }
    headers.remove(header::CONNECTION);
    for name in doomed {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
    ) || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == HTTP2_SETTINGS
}

/// A `Connection` that names one of these wants it taken away from the origin: an attack.
fn is_protected(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::COOKIE
            | header::SET_COOKIE
            | header::AUTHORIZATION
            | header::CACHE_CONTROL
            | header::VIA
    ) || is_identity(name)
}

/// Headers that say who the client is, or that are ours. An underscore counts as
/// a hyphen, because CGI and WSGI origins cannot tell the two apart.
fn is_identity(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    match name.first() {
        Some(b'x') => begins(name, b"x-forwarded-") || is_same(name, b"x-real-ip"),
        Some(b'f') => is_same(name, b"forwarded"),
        Some(b's') => begins(name, b"sumun-"),
        _ => false,
    }
}

fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|head| is_same(head, prefix))
}

fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len()
        && name
            .iter()
            .zip(other)
            .all(|(one, other)| one == other || (*one == b'_' && *other == b'-'))
}

/// Drops what an untrusted peer says about itself, and what nobody may say.
fn take_off_spoofed(headers: &mut HeaderMap, trusted: bool) {
    let is_believed = |name: &HeaderName| {
        trusted && !begins(name.as_str().as_bytes(), b"sumun-") && !has_underscore(name)
    };
    let spoofed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_identity(name) && !is_believed(name))
        .cloned()
        .collect();
    for name in spoofed {
        headers.remove(name);
    }
}

/// Says what we know of the client, after what a trusted peer said.
fn put_on_identity(headers: &mut HeaderMap, forward: &Forward, seen: &Seen) {
    let client = &forward.client;
    if seen.identity && headers.contains_key(FORWARDED_FOR) {
        let mut chain = String::with_capacity(80);
        for value in headers.get_all(FORWARDED_FOR) {
            if let Ok(text) = value.to_str() {
                chain.push_str(text.trim());
                chain.push_str(", ");
            }
        }
        // Writing to a string cannot fail.
        let _written = write!(chain, "{}", client.peer);
        set(headers, FORWARDED_FOR, chain);
    } else {
        headers.insert(FORWARDED_FOR, client.peer_label.clone());
    }
    let scheme = if client.https { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = &client.host {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.insert(FORWARDED_PORT, port(client.port));
    if seen.identity && headers.contains_key(header::FORWARDED) {
        append_forwarded(headers, forward, scheme);
    }
}

/// A port as a header's value; the usual ones are not written anew each time.
fn port(port: u16) -> HeaderValue {
    match port {
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        other => HeaderValue::from(other),
    }
}

/// Appends our element to a trusted peer's `Forwarded` (RFC 7239 §4); we do not begin one.
fn append_forwarded(headers: &mut HeaderMap, forward: &Forward, scheme: &str) {
    let mut element = match forward.client.peer {
        IpAddr::V4(address) => format!("for={address};proto={scheme}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\";proto={scheme}"),
    };
    let host = forward
        .client
        .host
        .as_ref()
        .and_then(|host| host.to_str().ok());
    if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
        let _written = write!(element, ";host=\"{host}\"");
    }
    if let Ok(value) = HeaderValue::try_from(element) {
        headers.append(header::FORWARDED, value);
    }
}

/// The `Host` that this origin is to see.
pub(crate) fn put_on_host(headers: &mut HeaderMap, settings: &OriginSettings, is_named: bool) {
    match &settings.host_header {
        HostHeader::Preserve if is_named => {}
        // An HTTP/1.0 client may name no host; HTTP/1.1 must.
        HostHeader::Preserve | HostHeader::Origin => {
            headers.insert(header::HOST, settings.authority.clone());
        }
        HostHeader::Name(name) => {
            headers.insert(header::HOST, name.clone());
        }
    }
}

/// The target as the origin reads it: path and query, or the asterisk.
fn origin_form(uri: &mut Uri) {
    if uri.scheme().is_none() && uri.authority().is_none() {
        return;
    }
    let target = uri
        .path_and_query()
        .map_or(Uri::from_static("/"), |target| Uri::from(target.clone()));
    *uri = target;
}

/// The protocols that the client wants to change to. HTTP inside a tunnel would
/// pass us unread, and a request must not: those are not gone along with.
fn asked_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return None;
    }
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let value = lines.next()?;
    let opaque = lines.next().is_none()
        && tokens(value).next().is_some()
        && tokens(value).all(|protocol| {
            let name = protocol.split('/').next().unwrap_or_default();
            !["h2c", "h2", "http", "tls"]
                .iter()
                .any(|http| name.eq_ignore_ascii_case(http))
        });
    opaque.then(|| value.clone())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|value| tokens(value).any(|one| one.eq_ignore_ascii_case(token)))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn has_underscore(name: &HeaderName) -> bool {
    name.as_str().contains('_')
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
