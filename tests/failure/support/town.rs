//! A whole town: the site with its gateways, those inside, the line before
//! the door. The tests break something in the middle and look what became of
//! everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::chaos::{Chaos, Weather};
use super::gateway::{Gateway, Setup};
use super::origin::Origin;
use super::people::{comes_in, waits};
use super::redis::Redis;
use super::site::{Site, overtaken};
use super::until;
use super::visitor::Visitor;

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
    inside: JoinSet<Result<Visitor, String>>,
    line: JoinSet<Result<Visitor, String>>,
    stay: Stay,
    leave: watch::Sender<usize>,
    numbers: Vec<u64>,
    watching: Option<JoinHandle<()>>,
    /// How many may be called besides those of the slots, because a store forgot that
    /// their turn had come.
    pub(crate) beside: usize,
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
        Self::shared_by(redis_args, |setup| [setup.clone(), setup]).await
    }

    /// The same, with gateways that are set up otherwise.
    pub(crate) async fn shared_by(
        redis_args: &[&str],
        otherwise: impl FnOnce(Setup) -> [Setup; 2],
    ) -> Self {
        let origin = Origin::start().await;
        let redis = Redis::start(redis_args);
        let chaos = Chaos::in_front_of(redis.address).await;
        let setup = Setup::new(origin.address, Some(chaos.address), LIMIT);
        let [setup, other] = otherwise(setup);
        let gateways = vec![Gateway::start(&setup).await, Gateway::start(&other).await];
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
        let (leave, leaving) = watch::channel(0);
        Self {
            site: Arc::new(Site::new(gateways.iter().map(|g| g.public).collect())),
            gateways,
            redis,
            chaos,
            setup,
            patience: PATIENCE,
            inside: JoinSet::new(),
            line: JoinSet::new(),
            stay: Stay {
                entered: Arc::default(),
                requests: Arc::default(),
                leave: leaving,
            },
            leave,
            numbers: Vec::new(),
            watching: None,
            beside: 0,
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
                    if let Some((sessions, recovers)) = super::redis::inside_at(server).await {
                        let most = LIMIT as u64;
                        assert!(recovers || sessions <= most, "{sessions} sessions in Redis");
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// Fills the slots; these visitors go on browsing until told to leave.
    pub(crate) async fn fill(&mut self) {
        self.fill_but(0).await;
    }

    /// The same, with so many slots taken already.
    pub(crate) async fn fill_but(&mut self, taken: usize) {
        for name in taken..LIMIT {
            let visitor = comes_in(&format!("inside {name}"), &self.site).await;
            self.stays(visitor);
        }
    }

    /// Somebody inside goes on browsing until told to leave.
    pub(crate) fn stays(&mut self, visitor: Visitor) {
        let (site, stay) = (Arc::clone(&self.site), self.stay.clone());
        self.inside.spawn(stay.inside(visitor, site));
    }

    /// Waits until both gateways have looked at an event that nobody came to.
    pub(crate) async fn queue_nobody_yet(&self) {
        self.wait_for("sumun_store_up", 1.0).await;
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
            let visitor = waits(&format!("{group} {name}"), &self.site).await;
            let number = visitor.number.unwrap();
            assert!(
                Some(number) > before,
                "{group} {name} is ahead of earlier ones"
            );
            assert!(!self.numbers.contains(&number), "a number was given twice");
            self.wait_in_line([visitor]);
        }
    }

    /// These are in line already, and poll from now on.
    pub(crate) fn wait_in_line(&mut self, visitors: impl IntoIterator<Item = Visitor>) {
        for visitor in visitors {
            self.numbers.push(visitor.number.unwrap());
            let (site, stay) = (Arc::clone(&self.site), self.stay.clone());
            let patience = self.patience;
            self.line.spawn(async move {
                let mut visitor = visitor;
                visitor.wait(&site, patience).await?;
                stay.inside(visitor, site).await
            });
        }
    }

    /// The first of those inside leaves, and the next in line goes in and
    /// stays. Tells who left.
    pub(crate) async fn one_leaves(&mut self) -> Visitor {
        self.leave.send_modify(|left| *left += 1);
        let left = self.inside.join_next().await.unwrap().unwrap().unwrap();
        let inside = LIMIT + *self.leave.borrow();
        until("the next one goes in", self.patience, async || {
            self.site.admitted().len() == inside
        })
        .await;
        left
    }

    /// Every gateway has a metric of this value.
    pub(crate) async fn wait_for(&self, metric: &str, value: f64) {
        for gateway in &self.gateways {
            gateway.wait_for(metric, value).await;
        }
    }

    /// Every gateway has seen a recovery, and the store answers.
    pub(crate) async fn is_well_again(&self) {
        for gateway in &self.gateways {
            gateway.wait_for_recovery().await;
        }
        self.wait_for("sumun_store_up", 1.0).await;
    }

    /// The network between the gateways and Redis.
    pub(crate) fn weather(&self, weather: Weather) {
        self.chaos.as_ref().unwrap().set(weather);
    }

    /// Those inside go on for a while: two seconds at least.
    pub(crate) async fn time_passes(&self) {
        let requests = &self.stay.requests;
        let enough = requests.load(Ordering::SeqCst) + 20 * LIMIT;
        until("those inside go on", Duration::from_secs(60), async || {
            requests.load(Ordering::SeqCst) >= enough
        })
        .await;
    }

    /// Those inside go on for a while and then leave; everybody gets in, in
    /// order, and leaves. Tells how many answers said that the store was away.
    pub(crate) async fn everybody_gets_in(mut self) -> usize {
        self.time_passes().await;
        let left = self.leave.send_replace(usize::MAX);
        assert_eq!(
            self.site.admitted().len(),
            LIMIT + left,
            "somebody got in early"
        );
        while let Some(stayed) = self.inside.join_next().await {
            stayed.unwrap().unwrap();
        }
        eprintln!(
            "{} requests of those inside, none refused; {} connections broken",
            self.stay.requests.load(Ordering::SeqCst),
            self.site.broken()
        );
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
        let bound = LIMIT + self.beside;
        assert!(most < bound, "one overtook {most}: {admitted:?}");
        degraded
    }
}

/// What those inside do.
#[derive(Clone)]
struct Stay {
    /// How many have gone in.
    entered: Arc<AtomicUsize>,
    /// Requests that were served.
    requests: Arc<AtomicUsize>,
    /// How many may leave, in the order in which they went in.
    leave: watch::Receiver<usize>,
}

impl Stay {
    /// Goes from page to page until it is this visitor's turn to leave.
    async fn inside(self, mut visitor: Visitor, site: Arc<Site>) -> Result<Visitor, String> {
        let before = self.entered.fetch_add(1, Ordering::SeqCst);
        loop {
            visitor.browse(&site).await?;
            self.requests.fetch_add(1, Ordering::SeqCst);
            if *self.leave.borrow() > before {
                visitor.complete(&site).await?;
                return Ok(visitor);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
