//! The clocks of gateways are seconds apart, and one of them steps back: the
//! order of the line and who is inside are the store's to know, and where the
//! store is away no wall clock of a gateway decides it either.

use crate::support::chaos::Weather;
use crate::support::clock::WrongClock;
use crate::support::gateway::Setup;
use crate::support::shared_machine;
use crate::support::town::Town;

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
