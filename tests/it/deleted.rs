//! Events that the API deletes: the store keeps nothing of them, other
//! gateways do not bring them back, and what stands in a file is not touched.
//! Two gateways on one store, whose clock is moved by hand.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use sumun::catalog::{Base, Catalog};
use sumun::clock::Clock;
use sumun::config::Config;
use sumun::controller::Bench;
use sumun::metrics::Metrics;
use sumun::reception::Reception;
use sumun::room::event::EventId;
use sumun::store::dump::Dump;
use sumun::store::redis::{RedisSettings, RedisStore};
use sumun::store::{MemoryStore, Put, Store, StoredEvent};

use crate::support::{MORNING_MS, bench, free_address, ring, until};

const MINUTE_MS: u64 = 60_000;
const WEEK_MS: u64 = 7 * 24 * 60 * MINUTE_MS;

struct Town {
    clock: Clock,
    store: Store,
    here: Catalog,
    there: Catalog,
}

/// A gateway whose file has these events.
fn gateway(name: &str, file: &[&str], store: &Store, clock: &Clock) -> Catalog {
    let events = file
        .iter()
        .map(|id| format!("[[event]]\nid = {id:?}\npaths = [\"/{id}\"]\n"));
    let text = format!(
        "origin = \"http://127.0.0.1:1\"\nstate_dir = \"\"\n{}",
        events.collect::<String>()
    );
    let config = Config::parse(&text, std::iter::empty()).unwrap();
    let metrics = Arc::new(Metrics::default());
    let bench = Arc::new(Bench {
        catalog_read: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        ..bench(store, name, &metrics)
    });
    let reception = Arc::new(Reception::new(ring(&["a"]), metrics, clock.clone()));
    let base = Base {
        on_failure: sumun::room::decision::OnFailure::default(),
        written: config.written_events,
        events: config.events,
        pass_hosts: Vec::new(),
    };
    Catalog::new(bench, reception, base)
}

impl Town {
    /// Both gateways have `main` in their file, and this one `here` more.
    async fn with(here: &[&str]) -> Self {
        let clock = Clock::manual(MORNING_MS);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let town = Self {
            here: gateway("here", here, &store, &clock),
            there: gateway("there", &["main"], &store, &clock),
            clock,
            store,
        };
        town.look().await;
        town
    }

    /// Both gateways look at what the API changed.
    async fn look(&self) {
        self.here.refresh().await.unwrap();
        self.there.refresh().await.unwrap();
    }

    async fn put(&self, event: &str, seen: u64, overrides: Option<Value>) {
        let put = self.here.put(&id(event), seen, overrides).await;
        assert_eq!(put, Ok(Put::Done));
    }

    async fn state(&self, event: &str) -> Option<Dump> {
        self.store.dump(&id(event)).await.unwrap()
    }

    /// Waits until a controller has worked on the event at this moment.
    async fn worked_on(&self, event: &str) {
        until("a controller's pass", async || {
            let state = self.state(event).await?;
            (state.meta.raw == self.clock.unix_ms()).then_some(())
        })
        .await;
    }

    /// An event of the API that both gateways worked on, deleted here.
    async fn made_and_deleted(&self) {
        self.put("sale", 0, Some(json!({ "limitCnt": 5 }))).await;
        self.look().await;
        until("both controllers", async || {
            let gateways = self.state("sale").await?.gateways;
            (gateways.len() == 2).then_some(())
        })
        .await;
        // Nothing is deleted in the moment in which it was made.
        self.clock.advance(1);
        self.put("sale", 1, None).await;
    }
}

fn id(event: &str) -> EventId {
    EventId::new(event).unwrap()
}

#[tokio::test]
async fn what_the_store_keeps_of_a_deleted_event_goes_after_a_minute() {
    let town = Town::with(&["main"]).await;
    town.made_and_deleted().await;
    town.look().await;
    // A pass that was under way may have been the last.
    town.clock.advance(MINUTE_MS - 1);
    town.here.bury().await.unwrap();
    assert!(town.state("sale").await.is_some());
    town.clock.advance(1);
    town.there.bury().await.unwrap();
    assert!(town.state("sale").await.is_none());
    assert!(town.here.record("sale").is_none());
    let main = town.state("main").await;
    assert!(main.is_some(), "the others are not touched");

    // Made again, it begins anew and counts its versions on.
    town.put("sale", 2, Some(json!({ "limitCnt": 7 }))).await;
    until("a new state", async || town.state("sale").await).await;
    town.clock.advance(MINUTE_MS);
    town.look().await;
    town.there.bury().await.unwrap();
    assert!(town.state("sale").await.is_some());
}

