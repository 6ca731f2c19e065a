//! Cookies, tabs and pages: whose cookie counts, and who may use it.

use serde_json::json;

use super::{OWN_PAGE, World, api, one_slot};
use crate::support::number;

#[tokio::test]
async fn a_page_of_this_host_keeps_its_place_and_its_pass_in_a_cookie() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let inside = world.enter().await;
    let body = json!({ "eventId": "main" });
    let waits = world.post("enter", &[OWN_PAGE], body.clone()).await;
    waits.is(200, "WAIT");
    let set = waits.header("set-cookie").unwrap();
    assert!(
        set.starts_with("sumun_main=") && set.contains("HttpOnly"),
        "{set}"
    );
    let cookie = waits.cookie();
    world.pass(8).await;
    let polled = world
        .send(
            "GET",
            "/__sumun/v1/status?eventId=main&_=1",
            &[("cookie", &cookie)],
            "",
        )
        .await;
    polled.is(200, "WAIT");
    let cookie = polled.cookie();
    assert_eq!(
        number(&polled.field("ticket")),
        number(&waits.field("ticket"))
    );
    // The same place again, not another one.
    let again = world
        .post("enter", &[OWN_PAGE, ("cookie", &cookie)], body.clone())
        .await;
    assert_eq!(
        number(&again.field("ticket")),
        number(&waits.field("ticket"))
    );
    world.complete(&inside.field("successToken")).await;
    world.pass(24).await;
    let entered = world
        .post("status", &[OWN_PAGE, ("cookie", &cookie)], body.clone())
        .await;
    entered.is(200, "ENTER");
    // A living pass in the cookie enters at once, whatever the page holds.
    let pass = entered.cookie();
    let ticket = again.field("ticket");
    let at_once = world
        .post(
            "status",
            &[OWN_PAGE, ("cookie", &pass)],
            json!({ "eventId": "main", "ticket": ticket }),
        )
        .await;
    at_once.is(200, "ENTER");
    // Over a trusted proxy's TLS the cookie is this host's own.
    let secure = world
        .post(
            "enter",
            &[
                ("origin", "https://shop.example"),
                ("x-forwarded-proto", "https"),
            ],
            body,
        )
        .await;
    let set = secure.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-sumun_main="), "{set}");
}

#[tokio::test]
async fn of_two_tabs_the_earlier_place_counts_and_the_other_is_free() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    world.enter().await;
    let body = json!({ "eventId": "main" });
    let one = world.post("enter", &[OWN_PAGE], body.clone()).await;
    let two = world.post("enter", &[OWN_PAGE], body.clone()).await;
    let last = world.post("enter", &[], body).await.field("ticket");
    world.pass(8).await;
    assert_eq!(world.ledger("main").view().unwrap().waiting(), 3);
    // The second tab's answer came last, so its place is the cookie's.
    let merged = world
        .post(
            "status",
            &[OWN_PAGE, ("cookie", &two.cookie())],
            json!({ "eventId": "main", "ticket": one.field("ticket") }),
        )
        .await;
    merged.is(200, "WAIT");
    let earlier = number(&one.field("ticket"));
    assert_eq!(number(&merged.field("ticket")), earlier);
    world.poll(&last).await;
    world.pass(2).await;
    assert_eq!(world.ledger("main").view().unwrap().waiting(), 2);
    world.pass(16).await;
    let second_tab = world
        .post(
            "status",
            &[OWN_PAGE, ("cookie", &merged.cookie())],
            json!({ "eventId": "main", "ticket": two.field("ticket") }),
        )
        .await;
    assert_eq!(number(&second_tab.field("ticket")), earlier);
}

#[tokio::test]
async fn no_page_of_another_site_uses_a_visitors_cookie() {
    let world = World::open(one_slot(|_| ()), api(&[], &["https://app.example"])).await;
    let body = json!({ "eventId": "main" });
    let inside = world.post("enter", &[OWN_PAGE], body.clone()).await;
    let cookie = inside.cookie();
    let foreign: [&[(&str, &str)]; 4] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("origin", "http://shop.example"),
            ("sec-fetch-site", "same-site"),
        ],
    ];
    for headers in foreign {
        let mut headers = headers.to_vec();
        headers.push(("cookie", &cookie));
        for call in ["enter", "status", "complete", "leave"] {
            let body = match call {
                "complete" => json!({}),
                _ => body.clone(),
            };
            let answer = world.post(call, &headers, body).await;
            answer.is_problem(403, None);
            assert_eq!(answer.header("set-cookie"), None);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    // Without the cookie it gets what any stranger gets, and no cookie.
    let stranger = world
        .post("enter", &[("origin", "https://evil.example")], body.clone())
        .await;
    stranger.is(200, "WAIT");
    assert_eq!(stranger.header("set-cookie"), None);
    // One that the operator named may.
    let named = world
        .post(
            "status",
            &[("origin", "https://app.example"), ("cookie", &cookie)],
            body,
        )
        .await;
    named.is(200, "ENTER");
    assert_eq!(
        named.header("access-control-allow-origin"),
        Some("https://app.example")
    );
}

#[tokio::test]
async fn who_leaves_frees_the_place_and_loses_the_cookie() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    world.enter().await;
    let body = json!({ "eventId": "main" });
    let waits = world.post("enter", &[OWN_PAGE], body.clone()).await;
    let by_api = world.enter().await.field("ticket");
    let left = world
        .post(
            "leave",
            &[OWN_PAGE, ("cookie", &waits.cookie())],
            body.clone(),
        )
        .await;
    assert_eq!((left.status, &*left.text()), (204, ""));
    let gone = left.header("set-cookie").unwrap();
    assert!(
        gone.contains("sumun_main=;") && gone.contains("Max-Age=0"),
        "{gone}"
    );
    let left = json!({ "eventId": "main", "ticket": by_api });
    for _ in 0..2 {
        assert_eq!(world.post("leave", &[], left.clone()).await.status, 204);
    }
    assert_eq!(world.post("leave", &[], body).await.status, 204);
    world.pass(2).await;
    assert_eq!(world.ledger("main").view().unwrap().waiting(), 0);
}
