//! A rate holds over a loss: those who waited through it do not all go in at
//! once when it is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::browsing::Browsing;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::people::{PATIENCE, waits};
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Most calls a second.
const RATE: u32 = 2;

/// Everybody would fit in at once.
const ROOM: usize = 100;

const VISITORS: usize = 30;

/// Who was called may come so much later, when the next ones do.
const OFFER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_nobody_goes_in_faster_than_the_rate() {
    let _machine = shared_machine().await;
    let origin = Origin::start().await;
    let mut redis = Redis::start(&[]);
    let setup = Setup {
        admit_per_second: Some(RATE),
        ..Setup::new(origin.address, Some(redis.address), ROOM)
    };
    let gateways = [Gateway::start(&setup).await, Gateway::start(&setup).await];
    gateways[0].wait_for("sumun_gateways", 2.0).await;
    let site = Arc::new(Site::new(gateways.iter().map(|one| one.public).collect()));
    // The rate lets the first ones walk in; then there is a line.
    let mut walked_in = Vec::new();
    let first = loop {
        let mut visitor = Visitor::new("first");
        match visitor.come(&site).await.unwrap() {
            Seen::Inside => walked_in.push(visitor),
            _ => break visitor,
        }
    };
    let doors = gateways.each_ref().map(|gateway| gateway.public);
    let browsing = Browsing::start(&walked_in[0], &doors);
    let mut line = JoinSet::new();
    let mut visitors = vec![first];
    for name in 1..VISITORS {
        visitors.push(waits(&format!("visitor {name}"), &site).await);
    }
    for mut visitor in visitors {
        let site = Arc::clone(&site);
        line.spawn(async move {
            visitor.wait(&site, PATIENCE).await.unwrap();
            Instant::now()
        });
    }
    until("the line moves", PATIENCE, async || {
        site.admitted().len() > walked_in.len() + 1
    })
    .await;
    redis.restart();

    let mut went_in = line.join_all().await;
    browsing.end().await;
    went_in.sort_unstable();
    for (index, first) in went_in.iter().enumerate() {
        for (count, last) in (1..).zip(&went_in[index..]) {
            let most = f64::from(RATE) * (1.0 + (OFFER + (*last - *first)).as_secs_f64());
            assert!(
                f64::from(count) <= most,
                "{count} within {:?}",
                *last - *first
            );
        }
    }
}
