//! A gateway comes back with what it remembered an hour or a week ago. The
//! clock is moved by hand; ledger, controller and embedded store are the real
//! ones, the store shared by two gateways.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use sumun::clock::Clock;
use sumun::controller::{Bench, Controller};
use sumun::ledger::{Ledger, Remembered};
use sumun::metrics::Metrics;
use sumun::room::event::{EventId, EventSettings};
use sumun::room::snapshot::Meta;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::dump::Dump;
use sumun::store::{Entered, Entrant, MemoryStore, Store};

/// When the clock starts: any moment will do.
const MORNING_MS: u64 = 1_800_000_000_000;

const MINUTE: Duration = Duration::from_secs(60);

fn event() -> EventId {
    EventId::new("main").unwrap()
}

/// A clock and a store; the store may be lost.
struct World {
    clock: Clock,
    store: Store,
}

/// A gateway, without its doors.
struct Gate {
    ledger: Arc<Ledger>,
    controller: Controller,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(MORNING_MS);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "first"));
        Self { clock, store }
    }

    /// The same moment, with a store that knows nothing.
    fn emptied(&self) -> Self {
        let store = Store::Memory(MemoryStore::new(self.clock.clone(), "another"));
        Self {
            clock: self.clock.clone(),
            store,
        }
    }

    /// A gateway of two slots, with what it remembers and how old that is.
    fn gateway(&self, name: &str, memory: Option<(&Remembered, Duration)>) -> Gate {
        let metrics = Arc::new(Metrics::default());
        let settings = EventSettings {
            limit: Some(2),
            ..EventSettings::new(event())
        };
        let ledger = Ledger::open(settings, &self.store, name, self.clock.clone(), &metrics);
        if let Some((remembered, age)) = memory {
            ledger.recall(remembered.clone(), age);
        }
        let bench = Arc::new(Bench {
            store: self.store.clone(),
            gateway: name.to_owned(),
            keys: ArcSwap::from_pointee(vec!["a".to_owned()]),
            config: ArcSwap::default(),
            metrics,
            catalog_read: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
        });
        let controller = Controller::new(bench, Arc::clone(&ledger));
        Gate { ledger, controller }
    }

    /// Lets time pass while these gateways look twice a second.
    async fn pass(&self, time: Duration, gates: &mut [&mut Gate]) {
        for _ in 0..time.as_millis() / 500 {
            self.clock.advance(500);
            for gate in &mut *gates {
                gate.controller.pass().await;
            }
        }
    }

    async fn state(&self) -> Dump {
        self.store.dump(&event()).await.unwrap().unwrap()
    }

    async fn meta(&self) -> Meta {
        self.state().await.meta
    }

    async fn is_inside(&self, session: SessionKey) -> bool {
        self.state().await.active.contains_key(&session)
    }

    async fn lives(&self, number: Number) -> bool {
        let state = self.state().await;
        let live = state.live.get(&number.page());
        live.is_some_and(|(_, bits)| bits.iter().any(|bits| bits.get(number.bit())))
    }
}

impl Gate {
    /// Somebody comes, and is heard from once more.
    async fn comes(&self) -> Result<SessionKey, Number> {
        let entrant = Entrant {
            session: SessionKey(rand::random()),
            id: None,
        };
        match self.ledger.desk.enter(entrant).await.unwrap() {
            Entered::Session {
                key,
                begun,
                expires,
            } => {
                let stay = self.ledger.sessions.stay(key, begun, expires);
                self.ledger.sessions.hear(&stay, self.ledger.now());
                Ok(key)
            }
            Entered::Ticket { number } => {
                self.ledger.heard.hear(number);
                Err(number)
            }
            Entered::Closed => panic!("the gate is closed"),
        }
    }
}

/// Two inside, who came through the first of two gateways, and one in line.
struct Scene {
    world: World,
    gone: Gate,
    other: Gate,
    inside: [SessionKey; 2],
    waiting: Number,
}

impl Scene {
    /// The store is lost, and so much later there is an empty one.
    fn lost_for(&self, time: Duration) -> World {
        self.world
            .clock
            .advance(time.as_millis().try_into().unwrap());
        self.world.emptied()
    }
}

async fn scene() -> Scene {
    let world = World::new();
    let (mut gone, mut other) = (world.gateway("gone", None), world.gateway("other", None));
    world
        .pass(Duration::from_secs(2), &mut [&mut gone, &mut other])
        .await;
    let inside = [gone.comes().await.unwrap(), gone.comes().await.unwrap()];
    let waiting = gone.comes().await.unwrap_err();
    // Long enough for a touch, a beat, and a look at both.
    world
        .pass(Duration::from_secs(6), &mut [&mut gone, &mut other])
        .await;
    assert_eq!(world.meta().await.recoveries, 0);
    Scene {
        world,
        gone,
        other,
        inside,
        waiting,
    }
}

