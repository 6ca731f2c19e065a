//! A gateway as a process of its own, whose log can be read.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Ask, Visitor, until};

/// A running gateway; it ends with the test.
pub(crate) struct Process {
    child: Child,
    pub(crate) door: SocketAddr,
    folder: TempDir,
}

impl Process {
    /// Starts one at this address, with these settings (lines of TOML), and
    /// waits until it is ready.
    pub(crate) async fn at(door: SocketAddr, origin: SocketAddr, event: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = \"{door}\"\norigin = \"http://{origin}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [[event]]\nid = \"main\"\n{event}"
        );
        std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sumun"))
            // Any SUMUN_ variable would count as a setting.
            .env_clear()
            .current_dir(folder.path())
            .args(["run", "--log", "json"])
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self {
            child,
            door,
            folder,
        };
        until("the process is ready", async || {
            let lines = process.log();
            lines
                .iter()
                .any(|line| message(line) == "sumun is ready")
                .then_some(())
        })
        .await;
        process
    }

    /// The lines of the log so far.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        lines.collect()
    }

    /// The lines of the access log.
    pub(crate) fn access(&self) -> Vec<Value> {
        let mut lines = self.log();
        lines.retain(|line| line["target"] == "access");
        lines
    }

    /// The lines of the log that say this.
    pub(crate) fn said(&self, what: &str) -> Vec<Value> {
        let mut lines = self.log();
        lines.retain(|line| message(line).contains(what));
        lines
    }

    /// Somebody opens a page.
    pub(crate) async fn open(&self, path: &str) -> u16 {
        self.send(Ask::page(path)).await
    }

    /// Somebody asks; the status of the answer.
    pub(crate) async fn send(&self, ask: Ask) -> u16 {
        Visitor::at(self.door).send(ask).await.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