#[tokio::test]
async fn an_event_that_another_gateway_still_works_on_stands_until_it_has_heard() {
    let town = Town::with(&["main"]).await;
    town.made_and_deleted().await;
    // The other one does not look, and goes on.
    town.clock.advance(2 * MINUTE_MS);
    town.worked_on("sale").await;
    town.here.bury().await.unwrap();
    assert!(town.state("sale").await.is_some());
    town.there.refresh().await.unwrap();
    town.clock.advance(2 * MINUTE_MS);
    town.here.bury().await.unwrap();
    assert!(town.state("sale").await.is_none());
}

#[tokio::test]
async fn an_event_of_a_file_that_lost_its_overrides_is_never_forgotten() {
    let town = Town::with(&["main", "extra"]).await;
    town.put("extra", 0, Some(json!({ "limitCnt": 5 }))).await;
    town.put("extra", 1, None).await;
    until("a state", async || town.state("extra").await).await;
    // Nobody works on it while its gateway is stopped; the other one's file
    // knows nothing of it.
    town.here.rebase(Base::default());
    town.clock.advance(WEEK_MS / 2);
    town.there.refresh().await.unwrap();
    town.there.bury().await.unwrap();
    assert!(town.state("extra").await.is_some());
    assert_eq!(town.store.events().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_tombstone_goes_after_a_week_and_nobody_brings_it_back() {
    let town = Town::with(&["main"]).await;
    town.made_and_deleted().await;
    town.look().await;
    town.clock.advance(WEEK_MS - 1);
    town.here.bury().await.unwrap();
    town.here.bury().await.unwrap();
    assert_eq!(town.store.events().await.unwrap().len(), 1);
    town.clock.advance(1);
    town.here.bury().await.unwrap();
    assert_eq!(town.store.events().await.unwrap(), []);
    assert_eq!(town.here.entries(), 0);
    // The other one remembers it still.
    assert_eq!(town.there.entries(), 1);
    town.look().await;
    assert_eq!(town.store.events().await.unwrap(), []);
    assert_eq!(town.there.entries(), 0);

    town.put("sale", 0, Some(json!({ "limitCnt": 7 }))).await;
    town.look().await;
    let made = town.there.record("sale").expect("it is there again");
    assert_eq!(made.stored.unwrap().version, 1);
}

#[tokio::test]
async fn a_tombstone_that_the_store_lost_is_put_back_on_the_same_day() {
    let town = Town::with(&["main"]).await;
    town.made_and_deleted().await;
    let put = town.store.put_event(&id("sale"), 2, None).await;
    assert_eq!(put, Ok(Put::Done), "as a flush does");
    // The other one, which still knows it living, is not obeyed.
    town.here.refresh().await.unwrap();
    town.there.refresh().await.unwrap();
    assert!(town.there.record("sale").is_none());
}

/// A server whose user `gate` may do all but what forgetting needs.
struct Redis {
    child: std::process::Child,
    url: String,
}

impl Redis {
    async fn start() -> Self {
        let port = free_address().port();
        let child = std::process::Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", ""])
            .args(["--user", "gate", "on", ">pw", "~*", "+@all", "-unlink"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        until("the server", async || {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Self {
            child,
            url: format!("redis://gate:pw@{address}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_store_that_refuses_to_forget_is_not_asked_at_every_look() {
    let redis = Redis::start().await;
    let settings = RedisSettings {
        url: redis.url.clone(),
        prefix: "sumun".to_owned(),
        timeout: std::time::Duration::from_secs(20),
        ca_file: None,
    };
    let store = Store::Redis(RedisStore::connect(&settings).unwrap());
    let tombstone = StoredEvent {
        version: 2,
        overrides: Value::Null,
        created: true,
        created_at: MORNING_MS,
        updated_at: MORNING_MS,
    };
    let put = store.put_event(&id("sale"), 0, Some(&tombstone)).await;
    assert_eq!(put, Ok(Put::Done));
    let clock = Clock::manual(MORNING_MS + MINUTE_MS);
    let gateway = gateway("here", &[], &store, &clock);
    gateway.refresh().await.unwrap();
    for _ in 0..2 {
        let refused = gateway.bury().await.unwrap_err().to_string();
        assert!(refused.contains("UNLINK"), "{refused}");
        assert_eq!(gateway.bury().await, Ok(()), "not again so soon");
        clock.advance(MINUTE_MS);
    }
}
