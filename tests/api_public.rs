//! The API's public door over real sockets: its own server with the embedded
//! store and a clock moved by hand. What is asserted is what was answered.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sumun::api::queue::PublicDoor;
use sumun::clock::Clock;
use sumun::config::{Api, ApiKey};
use sumun::controller::{Bench, Controller};
use sumun::ledger::{Ledger, Ledgers};
use sumun::metrics::Metrics;
use sumun::reception::{Reception, Site};
use sumun::room::event::{EventId, EventSettings, Mode, Secret};
use sumun::room::routes::Routes;
use sumun::room::ticket::{Generation, Number};
use sumun::store::{MemoryStore, Store};
use sumun::token::{Key, Keyring, Ticket, Token};
use sumun::visitor::address::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

// ------------------------------------------------------------------- the door

const START_MS: u64 = 1_790_000_000_000;
const SECRET: &[u8] = b"a-secret-secret-secret-secret-secret";

struct World {
    address: SocketAddr,
    clock: Clock,
    store: Store,
    reception: Arc<Reception>,
    controllers: Vec<Controller>,
}

fn keyring(id: &str) -> Keyring {
    Keyring::new(vec![Key::new(id, SECRET).unwrap()])
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
        let clock = Clock::manual(START_MS);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let metrics = Arc::new(Metrics::default());
        let reception = Arc::new(Reception::new(
            keyring("a"),
            Arc::clone(&metrics),
            clock.clone(),
        ));
        let bench = Arc::new(Bench {
            store: store.clone(),
            gateway: "gateway".into(),
            keys: vec!["a".into()],
            config: arc_swap::ArcSwap::default(),
            metrics: Arc::clone(&metrics),
            catalog_read: std::sync::atomic::AtomicBool::new(true),
        });
        let ledgers: Vec<Arc<Ledger>> = events
            .into_iter()
            .map(|event| Ledger::open(event, &store, "gateway", clock.clone(), &metrics))
            .collect();
        let controllers = ledgers
            .iter()
            // No controller looks after this one: its store is away.
            .filter(|ledger| ledger.id.as_str() != "dark")
            .map(|ledger| Controller::new(Arc::clone(&bench), Arc::clone(ledger)))
            .collect();
        let site = Site {
            ledgers: Ledgers::new(ledgers),
            routes: Routes::new(&[], &[]),
        };
        reception.site.store(Arc::new(site));
        let door = Rc::new(PublicDoor::new(Arc::clone(&reception), &api));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut world = Self {
            address: listener.local_addr().unwrap(),
            clock,
            store,
            reception,
            controllers,
        };
        tokio::task::spawn_local(accept(listener, door));
        world.pass(2).await;
        world
    }

    /// Lets half seconds go by, with the controllers' work.
    async fn pass(&mut self, halves: usize) {
        for _ in 0..halves {
            self.clock.advance(500);
            for controller in &mut self.controllers {
                controller.pass().await;
                controller.pass().await;
            }
        }
    }

    fn ledger(&self, id: &str) -> Arc<Ledger> {
        Arc::clone(self.reception.site.load().ledgers.get(id).unwrap())
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if headers.iter().all(|(name, _)| *name != "host") {
            text.push_str("host: shop.example\r\n");
        }
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // A refusal may come before all of a large body was taken.
        let _ = socket.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(60), read)
            .await
            .expect("an answer");
        Reply::parse(&answer)
    }

    async fn post(&self, call: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let path = format!("/__sumun/v1/{call}");
        self.send("POST", &path, headers, &body.to_string()).await
    }

    async fn enter(&self) -> Reply {
        self.post("enter", &[], json!({ "eventId": "main" })).await
    }

    async fn poll(&self, ticket: &str) -> Reply {
        let body = json!({ "eventId": "main", "ticket": ticket });
        self.post("status", &[], body).await
    }

    async fn complete(&self, success: &str) -> Reply {
        self.post("complete", &[], json!({ "successToken": success }))
            .await
    }

    fn ticket(&self, change: impl FnOnce(&mut Ticket)) -> String {
        let now = self.ledger("main").now().seconds();
        let mut ticket = Ticket {
            event: EventId::new("main").unwrap(),
            scope: None,
            visitor: "visitor".into(),
            issued_at: now,
            expires: now + 600,
            number: Number::first_of_second(START_MS / 1000),
            generation: Generation(0),
            position: None,
            called: false,
            next_poll: now,
            since: now,
            estimate: None,
        };
        change(&mut ticket);
        keyring("a").sign(&Token::Ticket(ticket), &[]).unwrap()
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

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn parse(answer: &[u8]) -> Self {
        let text = String::from_utf8(answer.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self {
            status: status.parse().unwrap(),
            headers: lines.map(header).collect(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn text(&self, field: &str) -> String {
        let json = self.json();
        json[field]
            .as_str()
            .unwrap_or_else(|| panic!("{field} of {self:?}"))
            .to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The cookie that this sets, as a `Cookie` header.
    fn cookie(&self) -> String {
        let set = self.header("set-cookie").expect("a cookie");
        set.split(';').next().unwrap().to_owned()
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

fn number(token: &str) -> u64 {
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["num"].as_u64().expect("a ticket")
}

const OWN_PAGE: (&str, &str) = ("origin", "http://shop.example");

// ------------------------------------------------------------- enter and poll

#[tokio::test]
async fn where_nobody_waits_a_visitor_enters_with_everything_that_proves_it() {
    LocalSet::new()
        .run_until(async {
            let events = one_slot(|event| event.success_url = Some("https://pay.example/".into()));
            let world = World::open(events, api(&[], &[])).await;
            let inside = world.enter().await;
            inside.is(200, "ENTER");
            let json = inside.json();
            assert_eq!(json["successUrl"], "https://pay.example/");
            for field in [
                "reason",
                "retryAfterMs",
                "expectedInfo",
                "ticket",
                "pollAfterMs",
            ] {
                assert!(json[field].is_null(), "{field}");
            }
            assert!(json["pass"].is_string() && json["successToken"].is_string());
            assert_eq!(inside.header("sumun-status"), Some("enter"));
            assert_eq!(inside.header("cache-control"), Some("no-store"));
            assert_eq!(inside.header("x-content-type-options"), Some("nosniff"));
            // No page sent it: nothing but the body carries the pass.
            assert_eq!(inside.header("set-cookie"), None);
            // The pass itself is a credential of the header, and of the field.
            let pass = inside.text("pass");
            let by_header = world
                .send(
                    "GET",
                    "/__sumun/v1/status?eventId=main",
                    &[("sumun-token", &pass)],
                    "",
                )
                .await;
            by_header.is(200, "ENTER");
            assert!(by_header.header("sumun-token").is_some());
            world.poll(&pass).await.is(200, "ENTER");
        })
        .await;
}

#[tokio::test]
async fn who_waits_is_told_everything_and_enters_when_the_turn_comes() {
    LocalSet::new()
        .run_until(async {
            let events = one_slot(|event| event.message = Some("곧 열립니다".into()));
            let mut world = World::open(events, api(&[], &[])).await;
            let inside = world.enter().await;
            let waits = world.enter().await;
            waits.is(200, "WAIT");
            let order = [
                "id",
                "eventId",
                "status",
                "reason",
                "retryAfterMs",
                "expectedInfo",
                "rank",
                "behind",
                "about",
                "time",
                "seconds",
                "low",
                "high",
                "successUrl",
                "successToken",
                "ticket",
                "pass",
                "pollAfterMs",
                "called",
                "degraded",
                "message",
            ];
            let mut at = 0;
            for field in order {
                let found = waits.body[at..].find(&format!("\"{field}\":"));
                at += found.unwrap_or_else(|| panic!("{field} in {}", waits.body));
            }
            let json = waits.json();
            assert_eq!(json["expectedInfo"]["rank"], 1);
            assert_eq!(
                (&json["called"], &json["degraded"]),
                (&json!(false), &json!(false))
            );
            assert_eq!(json["message"], "곧 열립니다");
            assert!(json["successToken"].is_null() && json["pass"].is_null());
            let after = json["pollAfterMs"].as_u64().unwrap();
            assert!((2_000..4_000).contains(&after), "{after}");

            let ticket = waits.text("ticket");
            world.pass(8).await;
            let still = world.poll(&ticket).await;
            still.is(200, "WAIT");
            assert_eq!(number(&still.text("ticket")), number(&ticket));
            world.complete(&inside.text("successToken")).await;
            world.pass(4).await;
            let ticket = still.text("ticket");
            world.pass(20).await;
            let entered = world.poll(&ticket).await;
            entered.is(200, "ENTER");
            assert_eq!(entered.json()["id"], json["id"]);
            // The same ticket again: the same session, no second slot.
            world.poll(&ticket).await.is(200, "ENTER");
            let metrics = world.reception.metrics.render();
            for polled in ["wait", "enter"] {
                assert!(
                    metrics.contains(&format!(
                        "sumun_polls_total{{event=\"main\",result=\"{polled}\"}}"
                    )),
                    "{metrics}"
                );
            }
        })
        .await;
}

#[tokio::test]
async fn a_poll_before_its_time_is_answered_from_memory_without_effect() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let inside = world.enter().await;
            let ticket = world.enter().await.text("ticket");
            let early = world.poll(&ticket).await;
            early.is(200, "WAIT");
            assert_eq!(early.text("ticket"), ticket);
            assert!(early.json()["pollAfterMs"].as_u64().unwrap() > 1_000);
            // Nor does it claim.
            let (place, now) = (number(&ticket), world.ledger("main").now().seconds());
            let next = world.ticket(|ticket| {
                ticket.number = Number(place);
                ticket.next_poll = now + 20;
            });
            world.complete(&inside.text("successToken")).await;
            world.pass(2).await;
            assert!(
                world.ledger("main").view().unwrap().snapshot.meta.called > Number(number(&next)),
                "called"
            );
            let early = world.poll(&next).await;
            early.is(200, "WAIT");
            assert_eq!(early.text("ticket"), next);
            let metrics = world.reception.metrics.render();
            assert!(metrics.contains("result=\"early\"} 2"), "{metrics}");
            world.pass(36).await;
            world.poll(&next).await.is(200, "ENTER");
        })
        .await;
}

#[tokio::test]
async fn a_called_ticket_without_a_slot_asks_the_store_once_a_second() {
    LocalSet::new()
        .run_until(async {
            let two = one_slot(|event| event.limit = Some(2));
            let mut world = World::open(two, api(&[], &[])).await;
            let inside = [world.enter().await, world.enter().await];
            let first = world.enter().await.text("ticket");
            let second = world.enter().await.text("ticket");
            world.pass(6).await;
            for inside in inside {
                world.complete(&inside.text("successToken")).await;
            }
            world.pass(2).await;
            // Both were called, and then one slot was taken away.
            world.ledger("main").change(one_slot(|_| ()).remove(0));
            world.pass(2).await;
            let entered = world.poll(&first).await;
            entered.is(200, "ENTER");
            let held = world.poll(&second).await;
            held.is(200, "WAIT");
            assert_eq!(held.json()["called"], true);
            world.complete(&entered.text("successToken")).await;
            // The slot is free, but this ticket asked a moment ago.
            let ticket = held.text("ticket");
            world.poll(&ticket).await.is(200, "WAIT");
            world.pass(2).await;
            world.poll(&ticket).await.is(200, "ENTER");
        })
        .await;
}

// ----------------------------------------------------- cookies, tabs and pages

#[tokio::test]
async fn a_page_of_this_host_keeps_its_place_and_its_pass_in_a_cookie() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let inside = world.enter().await;
            let body = json!({ "eventId": "main" });
            let waits = world.post("enter", &[OWN_PAGE], body.clone()).await;
            waits.is(200, "WAIT");
            let set = waits.header("set-cookie").unwrap();
            assert!(
                set.starts_with("sumun_main=") && set.contains("HttpOnly"),
                "{set}"
            );
            let cookie = waits.cookie();
            world.pass(8).await;
            let polled = world
                .send(
                    "GET",
                    "/__sumun/v1/status?eventId=main&_=1",
                    &[("cookie", &cookie)],
                    "",
                )
                .await;
            polled.is(200, "WAIT");
            let cookie = polled.cookie();
            assert_eq!(
                number(&polled.text("ticket")),
                number(&waits.text("ticket"))
            );
            // The same place again, not another one.
            let again = world
                .post("enter", &[OWN_PAGE, ("cookie", &cookie)], body.clone())
                .await;
            assert_eq!(number(&again.text("ticket")), number(&waits.text("ticket")));
            world.complete(&inside.text("successToken")).await;
            world.pass(24).await;
            let entered = world
                .post("status", &[OWN_PAGE, ("cookie", &cookie)], body.clone())
                .await;
            entered.is(200, "ENTER");
            // A living pass in the cookie enters at once, whatever the page holds.
            let pass = entered.cookie();
            let ticket = again.text("ticket");
            let at_once = world
                .post(
                    "status",
                    &[OWN_PAGE, ("cookie", &pass)],
                    json!({ "eventId": "main", "ticket": ticket }),
                )
                .await;
            at_once.is(200, "ENTER");
            // Over a trusted proxy's TLS the cookie is this host's own.
            let secure = world
                .post(
                    "enter",
                    &[
                        ("origin", "https://shop.example"),
                        ("x-forwarded-proto", "https"),
                    ],
                    body,
                )
                .await;
            let set = secure.header("set-cookie").unwrap();
            assert!(set.starts_with("__Host-sumun_main="), "{set}");
        })
        .await;
}

#[tokio::test]
async fn of_two_tabs_the_earlier_place_counts_and_the_other_is_free() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            world.enter().await;
            let body = json!({ "eventId": "main" });
            let one = world.post("enter", &[OWN_PAGE], body.clone()).await;
            let two = world.post("enter", &[OWN_PAGE], body.clone()).await;
            let last = world.post("enter", &[], body).await.text("ticket");
            world.pass(8).await;
            assert_eq!(world.ledger("main").view().unwrap().waiting(), 3);
            // The second tab's answer came last, so its place is the cookie's.
            let merged = world
                .post(
                    "status",
                    &[OWN_PAGE, ("cookie", &two.cookie())],
                    json!({ "eventId": "main", "ticket": one.text("ticket") }),
                )
                .await;
            merged.is(200, "WAIT");
            let earlier = number(&one.text("ticket"));
            assert_eq!(number(&merged.text("ticket")), earlier);
            world.poll(&last).await;
            world.pass(2).await;
            assert_eq!(world.ledger("main").view().unwrap().waiting(), 2);
            world.pass(16).await;
            let second_tab = world
                .post(
                    "status",
                    &[OWN_PAGE, ("cookie", &merged.cookie())],
                    json!({ "eventId": "main", "ticket": two.text("ticket") }),
                )
                .await;
            assert_eq!(number(&second_tab.text("ticket")), earlier);
        })
        .await;
}

