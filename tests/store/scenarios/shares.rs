//! Shares: slots that gateways keep for the time without the store.

use sumun::room::share::{Holder, SHARE_COUNTED_MS, Share, ShareAsk};
use sumun::room::ticket::Number;
use sumun::store::{Ask, Claimed, Entered, Reply, Shadow};

use super::on_each_store;
use crate::world::{World, is_inside, rules};

on_each_store! {
    a_share_is_given_of_what_is_free_and_keeps_its_slots
    a_share_shrinks_when_its_holder_says_so_and_not_before
    a_late_word_of_a_share_changes_nothing
    a_new_life_of_a_gateway_gets_no_second_share
    a_called_ticket_does_not_take_a_slot_of_a_share
    a_share_nobody_speaks_of_lapses_at_last
    a_share_is_remembered_by_the_others_when_the_store_forgets
    what_a_holder_says_counts_though_nothing_is_free
}

fn say(holder: Holder, turn: u64, held: u64, wanted: u64) -> ShareAsk {
    ShareAsk {
        holder,
        turn,
        held,
        wanted,
    }
}

fn one() -> Holder {
    Holder::new("g1", 1)
}

fn two() -> Holder {
    Holder::new("g2", 1)
}

/// Says a share with a look; what the store counts for its holder.
async fn look(world: &World, share: ShareAsk) -> u64 {
    let ask = Ask {
        gateway: "g1".to_owned(),
        share: Some(share),
        ..Ask::default()
    };
    let reply = world.store.snapshot(&world.event, &ask).await.unwrap();
    let Reply::Done(snapshot) = reply else {
        panic!("the store is there: {reply:?}");
    };
    let shares = snapshot.meta.shares;
    let own = shares.iter().find(|known| known.holder == share.holder);
    own.map_or(0, |share| share.slots)
}

fn inside(entered: &[Entered]) -> usize {
    entered.iter().filter(|entered| is_inside(entered)).count()
}

async fn a_share_is_given_of_what_is_free_and_keeps_its_slots(mut world: World) {
    world.open(&rules(10)).await;
    assert_eq!(inside(&world.enter(&[1, 2]).await), 2);
    assert_eq!(look(&world, say(one(), 1, 0, 3)).await, 3);
    assert_eq!(look(&world, say(two(), 1, 0, 9)).await, 5, "5 are free");
    assert_eq!(inside(&world.enter(&[3]).await), 0, "all else is kept");
    assert_eq!(world.snapshot().await.meta.reserved(), 8);
}

async fn a_share_shrinks_when_its_holder_says_so_and_not_before(mut world: World) {
    world.open(&rules(4)).await;
    assert_eq!(look(&world, say(one(), 1, 0, 4)).await, 4);
    assert_eq!(look(&world, say(two(), 1, 0, 4)).await, 0);
    assert_eq!(look(&world, say(one(), 2, 1, 1)).await, 1);
    assert_eq!(look(&world, say(two(), 2, 0, 9)).await, 3);
    assert_eq!(look(&world, say(one(), 3, 0, 0)).await, 0);
    assert_eq!(inside(&world.enter(&[1, 2]).await), 1);
}

async fn a_late_word_of_a_share_changes_nothing(mut world: World) {
    world.open(&rules(4)).await;
    assert_eq!(look(&world, say(one(), 2, 0, 4)).await, 4);
    assert_eq!(look(&world, say(one(), 1, 0, 0)).await, 4, "an older look");
    assert_eq!(look(&world, say(one(), 2, 0, 0)).await, 4, "the same look");
    assert_eq!(inside(&world.enter(&[1]).await), 0);
}

async fn a_new_life_of_a_gateway_gets_no_second_share(mut world: World) {
    world.open(&rules(10)).await;
    assert_eq!(look(&world, say(one(), 1, 0, 3)).await, 3);
    let anew = Holder::new("g1", 2);
    assert_eq!(
        look(&world, say(anew, 1, 0, 3)).await,
        0,
        "the old one counts"
    );
    assert_eq!(look(&world, say(anew, 2, 0, 5)).await, 2);
    assert_eq!(world.snapshot().await.meta.reserved(), 5);
}

async fn a_called_ticket_does_not_take_a_slot_of_a_share(mut world: World) {
    world.open(&rules(2)).await;
    assert_eq!(inside(&world.enter(&[1, 2]).await), 2);
    let numbers: Vec<Number> = world.tickets(&[3]).await;
    world.end(1).await;
    world.call(&numbers).await;
    assert_eq!(look(&world, say(one(), 1, 0, 1)).await, 0, "it is offered");
    assert_eq!(
        look(&world, say(one(), 2, 1, 1)).await,
        1,
        "it was held before"
    );
    assert_eq!(world.claim(numbers[0]).await, Claimed::Held);
    assert_eq!(look(&world, say(one(), 3, 0, 0)).await, 0);
    assert!(matches!(
        world.claim(numbers[0]).await,
        Claimed::Admitted { .. }
    ));
}

async fn a_share_nobody_speaks_of_lapses_at_last(mut world: World) {
    let rules = rules(1);
    world.open(&rules).await;
    assert_eq!(look(&world, say(one(), 1, 0, 1)).await, 1);
    world
        .live(SHARE_COUNTED_MS + rules.session_idle_ms - 1)
        .await;
    assert_eq!(inside(&world.enter(&[1]).await), 0);
    let number = world.snapshot().await.meta.issued;
    world.live(1).await;
    assert_eq!(world.snapshot().await.meta.reserved(), 0);
    world.step(|step| step.to = number).await;
    assert_eq!(inside(&world.enter(&[2]).await), 1);
}

async fn a_share_is_remembered_by_the_others_when_the_store_forgets(mut world: World) {
    world.open(&rules(4)).await;
    assert_eq!(look(&world, say(one(), 7, 0, 3)).await, 3);
    let before = world.snapshot().await;
    world.flush().await;
    let older = Share {
        turn: 6,
        slots: 9,
        ..before.meta.shares[0]
    };
    for shares in [before.meta.shares.clone(), vec![older]] {
        let shadow = Shadow {
            gateway: "g2".to_owned(),
            born: Some(before.meta.born),
            seq: before.meta.seq,
            newborn: 77,
            time: before.meta.time,
            issued: before.meta.issued,
            called: before.meta.called,
            rules: Some(rules(4)),
            shares,
            complete: true,
            ..Shadow::default()
        };
        world.restore(&shadow).await;
    }
    let snapshot = world.snapshot().await;
    assert_eq!(snapshot.meta.shares, before.meta.shares);
    assert!(snapshot.meta.recovery.is_some());
    assert_eq!(
        look(&world, say(two(), 1, 0, 1)).await,
        0,
        "nothing is granted in it"
    );
    assert_eq!(
        look(&world, say(two(), 2, 1, 1)).await,
        1,
        "what is held counts"
    );
}

async fn what_a_holder_says_counts_though_nothing_is_free(mut world: World) {
    world.open(&rules(2)).await;
    assert_eq!(inside(&world.enter(&[1, 2]).await), 2);
    assert_eq!(look(&world, say(one(), 1, 3, 3)).await, 3);
    let full = world.snapshot().await;
    assert_eq!((full.sessions, full.meta.reserved()), (2, 3));
}
