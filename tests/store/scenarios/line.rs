//! In at the door, in line, called, inside and out.

use sumun::room::event::Mode;
use sumun::room::gate::Gate;
use sumun::room::snapshot::Rules;
use sumun::room::ticket::Number;
use sumun::room::time::Timestamp;
use sumun::store::{Batch, Claimed, Entrant, Fence, Leave, Reply, Shadow, Stepped};

use super::{on_each_store, one_slot, steps};
use crate::world::{START, World, id, is_inside, rules, session, ticket};

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
    whoever_asks_all_the_while_keeps_the_place_however_long_ago_it_was_called
    a_used_ticket_gets_nobody_in_again_however_old_its_page
    a_newcomer_does_not_overtake_a_called_visitor
    a_repeated_batch_gets_the_same_reply
    a_batch_that_comes_again_after_a_later_one_changes_no_session
    a_session_that_was_not_heard_from_ends_and_its_slot_is_sold_once
    a_touched_session_stays_and_an_old_one_is_not_extended_while_others_wait
    a_fresh_ticket_dies_within_twenty_to_forty_seconds_unless_heard_from
    a_ticket_lives_for_one_window_and_not_for_two
    a_ticket_given_back_is_not_living_and_cannot_claim
    two_gateways_plan_the_same_step_and_one_makes_it
    steps_are_at_least_four_hundred_milliseconds_apart
    the_rate_admits_what_the_bucket_holds
    a_step_pays_for_its_calls_or_is_not_made
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
    let last_of_a_page = Number(Number::restart(START).0 + 65_534);
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

async fn whoever_asks_all_the_while_keeps_the_place_however_long_ago_it_was_called(
    mut world: World,
) {
    let numbers = one_slot(&mut world, &[2, 3, 4]).await;
    world.call(&numbers).await;
    assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    for _ in 0..13 {
        world.touch(1, 0).await;
        world.live(60_000).await;
        world.beat(&[numbers[0], numbers[1]]).await;
        world.step(|_| {}).await;
        assert_eq!(world.claim(numbers[1]).await, Claimed::Held);
    }
    assert_eq!(
        world.claim(numbers[2]).await,
        Claimed::TooLate,
        "nobody heard from it"
    );
    world.end(1).await;
    let first = world.claim(numbers[0]).await;
    assert!(
        matches!(first, Claimed::Admitted { fresh: true, .. }),
        "{first:?}"
    );
    let again = world.claim(numbers[0]).await;
    assert!(
        matches!(again, Claimed::Admitted { fresh: false, .. }),
        "{again:?}"
    );
}

async fn a_used_ticket_gets_nobody_in_again_however_old_its_page(mut world: World) {
    let numbers = one_slot(&mut world, &[2, 3]).await;
    let (used, asks) = (numbers[0], numbers[1]);
    world.end(1).await;
    world.call(&numbers).await;
    let claimed = world.claim(used).await;
    assert!(matches!(claimed, Claimed::Admitted { .. }), "{claimed:?}");
    // The line goes on, many pages further.
    world.beat(&[Number(asks.0 + (20 << 20))]).await;
    let further = world.tickets(&[4]).await;
    world.live(1_000).await;
    assert!(matches!(world.call(&further).await, Stepped::Done { .. }));
    for _ in 0..13 {
        world.live(60_000).await;
        world.beat(&[asks]).await;
        world.step(|step| step.sweep = vec![asks.page()]).await;
    }
    assert!(world.snapshot().await.meta.floor().page() > asks.page());
    world.beat(&[used]).await;
    assert_eq!(
        world.claim(used).await,
        Claimed::Spent,
        "somebody lives among them"
    );
    for _ in 0..4 {
        world.live(100_000).await;
        world.step(|step| step.sweep = vec![asks.page()]).await;
    }
    world.beat(&[used, asks]).await;
    assert_eq!(world.claim(used).await, Claimed::TooLate);
    assert_eq!(world.claim(asks).await, Claimed::TooLate);
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
        above: None,
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

async fn a_batch_that_comes_again_after_a_later_one_changes_no_session(mut world: World) {
    world.open(&rules(3)).await;
    let batch = |batch: u64, of: [u64; 2]| Batch {
        gateway: "g2".to_owned(),
        batch,
        above: None,
        entrants: of
            .map(|of| Entrant {
                session: session(of),
                id: None,
            })
            .to_vec(),
    };
    let first = batch(1, [1, 2]);
    world.store.enter(&world.event, &first).await.unwrap();
    let later = batch(2, [3, 4]);
    world.store.enter(&world.event, &later).await.unwrap();
    world.touch(1, START + 30_000).await;
    world.end(2).await;
    world.store.enter(&world.event, &first).await.unwrap();
    assert_eq!(world.snapshot().await.sessions, 2, "who has left stays out");
    world.live(60_000).await;
    assert_eq!(world.snapshot().await.sessions, 1, "who was heard stays in");
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
