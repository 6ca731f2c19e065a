//! What is refused, and by which words.

use serde_json::json;
use sumun::room::event::{EventId, Mode};
use sumun::room::ticket::Number;
use sumun::token::{Ticket, Token};

use super::{OWN_PAGE, World, api, one_slot};
use crate::support::{number, ring};

#[tokio::test]
async fn bad_input_is_told_by_its_field() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let long = "x".repeat(129);
    let cases: [(&str, String, u16, Option<&str>); 17] = [
        ("enter", "{".into(), 400, None),
        ("enter", "[]".into(), 400, None),
        ("enter", "\"main\"".into(), 400, None),
        ("enter", "\u{1}".into(), 400, None),
        ("enter", String::new(), 400, Some("eventId")),
        ("enter", r#"{"eventId":7}"#.into(), 400, Some("eventId")),
        ("enter", r#"{"eventId":null}"#.into(), 400, Some("eventId")),
        ("enter", r#"{"eventId":"No!"}"#.into(), 400, Some("eventId")),
        (
            "enter",
            r#"{"eventId":"none"}"#.into(),
            404,
            Some("eventId"),
        ),
        (
            "enter",
            r#"{"eventId":"main","tiket":"x"}"#.into(),
            400,
            Some("tiket"),
        ),
        (
            "enter",
            r#"{"eventId":"main","ticket":[]}"#.into(),
            400,
            Some("ticket"),
        ),
        (
            "enter",
            r#"{"eventId":"main","id":""}"#.into(),
            400,
            Some("id"),
        ),
        (
            "enter",
            r#"{"eventId":"main","id":"a\nb"}"#.into(),
            400,
            Some("id"),
        ),
        (
            "enter",
            json!({ "eventId": "main", "id": long }).to_string(),
            400,
            Some("id"),
        ),
        ("verify", "{}".into(), 400, Some("successToken")),
        (
            "touch",
            r#"{"successToken":false}"#.into(),
            400,
            Some("successToken"),
        ),
        ("complete", "{}".into(), 401, Some("successToken")),
    ];
    for (call, body, status, field) in cases {
        let path = format!("/__sumun/v1/{call}");
        let answer = world.send("POST", &path, &[], &body).await;
        answer.is_problem(status, field);
    }
}

#[tokio::test]
async fn a_body_too_large_and_a_query_with_two_readings_are_refused() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let large = json!({ "eventId": "main", "ticket": "x".repeat(16 * 1024) });
    world.post("enter", &[], large).await.is_problem(413, None);
    let twice = "/__sumun/v1/status?eventId=main&eventId=sale";
    world
        .send("GET", twice, &[], "")
        .await
        .is_problem(400, Some("eventId"));
}

#[tokio::test]
async fn a_token_is_worth_nothing_once_it_is_forged_foreign_old_or_used() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let inside = world.enter().await;
    let nothing = [
        String::new(),
        "x".into(),
        "a.b.c".into(),
        "\u{0}".into(),
        "x".repeat(8_000),
        world.ticket(|_| ()).replace('.', ".A"),
        world.ticket(|ticket| ticket.event = EventId::new("sale").unwrap()),
        world.ticket(|ticket| ticket.scope = Some("other.example".into())),
    ];
    for token in nothing {
        let answer = world.poll(&token).await;
        answer.is_problem(401, Some("ticket"));
        assert!(!answer.text().contains("x.x"), "tokens are not repeated");
    }
    let past = [
        world.ticket(|ticket| ticket.expires = 1),
        world.ticket(|ticket| ticket.number = Number(1 << 52)),
    ];
    for token in past {
        world.poll(&token).await.is_problem(410, Some("ticket"));
    }
    // A token without a scope is no cookie.
    let ticket = world.ticket(|_| ());
    let cookie = format!("sumun_main={ticket}");
    let body = json!({ "eventId": "main" });
    let answer = world
        .post("status", &[OWN_PAGE, ("cookie", &cookie)], body)
        .await;
    answer.is_problem(401, Some("ticket"));
    // Another gateway may know the key: the cookie must survive.
    let ticket = Ticket {
        number: Number(7),
        ..world.place()
    };
    let strange = ring(&["b"]).sign(&Token::Ticket(ticket), &[]).unwrap();
    for call in ["enter", "status", "leave"] {
        let body = json!({ "eventId": "main", "ticket": strange });
        let answer = world.post(call, &[OWN_PAGE], body).await;
        answer.is_problem(503, None);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("set-cookie"), None);
    }
    // Used: for a poll it is gone, who enters anew begins at the end.
    let used = world.enter().await.field("ticket");
    world.complete(&inside.field("successToken")).await;
    world.pass(12).await;
    let entered = world.poll(&used).await;
    world.complete(&entered.field("successToken")).await;
    world.pass(2).await;
    world.poll(&used).await.is_problem(410, Some("ticket"));
    let body = json!({ "eventId": "main", "ticket": used });
    world.post("enter", &[], body).await.is(200, "ENTER");
}

