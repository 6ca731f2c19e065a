//! A session that began at one gateway and is met by another one that does
//! not remember it: two gateways on one store, whose clock is moved by hand.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use sumun::api::queue::PublicDoor;
use sumun::clock::Clock;
use sumun::config::Config;
use sumun::controller::Controller;
use sumun::ledger::{Ledger, Ledgers};
use sumun::metrics::Metrics;
use sumun::reception::{Reception, Site};
use sumun::room::routes::Routes;
use sumun::room::time::Timestamp;
use sumun::store::{MemoryStore, Store};
use sumun::visitor::address::TrustedProxies;

use sumun::token::{Pass, Token, Verdict};

use crate::support::{MORNING_MS, bench, ring};

const KEY: &str = "Bearer a-secret-of-the-customers-own-server";

struct Gateway {
    ledger: Arc<Ledger>,
    controller: Controller,
    door: PublicDoor,
}

struct Town {
    clock: Clock,
    store: Store,
    here: Gateway,
    there: Gateway,
}

impl Gateway {
    fn open(name: &str, config: &Config, store: &Store, clock: &Clock) -> Self {
        let event = config.events[0].clone();
        let metrics = Arc::new(Metrics::default());
        let ledger = Ledger::open(event, store, name, clock.clone(), &metrics);
        let bench = Arc::new(bench(store, name, &metrics));
        let controller = Controller::new(bench, Arc::clone(&ledger));
        let reception = Arc::new(Reception::new(ring(&["a"]), metrics, clock.clone()));
        reception.site.store(Arc::new(Site {
            ledgers: Ledgers::new(vec![Arc::clone(&ledger)]),
            routes: Routes::new(&[], &[]),
        }));
        Self {
            ledger,
            controller,
            door: PublicDoor::new(reception, &config.api),
        }
    }

    /// The customer's own server asks.
    async fn ask(&self, call: &str, body: &Value) -> Value {
        let request = Request::post(format!("/__sumun/v1/{call}"))
            .header("host", "shop.example")
            .header("authorization", KEY)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let peer = "127.0.0.1:9".parse().unwrap();
        let visitor = TrustedProxies::default().visitor(peer, false, &HeaderMap::new());
        let answer = self.door.answer(request, visitor).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// Enters by an id of the customer's.
    async fn enter(&self, id: &str) -> Value {
        self.ask("enter", &json!({ "eventId": "main", "id": id }))
            .await
    }

    async fn verify(&self, said: &Value) -> Value {
        let token = &said["successToken"];
        self.ask("verify", &json!({ "successToken": token })).await
    }
}

impl Town {
    /// One event of these settings (lines of TOML).
    async fn with(settings: &str) -> Self {
        let text = format!(
            "origin = \"http://127.0.0.1:1\"\nstate_dir = \"\"\n[api]\n\
             keys = [{{ id = \"shop\", secret = \"a-secret-of-the-customers-own-server\" }}]\n\
             [[event]]\nid = \"main\"\n{settings}"
        );
        let config = Config::parse(&text, std::iter::empty()).unwrap();
        let clock = Clock::manual(MORNING_MS);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let mut town = Self {
            here: Gateway::open("here", &config, &store, &clock),
            there: Gateway::open("there", &config, &store, &clock),
            clock,
            store,
        };
        town.pass(2).await;
        town
    }

    /// Lets seconds pass, with the looks of both controllers.
    async fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.clock.advance(500);
            self.here.controller.pass().await;
            self.there.controller.pass().await;
        }
    }

    /// When the only session ends, by the store.
    async fn ends(&self) -> Timestamp {
        let dump = self
            .store
            .dump(&self.here.ledger.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(dump.active.len(), 1);
        *dump.active.values().next().unwrap()
    }
}

#[tokio::test]
async fn verify_looks_at_a_session_that_this_gateway_does_not_remember_and_extends_nothing() {
    let mut town = Town::with("limit = 1\nsession_idle = \"10m\"").await;
    let said = town.here.enter("customer").await;
    assert_eq!(said["status"], "ENTER");
    let ends = town.ends().await;
    town.pass(20).await;

    let verified = town.there.verify(&said).await;
    assert_eq!(verified["valid"], true);
    assert_eq!(town.ends().await, ends, "it was only asked about");
    town.pass(5).await;
    assert_eq!(town.there.verify(&said).await["valid"], true);
    assert_eq!(town.ends().await, ends);

    // Who was verified and is then heard from is extended at once.
    let token = json!({ "successToken": said["successToken"] });
    assert_eq!(town.there.ask("touch", &token).await["valid"], true);
    assert!(town.ends().await > Timestamp(ends.0 + 500_000));
}

#[tokio::test]
async fn a_session_that_is_only_asked_about_ends_in_its_time() {
    let mut town = Town::with("limit = 1").await;
    let said = town.here.enter("customer").await;
    for _ in 0..7 {
        town.pass(5).await;
        town.there.verify(&said).await;
    }
    let verified = town.there.verify(&said).await;
    assert_eq!(
        (&verified["valid"], &verified["expiresAt"]),
        (&json!(false), &Value::Null)
    );
}

fn pass(said: &Value) -> Pass {
    assert_eq!(said["status"], "ENTER", "{said}");
    match ring(&["a"]).verify(said["pass"].as_str().unwrap()) {
        Verdict::Good(Token::Pass(pass)) => pass,
        other => panic!("{other:?}"),
    }
}

async fn touch(town: &Town, said: &Value) {
    let token = json!({ "successToken": said["successToken"] });
    assert_eq!(town.here.ask("touch", &token).await["valid"], true);
}

#[tokio::test]
async fn a_session_found_by_its_id_began_when_it_began() {
    let mut town = Town::with("limit = 1").await;
    let said = town.here.enter("customer").await;
    let first = pass(&said);
    touch(&town, &said).await;
    town.pass(120).await;
    let again = pass(&town.there.enter("customer").await);
    assert_eq!(again.session, first.session);
    assert_eq!(again.begun, first.begun);
    assert!(again.issued_at >= first.issued_at + 120);
}

#[tokio::test]
async fn a_claim_repeated_elsewhere_begins_no_session_anew() {
    let mut town = Town::with("limit = 1").await;
    let walked_in = town.here.ask("enter", &json!({ "eventId": "main" })).await;
    let waiting = town.here.ask("enter", &json!({ "eventId": "main" })).await;
    assert_eq!(waiting["status"], "WAIT");
    let token = json!({ "successToken": walked_in["successToken"] });
    town.here.ask("complete", &token).await;
    town.pass(3).await;
    let poll = json!({ "eventId": "main", "ticket": waiting["ticket"] });
    let said = town.here.ask("status", &poll).await;
    let first = pass(&said);
    touch(&town, &said).await;
    town.pass(120).await;

    let again = pass(&town.there.ask("status", &poll).await);
    assert_eq!(again.session, first.session);
    let Verdict::Good(Token::Ticket(ticket)) =
        ring(&["a"]).verify(waiting["ticket"].as_str().unwrap())
    else {
        panic!("no ticket");
    };
    assert_eq!(again.begun, ticket.issued_at);
    assert!(again.begun <= first.begun);
}
