//! A visitor: a browser with a cookie jar, which polls as it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::http::Answer;
use super::site::{Ask, Site};

/// How often a visitor says that the visit is over.
const COMPLETIONS_MAX: usize = 20;

/// How a visitor stands.
#[derive(Debug)]
pub(crate) enum Seen {
    /// In line.
    Waits {
        after: Duration,
        rank: Option<u64>,
        degraded: bool,
    },
    /// Let in.
    Inside,
    /// Asked to come back, with what is held.
    Later(Duration),
    /// No door answers.
    Unreachable,
}

/// One visitor.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) name: String,
    event: &'static str,
    /// The event's part of the site, without a slash at its end.
    part: &'static str,
    jar: BTreeMap<String, String>,
    /// The place in line, once there is one. It never changes.
    pub(crate) number: Option<u64>,
    rank: Option<u64>,
    /// Answers that said the store is away.
    pub(crate) degraded: usize,
}

impl Visitor {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self::of(name, "main", "")
    }

    /// A visitor of an event that covers a part of the site (`/sale`).
    pub(crate) fn of(name: impl Into<String>, event: &'static str, part: &'static str) -> Self {
        Self {
            name: name.into(),
            event,
            part,
            jar: BTreeMap::new(),
            number: None,
            rank: None,
            degraded: 0,
        }
    }

    /// Opens the page, as a browser navigates.
    pub(crate) async fn open(&mut self, site: &Site) -> Result<Seen, String> {
        let headers = vec![
            ("accept", "text/html".to_owned()),
            ("sec-fetch-dest", "document".to_owned()),
            ("sec-fetch-site", "none".to_owned()),
        ];
        let path = format!("{}/", self.part);
        let Ok(answer) = self.ask(site, "GET", &path, headers, String::new()).await else {
            return Ok(Seen::Unreachable);
        };
        let seen = match (answer.status.as_u16(), answer.header("sumun-status")) {
            (200, _) if answer.header("x-origin") == "here" => Seen::Inside,
            (503, "wait") => Seen::Waits {
                after: answer.retry_after().unwrap_or(Duration::from_secs(3)),
                rank: None,
                degraded: answer.header("sumun-degraded") == "store",
            },
            (503, _) if answer.retry_after().is_some() && self.jar.is_empty() => {
                Seen::Later(answer.retry_after().unwrap())
            }
            _ => return Err(self.strange("open", &answer)),
        };
        self.take_note(site, seen)
    }

    /// Asks how the place in line stands.
    pub(crate) async fn poll(&mut self, site: &Site) -> Result<Seen, String> {
        let asked = self.post(site, "status").await;
        let Ok(answer) = asked else {
            return Ok(Seen::Unreachable);
        };
        let said = answer.json();
        let seen = match (answer.status.as_u16(), said["status"].as_str()) {
            (200, Some("ENTER")) => {
                self.degraded += usize::from(answer.header("sumun-degraded") == "store");
                Seen::Inside
            }
            (200, Some("WAIT")) => Seen::Waits {
                after: Duration::from_millis(said["pollAfterMs"].as_u64().unwrap()),
                rank: said["expectedInfo"]["rank"].as_u64(),
                degraded: answer.header("sumun-degraded") == "store",
            },
            (503, None) => Seen::Later(answer.retry_after().unwrap_or_default()),
            _ => return Err(self.strange("poll", &answer)),
        };
        self.take_note(site, seen)
    }

    /// A page of the site, inside. It may only stay unanswered while the test
    /// has ended every gateway.
    pub(crate) async fn browse(&mut self, site: &Site) -> Result<(), String> {
        let headers = vec![
            ("accept", "text/html".to_owned()),
            ("sec-fetch-dest", "document".to_owned()),
        ];
        let was_down = site.is_down();
        let path = format!("{}/cart", self.part);
        let asked = self.ask(site, "GET", &path, headers, String::new());
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(_) if was_down || site.is_down() => return Ok(()),
            Err(fault) => return Err(format!("{}, browse: {fault}", self.name)),
        };
        if answer.status == 200 && answer.header("x-origin") == "here" {
            return Ok(());
        }
        Err(self.strange("browse", &answer))
    }

    /// Says that the visit is over, again where that could not be heard.
    pub(crate) async fn complete(&mut self, site: &Site) -> Result<(), String> {
        site.leaving();
        for _ in 0..COMPLETIONS_MAX {
            let answer = self.post(site, "complete").await?;
            if answer.status == 200 && answer.json()["completed"] == Value::Bool(true) {
                return Ok(());
            }
            if answer.status != 503 || answer.json()["type"] != "urn:sumun:away" {
                return Err(self.strange("complete", &answer));
            }
            tokio::time::sleep(answer.retry_after().unwrap_or_default()).await;
        }
        Err(format!("{}: the visit could not be completed", self.name))
    }

    /// Waits in line until let in, for so many seconds at most.
    pub(crate) async fn wait(&mut self, site: &Site, most: Duration) -> Result<(), String> {
        let waits = async {
            let mut seen = Seen::Later(Duration::ZERO);
            if self.number.is_none() {
                seen = self.come(site).await?;
            }
            loop {
                let pause = match seen {
                    Seen::Inside => return Ok(()),
                    Seen::Waits { after, .. } | Seen::Later(after) => after,
                    Seen::Unreachable => Duration::from_millis(250),
                };
                tokio::time::sleep(pause).await;
                seen = self.poll(site).await?;
            }
        };
        match tokio::time::timeout(most, waits).await {
            Ok(waited) => waited,
            Err(_) => Err(format!(
                "{}: not in within {most:?}, number {:?}, rank {:?}",
                self.name, self.number, self.rank
            )),
        }
    }

    /// Comes to the site until it answers: in, or in line.
    pub(crate) async fn come(&mut self, site: &Site) -> Result<Seen, String> {
        loop {
            match self.open(site).await? {
                Seen::Unreachable => tokio::time::sleep(Duration::from_millis(250)).await,
                Seen::Later(after) => tokio::time::sleep(after).await,
                seen => return Ok(seen),
            }
        }
    }

    fn take_note(&mut self, site: &Site, seen: Seen) -> Result<Seen, String> {
        match &seen {
            Seen::Inside => site.entered(&self.name, self.number),
            Seen::Waits { rank, degraded, .. } => {
                self.degraded += usize::from(*degraded);
                let number = self.ticket().ok_or("no ticket in the jar")?;
                if self.number.is_some_and(|held| held != number) {
                    return Err(format!("{}: the place changed", self.name));
                }
                self.number = Some(number);
                if let (Some(before), Some(now)) = (self.rank, *rank)
                    && now > before
                {
                    return Err(format!("{}: from rank {before} to {now}", self.name));
                }
                self.rank = rank.or(self.rank);
            }
            Seen::Later(_) | Seen::Unreachable => {}
        }
        Ok(seen)
    }

    fn token(&self) -> Option<&String> {
        self.jar.get(&format!("sumun_{}", self.event))
    }

    fn claims(&self) -> Option<Value> {
        let payload = self.token()?.split('.').nth(1)?.to_owned();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The number of the ticket in the jar.
    fn ticket(&self) -> Option<u64> {
        self.claims()?["num"].as_u64()
    }

    /// The key that signed the token in the jar.
    fn signed_by(&self) -> Option<String> {
        let head = self.token()?.split('.').next()?.to_owned();
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        Some(head["kid"].as_str()?.to_owned())
    }

    fn strange(&self, doing: &str, answer: &Answer) -> String {
        let body = String::from_utf8_lossy(&answer.body);
        let body: String = body.chars().take(300).collect();
        let (status, name) = (answer.status, &self.name);
        let kind = answer.header("sumun-status");
        format!(
            "{name}, {doing}: {status} {kind} {body}; number {:?}",
            self.number
        )
    }

    async fn post(&mut self, site: &Site, call: &str) -> Result<Answer, String> {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("sec-fetch-site", "same-origin".to_owned()),
            ("sec-fetch-dest", "empty".to_owned()),
        ];
        let path = format!("/__sumun/v1/{call}");
        let body = format!("{{\"eventId\":\"{}\"}}", self.event);
        self.ask(site, "POST", &path, headers, body).await
    }

    async fn ask(
        &mut self,
        site: &Site,
        method: &'static str,
        path: &str,
        mut headers: Vec<(&'static str, String)>,
        body: String,
    ) -> Result<Answer, String> {
        let cookies: Vec<String> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !cookies.is_empty() {
            headers.push(("cookie", cookies.join("; ")));
        }
        let ask = Ask {
            method,
            path,
            headers,
            body,
        };
        let answer = site.ask(&ask).await?;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some(key) = self.signed_by() {
            site.signed(&self.name, key);
        }
        Ok(answer)
    }
}
