//! An event that nobody works on any more is removed, all of it.

use sumun::room::ticket::Number;
use sumun::store::{Forgotten, Found, Leave, Reply};

use super::{on_each_store, one_slot};
use crate::world::{World, id, is_inside, rules};

on_each_store! {
    an_event_is_forgotten_when_nobody_has_worked_on_it_for_a_minute
    nothing_of_a_forgotten_event_is_left
    an_event_made_anew_is_not_forgotten_and_knows_nothing_of_before
}

async fn forget(world: &World) -> Forgotten {
    world.store.forget(&world.event).await.unwrap()
}

/// The keys of the event, where there are any.
async fn keys(world: &World) -> Vec<String> {
    let Some(server) = world.server() else {
        return Vec::new();
    };
    redis::cmd("KEYS")
        .arg("sumun:\\{main\\}:*")
        .query_async(&mut server.control().await)
        .await
        .unwrap()
}

/// Everything that an event may consist of, on many pages.
async fn fill(world: &mut World) {
    let numbers = one_slot(world, &[2, 3, 4]).await;
    world.enter_as(5, 100).await;
    world.enter_as(6, 200).await;
    let far: Vec<Number> = (0..150)
        .map(|page| Number(numbers[0].0 - page * 65_536))
        .collect();
    world.beat(&far).await;
    world.end(1).await;
    world.call(&numbers[..2]).await;
    world.claim(numbers[0]).await;
    let left = Leave {
        number: Number(numbers[0].0 - (1 << 30)),
        id: None,
    };
    let _ = world.store.leave(&world.event, &[left]).await.unwrap();
}

async fn an_event_is_forgotten_when_nobody_has_worked_on_it_for_a_minute(mut world: World) {
    world.open(&rules(5)).await;
    world.enter(&[1]).await;
    assert_eq!(forget(&world).await, Forgotten::InUse);
    world.pass(59_999).await;
    assert_eq!(forget(&world).await, Forgotten::InUse);
    world.pass(-120_000).await;
    assert_eq!(
        forget(&world).await,
        Forgotten::InUse,
        "a clock that stepped back"
    );
    world.pass(120_000).await;
    assert_eq!(
        world.look().await,
        Reply::Recovering,
        "somebody works on it again"
    );
    world.pass(59_999).await;
    assert_eq!(forget(&world).await, Forgotten::InUse);
    world.pass(1).await;
    assert_eq!(forget(&world).await, Forgotten::Gone);
    assert_eq!(world.look().await, Reply::Absent);
    assert_eq!(forget(&world).await, Forgotten::Gone, "asked again");
}

async fn nothing_of_a_forgotten_event_is_left(mut world: World) {
    fill(&mut world).await;
    assert!(world.server().is_none() || keys(&world).await.len() > 150);
    world.pass(60_000).await;
    assert_eq!(forget(&world).await, Forgotten::Gone);
    assert_eq!(keys(&world).await, Vec::<String>::new());
    assert!(world.store.dump(&world.event).await.unwrap().is_none());
}

async fn an_event_made_anew_is_not_forgotten_and_knows_nothing_of_before(mut world: World) {
    fill(&mut world).await;
    world.pass(60_000).await;
    assert_eq!(forget(&world).await, Forgotten::Gone);
    world.open(&rules(1)).await;
    assert_eq!(forget(&world).await, Forgotten::InUse);
    let snapshot = world.snapshot().await;
    assert_eq!((snapshot.sessions, snapshot.pages.len()), (0, 0));
    assert_eq!(snapshot.tally.issued, 0);
    let found = world.store.find(&world.event, id(100)).await.unwrap();
    assert_eq!(found, Reply::Done(Found::Nothing));
    assert!(is_inside(&world.enter(&[1]).await[0]));
}
