//! The paths of the door: the place to wait, health, methods.

use serde_json::json;

use super::{OWN_PAGE, World, api, one_slot};
use crate::support::number;

#[tokio::test]
async fn a_visitor_sent_to_wait_waits_here_and_goes_on_inside() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let html = ("accept", "text/html");
    let path = "/__sumun/wait?event=main&return=%2Fpay%3Fx%3D1&utm_source=mail";
    let calm = world.send("GET", path, &[html], "").await;
    assert_eq!(
        (calm.status, calm.header("location")),
        (303, Some("/pay?x=1"))
    );
    let pass = calm.cookie();
    // From a mail, from anywhere: it is a visit.
    let far = [
        html,
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-dest", "document"),
    ];
    let waits = world.send("GET", path, &far, "").await;
    assert_eq!(waits.status, 503);
    assert_eq!(waits.header("sumun-status"), Some("wait"));
    assert_eq!(waits.header("cache-control"), Some("no-store"));
    assert!(waits.header("content-security-policy").is_some());
    assert!(waits.text().contains("/pay?x=1") || waits.text().contains("pay?x=1"));
    let cookie = waits.cookie();
    let again = world
        .send("GET", path, &[html, ("cookie", &cookie)], "")
        .await;
    assert_eq!(number(&cookie), number(&again.cookie()));
    let inside = world
        .send("GET", path, &[html, ("cookie", &pass)], "")
        .await;
    assert_eq!(inside.status, 303);
    world
        .post("complete", &[OWN_PAGE, ("cookie", &pass)], json!({}))
        .await;
    world.pass(24).await;
    let entered = world
        .send("GET", path, &[html, ("cookie", &cookie)], "")
        .await;
    assert_eq!(entered.status, 303);
    let evil = "/__sumun/wait?event=main&return=%2F%2Fevil.example";
    let entered = world
        .send("GET", evil, &[html, ("cookie", &entered.cookie())], "")
        .await;
    assert_eq!(entered.header("location"), Some("/"));
    let bot = [("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")];
    world
        .send("GET", path, &bot, "")
        .await
        .is_problem(503, None);
    let prefetch = [html, ("sec-purpose", "prefetch")];
    world
        .send("GET", path, &prefetch, "")
        .await
        .is_problem(503, None);
    let none = "/__sumun/wait?event=none&return=/";
    world
        .send("GET", none, &[html], "")
        .await
        .is_problem(404, Some("event"));
}

#[tokio::test]
async fn each_path_has_its_methods_and_nothing_else_is_here() {
    let world = World::open(one_slot(|_| ()), api(&[], &["https://app.example"])).await;
    for path in [
        "/__sumun/",
        "/__sumun",
        "/__sumun/v1/",
        "/__sumun/v2/enter",
        "/__sumun/V1/enter",
    ] {
        world.send("GET", path, &[], "").await.is_problem(404, None);
    }
    for (method, path, allow) in [
        ("GET", "v1/enter", "POST, OPTIONS"),
        ("DELETE", "v1/status", "GET, POST, OPTIONS"),
        ("POST", "v1/keys", "GET, HEAD, OPTIONS"),
        ("POST", "wait", "GET, OPTIONS"),
        ("TRACE", "livez", "GET, HEAD, OPTIONS"),
    ] {
        let answer = world
            .send(method, &format!("/__sumun/{path}"), &[], "")
            .await;
        answer.is_problem(405, None);
        assert_eq!(answer.header("allow"), Some(allow));
    }
    let ask = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
    ];
    let preflight = world.send("OPTIONS", "/__sumun/v1/enter", &ask, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        preflight.header("access-control-allow-credentials"),
        Some("true")
    );
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("content-type"), "{allowed}");
    let evil = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    let preflight = world.send("OPTIONS", "/__sumun/v1/enter", &evil, "").await;
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_load_balancer_sees_whether_it_lives_and_is_ready() {
    let world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let live = world.send("GET", "/__sumun/livez", &[], "").await;
    assert_eq!((live.status, live.json()), (200, json!({ "live": true })));
    let not_yet = world.send("GET", "/__sumun/readyz", &[], "").await;
    assert_eq!(
        (not_yet.status, not_yet.json()),
        (503, json!({ "ready": false }))
    );
    world.work.reception.set_ready();
    let ready = world.send("GET", "/__sumun/readyz", &[], "").await;
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({ "ready": true }))
    );
    let head = world.send("HEAD", "/__sumun/readyz", &[], "").await;
    assert_eq!((head.status, &*head.text()), (200, ""));
    world.work.reception.set_draining();
    let draining = world.send("GET", "/__sumun/readyz", &[], "").await;
    assert_eq!(draining.status, 503);
    assert_eq!(
        world.send("GET", "/__sumun/livez", &[], "").await.status,
        200
    );
}