#[tokio::test]
async fn no_page_of_another_site_uses_a_visitors_cookie() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &["https://app.example"])).await;
            let body = json!({ "eventId": "main" });
            let inside = world.post("enter", &[OWN_PAGE], body.clone()).await;
            let cookie = inside.cookie();
            let foreign: [&[(&str, &str)]; 4] = [
                &[("origin", "https://evil.example")],
                &[("origin", "null")],
                &[("sec-fetch-site", "cross-site")],
                &[
                    ("origin", "http://shop.example"),
                    ("sec-fetch-site", "same-site"),
                ],
            ];
            for headers in foreign {
                let mut headers = headers.to_vec();
                headers.push(("cookie", &cookie));
                for call in ["enter", "status", "complete", "leave"] {
                    let body = match call {
                        "complete" => json!({}),
                        _ => body.clone(),
                    };
                    let answer = world.post(call, &headers, body).await;
                    answer.is_problem(403, None);
                    assert_eq!(answer.header("set-cookie"), None);
                    assert_eq!(answer.header("access-control-allow-origin"), None);
                }
            }
            // Without the cookie it gets what any stranger gets, and no cookie.
            let stranger = world
                .post("enter", &[("origin", "https://evil.example")], body.clone())
                .await;
            stranger.is(200, "WAIT");
            assert_eq!(stranger.header("set-cookie"), None);
            // One that the operator named may.
            let named = world
                .post(
                    "status",
                    &[("origin", "https://app.example"), ("cookie", &cookie)],
                    body,
                )
                .await;
            named.is(200, "ENTER");
            assert_eq!(
                named.header("access-control-allow-origin"),
                Some("https://app.example")
            );
        })
        .await;
}

