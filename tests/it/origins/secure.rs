//! TLS to origins: an authority of one's own, a name of one's own, and nobody
//! looked at.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Gateway, file, gone};
use crate::encrypted::Authority;
use crate::support::process::{Doors, Process};
use crate::support::until;

/// An origin that shows this certificate; how many handshakes were resumed.
async fn encrypted(
    files: &(std::path::PathBuf, std::path::PathBuf),
) -> (SocketAddr, Arc<AtomicUsize>) {
    let (certificate, key) = files;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let resumed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&resumed);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|came| came > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        // Each request has a connection of its own.
                        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecret";
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                        return;
                    }
                }
            });
        }
    });
    (address, resumed)
}

fn https(address: SocketAddr) -> String {
    format!("origin = \"https://localhost:{}\"", address.port())
}

fn believing(ca: &Path) -> String {
    format!("[origin_tls]\nca_file = \"{}\"\n", ca.display())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_and_sessions_are_resumed() {
    let authority = Authority::new();
    let (address, resumed) = encrypted(&authority.sign("origin", &["localhost"])).await;
    let gateway = Gateway::of(file(&https(address), &believing(&authority.pem()))).await;
    until("a session is resumed", async || {
        assert_eq!(gateway.get("/").await, (200, "secret".to_owned()));
        (resumed.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_refused_until_the_file_says_that_nobody_is_looked_at() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (address, _) = encrypted(&theirs.sign("origin", &["localhost"])).await;
    let gateway = Gateway::of(file(&https(address), &believing(&ours.pem()))).await;
    assert_eq!(gateway.get("/").await.0, 502);
    gateway
        .rewrite(file(&https(address), "[origin_tls]\nverify = false\n"))
        .await;
    until("anybody is believed", async || {
        (gateway.get("/").await.0 == 200).then_some(())
    })
    .await;
    gateway
        .rewrite(file(&https(address), &believing(&ours.pem())))
        .await;
    until("strangers are refused again", async || {
        (gateway.get("/").await.0 == 502).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_file_of_the_authority_is_read_again_at_a_reload() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (address, _) = encrypted(&theirs.sign("origin", &["localhost"])).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::copy(ours.pem(), &ca).unwrap();
    let config = file(&https(address), &believing(&ca));
    let gateway = Gateway::of(config.clone()).await;
    assert_eq!(gateway.get("/").await.0, 502);
    std::fs::copy(theirs.pem(), &ca).unwrap();
    gateway.rewrite(config.clone()).await;
    until("the other authority is believed", async || {
        (gateway.get("/").await.0 == 200).then_some(())
    })
    .await;
    // One that is bad at the moment leaves the one before it in force; what else
    // the file says is heeded all the same.
    let more = gone().await;
    let top = format!(
        "origins = [\"https://localhost:{}\", \"http://{more}\"]",
        address.port()
    );
    let config = file(&top, &believing(&ca));
    std::fs::write(&ca, "no certificate").unwrap();
    gateway.rewrite(config).await;
    until("the file was read", async || gateway.shown(more).await).await;
    assert_eq!(gateway.get("/").await.0, 200);
}

#[tokio::test]
async fn what_the_machine_trusts_is_read_again_at_a_reload() {
    let (before, after) = (Authority::new(), Authority::new());
    let (address, _) = encrypted(&after.sign("origin", &["localhost"])).await;
    let folder = tempfile::tempdir().unwrap();
    let (roots, file) = (
        folder.path().join("roots.pem"),
        folder.path().join("gateway.toml"),
    );
    std::fs::copy(before.pem(), &roots).unwrap();
    let doors = Doors::free();
    let plain = format!("http://{address}");
    let secure = format!("https://localhost:{}", address.port());
    std::fs::write(&file, doors.file(address, "").replace(&plain, &secure)).unwrap();
    let process = Process::run_with(&file, doors, ("SSL_CERT_FILE", &roots));
    until("the process is ready", async || {
        process.is_ready().then_some(())
    })
    .await;
    assert_eq!(process.open("/").await, 502);
    std::fs::copy(after.pem(), &roots).unwrap();
    process.signal("HUP");
    until("the new root to be believed", async || {
        (process.open("/").await == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_certificates_name_may_be_another_than_the_urls() {
    let authority = Authority::new();
    let (address, _) = encrypted(&authority.sign("origin", &["shop.internal"])).await;
    let top = format!("origin = \"https://{address}\"");
    let gateway = Gateway::of(file(&top, &believing(&authority.pem()))).await;
    assert_eq!(gateway.get("/").await.0, 502);
    let named = format!(
        "{}server_name = \"shop.internal\"\n",
        believing(&authority.pem())
    );
    gateway.rewrite(file(&top, &named)).await;
    until("the name is the right one", async || {
        (gateway.get("/").await.0 == 200).then_some(())
    })
    .await;
}
