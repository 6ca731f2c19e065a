//! What every backend must do, scenario by scenario.

mod forgetting;
mod line;
mod missed;
mod records;
mod recovery;
mod sessions;
mod shares;
mod statistics;
mod tally;

use sumun::room::ticket::Number;
use sumun::store::Stepped;

use crate::world::{World, is_inside, rules};

/// Makes each scenario a test on each backend.
macro_rules! on_each_store {
    ($($scenario:ident)*) => {
        mod on_the_embedded_store {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::world::World::memory()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::world::World::redis().await).await;
            })*
        }
    };
}
use on_each_store;

/// One session inside, the others hold tickets.
async fn one_slot(world: &mut World, tickets: &[u64]) -> Vec<Number> {
    world.open(&rules(1)).await;
    assert!(is_inside(&world.enter(&[1]).await[0]));
    world.tickets(tickets).await
}

/// Lets time pass with a step each second, as a controller does.
async fn steps(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.pass(1_000).await;
        assert_ne!(world.step(|_| {}).await, Stepped::LostRace);
    }
}