#[tokio::test]
async fn who_leaves_frees_the_place_and_loses_the_cookie() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            world.enter().await;
            let body = json!({ "eventId": "main" });
            let waits = world.post("enter", &[OWN_PAGE], body.clone()).await;
            let by_api = world.enter().await.text("ticket");
            let left = world
                .post(
                    "leave",
                    &[OWN_PAGE, ("cookie", &waits.cookie())],
                    body.clone(),
                )
                .await;
            assert_eq!((left.status, left.body.as_str()), (204, ""));
            let gone = left.header("set-cookie").unwrap();
            assert!(
                gone.contains("sumun_main=;") && gone.contains("Max-Age=0"),
                "{gone}"
            );
            let left = json!({ "eventId": "main", "ticket": by_api });
            for _ in 0..2 {
                assert_eq!(world.post("leave", &[], left.clone()).await.status, 204);
            }
            assert_eq!(world.post("leave", &[], body).await.status, 204);
            world.pass(2).await;
            assert_eq!(world.ledger("main").view().unwrap().waiting(), 0);
        })
        .await;
}

// ------------------------------------------------- verify, touch and complete

#[tokio::test]
async fn a_success_token_is_good_as_long_as_its_session_lives() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let inside = world.enter().await;
            let token = inside.text("successToken");
            let shown = json!({ "successToken": token });
            let verified = world.post("verify", &[], shown.clone()).await;
            let json = verified.json();
            assert_eq!((verified.status, &json["valid"]), (200, &json!(true)));
            assert_eq!(
                (&json["id"], &json["eventId"]),
                (&inside.json()["id"], &json!("main"))
            );
            assert!(json["expiresAt"].as_str().unwrap().ends_with('Z'), "{json}");
            assert_eq!(json["successToken"], token);
            // Verifying extends nothing, touching does.
            world.pass(50).await;
            let touched = world.post("touch", &[], shown.clone()).await;
            assert_eq!(touched.json()["valid"], true);
            assert!(touched.json()["successToken"].is_string());
            world.pass(1_000).await;
            let later = world.post("verify", &[], shown.clone()).await;
            assert_eq!(later.json()["valid"], true, "past its own end");
            world.pass(300).await;
            let over = world.post("verify", &[], shown.clone()).await;
            assert_eq!(over.json()["valid"], false);
            assert!(over.json()["expiresAt"].is_null());
            assert_eq!(over.header("sumun-status"), Some("block"));
            assert_eq!(world.post("touch", &[], shown).await.json()["valid"], false);
        })
        .await;
}

