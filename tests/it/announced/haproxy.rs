//! A real haproxy before the gateway, which passes bytes on and says whose they are.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::{GET, plan, refused};
use crate::support::raw::Raw;
use crate::support::{Ask, Site, Visitor, bounded, free_address, until};

/// A running haproxy; it ends when it is dropped.
struct HaProxy {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl HaProxy {
    /// Before this door, with these words on its `server` line.
    async fn before(door: SocketAddr, words: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            if let Some((process, address)) = start(folder.path(), door, words).await {
                return Self {
                    process,
                    address,
                    _folder: folder,
                };
            }
        }
        let said = fs::read_to_string(folder.path().join("said"));
        panic!("haproxy does not start: {said:?}");
    }

    /// One page for a visitor from an address of its own.
    async fn visit(&self, from: [u8; 4]) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let mut raw = Raw::over(socket.connect(self.address).await.unwrap());
        raw.send(GET).await;
        assert_eq!(raw.answer().await.status, 200);
    }
}

/// Starts it on a port that was free a moment ago; `None` if it was taken.
async fn start(folder: &Path, door: SocketAddr, words: &str) -> Option<(Child, SocketAddr)> {
    let address = free_address();
    let conf = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend visitors\n bind {address}\n default_backend gateways\n\
         backend gateways\n option httpchk GET /__sumun/readyz\n\
         server one {door} {words}\n"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, conf).unwrap();
    let said = fs::File::create(folder.join("said")).unwrap();
    let mut process = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("haproxy; tests/run installs it");
    bounded("haproxy", async {
        loop {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).await.is_ok() {
                return Some((process, address));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Whether somebody asked for the gateway's health and was told that it is well.
async fn was_checked(site: &Site) -> bool {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    let text = Visitor::at(site.admin).send(ask).await.text();
    let labels = ["sumun_http_requests_total", "\"api\"", "code=\"200\""];
    let is_it = |line: &str| labels.iter().all(|label| line.contains(label));
    text.lines().any(is_it)
}

#[tokio::test]
async fn haproxy_says_who_comes_in_both_versions_and_checks_health_as_itself() {
    for words in [
        "send-proxy check inter 50ms",
        "send-proxy-v2 check inter 50ms",
        "send-proxy-v2-ssl-cn check inter 50ms",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority check inter 50ms",
    ] {
        let site = plan("").open().await;
        let haproxy = HaProxy::before(site.door, words).await;
        for from in [[127, 0, 0, 7], [127, 0, 0, 8]] {
            haproxy.visit(from).await;
            let visitor = std::net::Ipv4Addr::from(from).to_string();
            let seen = site.origin.last();
            assert_eq!(seen.header("x-forwarded-for"), Some(&*visitor), "{words}");
        }
        until("a check of health", async || {
            was_checked(&site).await.then_some(())
        })
        .await;
        // It has stayed in service for it.
        haproxy.visit([127, 0, 0, 9]).await;
        assert_eq!(refused(&site, "proxy_protocol").await, 0, "{words}");
    }
}

#[tokio::test]
async fn a_haproxy_that_is_not_told_to_announce_is_refused() {
    let site = plan("").open().await;
    let haproxy = HaProxy::before(site.door, "").await;
    let mut raw = Raw::connect(haproxy.address).await;
    raw.send(GET).await;
    assert_eq!(raw.rest().await, b"");
    assert!(site.origin.seen().is_empty());
    until("a count", async || {
        (refused(&site, "proxy_protocol").await > 0).then_some(())
    })
    .await;
}
