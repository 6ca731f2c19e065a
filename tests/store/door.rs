//! A gateway on the shared store, with the server's own clock.

use std::time::Duration;

use sumun::room::event::EventId;
use sumun::room::snapshot::Snapshot;
use sumun::store::redis::{RedisSettings, RedisStore};
use sumun::store::{
    Answer, Ask, Batch, Claim, Claimed, Entered, Entrant, Fence, Forgotten, Leave, Reply, Restored,
    Shadow, Step, Stepped, Store, StoreError, Touch,
};

use crate::server::Server;
use crate::world::{bits, id, is_inside, rules, session, settings, ticket};

/// A gateway's view of the shared store, on the server's own clock.
pub(crate) struct Door {
    pub(crate) store: Store,
    pub(crate) event: EventId,
}

impl Door {
    pub(crate) fn new(settings: &RedisSettings) -> Self {
        Self {
            store: Store::Redis(RedisStore::connect(settings).unwrap()),
            event: EventId::new("main").unwrap(),
        }
    }

    pub(crate) fn at(server: &Server) -> Self {
        Self::new(&settings(server.url(0, ""), "sumun"))
    }

    pub(crate) async fn open(&self, limit: u64) -> Result<Restored, StoreError> {
        let shadow = Shadow {
            gateway: "g1".to_owned(),
            newborn: 7,
            rules: Some(rules(limit)),
            complete: true,
            ..Shadow::default()
        };
        self.store.restore(&self.event, &shadow).await
    }

    pub(crate) async fn enter(&self, batch: u64, visitors: &[u64]) -> Answer<Vec<Entered>> {
        let entrants = visitors.iter().map(|of| Entrant {
            session: session(*of),
            id: Some(id(*of)),
        });
        let batch = Batch {
            gateway: "g1".to_owned(),
            batch,
            above: None,
            entrants: entrants.collect(),
        };
        self.store.enter(&self.event, &batch).await
    }

    pub(crate) async fn look(&self) -> Answer<Snapshot> {
        let ask = Ask {
            gateway: "g1".to_owned(),
            ..Ask::default()
        };
        self.store.snapshot(&self.event, &ask).await
    }

    /// Asks until the answer is as wanted; a few seconds at most.
    pub(crate) async fn look_until(&self, wanted: impl Fn(&Answer<Snapshot>) -> bool) {
        for _ in 0..400 {
            if wanted(&self.look().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("still {:?}", self.look().await);
    }

    /// One of everything that a gateway does.
    pub(crate) async fn tour(&self) {
        self.open(1).await.unwrap();
        let entered = self.enter(1, &[1, 2]).await.unwrap().done().unwrap();
        assert!(is_inside(&entered[0]) && !is_inside(&entered[1]));
        let number = ticket(&entered[1]);
        let (store, event) = (&self.store, &self.event);
        let page = (number.page(), bits(&[number]));
        store
            .beat(event, std::slice::from_ref(&page))
            .await
            .unwrap();
        store.find(event, id(2)).await.unwrap();
        store.end(event, &[session(1)]).await.unwrap();
        let ask = Ask {
            gateway: "g1".to_owned(),
            front: vec![number.page()],
            refresh: vec![number.page()],
            ..Ask::default()
        };
        let snapshot = store.snapshot(event, &ask).await.unwrap().done().unwrap();
        assert_eq!(snapshot.front, [page]);
        let meta = snapshot.meta;
        let step = Step {
            fence: Fence {
                born: meta.born,
                run: meta.run,
                seq: meta.seq,
            },
            gate: meta.gate,
            calm_since: None,
            to: number.next(),
            offers: vec![number],
            pace: None,
            show: 1.0,
            sweep: vec![number.page()],
            waiting: 1,
        };
        let stepped = store.step(event, &step).await.unwrap().done().unwrap();
        assert_ne!(stepped, Stepped::LostRace);
        let claim = Claim {
            number,
            session: session(2),
            id: Some(id(2)),
        };
        let claimed = store.claim(event, &[claim]).await.unwrap().done().unwrap();
        assert!(matches!(claimed[..], [Claimed::Admitted { .. }]));
        let touch = Touch {
            session: session(2),
            begun: meta.time,
            until: meta.time,
            keep: meta.time,
        };
        let touched = store.touch(event, &[touch]).await.unwrap().done().unwrap();
        assert!(touched[0].is_some());
        let inside = store.inside(event, &[session(2)]).await.unwrap();
        assert_eq!(inside, Reply::Done(touched));
        let leave = Leave { number, id: None };
        store.leave(event, &[leave]).await.unwrap();
        store.configure(event, 0, &rules(9)).await.unwrap();
        store.reset(event).await.unwrap();
        self.look().await.unwrap();
        assert_eq!(store.forget(event).await, Ok(Forgotten::InUse));
        store.put_event(event, 0, None).await.unwrap();
        assert_eq!(store.events().await.unwrap(), []);
    }
}
