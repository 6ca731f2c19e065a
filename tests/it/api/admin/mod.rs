//! The admin door over real sockets: the whole server in this process, an
//! origin that says yes to everything, and an operator who calls.

mod changed;
mod levers;
mod metrics;
mod rules;
mod shown;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use sumun::config::Config;
use sumun::room::snapshot::Rules;

use crate::support::{Answer, Call, Origin, Reply, Server, data_thread, wait_until};

const EVENT: &str = "[[event]]\nid = \"main\"\nlimit = 500\n";

/// Whoever operates a running server; gone, the server stops.
struct Operator {
    server: Server,
    token: Option<&'static str>,
}

impl Operator {
    /// One event of the file, `main`, with a limit of 500.
    fn start() -> Self {
        Self::with(EVENT)
    }

    fn with(rest: &str) -> Self {
        Self::at(None, rest)
    }

    /// Keeping its state in `dir`.
    fn at(dir: Option<&Path>, rest: &str) -> Self {
        let text = format!(
            "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstate_dir = {:?}\n\
             drain_delay = \"0s\"\ndrain_timeout = \"1s\"\n{rest}",
            origin(),
            dir.map(|dir| dir.display().to_string()).unwrap_or_default(),
        );
        // The ports are the system's choice, whatever the file may say.
        let mut config = Config::parse(&text, std::iter::empty()).unwrap();
        config.admin.listen.set_port(0);
        if let Some(metrics) = &mut config.metrics.listen {
            metrics.set_port(0);
        }
        Self {
            server: Server::start(config),
            token: None,
        }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let call = Call::new(self.server.admin, method, path);
        match self.token {
            Some(token) => call.header("Authorization", &format!("Bearer {token}")),
            None => call,
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send()
    }

    fn status(&self, event: &str) -> Value {
        self.get(&format!("/v1/events/{event}/status")).ok()
    }

    /// Waits until the status of an event is as wanted, and returns it.
    fn until(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("the status of {event}"), || {
            let status = self.status(event);
            wanted(&status).then_some(status)
        })
    }

    /// The rules that the store guards, as this gateway last saw them.
    fn rules(&self, event: &str) -> Rules {
        let site = self.server.running.reception.site.load();
        let view = site.ledgers.get(event).unwrap().view().unwrap();
        view.snapshot.meta.rules.clone()
    }

    /// A visitor's navigation at the public door.
    fn visit(&self, cookie: Option<&str>) -> Answer {
        let call = Call::new(self.server.door, "GET", "/")
            .header("Accept", "text/html")
            .header("Sec-Fetch-Dest", "document");
        match cookie {
            Some(cookie) => call.header("Cookie", cookie).send(),
            None => call.send(),
        }
    }
}

/// An origin that answers 200 to everything and repeats the session that it
/// was told.
fn origin() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    data_thread(move || async move {
        let origin = Origin::open().await;
        origin.answers(|seen| {
            let session = seen.header("sumun-session").unwrap_or_default();
            Reply::text(session.to_owned())
        });
        tell.send(origin.address).unwrap();
        std::future::pending::<()>().await;
    });
    told.recv().unwrap()
}

impl Answer {
    /// The document of a call that went well.
    fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        self.json()
    }

    /// A refusal: its status and its field.
    fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        assert!(
            problem.as_object().unwrap().contains_key("field"),
            "{problem}"
        );
        problem
    }

    fn refused_for(&self, status: u16, field: &str) -> Value {
        let problem = self.refused(status);
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }
}
