//! Extended CONNECT (RFC 8441): a WebSocket in a stream of HTTP/2. It is read as the
//! request of HTTP/1.1 that says the same (RFC 6455 §4.1), so that everything behind
//! decides, forwards and counts it as any other upgrade.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::ext::Protocol;

use super::guard::Refusal;
use crate::incoming::WebSocket;

/// What an answer's key is made with (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes an Extended CONNECT for a WebSocket the GET with `Upgrade` that it stands for;
/// all other requests stay what they are.
///
/// # Errors
/// 501 for another protocol (RFC 9220 §3).
pub(super) fn unfold<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    if request.method() != Method::CONNECT {
        return Ok(());
    }
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
        return Ok(());
    };
    let refusal = Refusal {
        status: StatusCode::NOT_IMPLEMENTED,
        reason: "protocol",
    };
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return Err(refusal);
    }
    // HTTP/2 has no need of a key; the origin wants one, and proves by it that it
    // understood.
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let accept = STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key.as_bytes(), GUID].concat(),
    ));
    let (Ok(key), Ok(accept)) = (HeaderValue::try_from(key), HeaderValue::try_from(accept)) else {
        return Err(refusal);
    };
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    *request.method_mut() = Method::GET;
    let place = None;
    request.extensions_mut().insert(WebSocket { accept, place });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(protocol: Option<&'static str>) -> Request<()> {
        let mut request = Request::builder()
            .method("CONNECT")
            .version(http::Version::HTTP_2)
            .uri("https://a.example/chat?a=1")
            .header("sec-websocket-key", "the client's own")
            .body(())
            .unwrap();
        let protocol = protocol.map(Protocol::from_static);
        protocol.map(|protocol| request.extensions_mut().insert(protocol));
        request
    }

    #[test]
    fn a_websocket_becomes_an_upgrade_with_a_key_of_ours() {
        let mut request = connect(Some("websocket"));
        assert_eq!(unfold(&mut request), Ok(()));
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers()["upgrade"], "websocket");
        let key = request.headers()["sec-websocket-key"].as_bytes();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        let socket = request.extensions().get::<WebSocket>().unwrap();
        let expected = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()));
        assert_eq!(socket.accept, expected);
    }

    #[test]
    fn the_answers_key_is_that_of_the_specification() {
        // RFC 6455 §1.3.
        let all = [b"dGhlIHNhbXBsZSBub25jZQ==", GUID].concat();
        let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &all));
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn other_protocols_and_an_ordinary_connect_are_refused() {
        let refusal = unfold(&mut connect(Some("connect-udp"))).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.reason), (501, "protocol"));
        let mut plain = connect(None);
        assert_eq!(unfold(&mut plain), Ok(()));
        assert_eq!(plain.method(), Method::CONNECT, "refused by its method");
    }
}