#[tokio::test]
async fn who_completes_frees_the_slot_at_once_and_may_say_so_twice() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let first = world.enter().await.text("successToken");
            for _ in 0..2 {
                let done = world.complete(&first).await;
                assert_eq!(done.status, 200);
                assert_eq!(
                    done.json(),
                    json!({ "successToken": first, "completed": true })
                );
            }
            let shown = json!({ "successToken": first });
            for call in ["verify", "touch"] {
                assert_eq!(
                    world.post(call, &[], shown.clone()).await.json()["valid"],
                    false
                );
            }
            let next = world
                .post("enter", &[OWN_PAGE], json!({ "eventId": "main" }))
                .await;
            next.is(200, "ENTER");
            let cookie = next.cookie();
            for _ in 0..2 {
                let done = world
                    .post("complete", &[OWN_PAGE, ("cookie", &cookie)], json!({}))
                    .await;
                assert_eq!(
                    done.json(),
                    json!({ "successToken": null, "completed": true })
                );
            }
            let metrics = world.reception.metrics.render();
            assert!(metrics.contains("reason=\"completed\"} 2"), "{metrics}");
            world.enter().await.is(200, "ENTER");
        })
        .await;
}

#[tokio::test]
async fn with_keys_configured_only_who_holds_one_completes_by_token() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&["s3cret"], &[])).await;
            let inside = world
                .post("enter", &[OWN_PAGE], json!({ "eventId": "main" }))
                .await;
            let token = inside.text("successToken");
            world.complete(&token).await.is_problem(401, None);
            let shown = json!({ "successToken": token });
            for wrong in ["Bearer wrong", "Basic s3cret", "Bearer", "Bearer \u{e9}"] {
                let refused = world
                    .post("complete", &[("authorization", wrong)], shown.clone())
                    .await;
                assert_eq!(refused.status, 401, "{wrong}");
            }
            // The visitor's own page needs none.
            let own = world
                .post(
                    "complete",
                    &[OWN_PAGE, ("cookie", &inside.cookie())],
                    json!({}),
                )
                .await;
            assert_eq!(own.status, 200);
            let key = ("authorization", "bearer s3cret");
            assert_eq!(world.post("complete", &[key], shown).await.status, 200);
        })
        .await;
}

