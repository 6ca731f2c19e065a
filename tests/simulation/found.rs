//! What the seeds have found, each as its smallest case.

use std::time::Duration;

use futures_util::FutureExt;
use sumun::clock::Clock;
use sumun::room::event::{EventId, Mode};
use sumun::room::gate::Gate;
use sumun::room::pages::Bits;
use sumun::room::snapshot::{Rules, Snapshot};
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{
    Ask, Batch, Claim, Claimed, Entered, Entrant, Fence, MemoryStore, Reply, Shadow, Step, Stepped,
    Store, StoreError,
};

/// A whole second of the wall clock, at the beginning of a minute.
const BEGIN: u64 = 1_790_000_040_000;

struct Bench {
    clock: Clock,
    store: Store,
    event: EventId,
    batch: u64,
}

fn at_once<T>(answer: impl Future<Output = Result<Reply<T>, StoreError>>) -> Reply<T> {
    answer
        .now_or_never()
        .expect("memory never pends")
        .expect("memory is never away")
}

fn rules() -> Rules {
    Rules {
        mode: Mode::Auto,
        limit: Some(0),
        admit_per_second: None,
        session_idle_ms: 600_000,
        session_max_ms: 3_600_000,
        window_ms: 90_000,
    }
}

fn shadow() -> Shadow {
    Shadow {
        gateway: "a".to_owned(),
        newborn: 1,
        rules: Some(rules()),
        complete: true,
        ..Shadow::default()
    }
}

impl Bench {
    fn empty() -> Self {
        let clock = Clock::manual(BEGIN);
        Self {
            store: Store::Memory(MemoryStore::new(clock.clone(), "life")),
            clock,
            event: EventId::new("main").expect("a good id"),
            batch: 0,
        }
    }

    /// An event that has no slot, so that everybody waits.
    fn full() -> Self {
        let bench = Self::empty();
        bench.restore(&shadow());
        bench
    }

    fn restore(&self, shadow: &Shadow) {
        let restored = self.store.restore(&self.event, shadow).now_or_never();
        restored
            .expect("memory never pends")
            .expect("memory is never away");
    }

    fn enter(&mut self) -> Entered {
        self.batch += 1;
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.batch.to_be_bytes());
        let batch = Batch {
            gateway: "a".to_owned(),
            batch: self.batch,
            above: None,
            entrants: vec![Entrant {
                session: SessionKey(session),
                id: None,
            }],
        };
        at_once(self.store.enter(&self.event, &batch))
            .done()
            .expect("done")
            .remove(0)
    }

    fn ticket(&mut self) -> Number {
        match self.enter() {
            Entered::Ticket { number } => number,
            other => panic!("no ticket but {other:?}"),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot_of("a")
    }

    fn snapshot_of(&self, gateway: &str) -> Snapshot {
        let ask = Ask {
            gateway: gateway.to_owned(),
            ..Ask::default()
        };
        at_once(self.store.snapshot(&self.event, &ask))
            .done()
            .expect("done")
    }

    fn claim(&self, number: Number) -> Claimed {
        let session = SessionKey::of_ticket(Generation(0), number, "visitor");
        let claim = Claim {
            number,
            session,
            id: None,
        };
        at_once(self.store.claim(&self.event, &[claim]))
            .done()
            .expect("done")
            .remove(0)
    }

    fn step_to(&self, to: Number, snapshot: &Snapshot) -> Stepped {
        let meta = &snapshot.meta;
        let step = Step {
            fence: Fence {
                born: meta.born,
                run: meta.run.clone(),
                seq: meta.seq,
            },
            gate: Gate::Open,
            calm_since: None,
            to,
            offers: Vec::new(),
            pace: None,
            show: 1.0,
            sweep: Vec::new(),
            waiting: 0,
        };
        at_once(self.store.step(&self.event, &step))
            .done()
            .expect("done")
    }

    /// Time passes without a silence.
    fn pass(&self, duration: Duration) {
        for _ in 0..duration.as_secs() {
            self.clock.advance(1_000);
            self.snapshot();
        }
    }
}

