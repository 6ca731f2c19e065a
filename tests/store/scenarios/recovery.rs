//! Silences, losses and clocks that step.

use sumun::room::snapshot::Cause;
use sumun::room::time::Timestamp;
use sumun::store::{Ask, Claimed, Reply, Restored, Shadow};

use super::{on_each_store, one_slot, steps};
use crate::world::{START, World, bits, is_inside, rules, session};

on_each_store! {
    a_silence_begins_a_recovery_in_which_nobody_is_admitted_and_nothing_expires
    a_recovery_ends_when_every_gateway_has_pushed
    a_recovery_without_any_memory_ends_at_its_deadline
    another_run_of_the_server_begins_a_recovery
    what_was_lost_comes_back_from_a_gateways_memory
    ghosts_hold_their_slots_and_die
    a_lapsed_pass_does_not_take_the_place_of_a_ghost
    a_token_older_than_the_store_begins_a_recovery_once
    a_first_start_is_open_at_once
    who_waited_before_a_loss_is_not_called_over_by_a_birth_without_memory
    a_stale_store_is_told_by_a_gateway_that_saw_more_steps
    a_clock_that_steps_back_an_hour_stops_the_time_and_nothing_else
    a_server_an_hour_behind_numbers_on_above_what_it_never_heard_of
    a_clock_that_steps_forward_an_hour_expires_nothing
    a_clock_set_back_costs_nobody_the_place
    a_number_forgotten_with_the_clock_set_back_is_not_issued_again
}

async fn a_silence_begins_a_recovery_in_which_nobody_is_admitted_and_nothing_expires(
    mut world: World,
) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.live(29_000).await;
    world.pass(2_001).await;
    assert_eq!(world.look().await, Reply::Recovering);
    let snapshot = world.snapshot().await;
    let recovery = snapshot.meta.recovery.expect("a recovery has begun");
    assert_eq!(recovery.cause, Cause::Silence);
    assert_eq!(
        snapshot.meta.time,
        Timestamp(START + 31_000),
        "time moved two seconds"
    );
    assert!(
        snapshot.meta.issued > numbers[0].next(),
        "numbers have jumped"
    );
    assert_eq!(
        snapshot.sessions, 1,
        "the session's thirty seconds are over, but not now"
    );
    assert!(!is_inside(&world.enter(&[3]).await[0]));
    let kept = world.touch(1, world.now + 1).await.done().unwrap();
    assert!(kept.is_some());
}

async fn a_recovery_ends_when_every_gateway_has_pushed(mut world: World) {
    one_slot(&mut world, &[2]).await;
    let ask = Ask {
        gateway: "g2".to_owned(),
        ..Ask::default()
    };
    world.store.snapshot(&world.event, &ask).await.unwrap();
    world.pass(2_001).await;
    assert_eq!(world.look().await, Reply::Recovering);
    let push = |gateway: &str| Shadow {
        gateway: gateway.to_owned(),
        born: Some(7),
        complete: true,
        ..Shadow::default()
    };
    world.restore(&push("g1")).await;
    world.live(3_000).await;
    assert!(
        world.snapshot().await.meta.recovery.is_some(),
        "g2 is awaited"
    );
    world.restore(&push("g2")).await;
    assert!(world.snapshot().await.meta.recovery.is_none());
}

async fn a_recovery_without_any_memory_ends_at_its_deadline(mut world: World) {
    one_slot(&mut world, &[2]).await;
    world.rerun().await;
    assert_eq!(world.look().await, Reply::Recovering);
    world.live(99_999).await;
    assert!(world.snapshot().await.meta.recovery.is_some());
    world.pass(1).await;
    assert!(world.snapshot().await.meta.recovery.is_none());
}

async fn another_run_of_the_server_begins_a_recovery(mut world: World) {
    one_slot(&mut world, &[2]).await;
    world.rerun().await;
    assert_eq!(world.look().await, Reply::Recovering);
    let meta = world.snapshot().await.meta;
    assert_eq!(meta.recovery.unwrap().cause, Cause::Run);
    assert_eq!(meta.run, "run1");
}

