//! The clocks of gateways are seconds apart, and one of them steps back: the
//! order of the line and who is inside are the store's to know, and where the
//! store is away no wall clock of a gateway decides it either. And the store's
//! own clock may be another one after a failover. (On redis-server alone: the
//! allocator of valkey-server does not bear a wrong clock.)

use crate::support::chaos::Weather;
use crate::support::clock::WrongClock;
use crate::support::gateway::Setup;
use crate::support::shared_machine;
use crate::support::town::Town;
use crate::support::watched::Watched;

const HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_whose_clocks_are_ten_seconds_apart_and_step_back_agree() {
    let _machine = shared_machine().await;
    let clocks = [WrongClock::ahead_by(5), WrongClock::ahead_by(-5)];
    let mut town = Town::shared_by(&[], |setup| {
        clocks.each_ref().map(|clock| Setup {
            environment: clock.environment(),
            ..setup.clone()
        })
    })
    .await;
    let [ahead, behind] = [0, 1].map(|gateway| town.gateways[gateway].said_at());
    let apart = (ahead - behind).rem_euclid(86_400);
    assert!((8..=12).contains(&apart), "clocks are {apart} s apart");
    town.fill().await;
    town.queue("before", 4).await;
    clocks[0].set(3);
    town.queue("after a step", 4).await;

    town.weather(Weather::Cut);
    town.wait_for("sumun_store_up", 0.0).await;
    clocks[0].set(1);
    clocks[1].set(-7);
    // Once more, and the process that knew the store's time is gone.
    town.gateways[0].kill();
    clocks[0].set(-1);
    let setup = town.setup.clone();
    town.gateways[0].start_again(&setup).await;
    town.queue("without the store", 5).await;
    town.weather(Weather::Fair);
    town.wait_for("sumun_store_up", 1.0).await;
    town.queue("after", 4).await;
    town.everybody_gets_in().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_ahead_takes_the_place_of_the_primary() {
    by_another_clock(HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_behind_takes_the_place_of_the_primary() {
    by_another_clock(-HOUR).await;
}

async fn by_another_clock(seconds: i64) {
    let _machine = shared_machine().await;
    let clock = WrongClock::ahead_by(seconds);
    let mut watched = Watched::start(clock.environment()).await;
    let apart = watched.apart().await;
    assert!((apart - seconds).abs() < 60, "clocks are {apart} s apart");
    let town = &mut watched.town;
    town.fill().await;
    town.queue("before", 4).await;
    watched.lag().await;
    let town = &mut watched.town;
    town.queue("that the replica never heard of", 4).await;
    watched.fail_over().await;
    let town = &mut watched.town;
    town.queue("after", 4).await;
    // A gateway's own clock is another one than the store's.
    let setup = town.setup.clone();
    town.gateways[1].stop().await;
    town.gateways[1].start_again(&setup).await;
    town.queue("at last", 2).await;
    watched.town.everybody_gets_in().await;
}
