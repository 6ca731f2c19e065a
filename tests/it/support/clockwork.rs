//! The real rules, controllers and embedded store under a clock that is moved
//! by hand: what takes minutes takes a moment.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use sumun::clock::Clock;
use sumun::controller::{Bench, Controller};
use sumun::ledger::{Ledger, Ledgers};
use sumun::metrics::Metrics;
use sumun::reception::{Reception, Site};
use sumun::room::event::EventSettings;
use sumun::room::routes::Routes;
use sumun::store::{MemoryStore, Store};

use super::ring;

/// When the clock starts, in Unix milliseconds: any moment will do.
pub(crate) const MORNING_MS: u64 = 1_800_000_000_000;

/// What stands behind a door.
pub(crate) struct Clockwork {
    pub(crate) store: Store,
    pub(crate) reception: Arc<Reception>,
    clock: Clock,
    controllers: Vec<(Arc<Ledger>, Controller)>,
}

impl Clockwork {
    pub(crate) fn of(events: Vec<EventSettings>) -> Self {
        let clock = Clock::manual(MORNING_MS);
        let metrics = Arc::new(Metrics::default());
        let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
        let bench = Arc::new(bench(&store, "hand", &metrics));
        let routed: Vec<Arc<EventSettings>> = events.iter().cloned().map(Arc::new).collect();
        let open = |event| Ledger::open(event, &store, "hand", clock.clone(), &metrics);
        let ledgers: Vec<Arc<Ledger>> = events.into_iter().map(open).collect();
        let looked_after = |ledger: &Arc<Ledger>| {
            let controller = Controller::new(Arc::clone(&bench), Arc::clone(ledger));
            (Arc::clone(ledger), controller)
        };
        let controllers = ledgers.iter().map(looked_after).collect();
        let reception = Arc::new(Reception::new(ring(&["a"]), metrics, clock.clone()));
        reception.site.store(Arc::new(Site {
            ledgers: Ledgers::new(ledgers),
            routes: Routes::new(&routed, &[]),
        }));
        Self {
            store,
            reception,
            clock,
            controllers,
        }
    }

    pub(crate) fn ledger(&self, id: &str) -> Arc<Ledger> {
        Arc::clone(self.reception.site.load().ledgers.get(id).unwrap())
    }

    /// Nobody looks after this event any more: its store is away.
    pub(crate) fn leave_in_the_dark(&mut self, id: &str) {
        self.controllers
            .retain(|(ledger, _)| ledger.id.as_str() != id);
    }

    /// Half a second goes by, and each controller looks so many times.
    pub(crate) async fn half_a_second(&mut self, looks: usize) {
        self.clock.advance(500);
        for (_, controller) in &mut self.controllers {
            for _ in 0..looks {
                controller.pass().await;
            }
        }
    }
}

/// What the controllers of a gateway share.
pub(crate) fn bench(store: &Store, gateway: &str, metrics: &Arc<Metrics>) -> Bench {
    Bench {
        store: store.clone(),
        gateway: gateway.to_owned(),
        keys: ArcSwap::from_pointee(vec!["a".to_owned()]),
        config: ArcSwap::default(),
        metrics: Arc::clone(metrics),
        catalog_read: AtomicBool::new(true),
        leaving: AtomicBool::new(false),
    }
}

/// Works on a thread of its own, as a data thread does.
pub(crate) fn data_thread<F: Future<Output: Send> + 'static>(
    work: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<F::Output> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async { work().await })
    })
}
