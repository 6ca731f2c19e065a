//! What is counted since the generation began, and the most that was seen.

use sumun::room::snapshot::{Peak, Tally};
use sumun::room::ticket::Generation;
use sumun::room::time::Timestamp;
use sumun::store::Shadow;

use super::{on_each_store, one_slot};
use crate::world::{START, World, is_inside, rules};

on_each_store! {
    everything_that_happens_to_tickets_and_sessions_is_counted
    a_peak_is_the_most_there_was_and_when_that_was_first_so
    a_reset_begins_the_counts_anew_and_sessions_stay
    counts_come_back_from_a_gateways_memory_of_the_same_generation
    sessions_that_a_memory_brings_back_make_a_peak
}

async fn tally(world: &World) -> Tally {
    world.snapshot().await.tally
}

async fn everything_that_happens_to_tickets_and_sessions_is_counted(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3, 4]).await;
    world.end(1).await;
    world.call(&numbers[..2]).await;
    world.claim(numbers[0]).await;
    world.live(31_000).await;
    world.step(|_| {}).await;
    let tally = tally(&world).await;
    let counted = (tally.begun, tally.closed, tally.issued, tally.abandoned);
    assert_eq!(
        counted,
        (2, 2, 3, 1),
        "one ended, one expired, one never came"
    );
    assert_eq!(tally.since, Timestamp(START));
}

async fn a_peak_is_the_most_there_was_and_when_that_was_first_so(mut world: World) {
    world.open(&rules(5)).await;
    world.enter(&[1, 2]).await;
    world.pass(1_000).await;
    world.enter(&[3]).await;
    world.step(|step| step.waiting = 7).await;
    world.end(1).await;
    world.pass(1_000).await;
    world.enter(&[4]).await;
    world.step(|step| step.waiting = 7).await;
    world.pass(1_000).await;
    world.step(|step| step.waiting = 6).await;
    let tally = tally(&world).await;
    let at = Timestamp(START + 1_000);
    assert_eq!(tally.sessions, Peak { most: 3, at });
    assert_eq!(tally.waiting, Peak { most: 7, at });
}

async fn a_reset_begins_the_counts_anew_and_sessions_stay(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.step(|step| step.waiting = 2).await;
    world.pass(700).await;
    let _ = world.store.reset(&world.event).await.unwrap();
    let now = Timestamp(START + 700);
    let begun_anew = Tally {
        since: now,
        sessions: Peak { most: 1, at: now },
        ..Tally::default()
    };
    assert_eq!(tally(&world).await, begun_anew);
    let before = world.snapshot().await.meta;
    assert_eq!(before.begun, 1, "the counts of the state's life go on");
    assert!(!numbers.is_empty());
    world.end(1).await;
    assert_eq!(tally(&world).await.closed, 1);
}

async fn counts_come_back_from_a_gateways_memory_of_the_same_generation(mut world: World) {
    one_slot(&mut world, &[2, 3]).await;
    world.step(|step| step.waiting = 2).await;
    let before = world.snapshot().await;
    world.pass(1_000).await;
    world.flush().await;
    let memory = |generation, tally| Shadow {
        gateway: "g1".to_owned(),
        born: Some(7),
        newborn: 8,
        time: before.meta.time,
        issued: before.meta.issued,
        called: before.meta.called,
        generation: Generation(generation),
        rules: Some(before.meta.rules.clone()),
        tally,
        ..Shadow::default()
    };
    world.restore(&memory(0, before.tally)).await;
    assert_eq!(tally(&world).await, before.tally);

    let more = Tally {
        begun: 9,
        issued: 1,
        ..before.tally
    };
    world.restore(&memory(0, more)).await;
    let both = Tally {
        begun: 9,
        ..before.tally
    };
    assert_eq!(tally(&world).await, both, "of each count the larger one");

    let after_a_reset = Tally {
        since: Timestamp(START + 500),
        issued: 1,
        sessions: before.tally.sessions,
        ..Tally::default()
    };
    world.restore(&memory(5, after_a_reset)).await;
    assert_eq!(tally(&world).await, after_a_reset);
    world.restore(&memory(0, both)).await;
    assert_eq!(
        tally(&world).await,
        after_a_reset,
        "who has not heard of the reset brings nothing back"
    );
}

async fn sessions_that_a_memory_brings_back_make_a_peak(mut world: World) {
    world.open(&rules(5)).await;
    assert!(is_inside(&world.enter(&[1]).await[0]));
    world.rerun().await;
    let _ = world.look().await;
    let expires = Timestamp(START + 600_000);
    let shadow = Shadow {
        gateway: "g1".to_owned(),
        born: Some(7),
        sessions: (2..4)
            .map(|of| (crate::world::session(of), expires))
            .collect(),
        ..Shadow::default()
    };
    world.restore(&shadow).await;
    assert_eq!(tally(&world).await.sessions.most, 3);
}
