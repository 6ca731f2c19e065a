//! A gateway as a process, one of two that share a store.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::door::Door;
use super::ports::free_address;
use super::until;

/// A running gateway; ended when dropped.
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Gateway {
    /// Starts one; with a certificate and its key in PEM its public door speaks TLS.
    pub(crate) fn start(
        origins: &[SocketAddr],
        redis: SocketAddr,
        tls: Option<(String, String)>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (public, admin) = (free_address(), free_address());
        let at = |name: &str| dir.path().join(name).display().to_string();
        let origins: Vec<String> = origins.iter().map(|at| format!("http://{at}")).collect();
        std::fs::create_dir(at("access")).unwrap();
        let mut text = format!(
            "listen = \"{public}\"\norigins = {origins:?}\nstate_dir = \"{}\"\n\
             drain_delay = \"0s\"\ndrain_timeout = \"1s\"\n\
             [admin]\nlisten = \"{admin}\"\n\
             [log]\naccess_file = \"{}\"\n\
             [origin_pool]\nconnections = 1\n\
             [origin_health]\neject_after = 2\neject_time = \"1s\"\n\
             [store]\nurl = \"redis://{redis}/\"\ntimeout = \"500ms\"\n\
             [signing]\nkeys = [{{ id = \"a\", secret = \"a-secret-of-more-than-32-bytes-in-length\" }}]\n\
             [[event]]\nid = \"main\"\nlimit = 3\nsession_idle = \"30s\"\n\
             joins_per_address_per_minute = 100000\n\
             [event.queue_when]\narrivals_per_second = 0.5\nlatency_p95 = \"10s\"\n\
             min_requests = 1\n",
            at("state"),
            at("access/log"),
        );
        if let Some((certificate, key)) = tls {
            std::fs::write(at("crt"), certificate).unwrap();
            std::fs::write(at("key"), key).unwrap();
            let _ = write!(
                text,
                "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
                at("crt"),
                at("key")
            );
        }
        let file = PathBuf::from(at("gateway.toml"));
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sumun"))
            .args(["run", "--log", "human", "--config"])
            .arg(&file)
            // SUMUN_… variables are settings.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let gateway = Self {
            public,
            admin,
            child,
            dir,
        };
        until(Duration::from_secs(30), || {
            let answer = Door::plain(admin).get("/readyz", &[]);
            answer
                .filter(|answer| answer.status == 200)
                .ok_or_else(|| format!("a gateway; it said\n{}", gateway.log()))
        });
        gateway
    }

    /// What Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        Door::plain(self.admin).get("/metrics", &[]).unwrap().body
    }

    /// Takes the folder of its access log away: lines are lost from now on.
    pub(crate) fn lose_access_log(&self) {
        std::fs::remove_dir_all(self.dir.path().join("access")).unwrap();
    }

    /// Kills the process (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
