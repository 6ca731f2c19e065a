//! The program as an operator runs it: its command line, and a gateway as a
//! process of its own, whose log can be read.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{Ask, Call, Visitor, free_address, until};

/// The command, in this folder and with no environment: any SUMUN_ variable
/// would count as a setting.
pub(crate) fn sumun(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sumun"));
    command.env_clear().current_dir(folder).args(arguments);
    command
}

/// Runs the command to its end: the exit code, and what was said.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = sumun(folder, arguments).output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), said)
}

/// Where a gateway will listen.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Doors {
    pub(crate) fn free() -> Self {
        Self {
            public: free_address(),
            admin: free_address(),
        }
    }

    /// A file for a gateway at these doors: the event `main` with these
    /// settings (lines of TOML). It writes nothing beside the file.
    pub(crate) fn file(self, origin: SocketAddr, event: &str) -> String {
        format!(
            "listen = \"{}\"\norigin = \"http://{origin}\"\nstate_dir = \"\"\n\
             drain_delay = \"0s\"\ndrain_timeout = \"2s\"\n\
             [admin]\nlisten = \"{}\"\n[[event]]\nid = \"main\"\n{event}\n",
            self.public, self.admin,
        )
    }
}

/// A running gateway; it ends with the test.
pub(crate) struct Process {
    pub(crate) doors: Doors,
    child: Child,
    /// Its log, and the file of one that has no other.
    folder: TempDir,
}

impl Process {
    /// Starts a gateway of this file.
    pub(crate) fn run(file: &Path, doors: Doors) -> Self {
        Self::run_in(tempfile::tempdir().unwrap(), file, doors)
    }

    /// The same, with a variable in its environment.
    pub(crate) fn run_with(file: &Path, doors: Doors, variable: (&str, &Path)) -> Self {
        Self::start(tempfile::tempdir().unwrap(), file, doors, Some(variable))
    }

    /// Starts a gateway at this public address, with these settings of `main`
    /// (lines of TOML), and waits until it is ready.
    pub(crate) async fn at(public: SocketAddr, origin: SocketAddr, event: &str) -> Self {
        let admin = free_address();
        let (doors, folder) = (Doors { public, admin }, tempfile::tempdir().unwrap());
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, doors.file(origin, event)).unwrap();
        let process = Self::run_in(folder, &file, doors);
        until("the process is ready", async || {
            process.is_ready().then_some(())
        })
        .await;
        process
    }

    fn run_in(folder: TempDir, file: &Path, doors: Doors) -> Self {
        Self::start(folder, file, doors, None)
    }

    fn start(folder: TempDir, file: &Path, doors: Doors, variable: Option<(&str, &Path)>) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let file = file.to_str().unwrap();
        let child = sumun(folder.path(), &["run", "--log", "json", "--config", file])
            .envs(variable)
            .stdout(log)
            .spawn()
            .unwrap();
        Self {
            doors,
            child,
            folder,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(self.doors.admin).is_ok()
            && Call::new(self.doors.admin, "GET", "/readyz").send().status == 200
    }

    /// Whether its metrics have this line.
    pub(crate) fn shows(&self, line: &str) -> bool {
        let metrics = Call::new(self.doors.admin, "GET", "/metrics").send();
        metrics.text().lines().any(|shown| shown == line)
    }

    /// The value of a metric, by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let metrics = Call::new(self.doors.admin, "GET", "/metrics").send();
        let text = metrics.text();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// What it wrote to standard output so far.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) {
        let child = &mut self.child;
        until("its end", async || child.try_wait().unwrap()).await;
    }

    /// The lines of its log so far.
    fn log(&self) -> Vec<Value> {
        let text = self.text();
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
        lines.retain(|line| {
            let message = line["fields"]["message"].as_str();
            message.is_some_and(|message| message.contains(what))
        });
        lines
    }

    /// Sends it a signal, by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Somebody opens a page.
    pub(crate) async fn open(&self, path: &str) -> u16 {
        self.send(Ask::page(path)).await
    }

    /// Somebody asks; the status of the answer.
    pub(crate) async fn send(&self, ask: Ask) -> u16 {
        Visitor::at(self.doors.public).send(ask).await.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
