//! What both benchmarks stand on: real nginx, wrk and redis-server, started on
//! free ports and pinned to cores, and the CPU time that a process has used.
//!
//! The machine is taken as noisy: every figure is a median of ratios, each
//! from one alternating round.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "each benchmark uses its part, and waits by the machine's clock"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with its owner.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's master ends its workers at SIGTERM.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A folder of this run's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sumun-bench-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Starts a program on a core and waits until it listens.
pub fn start(core: &str, program: &str, arguments: &[&str], port: u16) -> Running {
    let child = Command::new("taskset")
        .args(["-c", core, program])
        .args(arguments)
        // The gateway would take it for a setting of its own.
        .env_remove("SUMUN_CROWD")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|fault| panic!("{program} must be installed: {fault}"));
    let until = Instant::now() + Duration::from_secs(15);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "{program} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Running { child, port }
}

/// nginx with one worker on a core, from the inside of `http { … }`.
pub fn nginx(core: &str, name: &str, http: impl Fn(u16) -> String) -> Running {
    let port = free_port();
    let folder = folder(name);
    let conf = folder.join("nginx.conf");
    let inside = http(port);
    fs::write(
        &conf,
        format!(
            "worker_processes 1;\npid {0}/pid;\nerror_log {0}/error.log;\ndaemon off;\n\
             worker_rlimit_nofile 16000;\nevents {{ worker_connections 16000; }}\nhttp {{ access_log off; keepalive_requests 100000000; \
             client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; \
             uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{inside}\n}}\n",
            folder.display()
        ),
    )
    .expect("a configuration");
    start(core, "nginx", &["-c", &conf.display().to_string()], port)
}

/// redis-server without persistence on a core.
pub fn redis(core: &str) -> Running {
    let port = free_port();
    let text = port.to_string();
    let arguments = ["--port", &text, "--save", "", "--appendonly", "no"];
    start(core, "redis-server", &arguments, port)
}

/// The gateway, release build, from a configuration without its addresses.
pub fn sumun(core: &str, name: &str, configuration: &str) -> (Running, u16) {
    let (port, admin) = (free_port(), free_port());
    let file = folder(name).join("gateway.toml");
    let text = format!(
        "listen = \"127.0.0.1:{port}\"\ndrain_delay = \"0s\"\n{configuration}\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n"
    );
    fs::write(&file, text).expect("a configuration");
    let program = env!("CARGO_BIN_EXE_sumun");
    let arguments = ["run", "--config", &file.display().to_string()];
    (start(core, program, &arguments, port), admin)
}

/// CPU time that a process and its children have used, in seconds.
pub fn cpu_seconds(running: &Running) -> f64 {
    cpu_of(running.child.id())
}

fn cpu_of(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return 0.0;
    };
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|t| t.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let own = (ticks(11) + ticks(12)) / 100.0;
    own + children(pid).into_iter().map(cpu_of).sum::<f64>()
}

/// Memory that a process and its children hold now, in megabytes.
pub fn resident_mb(running: &Running) -> f64 {
    resident_of(running.child.id()) / 1024.0
}

fn resident_of(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) + children(pid).into_iter().map(resident_of).sum::<f64>()
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// CPU time that this process has used, in seconds.
pub fn own_cpu_seconds() -> f64 {
    cpu_of(std::process::id())
}

/// What wrk measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Requests answered.
    pub requests: f64,
    /// Requests a second.
    pub per_second: f64,
    /// Answers that were no 2xx or 3xx.
    pub bad: f64,
}

/// wrk from a core; more arguments before the URL.
pub fn wrk(core: &str, seconds: u64, arguments: &[&str], url: &str) -> Load {
    let out = Command::new("taskset")
        .args(["-c", core, "wrk", "-t1"])
        .arg(format!("-d{seconds}s"))
        .args(arguments)
        .arg(url)
        .output()
        .expect("wrk must be installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let number = |before: &str| {
        text.lines()
            .find_map(|line| {
                line.trim()
                    .split_once(before)
                    .map(|(_, rest)| rest.trim().to_owned())
            })
            .and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
            .and_then(|word| word.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let requests = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    Load {
        requests,
        per_second: number("Requests/sec:"),
        bad: number("Non-2xx or 3xx responses:"),
    }
}

/// One plain request; the whole answer as text.
pub fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// One GET by curl, with TLS or without and a header more; the whole answer as text.
pub fn ask_by(tls: bool, port: u16, header: &str) -> String {
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{port}/");
    let out = Command::new("curl")
        .args(["-sik", "--http1.1", "-H", header, &url])
        .output()
        .expect("curl must be installed");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Writes a file for wrk to read.
pub fn script(name: &str, text: &str) -> PathBuf {
    let file = folder("wrk").join(name);
    fs::write(&file, text).expect("a script");
    file
}

/// Removes this run's folders.
pub fn clean() {
    let prefix = format!("sumun-bench-{}-", std::process::id());
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_dir_all(Path::new(&entry.path()));
        }
    }
}

/// Prints a line of the report.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
