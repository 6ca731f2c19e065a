//! The primary dies and a replica that lags behind takes its place: what was
//! joined, claimed and completed in between is in no store any more.

use std::time::Duration;

use crate::support::watched::Watched;
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer: not as long as a session may be idle.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_behind_takes_the_place_of_the_primary() {
    let _machine = shared_machine().await;
    let mut watched = Watched::start(Vec::new()).await;
    watched.lag().await;
    watched.town.fill().await;
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 6).await;
    watched.fail_over().await;
    watched.town.queue("after", 4).await;
    watched.town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_never_heard_of_claims_and_completions_brings_nobody_back() {
    let _machine = shared_machine().await;
    let mut watched = Watched::start(Vec::new()).await;
    watched.town.fill().await;
    watched.town.queue("before", 6).await;
    watched.lag().await;
    let gone = [
        watched.town.one_leaves().await,
        watched.town.one_leaves().await,
    ];
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 4).await;
    watched.fail_over().await;
    // For a moment a gateway may not have heard that they completed at the other.
    for visitor in &gone {
        until("a completed session is over", SOON, async || {
            visitor.clone().browse(&watched.town.site).await.is_err()
        })
        .await;
    }
    watched.town.queue("after", 4).await;
    watched.town.everybody_gets_in().await;
}
