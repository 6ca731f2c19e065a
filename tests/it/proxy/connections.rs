//! Reaching the origin: its address, its certificate, its silence.

use std::sync::Arc;
use std::time::Duration;

use sumun::origin::OriginSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{GET, Gateway, OK};
use crate::support::raw::RawOrigin;

#[test]
fn origins_that_cannot_be_are_named_with_a_remedy() {
    for url in [
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a/path",
        "http://a?q",
        "a:80",
        "",
    ] {
        let fault = OriginSettings::new(url, &[])
            .err()
            .unwrap_or_else(|| panic!("{url}"));
        assert!(fault.to_string().contains("write http://"), "{fault}");
    }
}

#[tokio::test]
async fn an_unreachable_origin_is_502_without_a_continue() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = Gateway::before(refused);
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.text()), (502, "connect"));
    let told = gateway
        .ask("POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(told.status, 502, "the body was never asked for");
}

#[tokio::test]
async fn a_silent_origin_is_504() {
    let origin = RawOrigin::with(|mut raw, _, _| async move {
        while raw.more().await.is_ok_and(|came| came > 0) {}
    })
    .await;
    let gateway = Gateway::with(origin.address, |setup| {
        setup.origin.first_byte = Duration::from_millis(100);
    });
    for request in [
        GET,
        "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1\r\n\r\nx",
    ] {
        let answer = gateway.ask(request).await;
        assert_eq!((answer.status, answer.text()), (504, "first_byte_timeout"));
    }
    gateway.until_idle().await;
}

#[tokio::test]
async fn an_https_origin_is_checked_against_its_name() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|came| came > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(OK.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    let known = [signed.cert.der().clone()];
    let anywhere = "127.0.0.1:1".parse().unwrap();
    for (url, roots, status) in [
        (format!("https://localhost:{port}"), &known[..], 200),
        (format!("https://127.0.0.1:{port}"), &known[..], 502),
        (format!("https://localhost:{port}"), &[], 502),
    ] {
        let Ok(settings) = OriginSettings::new(&url, roots) else {
            assert!(roots.is_empty(), "a machine without any root certificate");
            continue;
        };
        let gateway = Gateway::with(anywhere, |setup| setup.origin = settings);
        for _ in 0..2 {
            assert_eq!(gateway.ask(GET).await.status, status, "{url}");
        }
    }
}
