//! Redis and all gateways are lost at once, and no gateway has a disk: what is
//! left of the line is in the visitors' own tickets and passes.

use std::time::Duration;

use redis::AsyncCommands;

use crate::support::gateway::Setup;
use crate::support::people::{comes_in, still_waits, waits};
use crate::support::town::Town;
use crate::support::visitor::Visitor;
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(60);

fn without_a_disk(setup: Setup) -> [Setup; 2] {
    let setup = Setup {
        has_disk: false,
        ..setup
    };
    [setup.clone(), setup]
}

/// Redis and the gateways are killed, and all of them start with nothing. A
/// token that is a second older than the new store tells of it.
async fn all_is_lost(town: &mut Town) {
    town.site.set_down(true);
    town.redis.as_mut().unwrap().stop();
    for gateway in &mut town.gateways {
        gateway.kill();
        assert!(!gateway.state_dir().exists());
    }
    town.redis.as_mut().unwrap().start_again();
    let setup = town.setup.clone();
    for gateway in &mut town.gateways {
        gateway.start_again(&setup).await;
    }
    town.site.set_down(false);
    town.is_well_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_killed_at_once_and_the_visitors_tickets_bring_the_line_back() {
    let _machine = shared_machine().await;
    let mut town = Town::shared_by(&[], without_a_disk).await;
    town.fill().await;
    town.queue("before", 3).await;
    // One of them says nothing until the recovery is over.
    let mut late = waits("late", &town.site).await;
    town.queue("behind", 4).await;
    town.time_passes().await;
    all_is_lost(&mut town).await;
    town.queue("after", 4).await;
    recovery_is_over(&town).await;
    comes_back(&mut late, &town).await;
    town.wait_in_line([late]);
    town.everybody_gets_in().await;
}

/// The store has come to its own end with what it was told.
async fn recovery_is_over(town: &Town) {
    let mut control = town.redis.as_ref().unwrap().control().await;
    until("the recovery is over", SOON, async || {
        let recovery: String = control.hget("sumun:{main}:meta", "recovery").await.unwrap();
        recovery.is_empty()
    })
    .await;
}

/// At both gateways: the place is the one that was held.
async fn comes_back(late: &mut Visitor, town: &Town) {
    for _ in 0..4 {
        still_waits(late, &town.site).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_inside_and_says_nothing_until_the_recovery_is_over_is_still_inside() {
    let _machine = shared_machine().await;
    let mut town = Town::shared_by(&[], without_a_disk).await;
    // Two are there all the time, the third says nothing for a while.
    let mut silent = comes_in("silent", &town.site).await;
    town.fill_but(1).await;
    town.queue("before", 3).await;
    town.time_passes().await;
    all_is_lost(&mut town).await;
    recovery_is_over(&town).await;
    for _ in 0..2 {
        silent.browse(&town.site).await.unwrap();
        town.time_passes().await;
    }
    town.stays(silent);
    town.everybody_gets_in().await;
}
