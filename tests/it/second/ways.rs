//! How HTTP/2 is agreed upon, what goes by HTTP/1.1 all the same, and checks.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::Version;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use super::origin::Two;
use super::{ask, before, before_at, client, get, whole};
use crate::encrypted::Authority;
use crate::support::{Origin, Plan, Reply, Server, Visitor, bounded, free_address, noise, until};

/// A gateway before `https://localhost`, whose certificate this authority signed.
async fn before_tls(port: u16, authority: &Authority, more: &str) -> Server {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"\"\ndrain_delay = \"0s\"\ndrain_timeout = \"4s\"\n\
         origin = \"https://localhost:{port}\"\norigin_http2 = true\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
         [origin_tls]\nca_file = \"{}\"\n{more}",
        authority.pem().display()
    );
    let config = sumun::config::Config::parse(&text, std::iter::empty()).unwrap();
    let started = tokio::task::spawn_blocking(|| Server::start(config));
    started.await.unwrap()
}

/// TLS with a certificate for localhost that offers these protocols.
fn acceptor(authority: &Authority, alpn: &[&str]) -> tokio_rustls::TlsAcceptor {
    let (certificate, key) = authority.sign("origin", &["localhost"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Takes what is no HTTP/2 to another origin.
async fn only_two(tcp: TcpStream, other: std::net::SocketAddr) -> Option<TcpStream> {
    let mut begin = [0; 3];
    while tcp.peek(&mut begin).await.ok()? < begin.len() {}
    if &begin == b"PRI" {
        return Some(tcp);
    }
    tokio::spawn(async move {
        let (mut tcp, mut on) = (tcp, TcpStream::connect(other).await.unwrap());
        let _ended = tokio::io::copy_bidirectional(&mut tcp, &mut on).await;
    });
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_origin_chooses_http_2_by_alpn() {
    let authority = Authority::new();
    let tls = acceptor(&authority, &["h2", "http/1.1"]);
    let secure = move |tcp| {
        let tls = tls.clone();
        async move { tls.accept(tcp).await.ok() }
    };
    let origin = Two::with(h2::server::Builder::new(), secure).await;
    let server = before_tls(origin.address.port(), &authority, "").await;
    let client = client(server.door).await;
    let (one, two) = (ask(&client, get("/1")).await, ask(&client, get("/2")).await);
    let streams = [origin.next().await, origin.next().await];
    for stream in streams {
        let uri = stream.request.uri();
        assert_eq!(uri.scheme_str(), Some("https"), "{uri}");
        stream.answer("chosen");
    }
    for answer in [one, two] {
        assert_eq!(whole(answer).await.unwrap().0.body(), "chosen");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_does_not_choose_http_2_is_spoken_to_in_http_1_1() {
    let authority = Authority::new();
    let tls = acceptor(&authority, &["http/1.1"]);
    let shop = Origin::open().await;
    shop.answers(|_| Reply::text("as ever"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = shop.address;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut tcp = tls.accept(tcp).await.unwrap();
                let mut on = TcpStream::connect(to).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut tcp, &mut on).await;
            });
        }
    });
    let server = before_tls(port, &authority, "").await;
    let client = client(server.door).await;
    for path in ["/1", "/2"] {
        let (answer, _) = whole(ask(&client, get(path)).await).await.unwrap();
        assert_eq!(
            (answer.version(), &answer.body()[..]),
            (Version::HTTP_2, &b"as ever"[..])
        );
    }
    assert_eq!(shop.last().header("via"), Some("2.0 sumun"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_takes_a_connection_of_http_1_1() {
    let shop = Origin::open().await;
    shop.answers(|_| Reply::echo());
    let to = shop.address;
    let origin = Two::with(h2::server::Builder::new(), move |tcp| only_two(tcp, to)).await;
    let server = before(&origin, "").await;
    let url = format!("ws://{}/chat", server.door);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let heard = bounded("an echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(heard, Message::text("hello"));
    assert_eq!(origin.connections(), 0);
    let client = client(server.door).await;
    let answer = ask(&client, get("/page")).await;
    origin.next().await.answer("beside it");
    assert_eq!(whole(answer).await.unwrap().0.body(), "beside it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_speaks_no_http_2_by_prior_knowledge_sees_no_request() {
    let shop = Origin::open().await;
    let mut site = Plan::event("")
        .top("origin_http2 = true")
        .open_before(&shop)
        .await;
    assert_eq!(site.visitor().open("/").await.status, 502);
    assert!(shop.seen().is_empty());
    // The operator sees the mistake; no restart is needed.
    site.rewrite(Plan::event("").top("origin_http2 = false"))
        .await;
    let door = site.door;
    until("HTTP/1.1 is spoken", async || {
        let answer = Visitor::at(door).open("/").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_go_by_http_2_too() {
    let origin = Two::open(100).await;
    let checks = "[origin_check]\npath = \"/health\"\ninterval = \"1s\"\n";
    let _server = before_at(origin.address, checks).await;
    let mut question = origin.next().await;
    assert_eq!(question.path(), "/health");
    assert_eq!(question.request.headers()["user-agent"], "sumun-check");
    // Who checks leaves when it has the head: nothing can be sent behind that.
    let well = http::Response::new(());
    question.respond.send_response(well, true).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_nginx_is_spoken_to_in_http_2() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("origin", &["localhost"]);
    let folder = tempfile::tempdir().unwrap();
    let page = noise(3 << 20);
    std::fs::write(folder.path().join("page"), &page).unwrap();
    let (mut nginx, address) = bounded("nginx", async {
        loop {
            let address = free_address();
            let conf = format!(
                "daemon off; master_process off; pid nginx.pid; error_log error.log warn;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
                 http2_max_concurrent_streams 4;\n\
                 server {{ listen {address} ssl http2; root .;\n\
                 ssl_certificate {}; ssl_certificate_key {};\n\
                 location = /which {{ return 200 \"$server_protocol $http_via\"; }} }} }}\n",
                certificate.display(),
                key.display()
            );
            std::fs::write(folder.path().join("nginx.conf"), conf).unwrap();
            let mut process = std::process::Command::new("nginx")
                .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
                .arg(folder.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("nginx; tests/run installs it");
            let stands = until("nginx stands or ends", async || {
                let ended = process.try_wait().unwrap().is_some();
                let open = TcpStream::connect(address).await.is_ok();
                (ended || open).then_some(!ended)
            });
            if stands.await {
                return (process, address);
            }
        }
    })
    .await;
    let server = before_tls(address.port(), &authority, "").await;
    let client = client(server.door).await;
    let (answer, _) = whole(ask(&client, get("/which")).await).await.unwrap();
    assert_eq!(answer.body(), "HTTP/2.0 2.0 sumun");
    // More at once than it allows on one connection.
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(ask(&client, get("/page")).await);
    }
    let all = futures_util::future::join_all(answers.into_iter().map(whole)).await;
    for answer in all {
        let (answer, _) = answer.unwrap();
        assert!(answer.status() == 200 && answer.body() == &page);
    }
    nginx.kill().unwrap();
    nginx.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_origin_does_not_look_at_goes_to_another() {
    let (busy, answers) = (Two::open(100).await, Two::open(100).await);
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"\"\ndrain_delay = \"0s\"\ndrain_timeout = \"4s\"\n\
         origins = [\"http://{}\", \"http://{}\"]\norigin_http2 = true\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
         [origin_health]\neject_after = 0\n",
        busy.address, answers.address
    );
    let config = sumun::config::Config::parse(&text, std::iter::empty()).unwrap();
    let started = tokio::task::spawn_blocking(|| Server::start(config));
    let server = started.await.unwrap();
    let client = client(server.door).await;
    let (tell, mut refused) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut stream = busy.next().await;
            stream.respond.send_reset(h2::Reason::REFUSED_STREAM);
            let _ = tell.send(());
        }
    });
    let asked = 8;
    // Who begins is nobody's promise; that each is answered is, and that one that begins
    // at the busy one is refused twice there: once more, and no more.
    for _ in 0..asked {
        let answer = ask(&client, get("/")).await;
        answers.next().await.answer("mine");
        assert_eq!(whole(answer).await.unwrap().0.body(), "mine");
    }
    bounded("a refusal", refused.recv()).await.unwrap();
    let mut refusals = 1;
    while refusals % 2 == 1 || !refused.is_empty() {
        bounded("its second", refused.recv()).await.unwrap();
        refusals += 1;
    }
    assert!(refusals <= 2 * asked, "{refusals}");
}
