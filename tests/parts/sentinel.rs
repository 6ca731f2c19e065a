//! Real sentinels that watch over a real redis-server. Servers are expected to
//! have the password `of-servers`, sentinels have `of-sentinels`.

use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::free_address;

/// A sentinel with a configuration of its own, which it writes.
pub(crate) struct Sentinel {
    child: Child,
    pub(crate) port: u16,
    _dir: TempDir,
}

impl Sentinel {
    /// One that watches over the service `shop`; two must agree that it is down.
    pub(crate) fn start(primary: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (file, port) = (dir.path().join("sentinel.conf"), free_address().port());
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nrequirepass of-sentinels\n\
             sentinel monitor shop 127.0.0.1 {primary} 2\n\
             sentinel auth-pass shop of-servers\n\
             sentinel sentinel-pass of-sentinels\n\
             sentinel down-after-milliseconds shop 1000\n\
             sentinel failover-timeout shop 5000\n",
            dir.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new(super::redis_process::program())
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            _dir: dir,
        }
    }

    async fn control(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://:of-sentinels@127.0.0.1:{}", self.port));
        client
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .ok()
    }

    /// Whether three know each other and one replica.
    pub(crate) async fn are_ready(all: &[Self; 3]) -> bool {
        for one in all {
            if one.knows("sentinels").await != 2 || one.knows("replicas").await != 1 {
                return false;
            }
        }
        true
    }

    /// How many replicas or other sentinels it knows.
    async fn knows(&self, what: &str) -> usize {
        let Some(mut control) = self.control().await else {
            return 0;
        };
        let mut order = redis::cmd("SENTINEL");
        order.arg(what).arg("shop");
        let known: Result<Vec<redis::Value>, _> = order.query_async(&mut control).await;
        known.map_or(0, |known| known.len())
    }

    /// The port of the server that it takes for the primary.
    pub(crate) async fn primary(&self) -> Option<u16> {
        let mut order = redis::cmd("SENTINEL");
        order.arg("get-master-addr-by-name").arg("shop");
        let (_, port): (String, String) =
            order.query_async(&mut self.control().await?).await.ok()?;
        port.parse().ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
