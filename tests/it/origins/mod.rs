//! Several origins behind one gateway, over real sockets: who gets a request,
//! what becomes of it when one is gone, and what the operator sees of it.

mod affinity;
mod checks;
mod limits;
mod lists;
mod names;
mod secure;
mod spread;

use std::net::SocketAddr;

use serde_json::Value;
use sumun::config::Config;
use sumun::run::Reload;
use tokio::net::TcpListener;

use crate::support::raw::{Raw, whole_request};
use crate::support::{Call, Server, Visitor, until};

/// Ejections are quick and over in a moment, so that nobody need wait for them.
const EAGER: &str = "[origin_health]\neject_after = 1\neject_time = \"100ms\"\n\
    eject_time_max = \"100ms\"\nslow_start = \"0s\"\n";

/// Ejections that nobody sees the end of.
const LASTING: &str = "[origin_health]\neject_after = 1\neject_time = \"1h\"\n\
    eject_time_max = \"1h\"\nslow_start = \"0s\"\n";

/// A gateway before some origins.
struct Gateway {
    server: Server,
    door: SocketAddr,
    admin: SocketAddr,
}

/// A file: lines before the first table, and tables.
fn file(top: &str, tables: &str) -> Config {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"\"\ndrain_delay = \"0s\"\ndrain_timeout = \"4s\"\n\
         {top}\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
         [signing]\nkeys = [{{ id = \"a\", secret = \"0123456789abcdef0123456789abcdef\" }}]\n\
         {tables}"
    );
    Config::parse(&text, std::iter::empty()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// The line of a file that names these origins.
fn list(origins: &[SocketAddr]) -> String {
    let urls: Vec<String> = origins
        .iter()
        .map(|one| format!("\"http://{one}\""))
        .collect();
    format!("origins = [{}]", urls.join(", "))
}

impl Gateway {
    async fn of(config: Config) -> Self {
        let started = tokio::task::spawn_blocking(|| Server::start(config));
        let server = started.await.unwrap();
        Self {
            door: server.door,
            admin: server.admin,
            server,
        }
    }

    /// Before these origins, with these tables.
    async fn before(origins: &[SocketAddr], tables: &str) -> Self {
        Self::of(file(&list(origins), tables)).await
    }

    /// The operator writes another file.
    async fn rewrite(&self, config: Config) {
        let fresh = Reload::Fresh(Box::new(config));
        self.server.reload.send(fresh).await.unwrap();
    }

    fn visitor(&self) -> Visitor {
        Visitor::at(self.door)
    }

    /// A page for somebody new: the status, and what it says.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.visitor().open(path).await;
        (answer.status, answer.text())
    }

    /// What the admin door says of an origin.
    async fn shown(&self, origin: SocketAddr) -> Option<Value> {
        let admin = self.admin;
        let call = move || Call::new(admin, "GET", "/v1/origins").send().json();
        let all = tokio::task::spawn_blocking(call).await.unwrap();
        let name = origin.to_string();
        let items = all["items"].as_array().unwrap();
        items
            .iter()
            .find(|one| one["origin"] == name.as_str())
            .cloned()
    }

    async fn until_state(&self, origin: SocketAddr, state: &str) -> Value {
        until(&format!("{origin} is {state}"), async || {
            self.shown(origin)
                .await
                .filter(|shown| shown["state"] == state)
        })
        .await
    }

    /// A series of the metrics.
    async fn metric(&self, series: &str) -> Option<f64> {
        let admin = self.admin;
        let call = move || Call::new(admin, "GET", "/metrics").send().text();
        let text = tokio::task::spawn_blocking(call).await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map(|value| value.trim().parse().unwrap())
    }
}

/// Whose requests these are: the origin answers with its name.
fn named(origin: &crate::support::Origin, name: &'static str) {
    origin.answers(move |_| crate::support::Reply::text(name));
}

/// An address that nobody listens at, and that will be somebody's later.
async fn gone() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An origin at this address that answers with its name until it is dropped.
struct Here(tokio::task::JoinHandle<()>);

impl Here {
    async fn at(address: SocketAddr, name: &'static str) -> Self {
        let listener = until("the address is free", async || {
            let socket = if address.is_ipv4() {
                tokio::net::TcpSocket::new_v4().unwrap()
            } else {
                tokio::net::TcpSocket::new_v6().unwrap()
            };
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).ok()?;
            socket.listen(64).ok()
        })
        .await;
        Self(tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.spawn(async move {
                    let mut raw = Raw::over(stream);
                    while whole_request(&mut raw).await.is_some() {
                        let length = name.len();
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                        raw.send(format!("{head}{name}")).await;
                    }
                });
            }
        }))
    }

    /// It ends as a killed process does: its sockets are closed.
    async fn kill(self) {
        self.0.abort();
        let _aborted = self.0.await;
    }
}
