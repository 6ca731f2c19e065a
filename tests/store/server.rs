//! A real redis-server of a test's own: in a directory of its own, gone with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::redis_process::RedisProcess;

/// What its log says when it takes connections, Redis or Valkey: there is only
/// the socket.
const READY: &str = "eady to accept connections";

/// A running server.
pub(crate) struct Server {
    process: RedisProcess,
    dir: TempDir,
    args: Vec<String>,
}

impl Server {
    /// Starts a server that listens on a socket in its directory, with more arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = socket(dir.path()).display().to_string();
        let args = [&["--port", "0", "--unixsocket", &socket], args].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        Self {
            process: RedisProcess::start(dir.path(), &args, &[], READY),
            dir,
            args,
        }
    }

    /// Ends the server's process and starts another one, which knows what
    /// `SAVE` wrote.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.process = RedisProcess::start(self.dir.path(), &self.args, &[], READY);
    }

    /// Ends the server's process.
    pub(crate) fn stop(&mut self) {
        self.process.kill();
    }

    /// Its address, with a database number and perhaps `user:password`.
    pub(crate) fn url(&self, database: u8, user: &str) -> String {
        let query = match user.split_once(':') {
            Some(("", password)) => format!("&pass={password}"),
            Some((user, password)) => format!("&user={user}&pass={password}"),
            None => String::new(),
        };
        let socket = socket(self.dir.path());
        format!("redis+unix://{}?db={database}{query}", socket.display())
    }

    /// A connection for what a test does behind the store's back.
    pub(crate) async fn control(&self) -> redis::aio::MultiplexedConnection {
        connect(&self.url(0, "")).await
    }
}

/// Connects to an address.
pub(crate) async fn connect(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    // Two cores may be busy with other tests: a late answer is no fault here.
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(20)))
        .set_response_timeout(Some(Duration::from_secs(20)));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap()
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}
