//! What every backend must do, scenario by scenario.

use sumun::room::event::Mode;
use sumun::room::gate::Gate;
use sumun::room::snapshot::{Cause, Rules};
use sumun::room::ticket::Number;
use sumun::room::time::Timestamp;
use sumun::store::{
    Ask, Batch, Claim, Claimed, Entered, Entrant, Fence, Found, Leave, Put, Reply, Restored,
    Shadow, Stepped, StoredEvent,
};

use crate::world::{START, World, bits, id, is_inside, rules, session, ticket};

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

on_each_store! {
    an_event_that_nobody_pushed_is_absent
    visitors_walk_in_up_to_the_limit_and_never_beyond
    numbers_follow_arrival_across_the_end_of_a_page
    a_called_ticket_claims_its_slot_and_a_repeated_claim_gets_the_same_session
    a_used_ticket_is_refused_after_its_session_ended
    a_ticket_that_was_not_called_waits
    a_later_ticket_is_held_until_the_offer_of_the_earlier_one_lapses
    a_latecomer_takes_its_place_again_before_those_behind_it
    a_ticket_called_more_than_ten_minutes_ago_is_too_late
    a_newcomer_does_not_overtake_a_called_visitor
    a_repeated_batch_gets_the_same_reply
    a_session_that_was_not_heard_from_ends_and_its_slot_is_sold_once
    a_touched_session_stays_and_an_old_one_is_not_extended_while_others_wait
    a_fresh_ticket_dies_within_twenty_to_forty_seconds_unless_heard_from
    a_ticket_lives_for_one_window_and_not_for_two
    a_ticket_given_back_is_not_living_and_cannot_claim
    two_gateways_plan_the_same_step_and_one_makes_it
    steps_are_at_least_four_hundred_milliseconds_apart
    the_rate_admits_what_the_bucket_holds
    a_step_pays_for_its_calls_or_is_not_made
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
    a_clock_that_steps_forward_an_hour_expires_nothing
    a_reset_voids_places_keeps_sessions_and_numbers_go_on
    rules_are_written_by_compare_and_set
    events_are_written_by_compare_and_set
    the_same_id_gets_the_same_living_place
    a_dead_place_is_not_found_and_a_new_one_is_given
    the_id_of_a_claimed_ticket_stands_for_its_session
    modes_order_what_newcomers_meet
    numbers_from_far_ahead_restore_nothing_and_those_at_hand_move_numbering_on
    the_density_table_counts_the_living
    gateways_get_slots_and_see_each_others_reports
    dead_pages_are_swept
}

async fn an_event_that_nobody_pushed_is_absent(world: World) {
    assert_eq!(world.look().await, Reply::Absent);
    let reply = world.store.find(&world.event, id(1)).await.unwrap();
    assert_eq!(reply, Reply::Absent);
}

async fn visitors_walk_in_up_to_the_limit_and_never_beyond(mut world: World) {
    world.open(&rules(3)).await;
    let entered = world.enter(&[1, 2, 3, 4, 5]).await;
    let inside: Vec<bool> = entered.iter().map(is_inside).collect();
    assert_eq!(inside, [true, true, true, false, false]);
    // A slot is free again, but somebody waits for it.
    assert!(world.end(1).await);
    assert!(!world.end(1).await, "the slot is free once");
    assert!(!is_inside(&world.enter(&[6]).await[0]));
    assert_eq!(world.snapshot().await.sessions, 2);
}

async fn numbers_follow_arrival_across_the_end_of_a_page(mut world: World) {
    let last_of_a_page = Number(Number::restart(START / 1000).0 + 65_534);
    world
        .restore(&Shadow {
            gateway: "g1".to_owned(),
            issued: last_of_a_page,
            called: last_of_a_page,
            rules: Some(rules(0)),
            ..Shadow::default()
        })
        .await;
    let numbers = world.tickets(&[1, 2, 3, 4]).await;
    let expected: Vec<Number> = (0..4).map(|at| Number(last_of_a_page.0 + at)).collect();
    assert_eq!(numbers, expected);
    assert_eq!(world.living().await, expected);
}

