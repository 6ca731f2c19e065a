//! Success tokens: verify, touch and complete.

use serde_json::{Value, json};

use super::{OWN_PAGE, World, api, event, one_slot};

#[tokio::test]
async fn a_success_token_is_good_as_long_as_its_session_lives() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let inside = world.enter().await;
    let token = inside.field("successToken");
    let shown = json!({ "successToken": token });
    let verified = world.post("verify", &[], shown.clone()).await;
    let json = verified.json();
    assert_eq!((verified.status, &json["valid"]), (200, &json!(true)));
    assert_eq!(
        (&json["id"], &json["eventId"]),
        (&inside.json()["id"], &json!("main"))
    );
    assert!(json["expiresAt"].as_str().unwrap().ends_with('Z'), "{json}");
    assert_eq!(json["successToken"], token);
    // Verifying extends nothing, touching does.
    world.pass(50).await;
    let touched = world.post("touch", &[], shown.clone()).await;
    assert_eq!(touched.json()["valid"], true);
    assert!(touched.json()["successToken"].is_string());
    world.pass(1_000).await;
    let later = world.post("verify", &[], shown.clone()).await;
    assert_eq!(later.json()["valid"], true, "past its own end");
    world.pass(300).await;
    let over = world.post("verify", &[], shown.clone()).await;
    assert_eq!(over.json()["valid"], false);
    assert!(over.json()["expiresAt"].is_null());
    assert_eq!(over.header("sumun-status"), Some("block"));
    assert_eq!(world.post("touch", &[], shown).await.json()["valid"], false);
}

#[tokio::test]
async fn who_completes_frees_the_slot_at_once_and_may_say_so_twice() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let first = world.enter().await.field("successToken");
    for _ in 0..2 {
        let done = world.complete(&first).await;
        assert_eq!(done.status, 200);
        assert_eq!(
            done.json(),
            json!({ "successToken": first, "completed": true })
        );
    }
    let shown = json!({ "successToken": first });
    for call in ["verify", "touch"] {
        assert_eq!(
            world.post(call, &[], shown.clone()).await.json()["valid"],
            false
        );
    }
    let next = world
        .post("enter", &[OWN_PAGE], json!({ "eventId": "main" }))
        .await;
    next.is(200, "ENTER");
    let cookie = next.cookie();
    for _ in 0..2 {
        let done = world
            .post("complete", &[OWN_PAGE, ("cookie", &cookie)], json!({}))
            .await;
        assert_eq!(
            done.json(),
            json!({ "successToken": null, "completed": true })
        );
    }
    let metrics = world.work.reception.metrics.render();
    assert!(metrics.contains("reason=\"completed\"} 2"), "{metrics}");
    world.enter().await.is(200, "ENTER");
}

#[tokio::test]
async fn with_keys_configured_only_who_holds_one_completes_by_token() {
    let world = World::open(one_slot(|_| ()), api(&["s3cret"], &[])).await;
    let inside = world
        .post("enter", &[OWN_PAGE], json!({ "eventId": "main" }))
        .await;
    let token = inside.field("successToken");
    world.complete(&token).await.is_problem(401, None);
    let shown = json!({ "successToken": token });
    for wrong in ["Bearer wrong", "Basic s3cret", "Bearer", "Bearer \u{e9}"] {
        let refused = world
            .post("complete", &[("authorization", wrong)], shown.clone())
            .await;
        assert_eq!(refused.status, 401, "{wrong}");
    }
    // The visitor's own page needs none.
    let own = world
        .post(
            "complete",
            &[OWN_PAGE, ("cookie", &inside.cookie())],
            json!({}),
        )
        .await;
    assert_eq!(own.status, 200);
    let key = ("authorization", "bearer s3cret");
    assert_eq!(world.post("complete", &[key], shown).await.status, 200);
}

#[tokio::test]
async fn of_passes_of_several_events_the_one_to_complete_is_named() {
    let events = vec![event("main"), event("sale")];
    let world = World::open(events, api(&[], &[])).await;
    let mut cookies = Vec::new();
    for id in ["main", "sale"] {
        let inside = world
            .post("enter", &[OWN_PAGE], json!({ "eventId": id }))
            .await;
        cookies.push(inside.cookie());
    }
    let cookies = cookies.join("; ");
    let headers = [OWN_PAGE, ("cookie", cookies.as_str())];
    let which = world.post("complete", &headers, json!({})).await;
    which.is_problem(400, Some("eventId"));
    let named = json!({ "eventId": "sale" });
    assert_eq!(world.post("complete", &headers, named).await.status, 200);
}

#[tokio::test]
async fn strangers_check_a_success_token_with_the_published_key() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let keys = world.send("GET", "/__sumun/v1/keys", &[], "").await;
    let key = &keys.json()["keys"][0];
    assert_eq!((&key["alg"], &key["kid"]), (&json!("ES256"), &json!("a.s")));
    let token = world.enter().await.field("successToken");
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&["success"]);
    rules.validate_exp = false;
    let with = jsonwebtoken::DecodingKey::from_ec_components(
        key["x"].as_str().unwrap(),
        key["y"].as_str().unwrap(),
    )
    .unwrap();
    let claims = jsonwebtoken::decode::<Value>(&token, &with, &rules)
        .unwrap()
        .claims;
    assert_eq!(
        (&claims["evt"], &claims["iss"]),
        (&json!("main"), &json!("sumun"))
    );
}
