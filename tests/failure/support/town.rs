//! A whole town: the site with its gateways, those inside, the line before
//! the door. The tests break something in the middle and look what became of
//! everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::chaos::Chaos;
use super::gateway::{Gateway, Setup};
use super::origin::Origin;
use super::redis::Redis;
use super::site::{Site, overtaken};
use super::until;
use super::visitor::{Seen, Visitor};

/// How many may be inside.
pub(crate) const LIMIT: usize = 3;

/// Nobody waits longer, outages apart.
const PATIENCE: Duration = Duration::from_secs(120);

/// The town.
pub(crate) struct Town {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: Option<Redis>,
    pub(crate) chaos: Option<Chaos>,
    pub(crate) setup: Setup,
    pub(crate) site: Arc<Site>,
    patience: Duration,
    insiders: JoinSet<Result<(), String>>,
    requests: Arc<AtomicUsize>,
    leave: watch::Sender<bool>,
    line: JoinSet<Result<Visitor, String>>,
    numbers: Vec<u64>,
    watching: Option<JoinHandle<()>>,
    _origin: Origin,
}

impl Town {
    /// One gateway with the embedded store.
    pub(crate) async fn embedded() -> Self {
        let origin = Origin::start().await;
        let setup = Setup::new(origin.address, None, LIMIT);
        let gateways = vec![Gateway::start(&setup).await];
        Self::of(gateways, None, None, setup, origin)
    }

    /// Two gateways that share a Redis behind a network that can break.
    pub(crate) async fn shared(redis_args: &[&str]) -> Self {
        let origin = Origin::start().await;
        let redis = Redis::start(redis_args);
        let chaos = Chaos::in_front_of(redis.address).await;
        let setup = Setup::new(origin.address, Some(chaos.address), LIMIT);
        let gateways = vec![Gateway::start(&setup).await, Gateway::start(&setup).await];
        gateways[0].wait_for("sumun_gateways", 2.0).await;
        let server = format!("redis://{}/", redis.address);
        let mut town = Self::of(gateways, Some(redis), Some(chaos), setup, origin);
        town.watch_the_limit(vec![server]);
        town
    }

    /// Two gateways that share a store at this address; these servers are
    /// looked at for too many inside.
    pub(crate) async fn behind(url: String, redis: Redis, servers: &[String]) -> Self {
        let origin = Origin::start().await;
        let setup = Setup {
            url: Some(url),
            ..Setup::new(origin.address, None, LIMIT)
        };
        let gateways = vec![Gateway::start(&setup).await, Gateway::start(&setup).await];
        gateways[0].wait_for("sumun_gateways", 2.0).await;
        let mut town = Self::of(gateways, Some(redis), None, setup, origin);
        town.watch_the_limit(servers.to_vec());
        town
    }

    fn of(
        gateways: Vec<Gateway>,
        redis: Option<Redis>,
        chaos: Option<Chaos>,
        setup: Setup,
        origin: Origin,
    ) -> Self {
        Self {
            site: Arc::new(Site::new(gateways.iter().map(|g| g.public).collect())),
            gateways,
            redis,
            chaos,
            setup,
            patience: PATIENCE,
            insiders: JoinSet::new(),
            requests: Arc::default(),
            leave: watch::channel(false).0,
            line: JoinSet::new(),
            numbers: Vec::new(),
            watching: None,
            _origin: origin,
        }
    }

    /// Nobody gives up during an outage of this length.
    pub(crate) fn be_patient(&mut self, outage: Duration) {
        self.patience = PATIENCE + outage;
    }

