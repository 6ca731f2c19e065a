//! The primary dies and a replica that lags behind takes its place: what was
//! joined, claimed and completed in between is in no store any more. And the
//! replica's clock may be another one.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::support::clock::WrongClock;
use crate::support::redis::Redis;
use crate::support::sentinel::Sentinel;
use crate::support::town::Town;
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(60);

const HOUR: i64 = 3_600;

const OF_SERVERS: [&str; 4] = ["--requirepass", "of-servers", "--masterauth", "of-servers"];

fn url(redis: &Redis) -> String {
    format!("redis://:of-servers@{}/", redis.address)
}

async fn control(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(url(redis)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn order(redis: &Redis, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut order = redis::cmd(words.next().unwrap());
    order.arg(words.collect::<Vec<_>>());
    order.query_async(&mut control(redis).await).await.unwrap()
}

async fn follows(replica: &Redis) -> bool {
    let mut info = redis::cmd("INFO");
    let info = info.arg("replication");
    let info = info.query_async(&mut control(replica).await).await;
    let info: String = info.unwrap_or_default();
    info.contains("master_link_status:up")
}

/// A town whose store has a replica, and sentinels that watch over both.
struct Watched {
    town: Town,
    replica: Redis,
    sentinels: [Sentinel; 3],
}

impl Watched {
    /// The replica may live by a clock of its own.
    async fn start(environment: Vec<(&'static str, String)>) -> Self {
        let primary = Redis::start(&OF_SERVERS);
        let port = primary.address.port();
        let of = ["--replicaof", &format!("127.0.0.1 {port}")];
        let args = [&OF_SERVERS[..], &of[..]].concat();
        let replica = Redis::start_in(environment, &args);
        until("the replica has caught up", SOON, async || {
            follows(&replica).await
        })
        .await;
        let sentinels = [
            Sentinel::start(port),
            Sentinel::start(port),
            Sentinel::start(port),
        ];
        until("the sentinels know each other", SOON, async || {
            Sentinel::are_ready(&sentinels).await
        })
        .await;
        let [a, b, c] = sentinels.each_ref().map(|sentinel| sentinel.port);
        let store = format!(
            "redis-sentinel://:of-servers@127.0.0.1:{a},127.0.0.1:{b},127.0.0.1:{c}/shop\
             ?sentinel_password=of-sentinels"
        );
        let servers = [url(&primary), url(&replica)];
        let mut town = Town::behind(store, primary, &servers).await;
        town.be_patient(SOON);
        town.queue_nobody_yet().await;
        Self {
            town,
            replica,
            sentinels,
        }
    }

    /// The replica hears nothing more of what happens from here on.
    async fn lag(&self) {
        let primary = self.town.redis.as_ref().unwrap();
        // It has heard of all that happened so far.
        let heard = order(primary, "WAIT 1 0").await;
        assert_eq!(heard, redis::Value::Int(1));
        order(&self.replica, "CONFIG SET masterauth wrong").await;
        order(primary, "CLIENT KILL TYPE replica").await;
        until("the replica has lost the primary", SOON, async || {
            !follows(&self.replica).await
        })
        .await;
    }

    /// The primary dies, the replica takes its place, the gateways follow.
    async fn fail_over(&mut self) {
        self.town.redis.as_mut().unwrap().stop();
        until("the replica is the primary", SOON, async || {
            self.sentinels[0].primary().await == Some(self.replica.address.port())
        })
        .await;
        self.town.is_well_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_behind_takes_the_place_of_the_primary() {
    let _machine = shared_machine().await;
    let mut watched = Watched::start(Vec::new()).await;
    watched.lag().await;
    watched.town.fill().await;
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 6).await;
    watched.fail_over().await;
    watched.town.queue("after", 4).await;
    watched.town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_never_heard_of_claims_and_completions_brings_nobody_back() {
    let _machine = shared_machine().await;
    let mut watched = Watched::start(Vec::new()).await;
    watched.town.fill().await;
    watched.town.queue("before", 6).await;
    watched.lag().await;
    let mut gone = [
        watched.town.one_leaves().await,
        watched.town.one_leaves().await,
    ];
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 4).await;
    watched.fail_over().await;
    for visitor in &mut gone {
        let seen = visitor.browse(&watched.town.site).await;
        assert!(seen.is_err(), "a completed session came back to life");
    }
    watched.town.queue("after", 4).await;
    watched.town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_ahead_takes_the_place_of_the_primary() {
    by_another_clock(HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_behind_takes_the_place_of_the_primary() {
    by_another_clock(-HOUR).await;
}

async fn by_another_clock(seconds: i64) {
    let _machine = shared_machine().await;
    let clock = WrongClock::ahead_by(seconds);
    let mut watched = Watched::start(clock.environment()).await;
    let town = &mut watched.town;
    let right = time(town.redis.as_ref().unwrap()).await;
    let apart = time(&watched.replica).await - right;
    assert!((apart - seconds).abs() < 60, "clocks are {apart} s apart");
    town.fill().await;
    town.queue("before", 4).await;
    watched.lag().await;
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 4).await;
    watched.fail_over().await;
    let town = &mut watched.town;
    town.queue("after", 4).await;
    // A gateway's own clock is another one than the store's.
    let setup = town.setup.clone();
    town.gateways[1].stop().await;
    town.gateways[1].start_again(&setup).await;
    town.queue("at last", 2).await;
    watched.town.everybody_gets_in().await;
}

/// What a server's clock says, in seconds.
async fn time(server: &Redis) -> i64 {
    let time = order(server, "TIME").await;
    let (seconds, _): (i64, i64) = redis::from_redis_value(time).unwrap();
    seconds
}
