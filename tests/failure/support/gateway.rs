//! A gateway as a process of its own, with a configuration file of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;

use super::http::Client;
use super::{free_address, until};

/// What a gateway is started with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) origin: SocketAddr,
    /// Redis; `None`: the embedded store.
    pub(crate) redis: Option<SocketAddr>,
    /// Another address of the store, as it is written in the file.
    pub(crate) url: Option<String>,
    /// Ids and secrets of the signing keys, the first signs.
    pub(crate) keys: Vec<(&'static str, &'static str)>,
    pub(crate) limit: usize,
    pub(crate) ticket_idle: &'static str,
    pub(crate) session_idle: &'static str,
    pub(crate) on_failure: &'static str,
    /// Most calls and walk-ins a second.
    pub(crate) admit_per_second: Option<u32>,
    /// Newcomers of one address.
    pub(crate) joins_per_minute: u32,
    /// Whether it has a `state_dir`.
    pub(crate) has_disk: bool,
    /// More in its environment (a clock of its own).
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A signing key.
pub(crate) const OLD: (&str, &str) = ("old", "an-old-secret-of-more-than-32-bytes-length");
/// Another one.
pub(crate) const NEW: (&str, &str) = ("new", "a-new-secret-of-more-than-32-bytes-length!");

impl Setup {
    /// A gateway with room for so many visitors.
    pub(crate) fn new(origin: SocketAddr, redis: Option<SocketAddr>, limit: usize) -> Self {
        Self {
            origin,
            redis,
            url: None,
            keys: vec![OLD],
            limit,
            ticket_idle: "10s",
            session_idle: "30s",
            on_failure: "hold",
            admit_per_second: None,
            joins_per_minute: 100_000,
            has_disk: true,
            environment: Vec::new(),
        }
    }

    fn text(&self, public: SocketAddr, admin: SocketAddr, state: &str) -> String {
        let state = if self.has_disk { state } else { "" };
        let store = match (&self.url, self.redis) {
            (Some(url), _) => url.clone(),
            (None, Some(redis)) => format!("redis://{redis}/"),
            (None, None) => "memory:".to_owned(),
        };
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(id, secret)| format!("{{ id = \"{id}\", secret = \"{secret}\" }}"))
            .collect();
        let mut text = format!(
            "listen = \"{public}\"\norigin = \"http://{}\"\nstate_dir = \"{state}\"\n\
             drain_delay = \"0s\"\ndrain_timeout = \"5s\"\n",
            self.origin
        );
        let _ = write!(
            text,
            "[log]\nlevel = \"info\"\naccess = false\n\
             [admin]\nlisten = \"{admin}\"\n\
             [limits]\nconnections_per_address = 5000\n\
             [store]\nurl = \"{store}\"\non_failure = \"{}\"\ntimeout = \"500ms\"\n\
             [signing]\nkeys = [{}]\n\
             [[event]]\nid = \"main\"\nlimit = {}\nticket_idle = \"{}\"\nsession_idle = \"{}\"\n\
             joins_per_address_per_minute = {}\nsessions_per_address_ratio = 1\n",
            self.on_failure,
            keys.join(", "),
            self.limit,
            self.ticket_idle,
            self.session_idle,
            self.joins_per_minute,
        );
        if let Some(rate) = self.admit_per_second {
            let _ = writeln!(text, "admit_per_second = {rate}");
        }
        text
    }
}