    /// Looks at the sessions in Redis whenever it answers.
    fn watch_the_limit(&mut self, servers: Vec<String>) {
        self.watching = Some(tokio::spawn(async move {
            loop {
                for server in &servers {
                    if let Some(sessions) = super::redis::sessions_at(server).await {
                        assert!(sessions <= LIMIT as u64, "{sessions} sessions in Redis");
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// Fills the slots; these visitors go on browsing until told to leave.
    pub(crate) async fn fill(&mut self) {
        for name in 0..LIMIT {
            let mut visitor = Visitor::new(format!("inside {name}"));
            let seen = visitor.come(&self.site).await.unwrap();
            assert!(matches!(seen, Seen::Inside), "{seen:?}");
            let (site, leave) = (Arc::clone(&self.site), self.leave.subscribe());
            let requests = Arc::clone(&self.requests);
            self.insiders
                .spawn(browse_until(visitor, site, requests, leave));
        }
    }

    /// Waits until both gateways have looked at an event that nobody came to.
    pub(crate) async fn queue_nobody_yet(&self) {
        for gateway in &self.gateways {
            gateway.wait_for("sumun_store_up", 1.0).await;
        }
    }

    /// The highest number that anybody holds.
    pub(crate) fn highest(&self) -> u64 {
        self.numbers.iter().copied().max().unwrap_or(0)
    }

    /// So many come, one after the other, and wait from now on. Everybody
    /// gets a place behind all who came before.
    pub(crate) async fn queue(&mut self, group: &str, count: usize) {
        let before = self.numbers.iter().copied().max();
        for name in 0..count {
            let mut visitor = Visitor::new(format!("{group} {name}"));
            let seen = visitor.come(&self.site).await.unwrap();
            assert!(matches!(seen, Seen::Waits { .. }), "{seen:?}");
            let number = visitor.number.unwrap();
            assert!(
                Some(number) > before,
                "{group} {name} is ahead of earlier ones"
            );
            assert!(!self.numbers.contains(&number), "a number was given twice");
            self.numbers.push(number);
            self.line
                .spawn(visit(visitor, Arc::clone(&self.site), self.patience));
        }
    }

    /// Those inside go on for a while and then leave; everybody gets in, in
    /// order, and leaves. Tells how many answers said that the store was away.
    pub(crate) async fn everybody_gets_in(mut self) -> usize {
        let enough = self.requests.load(Ordering::SeqCst) + 20 * LIMIT;
        until("those inside go on", Duration::from_secs(60), async || {
            self.requests.load(Ordering::SeqCst) >= enough
        })
        .await;
        assert_eq!(self.site.admitted().len(), LIMIT, "somebody got in early");
        self.leave.send_replace(true);
        while let Some(stayed) = self.insiders.join_next().await {
            stayed.unwrap().unwrap();
        }
        let mut degraded = 0;
        while let Some(visitor) = self.line.join_next().await {
            degraded += visitor.unwrap().unwrap().degraded;
        }
        if let Some(watching) = self.watching.take() {
            watching.abort();
            if let Err(fault) = watching.await {
                assert!(fault.is_cancelled(), "{fault}");
            }
        }
        let admitted = self.site.admitted();
        assert_eq!(admitted.len(), LIMIT + self.numbers.len());
        assert!(
            self.site.most_inside() <= i64::try_from(LIMIT).unwrap(),
            "{} were inside",
            self.site.most_inside()
        );
        // Of slots that are free at once each may be taken by another of
        // those whose turn it is; nobody else goes before them.
        let most = overtaken(&admitted);
        assert!(most < LIMIT, "one overtook {most}: {admitted:?}");
        degraded
    }
}

async fn browse_until(
    mut visitor: Visitor,
    site: Arc<Site>,
    requests: Arc<AtomicUsize>,
    leave: watch::Receiver<bool>,
) -> Result<(), String> {
    while !*leave.borrow() {
        visitor.browse(&site).await?;
        requests.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    visitor.complete(&site).await
}

async fn visit(
    mut visitor: Visitor,
    site: Arc<Site>,
    patience: Duration,
) -> Result<Visitor, String> {
    visitor.wait(&site, patience).await?;
    visitor.browse(&site).await?;
    visitor.complete(&site).await?;
    Ok(visitor)
}
