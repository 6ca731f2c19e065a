//! The way to the origin is cut, or nothing comes back on it, and it is restored:
//! those in line keep their places, and whoever is inside is served again.

use std::time::Duration;

use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::people::{comes_in, still_waits, waits};
use crate::support::redis::Redis;
use crate::support::shared_machine;
use crate::support::site::Site;

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_out_of_reach_costs_nobody_the_place_or_the_session() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(origin.address).await;
    let setup = Setup::new(chaos.address, Some(redis.address), 1);
    let gateway = Gateway::start(&setup).await;
    let site = Site::new(vec![gateway.public]);
    let mut inside = comes_in("inside", &site).await;
    let mut next = waits("next", &site).await;

    chaos.set(Weather::Cut);
    let fault = inside.browse(&site).await.unwrap_err();
    assert!(fault.contains("502"), "{fault}");
    still_waits(&mut next, &site).await;
    chaos.set(Weather::Fair);
    inside.browse(&site).await.unwrap();

    chaos.set(Weather::Stalled);
    let asked = inside.browse(&site);
    let meanwhile = async {
        still_waits(&mut next, &site).await;
        chaos.set(Weather::Fair);
    };
    let (answer, ()) = tokio::join!(asked, meanwhile);
    answer.unwrap();
    inside.complete(&site).await.unwrap();
    next.wait(&site, SOON).await.unwrap();
    next.browse(&site).await.unwrap();
    assert_eq!(site.most_inside(), 1);
}
