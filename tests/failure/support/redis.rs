//! A real redis-server on a port of its own, in a directory of its own.

use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::free_address;
use super::redis_process::RedisProcess;

/// What its log says when it takes connections.
const READY: &str = "Ready to accept connections";

/// A running server; ended when dropped.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    process: RedisProcess,
    dir: TempDir,
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Redis {
    /// Starts a server, with more arguments (it keeps nothing without).
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(Vec::new(), args)
    }

    /// The same, with more in its environment (a clock of its own).
    pub(crate) fn start_in(environment: Vec<(&'static str, String)>, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let port = address.port().to_string();
        let address_args = ["--bind", "127.0.0.1", "--port", &port];
        let args = [&address_args, args].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        Self {
            address,
            process: RedisProcess::start(dir.path(), &args, &environment, READY),
            dir,
            args,
            environment,
        }
    }

    /// Kills the process and starts another one, which knows what an
    /// append-only file kept.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Starts a process that was stopped, at the same address.
    pub(crate) fn start_again(&mut self) {
        self.launch(READY);
    }

    /// Kills the process and starts another one, which is loading its data.
    pub(crate) fn restart_loading(&mut self) {
        self.stop();
        self.launch("Loading RDB");
    }

    fn launch(&mut self, ready: &str) {
        let dir = self.dir.path();
        self.process = RedisProcess::start(dir, &self.args, &self.environment, ready);
    }

    /// Whether it answers that it is loading its data.
    pub(crate) async fn is_loading(&self) -> bool {
        let client = redis::Client::open(format!("redis://{}/", self.address)).unwrap();
        let Ok(mut control) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        let info: Result<String, _> = redis::cmd("INFO")
            .arg("persistence")
            .query_async(&mut control)
            .await;
        info.is_ok_and(|info| info.contains("loading:1"))
    }

    /// Kills the process.
    pub(crate) fn stop(&mut self) {
        self.process.kill();
    }

    /// Empties it behind the gateways' backs.
    pub(crate) async fn flush(&self) {
        let flushed = redis::cmd("FLUSHALL");
        let flushed: String = flushed
            .query_async(&mut self.control().await)
            .await
            .unwrap();
        assert_eq!(flushed, "OK");
    }

    /// A connection behind the gateways' backs.
    pub(crate) async fn control(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}/", self.address)).unwrap();
        // A command of a test may take a while on busy cores.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(20)))
            .set_response_timeout(Some(Duration::from_secs(20)));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap()
    }
}

/// Sessions that a server knows of, if it answers.
pub(crate) async fn sessions(server: SocketAddr) -> Option<u64> {
    let inside = inside_at(&format!("redis://{server}/")).await;
    inside.map(|(sessions, _)| sessions)
}

/// The same, of a server at this URL, and whether there is a recovery: then a
/// server that is behind may know of some that are over, and nobody is let in.
pub(crate) async fn inside_at(url: &str) -> Option<(u64, bool)> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let mut both = redis::pipe();
    both.atomic().zcard("sumun:{main}:active");
    both.hget("sumun:{main}:meta", "recovery");
    let both = both.query_async(&mut connection).await;
    let (sessions, recovery): (u64, Option<String>) = both.ok()?;
    Some((sessions, recovery.is_some_and(|id| !id.is_empty())))
}
