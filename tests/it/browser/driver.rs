//! A headless Chromium, driven by its chromedriver: what a visitor sees and
//! does, and what only the browser itself can tell.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use serde_json::{Value, json};

use crate::support::{number, until};

/// A process group that ends with the test: the driver and its browser.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// An open browser.
pub(super) struct Browser {
    pub(super) client: Client,
    // Fields end in this order: the profile goes after the browser.
    _driver: Driver,
    _profile: tempfile::TempDir,
}

/// How the browser differs from an ordinary one.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) languages: &'static str,
    pub(super) script: bool,
}

/// An ordinary one.
pub(super) const ENGLISH: Manner = Manner {
    languages: "en-US,en",
    script: true,
};

impl Driver {
    /// Starts one; its port, and what else it says.
    fn start() -> Option<(Self, String, Lines<BufReader<ChildStdout>>)> {
        let mut driver = Self(
            Command::new("chromedriver")
                .arg("--port=0")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("chromedriver; tests/run installs it"),
        );
        let mut lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let port = line.ok()?.split_once("successfully on port ")?.1.to_owned();
            Some(port.trim_end_matches('.').to_owned())
        })?;
        Some((driver, port, lines))
    }
}

impl Browser {
    pub(super) async fn open(manner: Manner) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It draws a port for IPv4 and ends when that is taken for IPv6.
        let (driver, port, lines) = (0..5)
            .find_map(|_| Driver::start())
            .expect("the driver says its port");
        // Nobody else reads what it says; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Sites under TLS have certificates of our own.
            "--ignore-certificate-errors",
            &format!("--accept-lang={}", manner.languages),
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let scripts = if manner.script { 1 } else { 2 };
        let Value::Object(capabilities) = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": { "profile.managed_default_content_settings.javascript": scripts },
            },
        }) else {
            panic!("an object")
        };
        let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
        connector.enforce_http(false);
        let client = ClientBuilder::new(connector)
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        Self {
            client,
            _driver: driver,
            _profile: profile,
        }
    }

    pub(super) async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub(super) async fn click(&self, id: &str) {
        let link = self.client.find(Locator::Id(id)).await.unwrap();
        link.click().await.unwrap();
    }

    /// The text of an element, if there is one that can be seen. A page that
    /// goes away under our eyes is none.
    pub(super) async fn text(&self, id: &str) -> Option<String> {
        let element = self.client.find(Locator::Id(id)).await.ok()?;
        let visible = element.is_displayed().await.ok()?;
        let text = element.text().await.ok()?;
        visible.then_some(text)
    }

    pub(super) async fn says(&self, id: &str, text: &str) {
        until(&format!("{text:?} in #{id}"), async || {
            (self.text(id).await? == text).then_some(())
        })
        .await;
    }

    /// Waits for a page of the site: the visitor is inside.
    pub(super) async fn is_inside(&self, path: &str) {
        self.says("site", path).await;
    }

    pub(super) async fn url(&self) -> String {
        self.client.current_url().await.unwrap().into()
    }

    pub(super) async fn evaluate(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.client.execute(&script, vec![]).await.unwrap()
    }

    /// The number of the place that this tab's page holds.
    pub(super) async fn number_on_page(&self) -> u64 {
        let source = self.client.source().await.unwrap();
        let (_, after) = source.split_once("\"ticket\":\"").expect("a ticket");
        number(after.split('"').next().unwrap())
    }

    /// The number of the place that the browser's cookie holds.
    pub(super) async fn number_in_cookie(&self) -> u64 {
        let cookie = self.client.get_named_cookie("sumun_main").await.unwrap();
        number(cookie.value())
    }

    pub(super) async fn log(&self, kind: &'static str) -> Vec<Value> {
        let Value::Array(entries) = self.client.issue_cmd(Log(kind)).await.unwrap() else {
            panic!("a list of entries")
        };
        entries
    }

    /// Chromium's own protocol: its answer to a command.
    pub(super) async fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        let asked = self.client.issue_cmd(Devtools(command, parameters)).await;
        asked.unwrap_or_else(|fault| panic!("{command}: {fault}"))
    }

    pub(super) async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

/// Chromium's own command: the log of this kind since it was last asked for.
#[derive(Debug)]
struct Log(&'static str);

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session_id: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session_id.unwrap()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": self.0 }).to_string()))
    }
}

/// A command of Chromium's own protocol.
#[derive(Debug)]
struct Devtools(&'static str, Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session_id: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.0, "params": self.1 });
        (Method::POST, Some(body.to_string()))
    }
}
