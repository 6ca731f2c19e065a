//! What gateways on a shared store keep in `state_dir`: everything is lost at
//! once but their disks, and it is an ordinary recovery; a gateway that starts
//! without the store knows what the one before it knew; an old memory does no
//! harm, and a damaged one is set aside.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::browsing::Browsing;
use crate::support::gateway::{Gateway, Setup, now};
use crate::support::origin::Origin;
use crate::support::people::{PATIENCE, comes_in, each_in_turn, still_waits, waits};
use crate::support::redis::Redis;
use crate::support::site::{Site, overtaken};
use crate::support::town::Town;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_all_gateways_are_killed_at_once_and_the_disks_bring_the_line_back() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 8).await;
    all_is_lost_but(&mut town, &[0, 1]).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_disks_one_is_lost_too_and_the_other_is_enough() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 8).await;
    all_is_lost_but(&mut town, &[1]).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

/// Redis and the gateways are killed; those come back first whose disks do.
async fn all_is_lost_but(town: &mut Town, disks: &[usize]) {
    let moment = now();
    for disk in disks {
        town.gateways[*disk].remembers_since(moment).await;
    }
    town.site.set_down(true);
    town.redis.as_mut().unwrap().stop();
    for gateway in &mut town.gateways {
        gateway.kill();
    }
    town.redis.as_mut().unwrap().start_again();
    let setup = town.setup.clone();
    for disk in disks {
        town.gateways[*disk].start_again(&setup).await;
    }
    for (index, gateway) in town.gateways.iter_mut().enumerate() {
        if !disks.contains(&index) {
            std::fs::remove_dir_all(gateway.state_dir()).unwrap();
            gateway.start_again(&setup).await;
        }
    }
    town.site.set_down(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_total_loss_the_door_is_never_open_to_a_newcomer_who_is_the_first_to_come() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let mut redis = Redis::start(&[]);
    let mut setup = Setup::new(origin.address, Some(redis.address), 2);
    // Those in line say nothing until the gateways are back.
    setup.ticket_idle = "60s";
    let mut gateways = [Gateway::start(&setup).await, Gateway::start(&setup).await];
    let site = Site::new(gateways.iter().map(|gateway| gateway.public).collect());
    let mut inside = vec![comes_in("one", &site).await, comes_in("two", &site).await];
    let mut line = Vec::new();
    for name in ["three", "four", "five"] {
        line.push(waits(name, &site).await);
    }
    let moment = now();
    for gateway in &gateways {
        gateway.remembers_since(moment).await;
    }
    redis.stop();
    for gateway in &mut gateways {
        gateway.kill();
    }
    redis.start_again();
    for gateway in &mut gateways {
        gateway.start_again(&setup).await;
        // Each door, before anybody has shown an older token there.
        let newcomer = waits("newcomer", &site).await;
        assert!(newcomer.number > line.last().unwrap().number);
        line.push(newcomer);
    }
    for gateway in &gateways {
        let cause = "sumun_store_recoveries_total{cause=\"token\"}";
        gateway.wait_for_recovery().await;
        assert_eq!(
            gateway.metric(cause).await,
            None,
            "a token told of the loss"
        );
    }
    for visitor in &mut inside {
        visitor.browse(&site).await.unwrap();
    }
    // All in line ask again; nobody moves while two are inside.
    for visitor in &mut line {
        still_waits(visitor, &site).await;
    }
    for visitor in &mut inside {
        visitor.browse(&site).await.unwrap();
        visitor.complete(&site).await.unwrap();
    }
    each_in_turn(line, &site).await;
    let admitted = site.admitted();
    assert_eq!(overtaken(&admitted), 0, "{admitted:?}");
    assert_eq!(site.most_inside(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_started_without_redis_knows_the_apis_event_and_who_is_inside() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let mut redis = Redis::start(&[]);
    let setup = Setup::new(origin.address, Some(redis.address), 3);
    let mut gateway = Gateway::start(&setup).await;
    let site = Site::new(vec![gateway.public]);
    let sale = json!({ "eventId": "sale", "limitCnt": 1, "paths": ["/sale"] });
    assert_eq!(gateway.admin("POST", "/v1/events", &sale).await.0, 201);

    let mut buyer = Visitor::of("buyer", "sale", "/sale");
    assert!(matches!(buyer.come(&site).await, Ok(Seen::Inside)));
    let mut second = Visitor::of("second", "sale", "/sale");
    assert!(matches!(second.come(&site).await, Ok(Seen::Waits { .. })));
    gateway.remembers_since(now()).await;
    redis.stop();
    gateway.kill();
    gateway.start_again(&setup).await;

    assert_eq!(gateway.event("sale").await["limitCnt"], 1);
    let browsing = Browsing::start(&buyer, &[gateway.public]);
    let seen = second.poll(&site).await.unwrap();
    assert!(
        matches!(seen, Seen::Waits { degraded: true, .. }),
        "{seen:?}"
    );
    let mut third = Visitor::of("third", "sale", "/sale");
    assert!(matches!(third.come(&site).await, Ok(Seen::Waits { .. })));
    assert!(third.number > second.number);
    // A number is not given again by the process after the next.
    browsing.end().await;
    gateway.kill();
    gateway.start_again(&setup).await;
    let browsing = Browsing::start(&buyer, &[gateway.public]);
    let mut fourth = Visitor::of("fourth", "sale", "/sale");
    assert!(matches!(fourth.come(&site).await, Ok(Seen::Waits { .. })));
    assert!(fourth.number > third.number);

    redis.start_again();
    gateway.wait_for("sumun_store_up", 1.0).await;
    gateway.wait_for_recovery().await;
    browsing.end().await;
    for visitor in [&mut second, &mut third, &mut fourth] {
        still_waits(visitor, &site).await;
    }
    buyer.complete(&site).await.unwrap();
    each_in_turn(vec![second, third, fourth], &site).await;
    assert_eq!(site.most_inside(), 1);
    assert_eq!(overtaken(&site.admitted()), 0);
    assert_eq!(gateway.event("sale").await["limitCnt"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_memory_brings_nothing_back_that_is_over() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let setup = Setup::new(origin.address, Some(redis.address), 1);
    let mut old = Gateway::start(&setup).await;
    let other = Gateway::start(&setup).await;
    let sale = json!({ "eventId": "sale", "limitCnt": 1, "paths": ["/sale"] });
    assert_eq!(old.admin("POST", "/v1/events", &sale).await.0, 201);
    let site = Site::new(vec![old.public]);
    let mut completed = comes_in("completed", &site).await;
    let mut claimed = waits("claimed", &site).await;
    let before_claim = claimed.clone();
    old.remembers_since(now()).await;
    old.kill();

    let site = Site::new(vec![other.public]);
    completed.complete(&site).await.unwrap();
    each_in_turn(vec![claimed.clone()], &site).await;
    claimed = before_claim;
    assert_eq!(
        other
            .admin("DELETE", "/v1/events/sale", &Value::Null)
            .await
            .0,
        204
    );
    let limit = json!({ "limitCnt": 2 });
    assert_eq!(
        other.admin("PUT", "/v1/events/main/limit", &limit).await.0,
        200
    );
    let limit_in_force = "sumun_event_sessions_limit{event=\"main\"}";
    other.wait_for(limit_in_force, 2.0).await;
    let mut present = vec![
        comes_in("present", &site).await,
        comes_in("too", &site).await,
    ];

    old.start_again(&setup).await;
    let both = Site::new(vec![old.public, other.public]);
    let seen = old.metric("sumun_store_recoveries_total").await;
    assert_eq!(seen, None, "an old memory began a recovery");
    nothing_came_back(&old, &completed, &claimed, &both, &mut present).await;

    // Everything is lost but the two disks, one of them old once more.
    let mut control = redis.control().await;
    let flushed: String = redis::cmd("FLUSHALL")
        .query_async(&mut control)
        .await
        .unwrap();
    assert_eq!(flushed, "OK");
    for gateway in [&old, &other] {
        gateway.wait_for_recovery().await;
    }
    nothing_came_back(&old, &completed, &claimed, &both, &mut present).await;
    nothing_came_back(&other, &completed, &claimed, &both, &mut present).await;
    // And when the recovery is over.
    for visitor in &mut present {
        visitor.complete(&both).await.unwrap();
    }
    let mut newcomers = [Visitor::new("newcomer"), Visitor::new("another")];
    for newcomer in &mut newcomers {
        newcomer.wait(&both, PATIENCE).await.unwrap();
    }
    nothing_came_back(&old, &completed, &claimed, &both, &mut newcomers).await;
}

/// The session, the place and the event that were over still are; those
/// inside are inside.
async fn nothing_came_back(
    gateway: &Gateway,
    completed: &Visitor,
    claimed: &Visitor,
    site: &Site,
    present: &mut [Visitor],
) {
    let again = completed.clone().browse(site).await;
    assert!(again.is_err(), "a completed session came back to life");
    let again = claimed.clone().poll(site).await;
    assert!(
        !matches!(again, Ok(Seen::Inside)),
        "a ticket was used twice"
    );
    until("the deleted event is gone", SOON, async || {
        let (status, _) = gateway.admin("GET", "/v1/events/sale", &Value::Null).await;
        status == 404
    })
    .await;
    until("the new limit is in force", SOON, async || {
        gateway.event("main").await["limitCnt"] == 2
    })
    .await;
    for visitor in present {
        visitor.browse(site).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_cannot_be_used_is_set_aside_and_the_gateway_starts() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let (redis, other_redis) = (Redis::start(&[]), Redis::start(&[]));
    let foreign = {
        let setup = Setup::new(origin.address, Some(other_redis.address), 1);
        let gateway = Gateway::start(&setup).await;
        gateway.remembers_since(SystemTime::UNIX_EPOCH).await;
        std::fs::read(gateway.memory()).unwrap()
    };
    let setup = Setup::new(origin.address, Some(redis.address), 1);
    let mut gateway = Gateway::start(&setup).await;
    let site = Site::new(vec![gateway.public]);
    let mut inside = comes_in("inside", &site).await;
    gateway.remembers_since(now()).await;
    let good = std::fs::read(gateway.memory()).unwrap();
    let mode = std::fs::metadata(gateway.memory()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases = [
        ("damaged", changed(good.len() / 2)),
        ("damaged", changed(0)),
        // The form's number.
        ("damaged", changed(11)),
        ("damaged", good[..good.len() / 2].to_vec()),
        ("damaged", Vec::new()),
        ("other-store", foreign),
    ];
    for (ending, bytes) in cases {
        gateway.kill();
        let aside = gateway.memory().with_extension(ending);
        let _ = std::fs::remove_file(&aside);
        std::fs::write(gateway.memory(), &bytes).unwrap();
        let said = gateway.log().matches("is set aside").count();
        gateway.start_again(&setup).await;
        assert_eq!(std::fs::read(&aside).unwrap(), bytes);
        assert_eq!(gateway.log().matches("is set aside").count(), said + 1);
        inside.browse(&site).await.unwrap();
        gateway.remembers_since(SystemTime::UNIX_EPOCH).await;
    }
}