async fn what_was_lost_comes_back_from_a_gateways_memory(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3, 4]).await;
    world.end(1).await;
    world.call(&numbers[..1]).await;
    world.claim(numbers[0]).await;
    let before = world.snapshot().await;
    let living = world.living().await;
    world.pass(1_000).await;
    world.flush().await;
    assert_eq!(world.look().await, Reply::Absent);
    let page = numbers[0].page();
    let shadow = Shadow {
        gateway: "g1".to_owned(),
        born: Some(7),
        seq: before.meta.seq,
        newborn: 8,
        time: before.meta.time,
        issued: before.meta.issued,
        called: before.meta.called,
        marks: before.meta.marks.clone(),
        rules: Some(before.meta.rules.clone()),
        sessions_known: 1,
        sessions: vec![
            (session(numbers[0].0), Timestamp(START + 30_000)),
            (session(1), Timestamp(START + 30_000)),
        ],
        ended: vec![(session(1), Timestamp(START))],
        live: vec![(page, bits(&living))],
        spent: vec![(page, bits(&numbers[..1]))],
        complete: true,
        ..Shadow::default()
    };
    let restored = Restored {
        born: 8,
        began: Some(Cause::Loss),
        sessions: 1,
    };
    assert_eq!(world.restore(&shadow).await, restored);
    world.live(3_000).await;
    let after = world.snapshot().await;
    assert!(after.meta.recovery.is_none());
    assert_eq!((after.sessions, after.meta.ghosts), (1, 0));
    assert_eq!(after.meta.called, before.meta.called);
    assert_eq!(world.living().await, numbers[1..]);
    assert!(
        after.meta.issued > before.meta.issued,
        "no number is issued twice"
    );
    let again = world.claim(numbers[0]).await;
    assert!(matches!(again, Claimed::Admitted { fresh: false, .. }));
}

/// The store has forgotten `known` sessions.
async fn haunted(world: &mut World, known: u64) {
    world.open(&rules(5)).await;
    world
        .restore(&Shadow {
            gateway: "g1".to_owned(),
            born: Some(99),
            sessions_known: known,
            complete: true,
            ..Shadow::default()
        })
        .await;
    world.live(3_000).await;
    let meta = world.snapshot().await.meta;
    assert_eq!((meta.recovery, meta.ghosts), (None, known));
}

async fn ghosts_hold_their_slots_and_die(mut world: World) {
    haunted(&mut world, 3).await;
    world.call(&[]).await;
    let meta = world.snapshot().await.meta;
    // Numbering jumped when the recovery began: the gap is called first.
    world.live(400).await;
    world.step(|step| step.to = meta.issued).await;
    let entered = world.enter(&[1, 2, 3]).await;
    let inside: Vec<bool> = entered.iter().map(is_inside).collect();
    assert_eq!(inside, [true, true, false]);
    world.live(599_599).await;
    assert_eq!(world.snapshot().await.meta.ghosts, 3);
    world.pass(1).await;
    assert_eq!(world.snapshot().await.meta.ghosts, 0);
}

async fn a_lapsed_pass_does_not_take_the_place_of_a_ghost(mut world: World) {
    haunted(&mut world, 2).await;
    assert_eq!(world.touch(1, world.now).await, Reply::Done(None));
    let back = world.touch(1, world.now + 1).await.done().unwrap();
    assert!(back.is_some());
    let snapshot = world.snapshot().await;
    assert_eq!((snapshot.sessions, snapshot.meta.ghosts), (1, 1));
}

async fn a_token_older_than_the_store_begins_a_recovery_once(mut world: World) {
    world.open(&rules(4)).await;
    let token = Shadow {
        gateway: "g1".to_owned(),
        token: true,
        complete: true,
        ..Shadow::default()
    };
    assert_eq!(world.restore(&token).await.began, Some(Cause::Token));
    // A gateway that has looked at this state knows no more for it.
    let looked = Shadow {
        born: Some(world.snapshot().await.meta.born),
        ..token.clone()
    };
    world.restore(&looked).await;
    world.live(4_000).await;
    let meta = world.snapshot().await.meta;
    assert_eq!(meta.ghosts, 4, "as many as may have been inside");
    assert!(meta.recovery.is_some(), "somebody may still remember");
    world.live(97_000).await;
    assert!(world.snapshot().await.meta.recovery.is_none());
    assert_eq!(world.restore(&token).await.began, None);
}

async fn a_first_start_is_open_at_once(mut world: World) {
    world.open(&rules(1)).await;
    assert!(is_inside(&world.enter(&[1]).await[0]));
}

