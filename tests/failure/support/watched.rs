//! A town whose store has a replica, and sentinels that watch over both.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::redis::Redis;
use super::sentinel::Sentinel;
use super::town::Town;
use super::until;

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(60);

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

/// The town, the replica, the sentinels.
pub(crate) struct Watched {
    pub(crate) town: Town,
    replica: Redis,
    sentinels: [Sentinel; 3],
}

impl Watched {
    /// The replica may live by a clock of its own.
    pub(crate) async fn start(environment: Vec<(&'static str, String)>) -> Self {
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
    pub(crate) async fn lag(&self) {
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
    pub(crate) async fn fail_over(&mut self) {
        let primary = self.town.redis.as_ref().unwrap();
        // Nobody is called any more. The replica knows of none of those who have been:
        // each is late now, and another is called for the same slot.
        order(primary, "CLIENT PAUSE 60000 WRITE").await;
        let called = order(primary, "ZCARD sumun:{main}:offers").await;
        self.town.beside = redis::from_redis_value(called).unwrap();
        self.town.redis.as_mut().unwrap().stop();
        until("the replica is the primary", SOON, async || {
            self.sentinels[0].primary().await == Some(self.replica.address.port())
        })
        .await;
        self.town.is_well_again().await;
    }

    /// How far the replica's clock is ahead of the primary's, in seconds.
    pub(crate) async fn apart(&self) -> i64 {
        let primary = time(self.town.redis.as_ref().unwrap()).await;
        time(&self.replica).await - primary
    }
}

/// What a server's clock says, in seconds.
async fn time(server: &Redis) -> i64 {
    let time = order(server, "TIME").await;
    let (seconds, _): (i64, i64) = redis::from_redis_value(time).unwrap();
    seconds
}
