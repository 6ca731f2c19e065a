//! A real redis-server of a test's own: in a directory of its own, gone with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running server.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    args: Vec<String>,
}

impl Server {
    /// Starts a server that listens on a socket in its directory, with more arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let child = launch(dir.path(), &args);
        Self { child, dir, args }
    }

    /// Ends the server's process and starts another one, which knows what
    /// `SAVE` wrote.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = launch(self.dir.path(), &self.args);
    }

    /// Ends the server's process.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Connects to an address.
pub(crate) async fn connect(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

fn launch(dir: &Path, args: &[String]) -> Child {
    let mut child = Command::new("redis-server")
        .args(["--save", "", "--appendonly", "no", "--port", "0"])
        .arg("--dir")
        .arg(dir)
        .arg("--unixsocket")
        .arg(socket(dir))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server 7.0 or newer must be installed to run the store suite");
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in log.by_ref() {
        let line = line.unwrap();
        // The socket is the last that is opened.
        let ready = line.contains("ready to accept connections at");
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