/// One session inside, the others hold tickets.
async fn one_slot(world: &mut World, tickets: &[u64]) -> Vec<Number> {
    world.open(&rules(1)).await;
    assert!(is_inside(&world.enter(&[1]).await[0]));
    world.tickets(tickets).await
}

async fn a_called_ticket_claims_its_slot_and_a_repeated_claim_gets_the_same_session(
    mut world: World,
) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.end(1).await;
    world.call(&numbers).await;
    let Claimed::Admitted { expires, fresh } = world.claim(numbers[0]).await else {
        panic!("the slot is free");
    };
    assert!(fresh);
    world.pass(700).await;
    let again = Claimed::Admitted {
        expires,
        fresh: false,
    };
    assert_eq!(world.claim(numbers[0]).await, again);
    let snapshot = world.snapshot().await;
    assert_eq!((snapshot.sessions, snapshot.offers.len()), (1, 0));
}

async fn a_used_ticket_is_refused_after_its_session_ended(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.end(1).await;
    world.call(&numbers).await;
    world.claim(numbers[0]).await;
    assert!(world.end(numbers[0].0).await);
    assert_eq!(world.claim(numbers[0]).await, Claimed::Spent);
}

async fn a_ticket_that_was_not_called_waits(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.end(1).await;
    world.call(&numbers[..1]).await;
    assert_eq!(world.claim(numbers[1]).await, Claimed::NotYet);
}

async fn a_later_ticket_is_held_until_the_offer_of_the_earlier_one_lapses(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.end(1).await;
    world.call(&numbers).await;
    assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    world.live(4_999).await;
    assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    world.pass(1).await;
    let lapsed = world.step(|_| {}).await;
    assert_eq!(
        lapsed,
        Stepped::Done {
            lapsed: 1,
            expired: 0
        }
    );
    assert!(matches!(
        world.claim(numbers[1]).await,
        Claimed::Admitted { .. }
    ));
}

async fn a_latecomer_takes_its_place_again_before_those_behind_it(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.call(&numbers).await;
    world.live(5_000).await;
    world.step(|_| {}).await;
    // Both offers have lapsed; the slot is not free yet.
    assert_eq!(world.claim(numbers[0]).await, Claimed::Held);
    assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    world.end(1).await;
    assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
}

async fn a_ticket_called_more_than_ten_minutes_ago_is_too_late(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.call(&numbers).await;
    world.live(61_000).await;
    world.step(|_| {}).await;
    world.live(600_000).await;
    world.step(|_| {}).await;
    assert_eq!(world.claim(numbers[0]).await, Claimed::TooLate);
}

async fn a_newcomer_does_not_overtake_a_called_visitor(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.end(1).await;
    world.call(&numbers).await;
    let meta = world.snapshot().await.meta;
    assert_eq!(meta.called, meta.issued, "nobody waits but the one called");
    let newcomer = ticket(&world.enter(&[3]).await[0]);
    assert!(newcomer > numbers[0]);
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
}

async fn a_repeated_batch_gets_the_same_reply(mut world: World) {
    world.open(&rules(1)).await;
    let batch = Batch {
        gateway: "g2".to_owned(),
        batch: 1,
        entrants: [1, 2]
            .map(|of| Entrant {
                session: session(of),
                id: None,
            })
            .to_vec(),
    };
    let first = world.store.enter(&world.event, &batch).await.unwrap();
    world.pass(900).await;
    let again = world.store.enter(&world.event, &batch).await.unwrap();
    assert_eq!(first, again);
    let other = Batch {
        gateway: "g3".to_owned(),
        ..batch
    };
    let other = world.store.enter(&world.event, &other).await.unwrap();
    assert_ne!(first, other, "another gateway counts its own batches");
}

