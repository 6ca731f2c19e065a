//! A real browser in line: headless Chromium against the whole server, with a
//! small shop behind it. What is asserted is what a visitor would see, what
//! the browser kept, and what reached the shop.

mod driver;
mod line;
mod page;
mod socket;

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Ask, Origin, Plan, Reply, Seen, Site, Visitor, bounded};

/// A shop with one slot before it; `/start` and `/form` are outside the line.
struct Shop {
    site: Site,
    state: TempDir,
    settings: String,
}

impl Shop {
    /// With more settings of its event (lines of TOML).
    async fn open(settings: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let origin = Origin::open().await;
        origin.answers(page_of_the_shop);
        Self {
            site: plan(settings, &state).open_before(&origin).await,
            state,
            settings: settings.to_owned(),
        }
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.site.door)
    }

    /// What reached the shop for this target.
    fn asked_for(&self, target: &str) -> Vec<Seen> {
        let mut seen = self.site.origin.seen();
        seen.retain(|seen| seen.target == target);
        seen
    }

    /// Somebody else takes the only slot, and shows up once more so that the
    /// session outlives its proving time.
    async fn filled_by_another(&self) -> Visitor {
        let mut other = self.site.filled_by_one().await;
        other.open("/tickets").await.must_come_from_the_origin();
        other
    }

    /// The gateway stops; what it knew is in its state.
    async fn close(&mut self) {
        self.site.begin_stop();
        self.site.ended().await;
    }

    /// The gateway starts again where it was.
    async fn open_again(&mut self) {
        let plan = plan(&self.settings, &self.state).listen(self.site.door);
        self.site = plan.open_before(&self.site.origin).await;
    }

    /// Answers in the gateway's stead, with these bytes or none, until
    /// `polls` polls were so answered.
    async fn answer_instead(&self, polls: usize, bytes: &[u8]) {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(self.site.door),
            socket2::Type::STREAM,
            None,
        )
        .unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.site.door.into()).unwrap();
        socket.listen(16).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let answered = AtomicUsize::new(0);
        let answering = async {
            while answered.load(Ordering::SeqCst) < polls {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                if head
                    .get(..length)
                    .unwrap()
                    .starts_with(b"POST /__sumun/v1/status")
                {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.write_all(bytes).await;
            }
        };
        bounded("polls while the gateway was away", answering).await;
    }
}

fn plan(settings: &str, state: &TempDir) -> Plan {
    let event =
        format!("name = \"Spring sale\"\nlimit = 1\nexclude = [\"/start\", \"/form\"]\n{settings}");
    Plan::event(&event)
        .top("drain_timeout = \"2s\"")
        .state(state.path())
}

/// `/start?to=…` links there, `/form` holds a form; every other page is a
/// heading with its own path.
fn page_of_the_shop(seen: &Seen) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let within = match path {
        "/start" => {
            let to = query.replace("to=", "").replace("%23", "#");
            format!("<a id=link href=\"{to}\">to the tickets</a>")
        }
        "/form" => "<form method=post action=/order><input name=seat value=7>\
            <button id=send>Order</button></form>"
            .to_owned(),
        path => format!("<h1 id=site>{path}</h1>"),
    };
    let html = format!(
        "<!doctype html><meta charset=utf-8><link rel=icon href=\"data:,\"><title>The site</title>{within}"
    );
    Reply::text(html).with("content-type", "text/html")
}

/// Somebody leaves: the slot is free.
async fn complete(visitor: &mut Visitor) {
    let ask = Ask::fetch("/__sumun/v1/complete").method(Method::POST);
    assert_eq!(visitor.send(ask).await.status, 200);
}
