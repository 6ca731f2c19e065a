//! Entering and polling: what is told to who walks in, who waits and who is
//! called.

use serde_json::json;
use sumun::room::ticket::Number;

use super::{World, api, event, one_slot};
use crate::support::number;

#[tokio::test]
async fn where_nobody_waits_a_visitor_enters_with_everything_that_proves_it() {
    let events = one_slot(|event| event.success_url = Some("https://pay.example/".into()));
    let world = World::open(events, api(&[], &[])).await;
    let inside = world.enter().await;
    inside.is(200, "ENTER");
    let json = inside.json();
    assert_eq!(json["successUrl"], "https://pay.example/");
    for field in [
        "reason",
        "retryAfterMs",
        "expectedInfo",
        "ticket",
        "pollAfterMs",
    ] {
        assert!(json[field].is_null(), "{field}");
    }
    assert!(json["pass"].is_string() && json["successToken"].is_string());
    assert_eq!(inside.header("sumun-status"), Some("enter"));
    assert_eq!(inside.header("cache-control"), Some("no-store"));
    assert_eq!(inside.header("x-content-type-options"), Some("nosniff"));
    // No page sent it: nothing but the body carries the pass.
    assert_eq!(inside.header("set-cookie"), None);
    // The pass itself is a credential of the header, and of the field.
    let pass = inside.field("pass");
    let by_header = world
        .send(
            "GET",
            "/__sumun/v1/status?eventId=main",
            &[("sumun-token", &pass)],
            "",
        )
        .await;
    by_header.is(200, "ENTER");
    assert!(by_header.header("sumun-token").is_some());
    world.poll(&pass).await.is(200, "ENTER");
}

#[tokio::test]
async fn who_waits_is_told_everything_and_enters_when_the_turn_comes() {
    let events = one_slot(|event| event.message = Some("곧 열립니다".into()));
    let mut world = World::open(events, api(&[], &[])).await;
    let inside = world.enter().await;
    let waits = world.enter().await;
    waits.is(200, "WAIT");
    let order = [
        "id",
        "eventId",
        "status",
        "reason",
        "retryAfterMs",
        "expectedInfo",
        "rank",
        "behind",
        "about",
        "time",
        "seconds",
        "low",
        "high",
        "successUrl",
        "successToken",
        "ticket",
        "pass",
        "pollAfterMs",
        "called",
        "degraded",
        "message",
    ];
    let said = waits.text();
    let mut at = 0;
    for field in order {
        let found = said[at..].find(&format!("\"{field}\":"));
        at += found.unwrap_or_else(|| panic!("{field} in {said}"));
    }
    let json = waits.json();
    assert_eq!(json["expectedInfo"]["rank"], 1);
    assert_eq!(
        (&json["called"], &json["degraded"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(json["message"], "곧 열립니다");
    assert!(json["successToken"].is_null() && json["pass"].is_null());
    let after = json["pollAfterMs"].as_u64().unwrap();
    assert!((2_000..4_000).contains(&after), "{after}");

    let ticket = waits.field("ticket");
    world.pass(8).await;
    let still = world.poll(&ticket).await;
    still.is(200, "WAIT");
    assert_eq!(number(&still.field("ticket")), number(&ticket));
    world.complete(&inside.field("successToken")).await;
    world.pass(4).await;
    let ticket = still.field("ticket");
    world.pass(20).await;
    let entered = world.poll(&ticket).await;
    entered.is(200, "ENTER");
    assert_eq!(entered.json()["id"], json["id"]);
    // The same ticket again: the same session, no second slot.
    world.poll(&ticket).await.is(200, "ENTER");
    let metrics = world.work.reception.metrics.render();
    for polled in ["wait", "enter"] {
        assert!(
            metrics.contains(&format!(
                "sumun_polls_total{{event=\"main\",result=\"{polled}\"}}"
            )),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn a_poll_before_its_time_is_answered_from_memory_without_effect() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let inside = world.enter().await;
    let ticket = world.enter().await.field("ticket");
    let early = world.poll(&ticket).await;
    early.is(200, "WAIT");
    assert_eq!(early.field("ticket"), ticket);
    assert!(early.json()["pollAfterMs"].as_u64().unwrap() > 1_000);
    // Nor does it claim.
    let (place, now) = (number(&ticket), world.ledger("main").now().seconds());
    let next = world.ticket(|ticket| {
        ticket.number = Number(place);
        ticket.next_poll = now + 20;
    });
    world.complete(&inside.field("successToken")).await;
    world.pass(2).await;
    assert!(
        world.ledger("main").view().unwrap().snapshot.meta.called > Number(number(&next)),
        "called"
    );
    let early = world.poll(&next).await;
    early.is(200, "WAIT");
    assert_eq!(early.field("ticket"), next);
    let metrics = world.work.reception.metrics.render();
    assert!(metrics.contains("result=\"early\"} 2"), "{metrics}");
    world.pass(36).await;
    world.poll(&next).await.is(200, "ENTER");
}

#[tokio::test]
async fn a_called_ticket_without_a_slot_asks_the_store_once_a_second() {
    let two = one_slot(|event| event.limit = Some(2));
    let mut world = World::open(two, api(&[], &[])).await;
    let inside = [world.enter().await, world.enter().await];
    let first = world.enter().await.field("ticket");
    let second = world.enter().await.field("ticket");
    world.pass(6).await;
    for inside in inside {
        world.complete(&inside.field("successToken")).await;
    }
    world.pass(2).await;
    // Both were called, and then one slot was taken away.
    world.ledger("main").change(one_slot(|_| ()).remove(0));
    world.pass(2).await;
    let entered = world.poll(&first).await;
    entered.is(200, "ENTER");
    let held = world.poll(&second).await;
    held.is(200, "WAIT");
    assert_eq!(held.json()["called"], true);
    world.complete(&entered.field("successToken")).await;
    // The slot is free, but this ticket asked a moment ago.
    let ticket = held.field("ticket");
    world.poll(&ticket).await.is(200, "WAIT");
    world.pass(2).await;
    world.poll(&ticket).await.is(200, "ENTER");
}

#[tokio::test]
async fn while_the_store_is_away_places_are_given_and_kept_and_it_says_so() {
    let mut dark = event("dark");
    dark.limit = Some(1);
    let world = World::open(vec![dark, event("main")], api(&["s3cret"], &[])).await;
    let enter = json!({ "eventId": "dark" });
    let waits = world.post("enter", &[], enter.clone()).await;
    waits.is(200, "WAIT");
    assert_eq!(waits.json()["degraded"], true);
    assert_eq!(waits.header("sumun-degraded"), Some("store"));
    assert!(waits.json()["expectedInfo"]["rank"].is_null());
    let poll = json!({ "eventId": "dark", "ticket": waits.field("ticket") });
    world
        .post("status", &[], poll.clone())
        .await
        .is(200, "WAIT");
    let left = world.post("leave", &[], poll).await;
    left.is_problem(503, None);
    assert_eq!(left.header("sumun-degraded"), Some("store"));
    let named = json!({ "eventId": "dark", "id": "kim" });
    let key = ("authorization", "Bearer s3cret");
    world
        .post("enter", &[key], named)
        .await
        .is_problem(503, None);
}
