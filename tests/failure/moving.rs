//! One fault after the other while the line moves: visitors come, go in and
//! leave all the time, and still nobody is lost and nobody too many is in.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::chaos::{Chaos, Weather};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::site::{Site, displacement, overtaken, tau};
use crate::support::visitor::Visitor;
use crate::support::{until, whole_machine};

const LIMIT: usize = 5;

const VISITORS: usize = 120;

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// From one page to the next.
const LOOK: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moving_line_outlives_one_fault_after_the_other() {
    let _machine = whole_machine().await;
    let origin = Origin::start().await;
    let mut redis = Redis::start(&[]);
    let chaos = Chaos::in_front_of(redis.address).await;
    let setup = Setup::new(origin.address, Some(chaos.address), LIMIT);
    let one = Gateway::start(&setup).await;
    let mut other = Gateway::start(&setup).await;
    one.wait_for("sumun_gateways", 2.0).await;
    let site = Arc::new(Site::new(vec![one.public, other.public]));
    let mut visits = JoinSet::new();
    for name in 0..VISITORS {
        visits.spawn(visit(format!("visitor {name}"), Arc::clone(&site)));
    }

    moves_on(&site, 10).await;
    redis.flush().await;
    moves_on(&site, 10).await;
    other.kill();
    moves_on(&site, 10).await;
    other.start_again(&setup).await;
    moves_on(&site, 10).await;
    redis.restart();
    moves_on(&site, 10).await;
    chaos.set(Weather::Stalled);
    one.wait_for("sumun_store_up", 0.0).await;
    chaos.set(Weather::Fair);
    moves_on(&site, 10).await;
    chaos.set(Weather::Cut);
    one.wait_for("sumun_store_up", 0.0).await;
    chaos.set(Weather::Fair);
    moves_on(&site, 10).await;
    // At the same moment: what this gateway alone knew is in nobody's memory.
    other.kill();
    redis.restart();
    moves_on(&site, 10).await;
    other.start_again(&setup).await;

    let mut faults = Vec::new();
    while let Some(visit) = visits.join_next().await {
        faults.extend(visit.unwrap().err());
    }
    let admitted = site.admitted();
    eprintln!(
        "moving: {} of {VISITORS} in, errors {}, most inside {} of {LIMIT}, tau {:.5}, largest \
         displacement {}, at most {} overtaken by one",
        admitted.len(),
        faults.len(),
        site.most_inside(),
        tau(&admitted),
        displacement(&admitted),
        overtaken(&admitted),
    );
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(admitted.len(), VISITORS);
    assert!(site.most_inside() <= i64::try_from(LIMIT).unwrap());
    // Who was called before a fault and asks after it may find the slots
    // taken by others who were called.
    assert!(overtaken(&admitted) <= 4 * LIMIT);
}

/// So many more get in, by themselves.
async fn moves_on(site: &Site, count: usize) {
    let enough = site.admitted().len() + count;
    until("the line moves on", Duration::from_secs(60), async || {
        site.admitted().len() >= enough
    })
    .await;
}

/// Gets in, goes from page to page until the other one of two who came one
/// after the other is in as well, and leaves: slots come free in pairs.
async fn visit(name: String, site: Arc<Site>) -> Result<(), String> {
    let mut visitor = Visitor::new(name);
    visitor.wait(&site, PATIENCE).await?;
    let both = site.admitted().len().next_multiple_of(2);
    let stay = async {
        loop {
            visitor.browse(&site).await?;
            if site.admitted().len() >= both {
                return visitor.complete(&site).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let stayed = tokio::time::timeout(PATIENCE, stay).await;
    stayed.unwrap_or_else(|_| Err("nobody came after".to_owned()))
}