#[tokio::test]
async fn of_passes_of_several_events_the_one_to_complete_is_named() {
    LocalSet::new()
        .run_until(async {
            let events = vec![event("main"), event("sale")];
            let world = World::open(events, api(&[], &[])).await;
            let mut cookies = Vec::new();
            for id in ["main", "sale"] {
                let inside = world
                    .post("enter", &[OWN_PAGE], json!({ "eventId": id }))
                    .await;
                cookies.push(inside.cookie());
            }
            let cookies = cookies.join("; ");
            let headers = [OWN_PAGE, ("cookie", cookies.as_str())];
            let which = world.post("complete", &headers, json!({})).await;
            which.is_problem(400, Some("eventId"));
            let named = json!({ "eventId": "sale" });
            assert_eq!(world.post("complete", &headers, named).await.status, 200);
        })
        .await;
}

// ------------------------------------------------------------------------- ids

#[tokio::test]
async fn without_keys_an_id_is_whoever_comes_first_and_its_ticket_proves_it() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let enter = |id: &str| json!({ "eventId": "main", "id": id });
            let inside = world.post("enter", &[], enter("kim")).await;
            inside.is(200, "ENTER");
            assert_eq!(inside.json()["id"], "kim");
            let waits = world.post("enter", &[], enter("lee")).await;
            waits.is(200, "WAIT");
            for id in ["kim", "lee"] {
                world
                    .post("enter", &[], enter(id))
                    .await
                    .is_problem(409, Some("id"));
                world
                    .post("status", &[], enter(id))
                    .await
                    .is_problem(401, None);
            }
            world.pass(8).await;
            let with =
                |id: &str| json!({ "eventId": "main", "id": id, "ticket": waits.text("ticket") });
            let again = world.post("enter", &[], with("lee")).await;
            again.is(200, "WAIT");
            assert_eq!(number(&again.text("ticket")), number(&waits.text("ticket")));
            // Another's ticket does not speak for an id.
            world
                .post("enter", &[], with("kim"))
                .await
                .is_problem(409, Some("id"));
            // Once inside, the id is taken still; complete frees it.
            let done = json!({ "successToken": inside.text("successToken") });
            world.post("complete", &[], done).await;
            world.pass(24).await;
            let entered = world.poll(&again.text("ticket")).await;
            entered.is(200, "ENTER");
            world
                .post("enter", &[], enter("lee"))
                .await
                .is_problem(409, Some("id"));
            world.complete(&entered.text("successToken")).await;
            world
                .post("enter", &[], enter("lee"))
                .await
                .is(200, "ENTER");
        })
        .await;
}

#[tokio::test]
async fn with_a_key_the_same_id_has_the_same_living_place() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&["other", "s3cret"], &[])).await;
            let key = ("authorization", "Bearer s3cret");
            let enter = |id: &str| json!({ "eventId": "main", "id": id });
            world
                .post("enter", &[], enter("kim"))
                .await
                .is_problem(401, None);
            let inside = world.post("enter", &[key], enter("kim")).await;
            inside.is(200, "ENTER");
            let again = world.post("enter", &[key], enter("kim")).await;
            again.is(200, "ENTER");
            let waits = world.post("enter", &[key, OWN_PAGE], enter("lee")).await;
            waits.is(200, "WAIT");
            assert_eq!(waits.header("set-cookie"), None);
            let same = world.post("enter", &[key], enter("lee")).await;
            assert_eq!(number(&same.text("ticket")), number(&waits.text("ticket")));
            let asked = world.post("status", &[key], enter("lee")).await;
            asked.is(200, "WAIT");
            assert_eq!(asked.json()["expectedInfo"]["rank"], 1);
            world
                .post("status", &[], enter("lee"))
                .await
                .is_problem(401, None);
            world
                .post("status", &[key], enter("park"))
                .await
                .is_problem(404, Some("id"));
            world
                .complete(&inside.text("successToken"))
                .await
                .is_problem(401, None);
            let done = json!({ "successToken": again.text("successToken") });
            world.post("complete", &[key], done).await;
            world.pass(4).await;
            let entered = world.post("status", &[key], enter("lee")).await;
            entered.is(200, "ENTER");
            // The id has moved on to its session.
            world
                .post("enter", &[key], enter("lee"))
                .await
                .is(200, "ENTER");
            assert!(world.ledger("main").view().unwrap().snapshot.sessions <= 1);
        })
        .await;
}

// -------------------------------------------------------------- what is refused

