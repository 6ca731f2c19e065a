//! A real Prometheus that reads gateways every second, and its `promtool`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use super::door::Door;
use super::ports::free_address;
use super::until;

/// Where both programs come from.
const MISSING: &str = "prometheus and promtool, 2.40 or newer; tests/run installs them";

/// Runs `promtool`; fails with what it says.
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(MISSING);
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read ends by itself, and says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let said = child.wait_with_output().unwrap();
    assert!(
        said.status.success(),
        "promtool {arguments:?}\n{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
}

/// A running server; ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    door: Door,
    dir: TempDir,
}

/// A rule as the server understood it.
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expression: String,
    pub(crate) health: String,
    pub(crate) fault: String,
    pub(crate) severity: String,
    pub(crate) summary: String,
    pub(crate) description: String,
}

/// An alert that fires.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) summary: String,
}

impl Prometheus {
    /// Starts a server with these targets and rules, and waits until all has been
    /// read and reckoned once.
    pub(crate) fn start(targets: &[SocketAddr], rules: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [\"{}\"]\nscrape_configs:\n  - job_name: sumun\n    \
             static_configs:\n      - targets: [",
            rules.display()
        );
        for target in targets {
            let _ = write!(text, "\"{target}\", ");
        }
        text += "]\n";
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        let server = Self {
            child,
            door: Door::plain(address),
            dir,
        };
        until(Duration::from_secs(60), || {
            let ready = server.door.get("/-/ready", &[]);
            if ready.is_none_or(|answer| answer.status != 200) {
                return Err(format!("Prometheus; it said\n{}", server.log()));
            }
            let unread = server.rules().iter().any(|rule| rule.health == "unknown");
            let up = server.ask("sum(up)") == [f64::from(u32::try_from(targets.len()).unwrap())];
            (up && !unread)
                .then_some(())
                .ok_or_else(|| "the targets and the rules".to_owned())
        });
        server
    }

    /// The values of an expression now; fails when it is none.
    pub(crate) fn ask(&self, query: &str) -> Vec<f64> {
        let asked = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.call(&format!("query?query={asked}"));
        let samples = data["result"].as_array().unwrap();
        let values = samples.iter().map(|sample| &sample["value"][1]);
        values
            .map(|value| value.as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Every rule that it knows.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        let data = self.call("rules");
        let groups = data["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|g| g["rules"].as_array().unwrap());
        rules
            .map(|rule| {
                let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
                Rule {
                    name: text(&rule["name"]),
                    is_alert: rule["type"] == "alerting",
                    expression: text(&rule["query"]),
                    health: text(&rule["health"]),
                    fault: text(&rule["lastError"]),
                    severity: text(&rule["labels"]["severity"]),
                    summary: text(&rule["annotations"]["summary"]),
                    description: text(&rule["annotations"]["description"]),
                }
            })
            .collect()
    }

    /// The alerts that fire now.
    pub(crate) fn firing(&self) -> Vec<Alert> {
        let data = self.call("alerts");
        let alerts = data["alerts"].as_array().unwrap().iter();
        alerts
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| {
                let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
                Alert {
                    name: text(&alert["labels"]["alertname"]),
                    instance: text(&alert["labels"]["instance"]),
                    summary: text(&alert["annotations"]["summary"]),
                }
            })
            .collect()
    }

    fn call(&self, path: &str) -> Value {
        let answer = self.door.get(&format!("/api/v1/{path}"), &[]).unwrap();
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(said["status"], "success", "{path}: {}", answer.body);
        said["data"].clone()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
