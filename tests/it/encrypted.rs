//! TLS at the public door, and HTTP/2 under it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::process::{Doors, Process, run};
use crate::support::{Plan, Reply, Site, until};

/// Who signs the certificates of a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        Self {
            root: root.der().clone(),
            issuer: Issuer::new(params, key),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes a certificate for some names, and its key, over what stands there.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let at = |ending: &str| self.dir.path().join(format!("{file}.{ending}"));
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        std::fs::write(at("crt"), signed.pem()).unwrap();
        (at("crt"), at("key"))
    }

    /// A file of its own certificate.
    pub(crate) fn pem(&self) -> PathBuf {
        let file = self.dir.path().join("root.pem");
        let text = base64::engine::general_purpose::STANDARD.encode(&self.root);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap());
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        std::fs::write(&file, pem).unwrap();
        file
    }

    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A browser of today.
    pub(crate) fn browser(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(&[&TLS13, &TLS12], &["h2", "http/1.1"]))
    }
}

pub(crate) fn section((cert, key): &(PathBuf, PathBuf)) -> String {
    let (cert, key) = (cert.display(), key.display());
    format!("[tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
}

fn sections(first: &(PathBuf, PathBuf), (cert, key): &(PathBuf, PathBuf)) -> String {
    let (cert, key) = (cert.display(), key.display());
    let more = format!("certificates = [{{ cert_file = \"{cert}\", key_file = \"{key}\" }}]\n");
    section(first) + &more
}

/// A site that speaks HTTP/2 under this `[tls]`.
fn plan(event: &str, tls: &str) -> Plan {
    Plan::event(event).top("http2 = true").tables(tls)
}

/// An open one with a certificate for `shop.example`; `tls` are further lines.
pub(crate) async fn shop(event: &str, tls: &str) -> (Authority, Site) {
    let authority = Authority::new();
    let files = authority.sign("site", &["shop.example"]);
    let tls = format!("{}{tls}", section(&files));
    let site = plan(event, &tls).open().await;
    (authority, site)
}

pub(crate) async fn connect(
    to: SocketAddr,
    client: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(client))
        .connect(name, tcp)
        .await
}

/// The certificate that is shown to who asks for `name`.
async fn shown(door: SocketAddr, authority: &Authority, name: &str) -> CertificateDer<'static> {
    let stream = connect(door, &authority.browser(), name).await.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

fn pem(file: &Path) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(file).unwrap()
}

async fn until_so(what: &str, so: impl Fn() -> bool) {
    until(what, async || so().then_some(())).await;
}

pub(crate) fn get(target: &str) -> http::request::Builder {
    Request::get(target)
        .header("accept", "text/html")
        .header("sec-fetch-dest", "document")
}

pub(crate) type Streams = http2::SendRequest<Full<Bytes>>;

/// A connection of HTTP/2.
pub(crate) async fn two<S>(stream: S) -> Streams
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (send, connection) = shaken.await.unwrap();
    tokio::spawn(connection);
    send
}

pub(crate) async fn ask(
    send: &mut Streams,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let request = request.body(Full::new(body.into()));
    send.send_request(request.unwrap()).await.unwrap()
}