#[tokio::test]
async fn bad_input_is_told_by_its_field() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let long = "x".repeat(129);
            let cases: [(&str, String, u16, Option<&str>); 17] = [
                ("enter", "{".into(), 400, None),
                ("enter", "[]".into(), 400, None),
                ("enter", "\"main\"".into(), 400, None),
                ("enter", "\u{1}".into(), 400, None),
                ("enter", String::new(), 400, Some("eventId")),
                ("enter", r#"{"eventId":7}"#.into(), 400, Some("eventId")),
                ("enter", r#"{"eventId":null}"#.into(), 400, Some("eventId")),
                ("enter", r#"{"eventId":"No!"}"#.into(), 400, Some("eventId")),
                (
                    "enter",
                    r#"{"eventId":"none"}"#.into(),
                    404,
                    Some("eventId"),
                ),
                (
                    "enter",
                    r#"{"eventId":"main","tiket":"x"}"#.into(),
                    400,
                    Some("tiket"),
                ),
                (
                    "enter",
                    r#"{"eventId":"main","ticket":[]}"#.into(),
                    400,
                    Some("ticket"),
                ),
                (
                    "enter",
                    r#"{"eventId":"main","id":""}"#.into(),
                    400,
                    Some("id"),
                ),
                (
                    "enter",
                    r#"{"eventId":"main","id":"a\nb"}"#.into(),
                    400,
                    Some("id"),
                ),
                (
                    "enter",
                    json!({ "eventId": "main", "id": long }).to_string(),
                    400,
                    Some("id"),
                ),
                ("verify", "{}".into(), 400, Some("successToken")),
                (
                    "touch",
                    r#"{"successToken":false}"#.into(),
                    400,
                    Some("successToken"),
                ),
                ("complete", "{}".into(), 401, Some("successToken")),
            ];
            for (call, body, status, field) in cases {
                let path = format!("/__sumun/v1/{call}");
                let answer = world.send("POST", &path, &[], &body).await;
                answer.is_problem(status, field);
            }
        })
        .await;
}

#[tokio::test]
async fn a_body_too_large_and_a_query_with_two_readings_are_refused() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let large = json!({ "eventId": "main", "ticket": "x".repeat(16 * 1024) });
            world.post("enter", &[], large).await.is_problem(413, None);
            let twice = "/__sumun/v1/status?eventId=main&eventId=sale";
            world
                .send("GET", twice, &[], "")
                .await
                .is_problem(400, Some("eventId"));
        })
        .await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_once_it_is_forged_foreign_old_or_used() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let inside = world.enter().await;
            let nothing = [
                String::new(),
                "x".into(),
                "a.b.c".into(),
                "\u{0}".into(),
                "x".repeat(8_000),
                world.ticket(|_| ()).replace('.', ".A"),
                world.ticket(|ticket| ticket.event = EventId::new("sale").unwrap()),
                world.ticket(|ticket| ticket.scope = Some("other.example".into())),
            ];
            for token in nothing {
                let answer = world.poll(&token).await;
                answer.is_problem(401, Some("ticket"));
                assert!(!answer.body.contains("x.x"), "tokens are not repeated");
            }
            let past = [
                world.ticket(|ticket| ticket.expires = 1),
                world.ticket(|ticket| ticket.number = Number(1 << 52)),
            ];
            for token in past {
                world.poll(&token).await.is_problem(410, Some("ticket"));
            }
            // A token without a scope is no cookie.
            let ticket = world.ticket(|_| ());
            let cookie = format!("sumun_main={ticket}");
            let body = json!({ "eventId": "main" });
            let answer = world
                .post("status", &[OWN_PAGE, ("cookie", &cookie)], body)
                .await;
            answer.is_problem(401, Some("ticket"));
            // Another gateway may know the key: the cookie must survive.
            let now = world.ledger("main").now().seconds();
            let ticket = Ticket {
                event: EventId::new("main").unwrap(),
                scope: None,
                visitor: "visitor".into(),
                issued_at: now,
                expires: now + 600,
                number: Number(7),
                generation: Generation(0),
                position: None,
                called: false,
                next_poll: now,
                since: now,
                estimate: None,
            };
            let strange = keyring("b").sign(&Token::Ticket(ticket), &[]).unwrap();
            for call in ["enter", "status", "leave"] {
                let body = json!({ "eventId": "main", "ticket": strange });
                let answer = world.post(call, &[OWN_PAGE], body).await;
                answer.is_problem(503, None);
                assert!(answer.header("retry-after").is_some());
                assert_eq!(answer.header("set-cookie"), None);
            }
            // Used: for a poll it is gone, who enters anew begins at the end.
            let used = world.enter().await.text("ticket");
            world.complete(&inside.text("successToken")).await;
            world.pass(12).await;
            let entered = world.poll(&used).await;
            world.complete(&entered.text("successToken")).await;
            world.pass(2).await;
            world.poll(&used).await.is_problem(410, Some("ticket"));
            let body = json!({ "eventId": "main", "ticket": used });
            world.post("enter", &[], body).await.is(200, "ENTER");
        })
        .await;
}

#[tokio::test]
async fn a_ticket_is_never_a_success_token_nor_the_other_way_round() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let inside = world.enter().await;
            let ticket = world.enter().await.text("ticket");
            for token in [ticket.as_str(), &inside.text("pass"), "x"] {
                let shown = json!({ "successToken": token });
                let verified = world.post("verify", &[], shown.clone()).await.json();
                assert_eq!(verified["valid"], false);
                assert!(verified["id"].is_null() && verified["eventId"].is_null());
                world
                    .post("complete", &[], shown)
                    .await
                    .is_problem(401, Some("successToken"));
            }
        })
        .await;
}

