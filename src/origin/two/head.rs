//! The head of a request as HTTP/2 says it (RFC 9113 §8.2.2, §8.3.1).

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use super::super::OriginError;

/// What begins the media types of gRPC; `application/grpc-web` is another thing, and
/// needs neither trailers nor HTTP/2.
const GRPC: &[u8] = b"application/grpc";

/// Whether a message is one of gRPC.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let value = value.as_bytes();
    let (Some(begin), rest) = (value.get(..GRPC.len()), value.get(GRPC.len())) else {
        return false;
    };
    begin.eq_ignore_ascii_case(GRPC) && matches!(rest, None | Some(b'+' | b';' | b' '))
}

/// Makes a head that is ready for HTTP/1.1 one of HTTP/2: what lives for one hop goes,
/// `Host` becomes `:authority`, and trailers are said to be welcome where the client
/// welcomes them. `:scheme` is that of the connection: servers compare the two.
///
/// # Errors
/// When the `Host` is no authority.
pub(crate) fn head<B>(request: &Request<B>, tls: bool) -> Result<Request<()>, OriginError> {
    let mut headers = request.headers().clone();
    let welcome = headers.contains_key(header::TE) || is_grpc(&headers);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    if welcome {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let host = headers.remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target = http::uri::Parts::default();
    target.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    target.authority = authority;
    let path = request.uri().path_and_query().cloned();
    target.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    let mut head = Request::new(());
    *head.uri_mut() =
        Uri::from_parts(target).map_err(|_| OriginError::Protocol("the host is no authority"))?;
    *head.version_mut() = Version::HTTP_2;
    head.method_mut().clone_from(request.method());
    *head.headers_mut() = headers;
    Ok(head)
}
