//! A real redis-server on a port of its own, in a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::free_address;

/// A running server; ended when dropped.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    child: Child,
    dir: TempDir,
    args: Vec<String>,
}

impl Redis {
    /// Starts a server, with more arguments (it keeps nothing without).
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let address = free_address();
        let child = launch(&dir, address, &args);
        Self {
            address,
            child,
            dir,
            args,
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
        self.child = launch(&self.dir, self.address, &self.args);
    }

    /// Kills the process and starts another one, which may be loading for a while.
    pub(crate) fn restart_without_waiting(&mut self) {
        self.stop();
        self.child = command(&self.dir, self.address, &self.args)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A connection behind the gateways' backs.
    pub(crate) async fn control(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}/", self.address)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sessions that a server knows of, if it answers.
pub(crate) async fn sessions(server: SocketAddr) -> Option<u64> {
    let client = redis::Client::open(format!("redis://{server}/")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    connection.zcard("sumun:{main}:active").await.ok()
}

fn command(dir: &TempDir, address: SocketAddr, args: &[String]) -> Command {
    let mut command = Command::new("redis-server");
    command
        .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
        .arg("--port")
        .arg(address.port().to_string())
        .arg("--dir")
        .arg(dir.path())
        .args(args)
        .stdin(Stdio::null());
    command
}

fn launch(dir: &TempDir, address: SocketAddr, args: &[String]) -> Child {
    let mut child = command(dir, address, args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server 7.0 or newer must be installed to run the failure suite");
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in log.by_ref() {
        let line = line.unwrap();
        let ready = line.contains("Ready to accept connections");
        said.push(line);
        if ready {
            std::thread::spawn(move || log.for_each(drop));
            return child;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("redis-server did not start:\n{}", said.join("\n"));
}
