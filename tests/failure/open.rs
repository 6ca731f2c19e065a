//! `on_failure = "open"`: while the store is away whoever wants in walks in,
//! and says so aloud; when it is back, all of them count.

use std::time::Duration;

use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::{Redis, sessions};
use crate::support::site::Site;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_everybody_walks_in_and_counts_when_it_is_back() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(redis.address).await;
    let setup = Setup {
        on_failure: "open",
        ..Setup::new(origin.address, Some(chaos.address), 1)
    };
    let gateways = [Gateway::start(&setup).await, Gateway::start(&setup).await];
    gateways[0].wait_for("sumun_gateways", 2.0).await;
    let site = Site::new(gateways.iter().map(|gateway| gateway.public).collect());
    let mut inside = Visitor::new("inside");
    assert!(matches!(inside.come(&site).await, Ok(Seen::Inside)));
    let mut waits = Visitor::new("waits");
    assert!(matches!(waits.come(&site).await, Ok(Seen::Waits { .. })));

    chaos.set(Weather::Cut);
    for gateway in &gateways {
        gateway.wait_for("sumun_store_up", 0.0).await;
        let log = gateway.log();
        assert!(log.contains("whoever wants in walks in"), "{log}");
    }
    // Who stood in line goes in at the next poll, newcomers at once.
    waits.wait(&site, SOON).await.unwrap();
    let mut newcomers: Vec<Visitor> = (0..3)
        .map(|name| Visitor::new(format!("newcomer {name}")))
        .collect();
    for newcomer in &mut newcomers {
        let seen = newcomer.come(&site).await;
        assert!(matches!(seen, Ok(Seen::Inside)), "{seen:?}");
    }
    for visitor in [&mut inside, &mut waits] {
        visitor.browse(&site).await.unwrap();
    }

    chaos.set(Weather::Fair);
    for gateway in &gateways {
        gateway.wait_for("sumun_store_up", 1.0).await;
    }
    until("the store counts all five", SOON, async || {
        sessions(redis.address).await == Some(5)
    })
    .await;
    // Those inside stay inside; whoever comes now takes a place again.
    for visitor in newcomers.iter_mut().chain([&mut inside, &mut waits]) {
        visitor.browse(&site).await.unwrap();
    }
    let mut later = Visitor::new("later");
    let seen = later.come(&site).await;
    assert!(matches!(seen, Ok(Seen::Waits { .. })), "{seen:?}");
    for visitor in newcomers.iter_mut().chain([&mut inside, &mut waits]) {
        visitor.complete(&site).await.unwrap();
    }
    later.wait(&site, SOON).await.unwrap();
    later.complete(&site).await.unwrap();
}
