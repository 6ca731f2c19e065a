//! One gateway is cut off from the store while the other goes on: those inside
//! are served at both, and whoever comes after the reunion comes behind all.

use std::time::Duration;

use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cut_off_gives_places_that_stand_before_all_who_come_after_the_reunion() {
    reunion(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_they_do_when_it_was_restarted_before_the_reunion() {
    reunion(true).await;
}

async fn reunion(restarted: bool) {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(redis.address).await;
    let through = Setup::new(origin.address, Some(chaos.address), 1);
    let mut cut_off = Gateway::start(&through).await;
    let other = Gateway::start(&Setup::new(origin.address, Some(redis.address), 1)).await;
    cut_off.wait_for("sumun_gateways", 2.0).await;
    let (here, there) = (
        Site::new(vec![cut_off.public]),
        Site::new(vec![other.public]),
    );
    let mut inside = Visitor::new("inside");
    assert!(matches!(inside.come(&there).await, Ok(Seen::Inside)));
    inside.browse(&here).await.unwrap();
    let mut held = vec![place(&here).await, place(&there).await];

    chaos.set(Weather::Cut);
    cut_off.wait_for("sumun_store_up", 0.0).await;
    for _ in 0..3 {
        held.push(place(&here).await);
        inside.browse(&here).await.unwrap();
        inside.browse(&there).await.unwrap();
    }
    let last = held.iter().copied().max().unwrap();
    assert_eq!(held.last(), Some(&last), "in order of arrival");
    if restarted {
        cut_off.stop().await;
    }
    chaos.set(Weather::Fair);
    if restarted {
        cut_off.start_again(&through).await;
    }
    cut_off.wait_for("sumun_store_up", 1.0).await;
    // Nobody polls here: the gateway itself says how far it has numbered.
    let mut control = redis.control().await;
    until("the store numbers on above them", SOON, async || {
        let mut issued = redis::cmd("HGET");
        issued.arg("sumun:{main}:meta").arg("issued");
        let issued: u64 = issued.query_async(&mut control).await.unwrap();
        issued > last
    })
    .await;
    assert!(place(&there).await > last);
    assert!(place(&here).await > last);
}

/// Somebody comes and waits: the number of the place.
async fn place(site: &Site) -> u64 {
    let mut visitor = Visitor::new("waits");
    let seen = visitor.come(site).await;
    assert!(matches!(seen, Ok(Seen::Waits { .. })), "{seen:?}");
    visitor.number.unwrap()
}