async fn a_session_that_was_not_heard_from_ends_and_its_slot_is_sold_once(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    world.live(29_999).await;
    world.call(&numbers).await;
    assert_eq!(world.claim(numbers[0]).await, Claimed::Held);
    world.pass(1).await;
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
    // The first comes back with a pass that is still good by its own clock.
    assert_eq!(world.touch(1, world.now + 60_000).await, Reply::Done(None));
    assert_eq!(world.snapshot().await.sessions, 1);
}

async fn a_touched_session_stays_and_an_old_one_is_not_extended_while_others_wait(
    mut world: World,
) {
    let rules = Rules {
        session_idle_ms: 60_000,
        session_max_ms: 100_000,
        ..rules(1)
    };
    world.open(&rules).await;
    world.enter(&[1]).await;
    let expires = Timestamp(START + 60_000);
    assert_eq!(world.touch(1, START).await, Reply::Done(Some(expires)));
    world.live(59_000).await;
    let expires = Timestamp(START + 119_000);
    assert_eq!(world.touch(1, START).await, Reply::Done(Some(expires)));
    world.live(41_000).await;
    // Nobody waits: also an old session goes on.
    let expires = Timestamp(START + 160_000);
    assert_eq!(world.touch(1, START).await, Reply::Done(Some(expires)));
    world.enter(&[2]).await;
    world.live(10_000).await;
    assert_eq!(world.touch(1, START).await, Reply::Done(Some(expires)));
    world.live(50_000).await;
    assert_eq!(world.touch(1, START).await, Reply::Done(None));
}

/// Lets time pass with a step each second, as a controller does.
async fn steps(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.pass(1_000).await;
        assert_ne!(world.step(|_| {}).await, Stepped::LostRace);
    }
}

async fn a_fresh_ticket_dies_within_twenty_to_forty_seconds_unless_heard_from(mut world: World) {
    world.open(&rules(0)).await;
    steps(&mut world, 10).await;
    let numbers = world.tickets(&[1, 2]).await;
    steps(&mut world, 20).await;
    assert_eq!(world.living().await, numbers);
    world.beat(&numbers[1..]).await;
    steps(&mut world, 20).await;
    assert_eq!(world.living().await, numbers[1..]);
}

async fn a_ticket_lives_for_one_window_and_not_for_two(mut world: World) {
    let window = Rules {
        window_ms: 10_000,
        ..rules(0)
    };
    world.open(&window).await;
    let numbers = world.tickets(&[1]).await;
    world.beat(&numbers).await;
    // The twenty seconds of a fresh number are over.
    steps(&mut world, 9).await;
    world.beat(&numbers).await;
    steps(&mut world, 10).await;
    assert_eq!(world.living().await, numbers);
    steps(&mut world, 25).await;
    assert_eq!(world.living().await, []);
}

async fn a_ticket_given_back_is_not_living_and_cannot_claim(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.beat(&numbers).await;
    let left = Leave {
        number: numbers[0],
        id: None,
    };
    for _ in 0..2 {
        let reply = world.store.leave(&world.event, &[left]).await.unwrap();
        assert_eq!(reply, Reply::Done(()));
    }
    assert_eq!(world.living().await, numbers[1..]);
    world.end(1).await;
    world.call(&numbers).await;
    assert_eq!(world.claim(numbers[0]).await, Claimed::Spent);
    assert_eq!(
        world.snapshot().await.offers.len(),
        1,
        "no slot is offered to it"
    );
}

async fn two_gateways_plan_the_same_step_and_one_makes_it(mut world: World) {
    let numbers = one_slot(&mut world, &[2]).await;
    let meta = world.snapshot().await.meta;
    let fence = Fence {
        born: meta.born,
        run: meta.run,
        seq: meta.seq,
    };
    assert_ne!(world.call(&numbers).await, Stepped::LostRace);
    world.pass(1_000).await;
    let late = world.step(|step| step.fence = fence.clone()).await;
    assert_eq!(late, Stepped::LostRace);
    let other_life = world.step(|step| step.fence.born += 1).await;
    assert_eq!(other_life, Stepped::LostRace);
    let other_run = world.step(|step| step.fence.run.push('x')).await;
    assert_eq!(other_run, Stepped::LostRace);
}