#[test]
fn who_was_called_at_the_end_of_a_minute_has_ten_minutes_too() {
    let mut bench = Bench::full();
    bench.pass(Duration::from_secs(59));
    let number = bench.ticket();
    let called = bench.step_to(number.next(), &bench.snapshot());
    assert!(matches!(called, Stepped::Done { .. }));
    for _ in 0..9 * 60 + 55 {
        bench.pass(Duration::from_secs(1));
        bench.step_to(Number(0), &bench.snapshot());
    }
    assert_ne!(bench.claim(number), Claimed::TooLate);
    bench.pass(Duration::from_secs(70));
    assert_eq!(bench.claim(number), Claimed::TooLate);
}

#[test]
fn a_store_that_hears_a_gateways_number_issues_none_of_its_others() {
    let mut bench = Bench::full();
    let alone =
        |counter| Number::by_gateway(BEGIN / 1_000 + 5, 0, counter).expect("within a second");
    let mut bits = Bits::default();
    bits.set(alone(0).bit());
    at_once(bench.store.beat(&bench.event, &[(alone(0).page(), bits)]));
    for _ in 0..5 {
        let number = bench.ticket();
        assert!(
            (1..10).all(|counter| alone(counter) != number),
            "{number} is issued twice"
        );
    }
}

#[test]
fn an_outage_that_ends_in_an_empty_store_costs_nobody_the_pass() {
    let bench = Bench::empty();
    let session = SessionKey([7; 16]);
    let time = Timestamp(BEGIN - 300_000);
    bench.restore(&Shadow {
        born: Some(9),
        time,
        sessions_known: 1,
        sessions: vec![(session, Timestamp(time.0 + 60_000))],
        ..shadow()
    });
    bench.pass(Duration::from_secs(5));
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.meta.recovery, snapshot.sessions), (None, 1));
}

#[test]
fn a_place_made_void_by_a_reset_does_not_get_in() {
    let mut bench = Bench::full();
    let number = bench.ticket();
    bench.step_to(number.next(), &bench.snapshot());
    assert!(at_once(bench.store.reset(&bench.event)).done().is_some());
    assert_eq!(bench.claim(number), Claimed::TooLate);
}

#[test]
fn a_step_that_was_planned_before_a_recovery_moves_nothing() {
    let mut bench = Bench::full();
    bench.ticket();
    let planned = bench.snapshot();
    bench.clock.advance(60_000);
    let met = bench.store.find(&bench.event, [0; 16]).now_or_never();
    assert_eq!(met, Some(Ok(Reply::Recovering)));
    let stepped = bench.step_to(planned.meta.issued, &planned);
    assert_eq!(stepped, Stepped::LostRace);
}

#[test]
fn a_gateway_has_the_same_slot_in_every_life_of_the_store() {
    let slots = |order: [&str; 3]| {
        let bench = Bench::full();
        let mut slots = order.map(|gateway| (gateway.to_owned(), bench.snapshot_of(gateway).slot));
        slots.sort();
        slots
    };
    assert_eq!(slots(["b", "c", "d"]), slots(["d", "b", "c"]));
}

#[test]
fn a_claim_whose_reply_was_lost_keeps_the_place_however_long_the_gateway_is_cut_off() {
    let mut bench = Bench::full();
    let number = bench.ticket();
    bench.step_to(number.next(), &bench.snapshot());
    let rules = Rules {
        limit: Some(1),
        ..rules()
    };
    at_once(bench.store.configure(&bench.event, 0, &rules));
    assert!(matches!(bench.claim(number), Claimed::Admitted { .. }));
    bench.pass(Duration::from_secs(31));
    assert_ne!(bench.claim(number), Claimed::Spent);
}