/// A running gateway; ended when dropped.
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    admin: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Gateway {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (public, admin) = (free_address(), free_address());
        let child = launch(&dir, setup, public, admin);
        let gateway = Self {
            public,
            admin,
            child,
            dir,
        };
        gateway.ready().await;
        gateway
    }

    /// Kills the process (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub(crate) async fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.unwrap().success());
        until("the gateway ends", Duration::from_secs(20), async || {
            self.child.try_wait().unwrap().is_some()
        })
        .await;
    }

    /// Starts the process again at the same address, with what it kept.
    pub(crate) async fn start_again(&mut self, setup: &Setup) {
        self.child = launch(&self.dir, setup, self.public, self.admin);
        self.ready().await;
    }

    async fn ready(&self) {
        until(
            "the gateway is ready",
            Duration::from_secs(20),
            async || {
                let asked = get(self.public, "/__sumun/readyz").await;
                asked.is_some_and(|(status, _)| status == 200)
            },
        )
        .await;
    }

    /// A metric of the gateway: the sum over its labels; `None` when unknown.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = get(self.admin, "/metrics").await?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labelled = rest.starts_with('{') || rest.starts_with(' ');
            labelled.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.reduce(|sum, value| sum + value)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for(&self, name: &str, value: f64) {
        let what = format!("{name} is {value} at {}", self.admin);
        until(&what, Duration::from_secs(30), async || {
            let now = self.metric(name).await;
            now.is_some_and(|now| (now - value).abs() < f64::EPSILON)
        })
        .await;
    }

    /// Waits until it has seen a recovery.
    pub(crate) async fn wait_for_recovery(&self) {
        self.wait_for_recovery_after(0.0).await;
    }

    /// Waits until it has seen more recoveries than so many.
    pub(crate) async fn wait_for_recovery_after(&self, before: f64) {
        let what = format!("more than {before} recoveries at {}", self.admin);
        until(&what, Duration::from_secs(30), async || {
            self.recoveries().await > before
        })
        .await;
    }

    /// How many recoveries it has seen.
    pub(crate) async fn recoveries(&self) -> f64 {
        let seen = self.metric("sumun_store_recoveries_total").await;
        seen.unwrap_or_default()
    }

    /// A call at the admin door: its status and its answer.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.admin.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = Client::default().send(self.admin, request).await.unwrap();
        (answer.status.as_u16(), answer.json())
    }

    /// An event as this gateway has it in force.
    pub(crate) async fn event(&self, id: &str) -> Value {
        let path = format!("/v1/events/{id}");
        self.admin("GET", &path, &Value::Null).await.1
    }

    /// What it keeps over restarts.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The file of what it remembers of a shared store.
    pub(crate) fn memory(&self) -> PathBuf {
        self.state_dir().join("memory.bin")
    }

    /// Waits until what it remembers was written after this moment.
    pub(crate) async fn remembers_since(&self, moment: SystemTime) {
        until(
            "the memory is written",
            Duration::from_secs(20),
            async || {
                let file = std::fs::metadata(self.memory());
                file.is_ok_and(|file| file.modified().unwrap() > moment)
            },
        )
        .await;
    }

    /// When the process first said something, by its own clock: the second of
    /// the day.
    pub(crate) fn said_at(&self) -> i64 {
        let log = self.log();
        let (_, time) = log.split_once('T').unwrap();
        let parts = time[..8]
            .split(':')
            .map(|part| part.parse::<i64>().unwrap());
        parts.fold(0, |sum, part| sum * 60 + part)
    }

    /// What the process said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- gateway {}\n{}", self.public, self.log());
        }
    }
}

/// The time that files carry.
#[expect(
    clippy::disallowed_methods,
    reason = "files carry the time of the machine's clock"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

fn launch(dir: &TempDir, setup: &Setup, public: SocketAddr, admin: SocketAddr) -> Child {
    let file: PathBuf = dir.path().join("gateway.toml");
    let state = dir.path().join("state").display().to_string();
    std::fs::write(&file, setup.text(public, admin, &state)).unwrap();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.path().join("log"))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_sumun"))
        .args(["run", "--log", "human", "--config"])
        .arg(&file)
        // SUMUN_… variables are settings.
        .env_clear()
        .envs(setup.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let request = Request::get(path)
        .header("host", at.to_string())
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = Client::default().send(at, request).await.ok()?;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    Some((answer.status.as_u16(), text))
}
