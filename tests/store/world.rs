//! One store with a clock in the test's hand, and the verbs of the scenarios.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sumun::clock::Clock;
use sumun::room::event::{EventId, Mode};
use sumun::room::gate::Gate;
use sumun::room::pages::Bits;
use sumun::room::snapshot::{Rules, Snapshot};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::redis::{RedisSettings, RedisStore, TimeSource};
use sumun::store::{
    Ask, Batch, Claim, Claimed, Entered, Entrant, Fence, MemoryStore, Reply, Restored, Shadow,
    Step, Stepped, Store, Touch,
};
use tempfile::TempDir;

use crate::server::Server;

/// When every test begins, Unix milliseconds.
pub(crate) const START: u64 = 1_800_000_000_000;

/// A store under a clock that is moved by hand.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) event: EventId,
    pub(crate) now: u64,
    clock: Clock,
    runs: u32,
    batches: u64,
    kind: Kind,
}

enum Kind {
    Memory(TempDir),
    Redis {
        server: Arc<Server>,
        control: redis::aio::MultiplexedConnection,
        prefix: String,
    },
}

/// Settings of a store on a server.
pub(crate) fn settings(url: String, prefix: &str) -> RedisSettings {
    RedisSettings {
        url,
        prefix: prefix.to_owned(),
        // Two cores may be busy with other tests: a late answer is no fault here.
        timeout: Duration::from_secs(20),
        ca_file: None,
    }
}

/// Rules of a plain event: `limit` sessions, ten minutes idle, an hour at most.
pub(crate) fn rules(limit: u64) -> Rules {
    Rules {
        mode: Mode::Auto,
        limit: Some(limit),
        admit_per_second: None,
        session_idle_ms: 600_000,
        session_max_ms: 3_600_000,
        window_ms: 90_000,
    }
}

/// The session of a ticket, or a walker-in's own.
pub(crate) fn session(of: u64) -> SessionKey {
    SessionKey::of_ticket(Generation(0), Number(of), "visitor")
}

/// An id given through the API.
pub(crate) fn id(of: u64) -> [u8; 16] {
    sumun::room::ticket::id_hash(&of.to_string())
}

/// Bits of numbers that stand on one page.
pub(crate) fn bits(numbers: &[Number]) -> Bits {
    let mut bits = Bits::default();
    for number in numbers {
        bits.set(number.bit());
    }
    bits
}

impl World {
    /// The embedded store.
    pub(crate) fn memory() -> Self {
        let clock = Clock::manual(START);
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run0"));
        Self::of(store, clock, Kind::Memory(tempfile::tempdir().unwrap()))
    }

    /// The shared store on a server of its own.
    pub(crate) async fn redis() -> Self {
        Self::on(Arc::new(Server::start(&[])), "sumun").await
    }

    /// The shared store on a server that others use under other prefixes.
    pub(crate) async fn on(server: Arc<Server>, prefix: &str) -> Self {
        let settings = settings(server.url(0, ""), prefix);
        let store = RedisStore::with_time(&settings, TimeSource::Key).unwrap();
        let kind = Kind::Redis {
            control: server.control().await,
            server,
            prefix: prefix.to_owned(),
        };
        let mut world = Self::of(Store::Redis(store), Clock::manual(START), kind);
        world.tell().await;
        world
    }

    /// The server behind the shared store.
    pub(crate) fn server(&self) -> Option<&Server> {
        match &self.kind {
            Kind::Memory(_) => None,
            Kind::Redis { server, .. } => Some(server),
        }
    }

    fn of(store: Store, clock: Clock, kind: Kind) -> Self {
        Self {
            store,
            event: EventId::new("main").unwrap(),
            now: START,
            clock,
            runs: 0,
            batches: 0,
            kind,
        }
    }

    /// Writes the clock and the run where the scripts read them.
    async fn tell(&mut self) {
        if let Kind::Redis {
            control, prefix, ..
        } = &mut self.kind
        {
            let () = redis::cmd("MSET")
                .arg(format!("{prefix}:clock"))
                .arg(self.now)
                .arg(format!("{prefix}:run"))
                .arg(format!("run{}", self.runs))
                .query_async(control)
                .await
                .unwrap();
        }
    }