#[tokio::test]
async fn of_a_store_that_lived_on_for_an_hour_nothing_is_pushed() {
    let Scene {
        world,
        gone,
        mut other,
        inside: [ended, idle],
        ..
    } = scene().await;
    let memory = gone.ledger.remembered();
    assert!(other.ledger.desk.end(ended).await.unwrap());
    world.pass(60 * MINUTE, &mut [&mut other]).await;
    let mut back = world.gateway("gone", Some((&memory, 60 * MINUTE)));
    // What a recovery would push at once, had one begun by itself.
    world
        .pass(Duration::from_secs(5), &mut [&mut back, &mut other])
        .await;
    assert_eq!(world.meta().await.recoveries, 0);
    let parts = back.ledger.shadows("gone", 1, false);
    assert!(parts.iter().all(|part| part.sessions.is_empty()));
    assert!(parts.iter().all(|part| part.live.is_empty()));
    assert!(!world.is_inside(ended).await && !world.is_inside(idle).await);
}

#[tokio::test]
async fn an_old_memory_in_the_middle_of_anothers_recovery_brings_nobody_back() {
    let Scene {
        world,
        gone,
        mut other,
        inside: [ended, idle],
        waiting,
    } = scene().await;
    // Kept by the origin for longer than its end will be remembered.
    let now = gone.ledger.now();
    let stay = gone.ledger.sessions.stay(ended, now, now);
    let hour = now.plus(60 * MINUTE);
    let until = gone.ledger.desk.extend(&stay, hour).await.unwrap();
    stay.acknowledge(until.unwrap(), now, MINUTE);
    assert_eq!(stay.acknowledged(), hour);
    let memory = gone.ledger.remembered();
    assert!(other.ledger.desk.end(ended).await.unwrap());
    // Twice as long as a session may be idle: nobody remembers any more who
    // has ended.
    world.pass(21 * MINUTE, &mut [&mut other]).await;
    let kept = other.ledger.remembered();

    // The store is lost, and found by one that remembers all of it.
    let world = world.emptied();
    let mut other = world.gateway("other", Some((&kept, Duration::ZERO)));
    let mut back = world.gateway("gone", Some((&memory, 21 * MINUTE)));
    world
        .pass(Duration::from_millis(500), &mut [&mut other])
        .await;
    world
        .pass(Duration::from_secs(2), &mut [&mut back, &mut other])
        .await;
    assert!(world.meta().await.recovery.is_some());
    for session in [ended, idle] {
        assert!(!world.is_inside(session).await);
    }
    assert!(!world.lives(waiting).await);
}

#[tokio::test]
async fn a_store_lost_and_found_meanwhile_is_not_doubted_for_an_old_memory() {
    let Scene {
        world, gone, other, ..
    } = scene().await;
    let memory = gone.ledger.remembered();
    let kept = other.ledger.remembered();
    let world = world.emptied();
    let mut other = world.gateway("other", Some((&kept, Duration::ZERO)));
    world.pass(30 * MINUTE, &mut [&mut other]).await;
    let before = world.meta().await.recoveries;
    let mut back = world.gateway("gone", Some((&memory, 30 * MINUTE)));
    world
        .pass(Duration::from_secs(5), &mut [&mut back, &mut other])
        .await;
    assert_eq!(world.meta().await.recoveries, before);
    let session = back.comes().await;
    assert!(session.is_ok(), "the slots are free: {session:?}");
}

#[tokio::test]
async fn a_total_outage_of_half_an_hour_takes_nothing_from_anybody() {
    let scene = scene().await;
    let memory = scene.gone.ledger.remembered();
    let (before, called) = (scene.gone.ledger.now(), scene.world.meta().await.called);
    let world = scene.lost_for(30 * MINUTE);
    let mut back = world.gateway("gone", Some((&memory, 30 * MINUTE)));
    // Before the store is asked: no pass has lapsed.
    assert_eq!(back.ledger.now(), before);
    assert!(back.ledger.standing().busy);
    let own = back.ledger.number_without_store().unwrap();
    assert!(own > scene.waiting);
    world.pass(Duration::from_secs(2), &mut [&mut back]).await;
    for session in scene.inside {
        assert!(world.is_inside(session).await);
    }
    assert!(world.lives(scene.waiting).await);
    assert_eq!(world.meta().await.called, called);
    let newcomer = back.comes().await.unwrap_err();
    assert!(newcomer > scene.waiting && newcomer > own);
}

