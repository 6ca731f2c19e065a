//! Slices of statistics are kept as they are written, each gateway's own.

use sumun::room::event::EventId;
use sumun::store::slices::{Slice, Span, What};

use super::on_each_store;
use crate::world::World;

on_each_store! {
    slices_of_all_gateways_are_found_in_order_and_one_written_again_counts_once
    slices_of_another_event_step_or_time_are_not_found
    slices_are_gone_when_their_time_is_over
    slices_of_one_length_are_kept_apart_by_what_they_are_of
}

/// Of the present, so that the server's own expiry sees it alike.
const NOW: u64 = 1_800_000_000;

fn slice(step: u32, start: u64, writer: &str, bytes: &str) -> Slice {
    Slice {
        what: What::Counts,
        step,
        start,
        writer: writer.to_owned(),
        until: NOW + 7_200,
        bytes: bytes.as_bytes().to_vec(),
    }
}

async fn keep(world: &World, slices: &[Slice]) {
    let kept = world.store.keep_slices(&world.event, slices, NOW).await;
    kept.unwrap();
}

async fn found(world: &World, step: u32, from: u64, to: u64) -> Vec<(u64, String)> {
    found_of(world, What::Counts, step, (from, to)).await
}

async fn found_of(
    world: &World,
    what: What,
    step: u32,
    (from, to): (u64, u64),
) -> Vec<(u64, String)> {
    let span = Span {
        what,
        step,
        from,
        to,
    };
    let found = world.store.slices(&world.event, &span).await.unwrap();
    let mut found: Vec<(u64, String)> = found
        .into_iter()
        .map(|(start, bytes)| (start, String::from_utf8(bytes).unwrap()))
        .collect();
    assert!(found.is_sorted_by_key(|(start, _)| *start));
    found.sort();
    found
}

fn all(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter()
        .map(|(start, text)| (*start, (*text).to_owned()))
        .collect()
}

async fn slices_of_all_gateways_are_found_in_order_and_one_written_again_counts_once(world: World) {
    // Over the border of what stands together.
    let starts = [NOW - 600, NOW - 10, NOW, NOW + 590];
    for start in starts {
        keep(&world, &[slice(10, start, "a:1", "first")]).await;
    }
    keep(
        &world,
        &[
            slice(10, NOW, "b:1", "b"),
            slice(10, NOW, "a:2", "after a restart"),
            slice(10, NOW, "a:1", "grown"),
        ],
    )
    .await;
    let expected = [
        (NOW - 600, "first"),
        (NOW - 10, "first"),
        (NOW, "after a restart"),
        (NOW, "b"),
        (NOW, "grown"),
        (NOW + 590, "first"),
    ];
    assert_eq!(
        found(&world, 10, NOW - 600, NOW + 600).await,
        all(&expected)
    );
}

async fn slices_of_another_event_step_or_time_are_not_found(world: World) {
    keep(
        &world,
        &[slice(10, NOW, "a", "x"), slice(60, NOW, "a", "y")],
    )
    .await;
    let other = EventId::new("other").unwrap();
    let others = [slice(10, NOW, "a", "z")];
    world.store.keep_slices(&other, &others, NOW).await.unwrap();
    assert_eq!(found(&world, 10, NOW - 60, NOW).await, []);
    assert_eq!(found(&world, 10, NOW + 1, NOW + 60).await, []);
    assert_eq!(found(&world, 10, NOW, NOW + 1).await, all(&[(NOW, "x")]));
    assert_eq!(found(&world, 60, NOW, NOW + 60).await, all(&[(NOW, "y")]));
    assert_eq!(found(&world, 3_600, 0, NOW + 60).await, []);
}

async fn slices_are_gone_when_their_time_is_over(world: World) {
    let mut old = slice(10, NOW, "a", "old");
    old.until = NOW + 10;
    keep(&world, &[old]).await;
    if let Some(server) = world.server() {
        let mut control = server.control().await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*:slices:*")
            .query_async(&mut control)
            .await
            .unwrap();
        assert_eq!(keys.len(), 1, "{keys:?}");
        let left: i64 = redis::cmd("TTL")
            .arg(&keys[0])
            .query_async(&mut control)
            .await
            .unwrap();
        assert!((1..=610).contains(&left), "{left}");
        return;
    }
    let later = [slice(10, NOW + 20, "a", "new")];
    let kept = world.store.keep_slices(&world.event, &later, NOW + 11);
    kept.await.unwrap();
    assert_eq!(
        found(&world, 10, 0, NOW + 60).await,
        all(&[(NOW + 20, "new")])
    );
}

async fn slices_of_one_length_are_kept_apart_by_what_they_are_of(world: World) {
    let whats = [What::Counts, What::Users, What::Visitors];
    for what in whats {
        let at = |start: u64| Slice {
            what,
            ..slice(60, start, "a", &format!("{what:?}"))
        };
        keep(&world, &[at(NOW), at(NOW + 60), at(NOW + 6_000)]).await;
    }
    for what in whats {
        let found = found_of(&world, what, 60, (NOW, NOW + 61)).await;
        let text = format!("{what:?}");
        let expected = [(NOW, text.as_str()), (NOW + 60, text.as_str())];
        assert_eq!(found, all(&expected));
    }
}
