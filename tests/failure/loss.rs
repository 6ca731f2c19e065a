//! Gateways that die, a Redis that forgets, a network that is cut: nobody
//! loses a place or is overtaken, nobody too many gets in, whoever is inside
//! is served all the time, and afterwards the line moves on by itself.

use std::time::Duration;

use redis::AsyncCommands;
use serde_json::json;

use crate::support::browsing::Browsing;
use crate::support::chaos::Weather;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::town::Town;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_gateway_is_restarted_and_everybody_keeps_what_they_had() {
    lone_gateway_ends(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_gateway_is_killed_and_everybody_keeps_what_they_had() {
    lone_gateway_ends(true).await;
}

async fn lone_gateway_ends(killed: bool) {
    let _machine = shared_machine().await;
    let mut town = Town::embedded().await;
    town.fill().await;
    town.queue("before", 8).await;
    town.site.set_down(true);
    if killed {
        town.gateways[0].kill();
    } else {
        town.gateways[0].stop().await;
    }
    let setup = town.setup.clone();
    town.gateways[0].start_again(&setup).await;
    town.site.set_down(false);
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_gateways_is_killed_and_comes_back() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 6).await;
    town.gateways[1].kill();
    town.queue("meanwhile", 4).await;
    let setup = town.setup.clone();
    town.gateways[1].start_again(&setup).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_starts_again_and_knows_nothing() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 8).await;
    town.redis.as_mut().unwrap().restart();
    town.is_well_again().await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_starts_again_from_its_append_only_file() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    town.fill().await;
    town.queue("before", 8).await;
    town.redis.as_mut().unwrap().restart();
    town.is_well_again().await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed_with_a_line_before_the_door() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 8).await;
    town.redis.as_ref().unwrap().flush().await;
    town.is_well_again().await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cannot_be_reached_for_longer_than_a_session_may_be_idle() {
    away(Weather::Cut, Duration::from_secs(35)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_does_not_answer_for_ten_seconds() {
    away(Weather::Stalled, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than five minutes"]
async fn redis_cannot_be_reached_for_five_minutes() {
    away(Weather::Cut, Duration::from_secs(300)).await;
}

async fn away(weather: Weather, how_long: Duration) {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.be_patient(how_long);
    town.fill().await;
    town.queue("before", 6).await;
    let began = tokio::time::Instant::now();
    town.weather(weather);
    town.wait_for("sumun_store_up", 0.0).await;
    town.queue("meanwhile", 5).await;
    // The outage is the time that passes, not something to wait for.
    tokio::time::sleep_until(began + how_long).await;
    town.weather(Weather::Fair);
    town.wait_for("sumun_store_up", 1.0).await;
    town.queue("after", 4).await;
    let degraded = town.everybody_gets_in().await;
    assert!(degraded > 0, "no answer said that the store was away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_right_after_it_let_somebody_in_still_knows_who() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let setup = Setup::new(origin.address, None, 1);
    let mut gateway = Gateway::start(&setup).await;
    let site = Site::new(vec![gateway.public]);
    let mut first = Visitor::new("first");
    assert!(matches!(first.open(&site).await, Ok(Seen::Inside)));
    gateway.kill();
    gateway.start_again(&setup).await;

    let browsing = Browsing::start(&first, &[gateway.public]);
    let mut second = Visitor::new("second");
    stays_outside(&mut second, &site).await;
    stays_outside(&mut second, &site).await;
    browsing.end().await;

    // From inside out, and from the line in, right before the next kill.
    first.complete(&site).await.unwrap();
    second.wait(&site, Duration::from_secs(30)).await.unwrap();
    gateway.kill();
    gateway.start_again(&setup).await;
    let mut third = Visitor::new("third");
    stays_outside(&mut third, &site).await;
    let seen = first.browse(&site).await;
    assert!(seen.is_err(), "a completed session came back to life");
    second.browse(&site).await.unwrap();
    stays_outside(&mut third, &site).await;
    second.browse(&site).await.unwrap();
    second.complete(&site).await.unwrap();
    third.wait(&site, Duration::from_secs(30)).await.unwrap();
    assert_eq!(site.most_inside(), 1);
}

/// Comes and asks as told, for longer than a recovery lasts.
async fn stays_outside(visitor: &mut Visitor, site: &Site) {
    let mut waited = Duration::ZERO;
    let mut seen = match visitor.number {
        None => visitor.come(site).await,
        Some(_) => visitor.poll(site).await,
    };
    while waited < Duration::from_secs(8) {
        let after = match seen {
            Ok(Seen::Waits { after, .. } | Seen::Later(after)) => after,
            other => panic!("{} is not outside: {other:?}", visitor.name),
        };
        tokio::time::sleep(after).await;
        waited += after;
        seen = visitor.poll(site).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_changed_survives_an_emptied_redis() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let setup = Setup::new(origin.address, Some(redis.address), 3);
    let gateways = [Gateway::start(&setup).await, Gateway::start(&setup).await];
    let sale = json!({ "eventId": "sale", "limitCnt": 9, "paths": ["/sale"] });
    let changes = [
        (
            "PUT",
            "/v1/events/main/limit",
            json!({ "limitCnt": 7 }),
            200,
        ),
        ("POST", "/v1/events", sale, 201),
    ];
    for (method, path, body, status) in changes {
        assert_eq!(gateways[0].admin(method, path, &body).await.0, status);
    }
    for gateway in &gateways {
        until("the changes are in force", SOON, async || {
            in_force(gateway).await
        })
        .await;
    }
    redis.flush().await;
    let mut control = redis.control().await;
    until("the changes are in Redis again", SOON, async || {
        let kept: Vec<String> = control.hkeys("sumun:events").await.unwrap();
        ["main", "sale"]
            .iter()
            .all(|id| kept.iter().any(|kept| kept == id))
    })
    .await;
    for gateway in &gateways {
        gateway.wait_for_recovery().await;
        gateway
            .wait_for("sumun_event_sessions_limit{event=\"main\"}", 7.0)
            .await;
        assert!(in_force(gateway).await);
    }
}

async fn in_force(gateway: &Gateway) -> bool {
    gateway.event("main").await["limitCnt"] == 7 && gateway.event("sale").await["limitCnt"] == 9
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_right_after_an_order_still_obeys_it() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let setup = Setup::new(origin.address, None, 3);
    let mut gateway = Gateway::start(&setup).await;
    let limit = json!({ "limitCnt": 7 });
    let (status, _) = gateway.admin("PUT", "/v1/events/main/limit", &limit).await;
    assert_eq!(status, 200);
    let confirm = json!({ "confirm": "main" });
    let (status, reset) = gateway
        .admin("POST", "/v1/events/main/reset", &confirm)
        .await;
    assert_eq!(status, 200);
    gateway.kill();
    gateway.start_again(&setup).await;
    let event = gateway.event("main").await;
    assert_eq!(event["limitCnt"], 7);
    assert!(reset["generation"].as_u64() > Some(0), "{reset}");
    assert_eq!(event["generation"], reset["generation"]);
}