pub(crate) async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_speaks_http_2_and_its_pass_is_secure() {
    let (authority, site) = shop("limit = 1", "").await;
    let stream = connect(site.door, &authority.browser(), "shop.example")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut browser = two(stream).await;
    let answer = ask(&mut browser, get("https://shop.example/a?b"), "").await;
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-sumun_main="), "{cookie}");
    assert!(cookie.contains("; Secure"), "{cookie}");
    let seen = site.origin.last();
    assert_eq!(seen.target, "/a?b");
    for (name, value) in [
        ("host", "shop.example"),
        ("x-forwarded-proto", "https"),
        ("via", "2.0 sumun"),
    ] {
        assert_eq!(seen.header(name), Some(value));
    }
    // Cookies in pieces, as browsers send them in HTTP/2, are one line at the origin.
    let pass = cookie.split(';').next().unwrap();
    let request = get("https://shop.example/cart")
        .header("cookie", "a=1")
        .header("cookie", pass)
        .header("cookie", "b=2");
    assert_eq!(ask(&mut browser, request, "").await.status(), 200);
    assert_eq!(site.origin.last().header("cookie"), Some("a=1; b=2"));
    // Somebody else waits, over HTTP/1.1.
    site.until_busy().await;
    let client = Arc::new(authority.client(&[&TLS13], &["http/1.1"]));
    let stream = connect(site.door, &client, "shop.example").await.unwrap();
    let (mut one, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = get("/").header("host", "shop.example");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let answer = one.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["sumun-status"], "wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_share_a_connection_and_bodies_come_whole() {
    let (authority, site) = shop("", "").await;
    let body = "x".repeat(300_000);
    let page = body.clone();
    site.origin.answers(move |seen| match seen.body.len() {
        0 => Reply::text(page.clone()),
        length => Reply::text(format!("{length} bytes")),
    });
    let stream = connect(site.door, &authority.browser(), "shop.example")
        .await
        .unwrap();
    let browser = two(stream).await;
    let each = (0..40).map(|index| {
        let (mut browser, body) = (browser.clone(), body.clone());
        async move {
            let target = format!("https://shop.example/{index}");
            let (request, sent) = match index % 2 {
                0 => (get(&target), String::new()),
                _ => (Request::post(&target), body.clone()),
            };
            text(ask(&mut browser, request, sent).await).await
        }
    });
    let answers = futures_util::future::join_all(each).await;
    for (index, answer) in answers.iter().enumerate() {
        match index % 2 {
            0 => assert!(*answer == body, "{} bytes", answer.len()),
            _ => assert_eq!(answer, "300000 bytes"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_chosen_by_name_and_exchanged_while_running() {
    let authority = Authority::new();
    let first = authority.sign("first", &["a.example"]);
    let second = authority.sign("second", &["b.example", "*.b.example"]);
    let plan = plan("", &sections(&first, &second));
    let mut site = plan.clone().open().await;
    assert_eq!(
        shown(site.door, &authority, "a.example").await,
        pem(&first.0)
    );
    for name in ["b.example", "www.b.example"] {
        assert_eq!(
            shown(site.door, &authority, name).await,
            pem(&second.0),
            "{name}"
        );
    }
    // Who asks for another name gets the first, and does not believe it.
    let stranger = connect(site.door, &authority.browser(), "c.example").await;
    assert!(stranger.unwrap_err().to_string().contains("certificate"));

    let stream = connect(site.door, &authority.browser(), "b.example")
        .await
        .unwrap();
    let mut before = two(stream).await;
    let old = pem(&second.0);
    authority.sign("second", &["b.example"]);
    // As at SIGHUP.
    site.rewrite(plan.clone()).await;
    until("the new certificate", async || {
        let now = shown(site.door, &authority, "b.example").await;
        (now != old).then_some(())
    })
    .await;
    // The connection that stands goes on.
    assert_eq!(
        ask(&mut before, get("https://b.example/"), "")
            .await
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_certificate_stops_neither_the_others_nor_a_reload_and_is_told_of_once() {
    let authority = Authority::new();
    let first = authority.sign("first", &["a.example"]);
    let second = authority.sign("second", &["b.example"]);
    let folder = tempfile::tempdir().unwrap();
    let (doors, file) = (Doors::free(), folder.path().join("gateway.toml"));
    let write = |limit: u64, second: &(PathBuf, PathBuf)| {
        let event = format!("limit = {limit}\n{}", sections(&first, second));
        std::fs::write(&file, doors.file("127.0.0.1:9".parse().unwrap(), &event)).unwrap();
    };
    write(7, &second);
    let gateway = Process::run(&file, doors);
    let limit_is = |limit: u64| {
        gateway.shows(&format!(
            "sumun_event_sessions_limit{{event=\"main\"}} {limit}"
        ))
    };
    let told = || {
        let mut told = gateway.said("a certificate cannot be used");
        told.retain(|line| line["fields"]["fault"].to_string().contains("second"));
        told
    };
    until_so("the gateway", || gateway.is_ready()).await;
    until_so("the first limit", || limit_is(7)).await;
    let old = pem(&second.0);

    // One is half renewed, the other whole, and the file has something new.
    std::fs::write(&second.1, "no key").unwrap();
    authority.sign("first", &["a.example"]);
    write(8, &second);
    until_so("the limit in spite of it", || limit_is(8)).await;
    until_so("the word of the bad one", || !told().is_empty()).await;
    assert_eq!(
        shown(doors.public, &authority, "a.example").await,
        pem(&first.0)
    );
    assert_eq!(shown(doors.public, &authority, "b.example").await, old);
    let fault = told()[0]["fields"]["fault"].to_string();
    for part in ["key_file", "second.key", "holds no PEM of a private key"] {
        assert!(fault.contains(part), "{fault}");
    }
    assert!(gateway.shows("sumun_config_last_reload_successful 1"));

    // It is not said again until something else is bad.
    gateway.signal("HUP");
    write(9, &second);
    until_so("the third limit", || limit_is(9)).await;
    std::fs::write(&second.1, "no key either").unwrap();
    gateway.signal("HUP");
    until_so("the word of the other bad one", || told().len() == 2).await;

    // To a start it is a fault, at its field.
    let (code, said) = run(folder.path(), &["check"]);
    assert_eq!(code, 1);
    assert!(said.contains("tls.certificates[0].key_file = "), "{said}");

    // One that only a restart would take is looked at as well.
    write(10, &(second.0.clone(), folder.path().join("none.key")));
    until_so("the word of the unwatched one", || {
        !gateway
            .said("after a restart it would be a fault")
            .is_empty()
    })
    .await;
    until_so("the fourth limit", || limit_is(10)).await;

    let second = authority.sign("second", &["b.example"]);
    gateway.signal("HUP");
    let shows = async || shown(doors.public, &authority, "b.example").await;
    until("a good one again", async || {
        (shows().await == pem(&second.0)).then_some(())
    })
    .await;
    assert_eq!(told().len(), 2);
}

#[tokio::test]
async fn a_session_is_resumed_and_an_old_version_refused_where_it_is_unwanted() {
    for version in [&TLS12, &TLS13] {
        let (authority, site) = shop("", "").await;
        let client = Arc::new(authority.client(&[version], &["http/1.1"]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(site.door, &client, "shop.example").await.unwrap();
            let ask = b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
            stream.write_all(ask).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{version:?}");
            assert_eq!(
                stream.get_ref().1.handshake_kind(),
                Some(kind),
                "{version:?}"
            );
        }
    }
    let (authority, site) = shop("", "min_version = \"1.3\"\n").await;
    let client = Arc::new(authority.client(&[&TLS12], &[]));
    assert!(connect(site.door, &client, "shop.example").await.is_err());
}

/// curl offers `http/1.0` alone when it is told to speak that; nginx takes it too.
#[tokio::test]
async fn who_offers_an_old_version_alone_is_served_under_tls() {
    let (authority, site) = shop("", "").await;
    for offered in [&["http/1.0"][..], &["http/1.1"], &[]] {
        let client = Arc::new(authority.client(&[&TLS13], offered));
        let mut stream = connect(site.door, &client, "shop.example").await.unwrap();
        let ask = b"GET / HTTP/1.0\r\nhost: shop.example\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{offered:?} {answer}");
    }
    let other = Arc::new(authority.client(&[&TLS13], &["smtp"]));
    assert!(connect(site.door, &other, "shop.example").await.is_err());
}

#[tokio::test]
async fn plain_words_to_an_encrypted_door_are_told_so() {
    let (_authority, site) = shop("", "").await;
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert!(body.contains("HTTPS"), "{body}");
}

#[tokio::test]
async fn who_leaves_an_encrypted_connection_cancels_the_origins_work() {
    let (authority, site) = shop("", "").await;
    let (_open, closed) = tokio::sync::watch::channel(false);
    site.origin.answers(move |_| Reply::page().behind(&closed));
    let client = Arc::new(authority.client(&[&TLS13], &["http/1.1"]));
    let mut stream = connect(site.door, &client, "shop.example").await.unwrap();
    let ask = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let in_flight = || {
        site.ledger()
            .load
            .report(
                site.ledger().monotonic_ms(),
                std::time::Duration::from_secs(10),
            )
            .in_flight
    };
    until("the request is at the origin", async || {
        (in_flight() == 1).then_some(())
    })
    .await;
    stream.shutdown().await.unwrap();
    drop(stream);
    until("nothing is in flight", async || {
        (in_flight() == 0).then_some(())
    })
    .await;
}