#[tokio::test]
async fn too_many_newcomers_from_an_address_are_asked_to_come_again() {
    LocalSet::new()
        .run_until(async {
            let events = one_slot(|event| event.joins_per_address_per_minute = 2);
            let mut world = World::open(events, api(&["s3cret"], &[])).await;
            world.enter().await.is(200, "ENTER");
            world.pass(1).await;
            for _ in 0..2 {
                world.enter().await.is(200, "WAIT");
            }
            let blocked = world.enter().await;
            blocked.is(429, "BLOCK");
            assert_eq!(blocked.json()["reason"], "RATE_LIMITED");
            assert_eq!(blocked.json()["retryAfterMs"], 10_000);
            assert_eq!(blocked.header("retry-after"), Some("10"));
            // A server that holds a key brings the visitors of many addresses.
            let key = ("authorization", "Bearer s3cret");
            let keyed = world
                .post("enter", &[key], json!({ "eventId": "main" }))
                .await;
            keyed.is(200, "WAIT");
        })
        .await;
}

#[tokio::test]
async fn a_full_line_and_a_closed_gate_say_why_and_a_place_is_kept() {
    LocalSet::new()
        .run_until(async {
            let events = one_slot(|event| event.waiting_max = 1);
            let mut world = World::open(events, api(&[], &[])).await;
            let inside = world.enter().await;
            let ticket = world.enter().await.text("ticket");
            world.pass(8).await;
            let full = world.enter().await;
            full.is(200, "BLOCK");
            assert_eq!(full.json()["reason"], "FULL");
            assert!(full.json()["ticket"].is_null());
            let closing = one_slot(|event| event.mode = Mode::Closed).remove(0);
            world.ledger("main").change(closing);
            world.pass(2).await;
            let closed = world.enter().await;
            closed.is(200, "BLOCK");
            assert_eq!(closed.json()["reason"], "CLOSED");
            let kept = world.poll(&ticket).await;
            kept.is(200, "BLOCK");
            assert_eq!(number(&kept.text("ticket")), number(&ticket));
            assert!(kept.json()["retryAfterMs"].as_u64().unwrap() <= 60_000);
            // Who is inside stays inside.
            world.poll(&inside.text("pass")).await.is(200, "ENTER");
            let opened = one_slot(|_| ()).remove(0);
            world.ledger("main").change(opened);
            world.pass(2).await;
            world.poll(&kept.text("ticket")).await.is(200, "WAIT");
        })
        .await;
}

#[tokio::test]
async fn while_the_store_is_away_places_are_given_and_kept_and_it_says_so() {
    LocalSet::new()
        .run_until(async {
            let mut dark = event("dark");
            dark.limit = Some(1);
            let world = World::open(vec![dark, event("main")], api(&["s3cret"], &[])).await;
            let enter = json!({ "eventId": "dark" });
            let waits = world.post("enter", &[], enter.clone()).await;
            waits.is(200, "WAIT");
            assert_eq!(waits.json()["degraded"], true);
            assert_eq!(waits.header("sumun-degraded"), Some("store"));
            assert!(waits.json()["expectedInfo"]["rank"].is_null());
            let poll = json!({ "eventId": "dark", "ticket": waits.text("ticket") });
            world
                .post("status", &[], poll.clone())
                .await
                .is(200, "WAIT");
            let left = world.post("leave", &[], poll).await;
            left.is_problem(503, None);
            assert_eq!(left.header("sumun-degraded"), Some("store"));
            let named = json!({ "eventId": "dark", "id": "kim" });
            let key = ("authorization", "Bearer s3cret");
            world
                .post("enter", &[key], named)
                .await
                .is_problem(503, None);
        })
        .await;
}

// --------------------------------------------- the waiting page, keys and doors

#[tokio::test]
async fn a_visitor_sent_to_wait_waits_here_and_goes_on_inside() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let html = ("accept", "text/html");
            let path = "/__sumun/wait?event=main&return=%2Fpay%3Fx%3D1&utm_source=mail";
            let calm = world.send("GET", path, &[html], "").await;
            assert_eq!(
                (calm.status, calm.header("location")),
                (303, Some("/pay?x=1"))
            );
            let pass = calm.cookie();
            // From a mail, from anywhere: it is a visit.
            let far = [
                html,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-dest", "document"),
            ];
            let waits = world.send("GET", path, &far, "").await;
            assert_eq!(waits.status, 503);
            assert_eq!(waits.header("sumun-status"), Some("wait"));
            assert_eq!(waits.header("cache-control"), Some("no-store"));
            assert!(waits.header("content-security-policy").is_some());
            assert!(waits.body.contains("/pay?x=1") || waits.body.contains("pay?x=1"));
            let cookie = waits.cookie();
            let again = world
                .send("GET", path, &[html, ("cookie", &cookie)], "")
                .await;
            assert_eq!(number(&cookie), number(&again.cookie()));
            let inside = world
                .send("GET", path, &[html, ("cookie", &pass)], "")
                .await;
            assert_eq!(inside.status, 303);
            world
                .post("complete", &[OWN_PAGE, ("cookie", &pass)], json!({}))
                .await;
            world.pass(24).await;
            let entered = world
                .send("GET", path, &[html, ("cookie", &cookie)], "")
                .await;
            assert_eq!(entered.status, 303);
            let evil = "/__sumun/wait?event=main&return=%2F%2Fevil.example";
            let entered = world
                .send("GET", evil, &[html, ("cookie", &entered.cookie())], "")
                .await;
            assert_eq!(entered.header("location"), Some("/"));
            let bot = [("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")];
            world
                .send("GET", path, &bot, "")
                .await
                .is_problem(503, None);
            let prefetch = [html, ("sec-purpose", "prefetch")];
            world
                .send("GET", path, &prefetch, "")
                .await
                .is_problem(503, None);
            let none = "/__sumun/wait?event=none&return=/";
            world
                .send("GET", none, &[html], "")
                .await
                .is_problem(404, Some("event"));
        })
        .await;
}

