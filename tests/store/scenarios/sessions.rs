//! What is known of a session: until when it lives, and since when.

use sumun::room::time::Timestamp;
use sumun::store::Reply;

use super::on_each_store;
use crate::world::{START, World, rules, session};

on_each_store! {
    a_session_that_is_only_looked_at_is_not_extended
    nothing_that_is_looked_at_expires_during_a_recovery
}

async fn inside(world: &World, of: &[u64]) -> Vec<Option<Timestamp>> {
    let sessions: Vec<_> = of.iter().map(|of| session(*of)).collect();
    let reply = world.store.inside(&world.event, &sessions).await.unwrap();
    reply.done().unwrap()
}

async fn a_session_that_is_only_looked_at_is_not_extended(mut world: World) {
    world.open(&rules(5)).await;
    world.enter(&[1, 2]).await;
    world.live(20_000).await;
    world.end(2).await;
    let expires = Timestamp(START + 30_000);
    assert_eq!(
        inside(&world, &[1, 2, 3]).await,
        [Some(expires), None, None]
    );
    world.live(9_999).await;
    assert_eq!(inside(&world, &[1]).await, [Some(expires)]);
    world.pass(1).await;
    assert_eq!(inside(&world, &[1]).await, [None], "its time is over");
    assert_eq!(world.touch(1, 0).await, Reply::Done(None));
}

async fn nothing_that_is_looked_at_expires_during_a_recovery(mut world: World) {
    world.open(&rules(5)).await;
    world.enter(&[1]).await;
    world.live(29_000).await;
    world.rerun().await;
    world.pass(1_500).await;
    let sessions = [session(1)];
    let met = world.store.inside(&world.event, &sessions).await.unwrap();
    assert_eq!(met, Reply::Recovering);
    assert_eq!(
        inside(&world, &[1]).await,
        [Some(Timestamp(START + 30_000))]
    );
}
