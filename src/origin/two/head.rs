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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::get("/a?b").body(()).unwrap();
        for (name, value) in lines {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn grpc_is_told_by_its_media_type() {
        for (text, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/grpcs", false),
            ("application/json", false),
        ] {
            let request = request(&[("content-type", text)]);
            assert_eq!(is_grpc(request.headers()), is, "{text}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_head_of_http_1_1_becomes_one_of_http_2() {
        let one = request(&[
            ("host", "shop.example:8443"),
            ("connection", "te"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("cookie", "a=1; b=2"),
        ]);
        let two = head(&one, true).unwrap();
        assert_eq!(two.uri(), "https://shop.example:8443/a?b");
        assert_eq!(two.headers()["te"], "trailers");
        assert_eq!(two.headers()["cookie"], "a=1; b=2");
        assert_eq!(two.headers().len(), 2);
        // gRPC cannot do without trailers, whatever its client says of them.
        let call = request(&[("host", "a"), ("content-type", "application/grpc")]);
        assert_eq!(head(&call, false).unwrap().headers()["te"], "trailers");
        let plain = request(&[("host", "a")]);
        assert!(!head(&plain, false).unwrap().headers().contains_key("te"));
        assert!(head(&request(&[("host", "a b")]), false).is_err());
    }

    #[test]
    fn the_asterisk_of_options_stays_one() {
        let mut all = request(&[("host", "a")]);
        *all.method_mut() = http::Method::OPTIONS;
        *all.uri_mut() = Uri::from_static("*");
        let path = head(&all, false).unwrap();
        assert_eq!(path.uri().path_and_query().unwrap().as_str(), "*");
    }
}
