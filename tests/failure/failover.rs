//! The primary dies and a replica that lags behind takes its place: what was
//! joined, claimed and completed in between is in no store any more.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::support::redis::Redis;
use crate::support::sentinel::Sentinel;
use crate::support::town::Town;
use crate::support::{shared_machine, until};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_behind_takes_the_place_of_the_primary() {
    let _machine = shared_machine().await;
    let primary = Redis::start(&OF_SERVERS);
    let port = primary.address.port();
    let of = ["--replicaof", &format!("127.0.0.1 {port}")];
    let replica = Redis::start(&[&OF_SERVERS[..], &of[..]].concat());
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

    // From here on the replica hears nothing more.
    order(&replica, "CONFIG SET masterauth wrong").await;
    let primary = town.redis.as_ref().unwrap();
    order(primary, "CLIENT KILL TYPE replica").await;
    until("the replica has lost the primary", SOON, async || {
        !follows(&replica).await
    })
    .await;
    town.fill().await;
    town.queue("that the replica never heard of", 6).await;
    town.redis.as_mut().unwrap().stop();
    until("the replica is the primary", SOON, async || {
        sentinels[0].primary().await == Some(replica.address.port())
    })
    .await;
    for gateway in &town.gateways {
        gateway.wait_for_recovery().await;
        gateway.wait_for("sumun_store_up", 1.0).await;
    }
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}
