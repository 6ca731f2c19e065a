//! The public door over real sockets: its own server with the embedded store
//! and a clock moved by hand. What is asserted is what was answered.

mod cookies;
mod doors;
mod enter;
mod ids;
mod refused;
mod sessions;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sumun::api::queue::PublicDoor;
use sumun::config::{Api, ApiKey};
use sumun::ledger::Ledger;
use sumun::room::event::{EventId, EventSettings};
use sumun::room::secret::Secret;
use sumun::room::ticket::{Generation, Number};
use sumun::token::{Ticket, Token};
use sumun::visitor::address::TrustedProxies;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::{Answer, Call, Clockwork, MORNING_MS, data_thread, ring};

/// What a browser says of a page of this host.
const OWN_PAGE: (&str, &str) = ("origin", "http://shop.example");

/// The public door and what stands behind it.
struct World {
    address: SocketAddr,
    work: Clockwork,
    /// The door is shut when this goes.
    _open: oneshot::Sender<()>,
}

fn event(id: &str) -> EventSettings {
    EventSettings::new(EventId::new(id).unwrap())
}

/// Event `main` with one slot, unless changed.
fn one_slot(change: impl FnOnce(&mut EventSettings)) -> Vec<EventSettings> {
    let mut settings = event("main");
    settings.limit = Some(1);
    change(&mut settings);
    vec![settings]
}

fn api(keys: &[&str], origins: &[&str]) -> Api {
    let key = |secret: &&str| ApiKey {
        id: "shop".into(),
        secret: Secret::new(*secret),
    };
    Api {
        keys: keys.iter().map(key).collect(),
        cors_origins: origins.iter().map(ToString::to_string).collect(),
    }
}

impl World {
    async fn open(events: Vec<EventSettings>, api: Api) -> Self {
        let mut work = Clockwork::of(events);
        work.leave_in_the_dark("dark");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, shut) = oneshot::channel();
        let reception = Arc::clone(&work.reception);
        data_thread(move || async move {
            let door = Rc::new(PublicDoor::new(reception, &api));
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::select! {
                () = accept(listener, door) => {}
                _ = shut => {}
            }
        });
        let mut world = Self {
            address,
            work,
            _open: open,
        };
        world.pass(2).await;
        world
    }

    /// Lets half seconds go by, with the controllers' work.
    async fn pass(&mut self, halves: usize) {
        for _ in 0..halves {
            self.work.half_a_second(2).await;
        }
    }

    fn ledger(&self, id: &str) -> Arc<Ledger> {
        self.work.ledger(id)
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut call = Call::new(self.address, method, path);
        if headers.iter().all(|(name, _)| *name != "host") {
            call = call.header("host", "shop.example");
        }
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let body = body.to_owned();
        let called = tokio::task::spawn_blocking(move || call.raw(&body));
        called.await.unwrap()
    }

    async fn post(&self, call: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let path = format!("/__sumun/v1/{call}");
        self.send("POST", &path, headers, &body.to_string()).await
    }

    async fn enter(&self) -> Answer {
        self.post("enter", &[], json!({ "eventId": "main" })).await
    }

    async fn poll(&self, ticket: &str) -> Answer {
        let body = json!({ "eventId": "main", "ticket": ticket });
        self.post("status", &[], body).await
    }

    async fn complete(&self, success: &str) -> Answer {
        self.post("complete", &[], json!({ "successToken": success }))
            .await
    }

    /// A place in line that could be, of this moment.
    fn place(&self) -> Ticket {
        let now = self.ledger("main").now().seconds();
        Ticket {
            event: EventId::new("main").unwrap(),
            scope: None,
            visitor: "visitor".into(),
            issued_at: now,
            expires: now + 600,
            number: Number::first_of_second(MORNING_MS / 1000),
            generation: Generation(0),
            position: None,
            called: false,
            next_poll: now,
            since: now,
            estimate: None,
        }
    }

    fn ticket(&self, change: impl FnOnce(&mut Ticket)) -> String {
        let mut ticket = self.place();
        change(&mut ticket);
        ring(&["a"]).sign(&Token::Ticket(ticket), &[]).unwrap()
    }
}

async fn accept(listener: TcpListener, door: Rc<PublicDoor>) {
    loop {
        let (socket, peer) = listener.accept().await.unwrap();
        let door = Rc::clone(&door);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let door = Rc::clone(&door);
            let visitor = TrustedProxies::new(&["loopback"], "").unwrap().visitor(
                peer,
                false,
                request.headers(),
            );
            async move { Ok::<_, Infallible>(door.answer(request, visitor).await.map(Full::new)) }
        });
        tokio::task::spawn_local(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service),
        );
    }
}

impl Answer {
    /// A member of the document.
    #[track_caller]
    fn field(&self, name: &str) -> String {
        let json = self.json();
        let text = json[name].as_str();
        text.unwrap_or_else(|| panic!("{name} of {self:?}"))
            .to_owned()
    }

    #[track_caller]
    fn is(&self, status: u16, word: &str) {
        let found = self.json();
        let found = found["status"].as_str();
        assert_eq!((self.status, found), (status, Some(word)), "{self:?}");
    }

    #[track_caller]
    fn is_problem(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.header("sumun-status"), Some("block"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], status, "{self:?}");
        assert_eq!(json["field"].as_str(), field, "{self:?}");
    }
}
