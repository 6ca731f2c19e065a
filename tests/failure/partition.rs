//! One gateway is cut off from the store while the other goes on: those inside
//! are served at both, and whoever comes after the reunion comes behind all.

use std::time::Duration;

use crate::support::pair::Pair;
use crate::support::people::{comes_in, waits};
use crate::support::site::Site;
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
    let mut pair = Pair::start(|_| {}).await;
    let mut inside = comes_in("inside", &pair.there).await;
    inside.browse(&pair.here).await.unwrap();
    let mut held = vec![place(&pair.here).await, place(&pair.there).await];

    pair.part().await;
    for _ in 0..3 {
        held.push(place(&pair.here).await);
        inside.browse(&pair.here).await.unwrap();
        inside.browse(&pair.there).await.unwrap();
    }
    let last = held.iter().copied().max().unwrap();
    assert_eq!(held.last(), Some(&last), "in order of arrival");
    if restarted {
        pair.reunite_restarted().await;
    } else {
        pair.reunite().await;
    }
    // Nobody polls here: the gateway itself says how far it has numbered.
    let mut control = pair.redis.control().await;
    until("the store numbers on above them", SOON, async || {
        let mut issued = redis::cmd("HGET");
        issued.arg("sumun:{main}:meta").arg("issued");
        let issued: u64 = issued.query_async(&mut control).await.unwrap();
        issued > last
    })
    .await;
    assert!(place(&pair.there).await > last);
    assert!(place(&pair.here).await > last);
}

/// Somebody comes and waits: the number of the place.
async fn place(site: &Site) -> u64 {
    waits("waits", site).await.number.unwrap()
}
