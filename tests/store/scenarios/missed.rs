//! After a loss a gateway may be missed that told a visitor of a later end of his
//! session than anybody else knows: then no session ends for as long as one may be
//! idle.

use sumun::room::snapshot::{Cause, Snapshot};
use sumun::room::time::Timestamp;
use sumun::store::{Reply, Shadow};

use super::{on_each_store, one_slot};
use crate::world::{World, rules, session};

on_each_store! {
    where_nobody_is_missed_a_session_ends_as_it_would_have
    where_a_gateway_is_gone_no_session_ends_for_as_long_as_one_may_be_idle
    a_gateway_that_comes_back_and_remembers_is_not_missed
    a_gateway_that_comes_back_and_has_forgotten_is_missed
    a_gateway_gone_for_longer_than_a_session_may_be_idle_is_not_missed
    a_process_that_has_just_begun_does_not_know_all_of_the_one_before
    a_later_time_that_is_remembered_does_not_shorten_the_recovery
    a_pass_that_is_good_for_longer_than_the_store_knows_is_believed
    a_silence_in_the_middle_does_not_end_it_sooner
    a_pass_brings_back_its_whole_time
}

/// A session may be idle for so long.
const IDLE: u64 = 600_000;

/// What gateway g1 remembers: one session, which has ten seconds left.
fn memory(before: &Snapshot) -> Shadow {
    Shadow {
        gateway: "g1".to_owned(),
        born: Some(before.meta.born),
        newborn: before.meta.born + 1,
        time: before.meta.time,
        rules: Some(rules(1)),
        sessions_known: 1,
        sessions: vec![(session(1), before.meta.time.plus(TEN_SECONDS))],
        complete: true,
        ..Shadow::default()
    }
}

const TEN_SECONDS: std::time::Duration = std::time::Duration::from_secs(10);

/// The store has forgotten everything, and g1 brings what it remembers.
async fn lost(world: &mut World, change: impl FnOnce(&mut Shadow)) -> Shadow {
    world.open(&rules(1)).await;
    let mut shadow = memory(&world.snapshot().await);
    change(&mut shadow);
    world.flush().await;
    world.restore(&shadow).await;
    shadow
}

/// So many are inside when the session's time is over, as far as g1 knows it.
async fn then_there_are(world: &mut World, sessions: u64) {
    world.live(12_000).await;
    let snapshot = world.snapshot().await;
    assert!(snapshot.meta.recovery.is_none());
    assert_eq!(snapshot.sessions, sessions);
}

async fn where_nobody_is_missed_a_session_ends_as_it_would_have(mut world: World) {
    lost(&mut world, |_| {}).await;
    then_there_are(&mut world, 0).await;
}

/// A gateway was seen so long ago.
fn gone(shadow: &mut Shadow, ago: u64) {
    let seen = Timestamp(shadow.time.0 - ago);
    shadow.peers = vec![("g2".to_owned(), seen)];
}

async fn where_a_gateway_is_gone_no_session_ends_for_as_long_as_one_may_be_idle(mut world: World) {
    lost(&mut world, |shadow| gone(shadow, 30_000)).await;
    then_there_are(&mut world, 1).await;
    world.live(IDLE - 10_000).await;
    assert_eq!(world.snapshot().await.sessions, 1);
    world.live(2_000).await;
    assert_eq!(world.snapshot().await.sessions, 0);
}

async fn a_gateway_that_comes_back_and_remembers_is_not_missed(mut world: World) {
    let shadow = lost(&mut world, |shadow| gone(shadow, 30_000)).await;
    let back = Shadow {
        gateway: "g2".to_owned(),
        ..shadow
    };
    world.restore(&back).await;
    then_there_are(&mut world, 0).await;
}

async fn a_gateway_that_comes_back_and_has_forgotten_is_missed(mut world: World) {
    let shadow = lost(&mut world, |shadow| gone(shadow, 30_000)).await;
    let back = Shadow {
        gateway: "g2".to_owned(),
        rules: shadow.rules,
        complete: true,
        ..Shadow::default()
    };
    world.restore(&back).await;
    then_there_are(&mut world, 1).await;
}

async fn a_gateway_gone_for_longer_than_a_session_may_be_idle_is_not_missed(mut world: World) {
    lost(&mut world, |shadow| gone(shadow, IDLE + 1)).await;
    then_there_are(&mut world, 0).await;
}

async fn a_process_that_has_just_begun_does_not_know_all_of_the_one_before(mut world: World) {
    lost(&mut world, |shadow| shadow.young = true).await;
    then_there_are(&mut world, 1).await;
}

async fn a_later_time_that_is_remembered_does_not_shorten_the_recovery(mut world: World) {
    let shadow = lost(&mut world, |shadow| gone(shadow, 0)).await;
    let later = Shadow {
        gateway: "g2".to_owned(),
        time: Timestamp(shadow.time.0 + 100_000),
        ..shadow
    };
    world.live(1_000).await;
    world.restore(&later).await;
    world.live(1_500).await;
    let meta = world.snapshot().await.meta;
    assert!(meta.time >= later.time);
    assert!(meta.recovery.is_some(), "who waits has had no time to ask");
    world.live(1_000).await;
    assert!(world.snapshot().await.meta.recovery.is_none());
}

async fn a_pass_that_is_good_for_longer_than_the_store_knows_is_believed(mut world: World) {
    one_slot(&mut world, &[2]).await;
    // Thirty seconds until somebody is heard from; longer than a session may
    // last, and another one waits.
    let mut hours = rules(1);
    hours.session_max_ms = 1;
    world.configure(&hours).await;
    world.live(10_000).await;
    let good = world.now + 500_000;
    let until = world.touch(1, good).await;
    assert_eq!(until, Reply::Done(Some(Timestamp(good))));
}

async fn a_silence_in_the_middle_does_not_end_it_sooner(mut world: World) {
    let shadow = lost(&mut world, |shadow| gone(shadow, 30_000)).await;
    world.live(1_000).await;
    world.pass(2_001).await;
    assert_eq!(world.look().await, Reply::Recovering);
    let recovery = world.snapshot().await.meta.recovery.unwrap();
    assert_eq!((recovery.cause, recovery.remembered), (Cause::Loss, false));
    // Everybody is asked again.
    world.restore(&shadow).await;
    then_there_are(&mut world, 1).await;
}

async fn a_pass_brings_back_its_whole_time(mut world: World) {
    lost(&mut world, |shadow| {
        shadow.sessions.clear();
        shadow.sessions_known = 1;
    })
    .await;
    let good = world.now + 2 * IDLE;
    let until = world.touch(1, good).await;
    assert_eq!(until, Reply::Done(Some(Timestamp(good))));
}
