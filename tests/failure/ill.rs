//! A store that answers, but not as it should: late, read-only, full, loading,
//! with old data, without its scripts, with a key thrown away. Nobody loses a
//! place or is overtaken, nobody too many gets in, those inside are served.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::support::chaos::Weather;
use crate::support::town::Town;
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

/// A command to the server behind the gateways' backs.
async fn order(control: &mut MultiplexedConnection, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut order = redis::cmd(words.next().unwrap());
    order.arg(words.collect::<Vec<_>>());
    order.query_async(control).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_late_by_fifty_milliseconds() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    let weather = Weather::Slow(Duration::from_millis(50));
    town.weather(weather);
    town.fill().await;
    town.queue("late", 6).await;
    for gateway in &town.gateways {
        assert_eq!(gateway.metric("sumun_store_up").await, Some(1.0));
    }
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_late_by_five_seconds() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.be_patient(Duration::from_secs(30));
    town.fill().await;
    town.queue("before", 6).await;
    let weather = Weather::Slow(Duration::from_secs(5));
    town.weather(weather);
    town.wait_for("sumun_store_up", 0.0).await;
    town.queue("meanwhile", 4).await;
    town.weather(Weather::Fair);
    town.wait_for("sumun_store_up", 1.0).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_read_only_for_a_while() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.be_patient(Duration::from_secs(30));
    town.fill().await;
    town.queue("before", 6).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    // Of a primary that is not there: it keeps its data and takes no writes.
    order(&mut control, "REPLICAOF 127.0.0.1 1").await;
    town.wait_for("sumun_store_up", 0.0).await;
    town.queue("meanwhile", 4).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    order(&mut control, "REPLICAOF NO ONE").await;
    town.wait_for("sumun_store_up", 1.0).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_full_for_a_while() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 6).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    order(&mut control, "CONFIG SET maxmemory 1").await;
    town.queue("meanwhile", 4).await;
    // Each pass of a gateway says how far it has numbered by itself.
    until("the store knows of those numbers", SOON, async || {
        let mut issued = redis::cmd("HGET");
        issued.arg("sumun:{main}:meta").arg("issued");
        let issued: u64 = issued.query_async(&mut control).await.unwrap();
        issued > town.highest()
    })
    .await;
    order(&mut control, "CONFIG SET maxmemory 0").await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_its_scripts() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 4).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    order(&mut control, "SCRIPT FLUSH SYNC").await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_starts_again_with_what_it_knew_a_while_ago() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.queue_nobody_yet().await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    order(&mut control, "SAVE").await;
    town.fill().await;
    town.queue("after the snapshot", 6).await;
    town.redis.as_mut().unwrap().restart();
    town.is_well_again().await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_starts_twice_with_the_same_old_snapshot() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.queue_nobody_yet().await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    order(&mut control, "SAVE").await;
    town.fill().await;
    town.queue("after the snapshot", 4).await;
    for _ in 0..2 {
        let mut before = Vec::new();
        for gateway in &town.gateways {
            before.push(gateway.recoveries().await);
        }
        town.redis.as_mut().unwrap().restart();
        for (gateway, before) in town.gateways.iter().zip(before) {
            gateway.wait_for_recovery_after(before).await;
        }
        town.is_well_again().await;
        town.queue("after", 2).await;
    }
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_loading_for_seconds_before_it_answers() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ])
    .await;
    town.be_patient(Duration::from_secs(30));
    town.fill().await;
    town.queue("before", 6).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    let mut filler = redis::pipe();
    for number in 0..2_000 {
        filler.cmd("SET").arg(format!("filler:{number}")).arg("x");
    }
    let _: redis::Value = filler.query_async(&mut control).await.unwrap();
    order(&mut control, "SAVE").await;
    town.redis.as_mut().unwrap().restart_loading();
    town.wait_for("sumun_store_up", 0.0).await;
    until("the server is loading", SOON, async || {
        town.redis.as_ref().unwrap().is_loading().await
    })
    .await;
    town.queue("meanwhile", 4).await;
    town.wait_for("sumun_store_up", 1.0).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_throws_away_who_is_inside() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 6).await;
    let mut control = town.redis.as_ref().unwrap().control().await;
    // As a server with a maxmemory-policy of its own would.
    order(&mut control, "DEL sumun:{main}:active").await;
    for gateway in &town.gateways {
        gateway.wait_for_recovery().await;
    }
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}
