//! A real redis-server, or valkey-server, as a process of a test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The server that tests run on: another one, such as valkey-server, by
/// `SUMUN_TEST_SERVER`.
#[expect(clippy::disallowed_methods, reason = "the tests' one setting")]
pub(crate) fn program() -> String {
    std::env::var("SUMUN_TEST_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A running server; it ends when it is dropped.
pub(crate) struct RedisProcess(Child);

impl RedisProcess {
    /// Starts a server that works in `dir` and keeps nothing unless the
    /// arguments say so; it has started when its log says `ready`.
    /// `environment` is added to the test's own.
    pub(crate) fn start(
        dir: &Path,
        args: &[String],
        environment: &[(&'static str, String)],
        ready: &str,
    ) -> Self {
        let mut child = Command::new(program())
            .envs(environment.iter().cloned())
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server 7.0 or newer, or valkey-server; tests/run installs them");
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self(child);
        let mut said = Vec::new();
        for line in log.by_ref() {
            let line = line.unwrap();
            let is_ready = line.contains(ready);
            said.push(line);
            if is_ready {
                // Nobody else reads what it says; a full pipe would stop it.
                std::thread::spawn(move || log.for_each(drop));
                return server;
            }
        }
        server.kill();
        panic!("the server did not start:\n{}", said.join("\n"));
    }

    /// Ends the process; once is enough.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