async fn steps_are_at_least_four_hundred_milliseconds_apart(mut world: World) {
    world.open(&rules(1)).await;
    assert_ne!(world.step(|_| {}).await, Stepped::LostRace);
    world.pass(399).await;
    assert_eq!(world.step(|_| {}).await, Stepped::LostRace);
    world.pass(1).await;
    let closed = world.step(|step| step.gate = Gate::Queueing).await;
    assert_ne!(closed, Stepped::LostRace);
    let meta = world.snapshot().await.meta;
    assert_eq!(
        (meta.gate, meta.since),
        (Gate::Queueing, Timestamp(START + 400))
    );
    assert!(
        !is_inside(&world.enter(&[1]).await[0]),
        "the gate is closed to newcomers"
    );
}

async fn the_rate_admits_what_the_bucket_holds(mut world: World) {
    let rate = Rules {
        admit_per_second: Some(2.5),
        ..rules(100)
    };
    world.open(&rate).await;
    world.live(10_000).await;
    let entered = world.enter(&[1, 2, 3, 4]).await;
    assert_eq!(
        entered.iter().filter(|entered| is_inside(entered)).count(),
        2
    );
}

async fn a_step_pays_for_its_calls_or_is_not_made(mut world: World) {
    let rate = Rules {
        mode: Mode::Queue,
        admit_per_second: Some(2.0),
        ..rules(100)
    };
    world.open(&rate).await;
    let numbers = world.tickets(&[1, 2, 3, 4]).await;
    world.live(2_000).await;
    assert_eq!(world.call(&numbers[..3]).await, Stepped::LostRace);
    assert_ne!(world.call(&numbers[..2]).await, Stepped::LostRace);
    world.pass(400).await;
    // One call is always affordable.
    assert_ne!(world.call(&numbers[2..3]).await, Stepped::LostRace);
    let tokens = world.snapshot().await.meta.tokens;
    assert!((tokens + 0.2).abs() < 1e-9, "a debt of a fifth: {tokens}");
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
    assert_eq!(
        world.snapshot().await.meta.ghosts,
        4,
        "as many as may have been inside"
    );
    world.live(101_000).await;
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

async fn a_reset_voids_places_keeps_sessions_and_numbers_go_on(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    world.beat(&numbers).await;
    world.enter_as(4, 4).await;
    let before = world.snapshot().await.meta;
    let reply = world.store.reset(&world.event).await.unwrap();
    let generation = reply.done().unwrap();
    assert_eq!(generation.0, START / 1000);
    assert_eq!(world.living().await, []);
    let snapshot = world.snapshot().await;
    assert_eq!((snapshot.sessions, snapshot.offers.len()), (1, 0));
    assert!(snapshot.meta.issued >= before.issued);
    assert_eq!(snapshot.meta.called, snapshot.meta.issued);
    let found = world.store.find(&world.event, id(4)).await.unwrap();
    assert_eq!(found, Reply::Done(Found::Nothing));
    let again = world.store.reset(&world.event).await.unwrap().done();
    assert_eq!(
        again.unwrap().0,
        generation.0 + 1,
        "also within the same second"
    );
    let next = world.tickets(&[5]).await;
    assert_eq!(
        world.living().await,
        next,
        "nothing of the pages before shines through"
    );
}

async fn rules_are_written_by_compare_and_set(mut world: World) {
    world.open(&rules(1)).await;
    let other = Rules {
        limit: None,
        admit_per_second: Some(0.1),
        ..rules(1)
    };
    let configure = async |seen, rules: Rules| {
        let reply = world.store.configure(&world.event, seen, &rules).await;
        reply.unwrap().done().unwrap()
    };
    assert_eq!(configure(0, rules(1)).await, 0, "nothing was changed");
    assert_eq!(configure(0, other.clone()).await, 1);
    assert_eq!(configure(0, rules(9)).await, 1, "somebody was first");
    assert_eq!(world.snapshot().await.meta.rules, other);
}

async fn events_are_written_by_compare_and_set(world: World) {
    let stored = |version| StoredEvent {
        version,
        overrides: serde_json::json!({ "limitCnt": 100, "name": "예매" }),
        created: true,
        created_at: START,
        updated_at: START,
    };
    let put = async |seen, event: Option<&StoredEvent>| {
        let store = &world.store;
        store.put_event(&world.event, seen, event).await.unwrap()
    };
    assert_eq!(world.store.events().await.unwrap(), []);
    assert_eq!(put(1, Some(&stored(2))).await, Put::Conflict(None));
    assert_eq!(put(0, Some(&stored(1))).await, Put::Done);
    assert_eq!(
        put(0, Some(&stored(1))).await,
        Put::Conflict(Some(stored(1)))
    );
    assert_eq!(put(1, Some(&stored(2))).await, Put::Done);
    let events = world.store.events().await.unwrap();
    assert_eq!(events, [(world.event.clone(), stored(2))]);
    assert_eq!(put(1, None).await, Put::Conflict(Some(stored(2))));
    assert_eq!(put(2, None).await, Put::Done);
    assert_eq!(world.store.events().await.unwrap(), []);
}

async fn the_same_id_gets_the_same_living_place(mut world: World) {
    world.open(&rules(1)).await;
    let inside = world.enter_as(1, 100).await;
    assert!(is_inside(&inside));
    assert_eq!(
        world.enter_as(2, 100).await,
        inside,
        "also with another session key"
    );
    let place = world.enter_as(3, 200).await;
    assert_eq!(world.enter_as(4, 200).await, place);
    let find = async |known_as| {
        let reply = world.store.find(&world.event, id(known_as)).await;
        reply.unwrap().done().unwrap()
    };
    assert_eq!(find(200).await, Found::Ticket(ticket(&place)));
    assert!(matches!(find(100).await, Found::Session(key, _) if key == session(1)));
    assert_eq!(find(300).await, Found::Nothing);
}

async fn a_dead_place_is_not_found_and_a_new_one_is_given(mut world: World) {
    world.open(&rules(0)).await;
    let place = ticket(&world.enter_as(1, 100).await);
    steps(&mut world, 41).await;
    let found = world.store.find(&world.event, id(100)).await.unwrap();
    assert_eq!(found, Reply::Done(Found::Nothing));
    let next = ticket(&world.enter_as(2, 100).await);
    assert_eq!(next, place.next());
    let left = Leave {
        number: next,
        id: Some(id(100)),
    };
    world.store.leave(&world.event, &[left]).await.unwrap();
    assert_eq!(ticket(&world.enter_as(3, 100).await), next.next());
}

async fn the_id_of_a_claimed_ticket_stands_for_its_session(mut world: World) {
    world.open(&rules(1)).await;
    world.enter(&[1]).await;
    let number = ticket(&world.enter_as(2, 100).await);
    world.end(1).await;
    world.call(&[number]).await;
    let claim = Claim {
        number,
        session: session(2),
        id: Some(id(100)),
    };
    let claimed = world.store.claim(&world.event, &[claim]).await.unwrap();
    assert!(matches!(
        claimed.done().unwrap()[..],
        [Claimed::Admitted { .. }]
    ));
    let found = world.store.find(&world.event, id(100)).await.unwrap();
    assert!(matches!(found, Reply::Done(Found::Session(key, _)) if key == session(2)));
}

async fn modes_order_what_newcomers_meet(mut world: World) {
    let mode = |mode| Rules { mode, ..rules(1) };
    world.open(&mode(Mode::Off)).await;
    let entered = world.enter(&[1, 2, 3]).await;
    assert!(entered.iter().all(is_inside), "the limit is suspended");
    world.configure(&mode(Mode::Shadow)).await;
    assert!(is_inside(&world.enter(&[4]).await[0]));
    world.configure(&mode(Mode::Closed)).await;
    assert_eq!(world.enter(&[5]).await, [Entered::Closed]);
    world
        .configure(&Rules {
            limit: None,
            ..mode(Mode::Pause)
        })
        .await;
    let paused = ticket(&world.enter(&[6]).await[0]);
    world
        .configure(&Rules {
            limit: None,
            ..mode(Mode::Queue)
        })
        .await;
    let queued = ticket(&world.enter(&[7]).await[0]);
    assert_eq!(queued, paused.next());
    world.call(&[paused]).await;
    world.configure(&mode(Mode::Closed)).await;
    assert_eq!(
        world.claim(paused).await,
        Claimed::Held,
        "a ticket stays valid"
    );
    world.configure(&mode(Mode::Off)).await;
    let uncalled = world.claim(queued).await;
    assert!(matches!(uncalled, Claimed::Admitted { .. }), "all pass");
}

async fn numbers_from_far_ahead_restore_nothing_and_those_at_hand_move_numbering_on(
    mut world: World,
) {
    world.open(&rules(0)).await;
    let issued = world.snapshot().await.meta.issued;
    world
        .beat(&[Number::first_of_second(START / 1000 + 60)])
        .await;
    assert_eq!(world.snapshot().await.meta.issued, issued);
    assert_eq!(world.living().await, []);
    let near = Number(Number::first_of_second(START / 1000 + 60).0 - 1);
    world.beat(&[near]).await;
    assert_eq!(world.tickets(&[1]).await, [near.next()]);
    assert_eq!(world.living().await, [near, near.next()]);
}

async fn the_density_table_counts_the_living(mut world: World) {
    world.open(&rules(0)).await;
    let first = world.snapshot().await.meta.issued;
    let visitors: Vec<u64> = (1..=64).collect();
    world.tickets(&visitors).await;
    world
        .beat(&[Number(first.0 + 8_192), Number(first.0 + 65_535)])
        .await;
    let left = Leave {
        number: first,
        id: None,
    };
    world.store.leave(&world.event, &[left]).await.unwrap();
    let ask = Ask {
        gateway: "g1".to_owned(),
        refresh: vec![first.page(), first.page() + 1],
        ..Ask::default()
    };
    let reply = world.store.snapshot(&world.event, &ask).await.unwrap();
    let density = reply.done().unwrap().density;
    let expected = [(first.page(), [63, 1, 0, 0, 0, 0, 0, 1])];
    assert_eq!(density.into_iter().collect::<Vec<_>>(), expected);
}

async fn gateways_get_slots_and_see_each_others_reports(mut world: World) {
    world.open(&rules(1)).await;
    assert_eq!(world.snapshot().await.slot, 0);
    let mut ask = Ask {
        gateway: "g:2".to_owned(),
        ..Ask::default()
    };
    ask.report.config = "hash \"with\" marks".to_owned();
    ask.report.load.latency = vec![0, 7];
    let reply = world.store.snapshot(&world.event, &ask).await.unwrap();
    assert_eq!(reply.done().unwrap().slot, 1);
    let seen = world.snapshot().await;
    let other = seen
        .gateways
        .iter()
        .find(|row| row.gateway == "g:2")
        .unwrap();
    assert_eq!((other.slot, &other.report), (1, &ask.report));
    assert_eq!(seen.slot, 0);
    world.live(600_000).await;
    world.step(|_| {}).await;
    let left: Vec<String> = world
        .snapshot()
        .await
        .gateways
        .into_iter()
        .map(|row| row.gateway)
        .collect();
    assert_eq!(left, ["g1"], "one not heard from for ten minutes is gone");
}

async fn dead_pages_are_swept(mut world: World) {
    world.open(&rules(0)).await;
    let numbers = world.tickets(&[1]).await;
    let page = numbers[0].page();
    world.step(|step| step.sweep = vec![page]).await;
    assert_eq!(world.snapshot().await.pages, [page], "a living page stays");
    steps(&mut world, 41).await;
    world.pass(400).await;
    world.step(|step| step.sweep = vec![page]).await;
    assert!(world.snapshot().await.pages.is_empty());
}