#[tokio::test]
async fn a_memory_of_last_week_raises_nobody_and_still_tells_of_a_reset() {
    let Scene {
        world,
        mut gone,
        inside,
        waiting,
        ..
    } = scene().await;
    let reset = gone.ledger.desk.reset().await.unwrap();
    world.pass(Duration::from_secs(2), &mut [&mut gone]).await;
    gone.ledger.heard.hear(waiting);
    let memory = gone.ledger.remembered();
    let week = 7 * 24 * 60 * MINUTE;
    world.clock.advance(week.as_secs() * 1000);
    let world = world.emptied();
    let mut back = world.gateway("gone", Some((&memory, week)));
    world.pass(MINUTE, &mut [&mut back]).await;
    let meta = world.meta().await;
    assert!(reset > Generation(0));
    assert_eq!((meta.generation, meta.recovery), (reset, None));
    assert_eq!(meta.ghosts, 0, "nobody can come back for these slots");
    assert!(meta.time >= Timestamp(MORNING_MS + week.as_secs() * 1000));
    for session in inside {
        assert!(!world.is_inside(session).await);
    }
    assert!(!world.lives(waiting).await);
    assert!(back.comes().await.is_ok());
}

#[tokio::test]
async fn who_forgot_may_be_first_at_the_emptied_store_and_those_inside_stay() {
    let scene = scene().await;
    let memory = scene.gone.ledger.remembered();
    // The new state begins at the wall clock's time, by which both sessions
    // are long over; but no time has passed in the store that they were in.
    let world = scene.lost_for(20 * MINUTE);
    let mut fresh = world.gateway("fresh", None);
    world.pass(Duration::from_secs(1), &mut [&mut fresh]).await;
    let mut back = world.gateway("gone", Some((&memory, 20 * MINUTE)));
    world
        .pass(Duration::from_secs(2), &mut [&mut fresh, &mut back])
        .await;
    for session in scene.inside {
        assert!(world.is_inside(session).await);
    }
    assert!(world.lives(scene.waiting).await);
    let called = world.meta().await.called;
    assert!(
        called <= scene.waiting,
        "{called} > {}: to be called in turn",
        scene.waiting
    );
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_recovery_leaves_no_ghost() {
    let Scene {
        world,
        gone,
        inside,
        ..
    } = scene().await;
    let memory = gone.ledger.remembered();
    let world = world.emptied();
    let mut back = world.gateway("gone", Some((&memory, Duration::ZERO)));
    world
        .pass(Duration::from_millis(500), &mut [&mut back])
        .await;
    assert!(world.meta().await.recovery.is_some());
    for session in inside {
        assert!(back.ledger.desk.end(session).await.unwrap());
    }
    world.pass(Duration::from_secs(5), &mut [&mut back]).await;
    assert_eq!(world.meta().await.ghosts, 0);
}

#[tokio::test]
async fn places_that_a_reset_made_void_meanwhile_stay_void() {
    let Scene {
        world,
        gone,
        mut other,
        waiting,
        ..
    } = scene().await;
    let memory = gone.ledger.remembered();
    let reset = other.ledger.desk.reset().await.unwrap();
    world.pass(Duration::from_secs(2), &mut [&mut other]).await;
    let kept = other.ledger.remembered();
    let world = world.emptied();
    let mut other = world.gateway("other", Some((&kept, Duration::ZERO)));
    let mut back = world.gateway("gone", Some((&memory, Duration::from_secs(2))));
    world
        .pass(Duration::from_secs(5), &mut [&mut other, &mut back])
        .await;
    assert_eq!(world.meta().await.generation, reset);
    assert!(!world.lives(waiting).await);
    assert!(world.meta().await.floor() > waiting);
}

#[tokio::test]
async fn a_memory_from_the_future_is_not_believed() {
    let Scene { world, gone, .. } = scene().await;
    world.clock.advance(400 * 24 * 3_600_000);
    let ahead = world.emptied();
    let mut gone = ahead.gateway("gone", Some((&gone.ledger.remembered(), Duration::ZERO)));
    ahead.pass(Duration::from_secs(8), &mut [&mut gone]).await;
    let memory = gone.ledger.remembered();
    world.clock.set(MORNING_MS + 60_000);
    let back = world.gateway("gone", Some((&memory, Duration::ZERO)));
    assert!(back.ledger.view().is_none());
    let own = back.ledger.number_without_store().unwrap();
    assert!(own.is_plausible((MORNING_MS + 60_000) / 1000));
}
