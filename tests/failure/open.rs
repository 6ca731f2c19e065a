//! `on_failure = "open"`: while the store is away whoever wants in walks in,
//! and says so aloud; when it is back, all of them count.

use std::time::Duration;

use crate::support::browsing::Browsing;
use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::pair::Pair;
use crate::support::people::{comes_in, waits};
use crate::support::redis::{Redis, sessions};
use crate::support::site::Site;
use crate::support::visitor::Visitor;
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
    let mut inside = comes_in("inside", &site).await;
    let mut in_line = waits("in line", &site).await;
    let doors = gateways.each_ref().map(|gateway| gateway.public);
    let browsing = Browsing::start(&inside, &doors);

    chaos.set(Weather::Cut);
    for gateway in &gateways {
        gateway.wait_for("sumun_store_up", 0.0).await;
        let log = gateway.log();
        assert!(log.contains("whoever wants in walks in"), "{log}");
    }
    // One late answer is no outage; after two seconds who stands in line goes
    // in at the next poll, and newcomers at once.
    in_line.wait(&site, SOON).await.unwrap();
    assert!(in_line.degraded > 0, "nothing said that the store is away");
    let mut newcomers: Vec<Visitor> = (0..3)
        .map(|name| Visitor::new(format!("newcomer {name}")))
        .collect();
    for newcomer in &mut newcomers {
        newcomer.wait(&site, SOON).await.unwrap();
    }
    for visitor in [&mut inside, &mut in_line] {
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
    for visitor in newcomers.iter_mut().chain([&mut inside, &mut in_line]) {
        visitor.browse(&site).await.unwrap();
    }
    let mut later = waits("later", &site).await;
    browsing.end().await;
    for visitor in newcomers.iter_mut().chain([&mut inside, &mut in_line]) {
        visitor.complete(&site).await.unwrap();
    }
    later.wait(&site, SOON).await.unwrap();
    later.complete(&site).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_let_in_by_a_gateway_cut_off_is_inside_at_the_others_too() {
    let _machine = shared_machine().await;
    let pair = Pair::start(|setup| setup.on_failure = "open").await;
    let (here, there) = (&pair.here, &pair.there);
    let mut inside = comes_in("inside", there).await;

    pair.part().await;
    let [mut moves, mut stays, mut leaves] = ["moves", "stays", "leaves"].map(Visitor::new);
    for visitor in [&mut moves, &mut stays, &mut leaves] {
        visitor.wait(here, SOON).await.unwrap();
        visitor.browse(here).await.unwrap();
    }
    // The balancer sends one of them to the other gateway, which has the store:
    // it believes the pass and tells of it.
    moves.browse(there).await.unwrap();
    let count = async |wanted| {
        until("the store counts them", SOON, async || {
            sessions(pair.redis.address).await == Some(wanted)
        })
        .await;
    };
    count(2).await;
    moves.browse(there).await.unwrap();
    leaves.complete(there).await.unwrap();

    pair.reunite().await;
    until(
        "the gateway has told of those it let in",
        SOON,
        async || {
            let log = pair.cut_off.log();
            log.contains("whom the gateway let in without the store counts now")
        },
    )
    .await;
    // Whoever has completed does not come back to life.
    count(3).await;
    for visitor in [&mut inside, &mut moves, &mut stays] {
        visitor.browse(here).await.unwrap();
        visitor.browse(there).await.unwrap();
    }
    let mut later = waits("later", here).await;
    for visitor in [&mut inside, &mut moves, &mut stays] {
        visitor.complete(there).await.unwrap();
    }
    later.wait(here, SOON).await.unwrap();
}
