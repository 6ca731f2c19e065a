//! What is known of a session: until when it lives, and since when.

use sumun::room::time::Timestamp;
use sumun::store::{Claim, Claimed, Entered, Found, Reply};

use super::on_each_store;
use crate::world::{START, World, id, rules, session, ticket};

on_each_store! {
    a_session_that_is_only_looked_at_is_not_extended
    nothing_that_is_looked_at_expires_during_a_recovery
    an_id_stands_for_a_session_and_its_beginning
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

async fn an_id_stands_for_a_session_and_its_beginning(mut world: World) {
    world.open(&rules(2)).await;
    world.enter(&[9]).await;
    world.pass(1_000).await;
    let walked_in = world.enter_as(1, 100).await;
    let begun = Timestamp(START + 1_000);
    let beginning = |entered: &Entered| match entered {
        Entered::Session { begun, .. } => *begun,
        other => panic!("{other:?} is no session"),
    };
    assert_eq!(beginning(&walked_in), begun);
    let number = ticket(&world.enter_as(2, 200).await);
    world.end(9).await;
    world.call(&[number]).await;
    world.pass(1_000).await;
    let claim = Claim {
        number,
        session: session(2),
        id: Some(id(200)),
    };
    let claimed = world.store.claim(&world.event, &[claim]).await.unwrap();
    let claimed = claimed.done().unwrap();
    assert!(matches!(
        claimed[..],
        [Claimed::Admitted { fresh: true, .. }]
    ));

    for of in [1, 2] {
        assert!(world.touch(of, 0).await.done().unwrap().is_some());
    }
    world.live(300_000).await;
    assert_eq!(beginning(&world.enter_as(5, 100).await), begun);
    let found = world.store.find(&world.event, id(200)).await.unwrap();
    let Reply::Done(Found::Session { begun, .. }) = found else {
        panic!("{found:?} is no session");
    };
    assert_eq!(begun, Timestamp(START + 2_000), "of a claim: its moment");
}