#[tokio::test]
async fn strangers_check_a_success_token_with_the_published_key() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let keys = world.send("GET", "/__sumun/v1/keys", &[], "").await;
            let key = &keys.json()["keys"][0];
            assert_eq!((&key["alg"], &key["kid"]), (&json!("ES256"), &json!("a.s")));
            let token = world.enter().await.text("successToken");
            let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
            rules.set_audience(&["success"]);
            rules.validate_exp = false;
            let with = jsonwebtoken::DecodingKey::from_ec_components(
                key["x"].as_str().unwrap(),
                key["y"].as_str().unwrap(),
            )
            .unwrap();
            let claims = jsonwebtoken::decode::<Value>(&token, &with, &rules)
                .unwrap()
                .claims;
            assert_eq!(
                (&claims["evt"], &claims["iss"]),
                (&json!("main"), &json!("sumun"))
            );
        })
        .await;
}

#[tokio::test]
async fn each_path_has_its_methods_and_nothing_else_is_here() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &["https://app.example"])).await;
            for path in [
                "/__sumun/",
                "/__sumun",
                "/__sumun/v1/",
                "/__sumun/v2/enter",
                "/__sumun/V1/enter",
            ] {
                world.send("GET", path, &[], "").await.is_problem(404, None);
            }
            for (method, path, allow) in [
                ("GET", "v1/enter", "POST, OPTIONS"),
                ("DELETE", "v1/status", "GET, POST, OPTIONS"),
                ("POST", "v1/keys", "GET, HEAD, OPTIONS"),
                ("POST", "wait", "GET, OPTIONS"),
                ("TRACE", "livez", "GET, HEAD, OPTIONS"),
            ] {
                let answer = world
                    .send(method, &format!("/__sumun/{path}"), &[], "")
                    .await;
                answer.is_problem(405, None);
                assert_eq!(answer.header("allow"), Some(allow));
            }
            let ask = [
                ("origin", "https://app.example"),
                ("access-control-request-method", "POST"),
            ];
            let preflight = world.send("OPTIONS", "/__sumun/v1/enter", &ask, "").await;
            assert_eq!(preflight.status, 204);
            assert_eq!(
                preflight.header("access-control-allow-origin"),
                Some("https://app.example")
            );
            assert_eq!(
                preflight.header("access-control-allow-credentials"),
                Some("true")
            );
            let allowed = preflight.header("access-control-allow-headers").unwrap();
            assert!(allowed.contains("content-type"), "{allowed}");
            let evil = [
                ("origin", "https://evil.example"),
                ("access-control-request-method", "POST"),
            ];
            let preflight = world.send("OPTIONS", "/__sumun/v1/enter", &evil, "").await;
            assert_eq!(preflight.header("access-control-allow-origin"), None);
        })
        .await;
}

#[tokio::test]
async fn a_load_balancer_sees_whether_it_lives_and_is_ready() {
    LocalSet::new()
        .run_until(async {
            let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            let live = world.send("GET", "/__sumun/livez", &[], "").await;
            assert_eq!((live.status, live.json()), (200, json!({ "live": true })));
            let not_yet = world.send("GET", "/__sumun/readyz", &[], "").await;
            assert_eq!(
                (not_yet.status, not_yet.json()),
                (503, json!({ "ready": false }))
            );
            world.reception.set_ready();
            let ready = world.send("GET", "/__sumun/readyz", &[], "").await;
            assert_eq!(
                (ready.status, ready.json()),
                (200, json!({ "ready": true }))
            );
            let head = world.send("HEAD", "/__sumun/readyz", &[], "").await;
            assert_eq!((head.status, head.body.as_str()), (200, ""));
            world.reception.set_draining();
            let draining = world.send("GET", "/__sumun/readyz", &[], "").await;
            assert_eq!(draining.status, 503);
            assert_eq!(
                world.send("GET", "/__sumun/livez", &[], "").await.status,
                200
            );
        })
        .await;
}

#[tokio::test]
async fn a_reset_makes_every_place_void() {
    LocalSet::new()
        .run_until(async {
            let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
            world.enter().await;
            let ticket = world.enter().await.text("ticket");
            let id = EventId::new("main").unwrap();
            world.store.reset(&id).await.unwrap();
            world.pass(8).await;
            world.poll(&ticket).await.is_problem(410, Some("ticket"));
        })
        .await;
}
