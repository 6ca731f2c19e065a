//! Resets, settings, ids, modes, gateways and what is counted.

use sumun::room::event::Mode;
use sumun::room::snapshot::Rules;
use sumun::room::ticket::Number;
use sumun::store::{Ask, Claim, Claimed, Entered, Found, Leave, Put, Reply, StoredEvent};

use super::{on_each_store, one_slot, steps};
use crate::world::{START, World, id, is_inside, rules, session, ticket};

on_each_store! {
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
    assert!(matches!(find(100).await, Found::Session { key, .. } if key == session(1)));
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
    assert!(matches!(found, Reply::Done(Found::Session { key, .. }) if key == session(2)));
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
    let first = world.snapshot().await.slot;
    let mut ask = Ask {
        gateway: "g:2".to_owned(),
        ..Ask::default()
    };
    ask.report.config.push_str("hash \"with\" marks");
    ask.report.load.latency = vec![0, 7];
    let reply = world.store.snapshot(&world.event, &ask).await.unwrap();
    assert_ne!(reply.done().unwrap().slot, first);
    let seen = world.snapshot().await;
    let other = seen
        .gateways
        .iter()
        .find(|row| row.gateway == "g:2")
        .unwrap();
    assert_eq!(other.report, ask.report);
    assert_eq!(seen.slot, first, "a slot stays");
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
