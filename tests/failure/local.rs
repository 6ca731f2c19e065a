//! `on_failure = "local"`: while the store is away each gateway admits within
//! the share that the store granted it, and never more.

use std::time::Duration;

use crate::support::browsing::Browsing;
use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup, now};
use crate::support::origin::Origin;
use crate::support::redis::{Redis, sessions};
use crate::support::site::Site;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

fn setup(origin: &Origin, redis: std::net::SocketAddr, limit: usize) -> Setup {
    Setup {
        on_failure: "local",
        ..Setup::new(origin.address, Some(redis), limit)
    }
}

/// So many come to a site; those inside, and those who wait.
async fn come(site: &Site, name: &str, many: usize) -> (Vec<Visitor>, Vec<Visitor>) {
    let (mut inside, mut waiting) = (Vec::new(), Vec::new());
    for each in 0..many {
        let mut visitor = Visitor::new(format!("{name} {each}"));
        match visitor.come(site).await.unwrap() {
            Seen::Inside => inside.push(visitor),
            _ => waiting.push(visitor),
        }
    }
    (inside, waiting)
}

async fn count(redis: &Redis, wanted: u64) {
    until("the store counts them", SOON, async || {
        sessions(redis.address).await == Some(wanted)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_each_gateway_fills_its_share_and_no_more() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(redis.address).await;
    let setup = setup(&origin, chaos.address, 21);
    let gateways = [Gateway::start(&setup).await, Gateway::start(&setup).await];
    gateways[0].wait_for("sumun_gateways", 2.0).await;
    let all = Site::new(gateways.iter().map(|gateway| gateway.public).collect());
    let (mut inside, _) = come(&all, "early", 1).await;
    assert_eq!(inside.len(), 1);
    let doors = gateways.each_ref().map(|gateway| gateway.public);
    let browsing = Browsing::start(&inside[0], &doors);
    // Half of the twenty free slots, evenly.
    for gateway in &gateways {
        gateway.wait_for("sumun_share_slots", 5.0).await;
    }

    chaos.set(Weather::Cut);
    for gateway in &gateways {
        gateway.wait_for("sumun_store_up", 0.0).await;
        let log = gateway.log();
        assert!(log.contains("admits within its share"), "{log}");
    }
    let mut waiting = Vec::new();
    for gateway in &gateways {
        let site = Site::new(vec![gateway.public]);
        let (in_here, mut in_line) = come(&site, "newcomer", 8).await;
        assert_eq!((in_here.len(), in_line.len()), (5, 3));
        for visitor in &mut in_line {
            let seen = visitor.poll(&site).await;
            assert!(
                matches!(seen, Ok(Seen::Waits { degraded: true, .. })),
                "{seen:?}"
            );
        }
        gateway.wait_for("sumun_share_slots", 0.0).await;
        inside.extend(in_here);
        waiting.extend(in_line);
    }
    for visitor in &mut inside {
        visitor.browse(&all).await.unwrap();
    }

    chaos.set(Weather::Fair);
    for gateway in &gateways {
        gateway.wait_for("sumun_store_up", 1.0).await;
    }
    // All of them count, and those who waited are let in, for there is room.
    for visitor in &mut waiting {
        visitor.wait(&all, SOON).await.unwrap();
    }
    count(&redis, 17).await;
    browsing.end().await;
    for visitor in inside.iter_mut().chain(&mut waiting) {
        visitor.browse(&all).await.unwrap();
        visitor.complete(&all).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cut_off_and_the_one_with_the_store_never_exceed_the_limit() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(redis.address).await;
    let mut cut_off = Gateway::start(&setup(&origin, chaos.address, 12)).await;
    let other = Gateway::start(&setup(&origin, redis.address, 12)).await;
    cut_off.wait_for("sumun_gateways", 2.0).await;
    let (here, there) = (
        Site::new(vec![cut_off.public]),
        Site::new(vec![other.public]),
    );
    cut_off.wait_for("sumun_share_slots", 3.0).await;

    chaos.set(Weather::Cut);
    cut_off.wait_for("sumun_store_up", 0.0).await;
    // The other takes all that is left, its own share too, and not one of the
    // slots that the one cut off may fill.
    let (mut inside, mut waiting) = come(&there, "there", 12).await;
    for visitor in waiting.iter_mut().take(9 - inside.len()) {
        visitor.wait(&there, SOON).await.unwrap();
    }
    inside.extend(waiting.drain(..9 - inside.len()));
    count(&redis, 9).await;
    let browsing = Browsing::start(&inside[0], &[cut_off.public, other.public]);
    let (in_here, more) = come(&here, "here", 5).await;
    assert_eq!((in_here.len(), more.len()), (3, 2));
    for visitor in &mut waiting {
        let seen = visitor.poll(&there).await;
        assert!(matches!(seen, Ok(Seen::Waits { .. })), "{seen:?}");
    }

    // What it remembers outlives it: killed and back, it tells of whom it let in.
    cut_off.remembers_since(now()).await;
    cut_off.kill();
    chaos.set(Weather::Fair);
    cut_off
        .start_again(&setup(&origin, chaos.address, 12))
        .await;
    count(&redis, 12).await;
    inside.extend(in_here);
    let all = Site::new(vec![cut_off.public, other.public]);
    for visitor in &mut inside {
        visitor.browse(&all).await.unwrap();
    }
    browsing.end().await;
    for visitor in &mut inside {
        visitor.complete(&all).await.unwrap();
    }
    waiting.extend(more);
    for visitor in &mut waiting {
        visitor.wait(&all, SOON).await.unwrap();
    }
}