async fn who_waited_before_a_loss_is_not_called_over_by_a_birth_without_memory(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    let before = world.snapshot().await.meta;
    world.flush().await;
    // A gateway that was started just now makes the event anew.
    let birth = Shadow {
        gateway: "g2".to_owned(),
        newborn: 8,
        rules: Some(rules(5)),
        ..Shadow::default()
    };
    world.restore(&birth).await;
    world.live(700_000).await;
    world.step(|_| {}).await;
    // Another one, which was cut off, remembers who waits.
    let memory = Shadow {
        gateway: "g1".to_owned(),
        born: Some(7),
        issued: before.issued,
        called: before.called,
        live: vec![(numbers[0].page(), bits(&numbers))],
        complete: true,
        ..Shadow::default()
    };
    assert_eq!(world.restore(&memory).await.began, Some(Cause::Loss));
    world
        .restore(&Shadow {
            complete: true,
            ..birth
        })
        .await;
    world.live(3_000).await;
    assert_eq!(world.snapshot().await.meta.recovery, None);
    assert_eq!(world.claim(numbers[1]).await, Claimed::NotYet);
    world.call(&numbers[..1]).await;
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
}

async fn a_stale_store_is_told_by_a_gateway_that_saw_more_steps(mut world: World) {
    world.open(&rules(4)).await;
    let meta = world.snapshot().await.meta;
    let shadow = Shadow {
        gateway: "g1".to_owned(),
        born: Some(7),
        seq: meta.seq,
        ..Shadow::default()
    };
    assert_eq!(world.restore(&shadow).await.began, None);
    let more = Shadow {
        seq: meta.seq + 1,
        ..shadow
    };
    assert_eq!(world.restore(&more).await.began, Some(Cause::Stale));
}

async fn a_clock_that_steps_back_an_hour_stops_the_time_and_nothing_else(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.pass(-3_600_000).await;
    let meta = world.snapshot().await.meta;
    assert_eq!((meta.time, meta.recovery), (Timestamp(START), None));
    world.live(10_000).await;
    // The running time slows down by a tenth until the clocks meet.
    assert_eq!(world.snapshot().await.meta.time, Timestamp(START + 9_000));
    world.end(1).await;
    world.call(&numbers).await;
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
    let next = world.tickets(&[3]).await;
    assert_eq!(next, [numbers[0].next()], "numbering does not go back");
}

async fn a_server_an_hour_behind_numbers_on_above_what_it_never_heard_of(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.live(10_000).await;
    world.pass(-3_600_000).await;
    world.rerun().await;
    assert_eq!(world.look().await, Reply::Recovering);
    // The server before this one had given these.
    let lost = [numbers[0].next(), numbers[0].next().next()];
    let next = world.tickets(&[3]).await[0];
    assert!(next > lost[1], "{next} was given before");
    world.beat(&lost).await;
    assert_eq!(world.living().await, [numbers[0], lost[0], lost[1], next]);
    let seconds = world.snapshot().await.unix_seconds;
    assert_eq!(seconds, START / 1000 + 10, "what was given is not absurd");
}

async fn a_clock_that_steps_forward_an_hour_expires_nothing(mut world: World) {
    one_slot(&mut world, &[2]).await;
    let living = world.living().await;
    world.pass(3_600_000).await;
    assert_eq!(world.look().await, Reply::Recovering);
    let snapshot = world.snapshot().await;
    assert_eq!(snapshot.meta.time, Timestamp(START + 2_000));
    assert_eq!(snapshot.sessions, 1);
    assert_eq!(world.living().await, living);
}

async fn a_clock_set_back_costs_nobody_the_place(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.pass(-3_600_000).await;
    // Two windows later only those live who were heard from.
    for _ in 0..25 {
        steps(&mut world, 10).await;
        world.beat(&numbers).await;
    }
    assert_eq!(world.living().await, numbers);
}

async fn a_number_forgotten_with_the_clock_set_back_is_not_issued_again(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.pass(-3_600_000).await;
    // A process that knows of these only may have lost the next ones.
    world.rerun().await;
    assert_eq!(world.look().await, Reply::Recovering);
    let next = world.tickets(&[4]).await;
    assert!(next[0].unix_second() > numbers[1].unix_second());
}