    /// Sets the server's clock.
    pub(crate) async fn set(&mut self, now: u64) {
        self.now = now;
        self.clock.set(now);
        self.tell().await;
    }

    /// Moves the server's clock, perhaps backward.
    pub(crate) async fn pass(&mut self, ms: i64) {
        self.set(self.now.checked_add_signed(ms).unwrap()).await;
    }

    /// Lets time pass while a gateway asks every second, so that it is no silence.
    pub(crate) async fn live(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let part = left.min(1000);
            self.pass(i64::try_from(part).unwrap()).await;
            let _ = self.store.beat(&self.event, &[]).await.unwrap();
            left -= part;
        }
    }

    /// Lets seconds pass with a step in each, as a controller does; what was
    /// answered.
    pub(crate) async fn walk(&mut self, seconds: u64) -> String {
        let mut said = String::new();
        for _ in 0..seconds {
            self.pass(1_000).await;
            let reply = self.look().await;
            writeln!(said, "{reply:?}").unwrap();
            if matches!(reply, Reply::Done(_)) {
                writeln!(said, "{:?}", self.step(|_| {}).await).unwrap();
            }
        }
        said
    }

    /// Another process of the server, with the same data.
    pub(crate) async fn rerun(&mut self) {
        self.runs += 1;
        if let (Kind::Memory(dir), Store::Memory(store)) = (&self.kind, &self.store) {
            let path = dir.path().join("state");
            store.save(&path).unwrap();
            let run = format!("run{}", self.runs);
            let store = MemoryStore::load(self.clock.clone(), &run, &path).unwrap();
            self.store = Store::Memory(store);
        }
        self.tell().await;
    }

    /// The server forgets everything.
    pub(crate) async fn flush(&mut self) {
        match &mut self.kind {
            Kind::Memory(dir) => {
                // Its journal is forgotten too.
                *dir = tempfile::tempdir().unwrap();
                let run = format!("run{}", self.runs);
                self.store = Store::Memory(MemoryStore::new(self.clock.clone(), &run));
            }
            Kind::Redis { control, .. } => {
                let () = redis::cmd("FLUSHDB").query_async(control).await.unwrap();
            }
        }
        self.tell().await;
    }

    /// Creates the event as the first gateway does.
    pub(crate) async fn open(&mut self, rules: &Rules) -> Restored {
        let shadow = Shadow {
            gateway: "g1".to_owned(),
            newborn: 7,
            rules: Some(rules.clone()),
            complete: true,
            ..Shadow::default()
        };
        self.restore(&shadow).await
    }

    pub(crate) async fn restore(&self, shadow: &Shadow) -> Restored {
        self.store.restore(&self.event, shadow).await.unwrap()
    }

    /// A snapshot with the pages around the watermark, if there is one to be had.
    pub(crate) async fn look(&self) -> Reply<Snapshot> {
        let ask = Ask {
            gateway: "g1".to_owned(),
            ..Ask::default()
        };
        self.store.snapshot(&self.event, &ask).await.unwrap()
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.look().await.done().expect("the store is there")
    }

    /// Living numbers, in order.
    pub(crate) async fn living(&self) -> Vec<Number> {
        let pages = self.snapshot().await.pages;
        let mut living = Vec::new();
        for page in pages {
            let ask = Ask {
                gateway: "g1".to_owned(),
                front: vec![page],
                ..Ask::default()
            };
            let reply = self.store.snapshot(&self.event, &ask).await.unwrap();
            for (page, bits) in reply.done().unwrap().front {
                living.extend(bits.ones(0).map(|bit| Number::at(page, bit)));
            }
        }
        living
    }

    /// Visitors at the door, by the number that their session key is made of.
    pub(crate) async fn enter(&mut self, visitors: &[u64]) -> Vec<Entered> {
        let entrants = visitors.iter().map(|of| Entrant {
            session: session(*of),
            id: None,
        });
        let entrants = entrants.collect();
        self.enter_all(entrants)
            .await
            .done()
            .expect("nobody is in recovery")
    }

    /// One visitor with an id of the customer's.
    pub(crate) async fn enter_as(&mut self, of: u64, known_as: u64) -> Entered {
        let entrant = Entrant {
            session: session(of),
            id: Some(id(known_as)),
        };
        let reply = self.enter_all(vec![entrant]).await;
        reply.done().unwrap().remove(0)
    }

    pub(crate) async fn enter_all(&mut self, entrants: Vec<Entrant>) -> Reply<Vec<Entered>> {
        self.batches += 1;
        let batch = Batch {
            gateway: "g1".to_owned(),
            batch: self.batches,
            above: None,
            entrants,
        };
        self.store.enter(&self.event, &batch).await.unwrap()
    }

    /// Visitors who all get tickets.
    pub(crate) async fn tickets(&mut self, visitors: &[u64]) -> Vec<Number> {
        let entered = self.enter(visitors).await;
        entered.iter().map(ticket).collect()
    }

    pub(crate) async fn claim(&self, number: Number) -> Claimed {
        let claim = Claim {
            number,
            session: session(number.0),
            id: None,
        };
        let reply = self.store.claim(&self.event, &[claim]).await.unwrap();
        reply.done().unwrap().remove(0)
    }

    /// Calls numbers: the watermark moves beyond the last.
    pub(crate) async fn call(&self, numbers: &[Number]) -> Stepped {
        let to = numbers.last().map_or(Number(0), |number| number.next());
        self.step(|step| {
            step.offers = numbers.to_vec();
            step.to = to;
        })
        .await
    }

    /// A step on the state that stands, changed as a test wants it.
    pub(crate) async fn step(&self, change: impl FnOnce(&mut Step)) -> Stepped {
        let meta = self.snapshot().await.meta;
        let mut step = Step {
            fence: Fence {
                born: meta.born,
                run: meta.run,
                seq: meta.seq,
            },
            gate: Gate::Open,
            calm_since: None,
            to: meta.called,
            offers: Vec::new(),
            pace: None,
            show: 1.0,
            sweep: Vec::new(),
            waiting: 0,
        };
        change(&mut step);
        self.store
            .step(&self.event, &step)
            .await
            .unwrap()
            .done()
            .unwrap()
    }

    pub(crate) async fn touch(&self, of: u64, until: u64) -> Reply<Option<Timestamp>> {
        let touch = Touch {
            session: session(of),
            begun: Timestamp(START),
            until: Timestamp(until),
            keep: Timestamp(0),
        };
        match self.store.touch(&self.event, &[touch]).await.unwrap() {
            Reply::Done(mut answers) => Reply::Done(answers.remove(0)),
            Reply::Recovering => Reply::Recovering,
            Reply::Absent => Reply::Absent,
        }
    }

    /// Tickets were heard from.
    pub(crate) async fn beat(&self, numbers: &[Number]) {
        for number in numbers {
            let page = (number.page(), bits(&[*number]));
            let _ = self.store.beat(&self.event, &[page]).await.unwrap();
        }
    }

    pub(crate) async fn end(&self, of: u64) -> bool {
        let reply = self.store.end(&self.event, &[session(of)]).await.unwrap();
        reply.done().unwrap().remove(0)
    }

    pub(crate) async fn configure(&self, rules: &Rules) -> u64 {
        let seen = self.snapshot().await.meta.cfgver;
        let reply = self
            .store
            .configure(&self.event, seen, rules)
            .await
            .unwrap();
        reply.done().unwrap()
    }
}

/// The number of a visitor who must have got one.
pub(crate) fn ticket(entered: &Entered) -> Number {
    match entered {
        Entered::Ticket { number } => *number,
        other => panic!("{other:?} is no ticket"),
    }
}

/// Whether a visitor walked in.
pub(crate) fn is_inside(entered: &Entered) -> bool {
    matches!(entered, Entered::Session { .. })
}