#[tokio::test]
async fn a_ticket_is_never_a_success_token_nor_the_other_way_round() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let inside = world.enter().await;
    let ticket = world.enter().await.field("ticket");
    for token in [ticket.as_str(), &inside.field("pass"), "x"] {
        let shown = json!({ "successToken": token });
        let verified = world.post("verify", &[], shown.clone()).await.json();
        assert_eq!(verified["valid"], false);
        assert!(verified["id"].is_null() && verified["eventId"].is_null());
        world
            .post("complete", &[], shown)
            .await
            .is_problem(401, Some("successToken"));
    }
}

#[tokio::test]
async fn too_many_newcomers_from_an_address_are_asked_to_come_again() {
    let events = one_slot(|event| event.joins_per_address_per_minute = 2);
    let mut world = World::open(events, api(&["s3cret"], &[])).await;
    world.enter().await.is(200, "ENTER");
    world.pass(1).await;
    for _ in 0..2 {
        world.enter().await.is(200, "WAIT");
    }
    let blocked = world.enter().await;
    blocked.is(429, "BLOCK");
    assert_eq!(blocked.json()["reason"], "RATE_LIMITED");
    assert_eq!(blocked.json()["retryAfterMs"], 10_000);
    assert_eq!(blocked.header("retry-after"), Some("10"));
    // A server that holds a key brings the visitors of many addresses.
    let key = ("authorization", "Bearer s3cret");
    let keyed = world
        .post("enter", &[key], json!({ "eventId": "main" }))
        .await;
    keyed.is(200, "WAIT");
}

#[tokio::test]
async fn a_full_line_and_a_closed_gate_say_why_and_a_place_is_kept() {
    let events = one_slot(|event| event.waiting_max = 1);
    let mut world = World::open(events, api(&[], &[])).await;
    let inside = world.enter().await;
    let ticket = world.enter().await.field("ticket");
    world.pass(8).await;
    let full = world.enter().await;
    full.is(200, "BLOCK");
    assert_eq!(full.json()["reason"], "FULL");
    assert!(full.json()["ticket"].is_null());
    let closing = one_slot(|event| event.mode = Mode::Closed).remove(0);
    world.ledger("main").change(closing);
    world.pass(2).await;
    let closed = world.enter().await;
    closed.is(200, "BLOCK");
    assert_eq!(closed.json()["reason"], "CLOSED");
    let kept = world.poll(&ticket).await;
    kept.is(200, "BLOCK");
    assert_eq!(number(&kept.field("ticket")), number(&ticket));
    assert!(kept.json()["retryAfterMs"].as_u64().unwrap() <= 60_000);
    // Who is inside stays inside.
    world.poll(&inside.field("pass")).await.is(200, "ENTER");
    let opened = one_slot(|_| ()).remove(0);
    world.ledger("main").change(opened);
    world.pass(2).await;
    world.poll(&kept.field("ticket")).await.is(200, "WAIT");
}

#[tokio::test]
async fn a_reset_makes_every_place_void() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    world.enter().await;
    let ticket = world.enter().await.field("ticket");
    let id = EventId::new("main").unwrap();
    world.work.store.reset(&id).await.unwrap();
    world.pass(8).await;
    world.poll(&ticket).await.is_problem(410, Some("ticket"));
}
