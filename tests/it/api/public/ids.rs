//! The customer's own ids, with and without an API key.

use serde_json::json;

use super::{OWN_PAGE, World, api, one_slot};
use crate::support::number;

#[tokio::test]
async fn without_keys_an_id_is_whoever_comes_first_and_its_ticket_proves_it() {
    let mut world = World::open(one_slot(|_| ()), api(&[], &[])).await;
    let enter = |id: &str| json!({ "eventId": "main", "id": id });
    let inside = world.post("enter", &[], enter("kim")).await;
    inside.is(200, "ENTER");
    assert_eq!(inside.json()["id"], "kim");
    let waits = world.post("enter", &[], enter("lee")).await;
    waits.is(200, "WAIT");
    for id in ["kim", "lee"] {
        world
            .post("enter", &[], enter(id))
            .await
            .is_problem(409, Some("id"));
        world
            .post("status", &[], enter(id))
            .await
            .is_problem(401, None);
    }
    world.pass(8).await;
    let with = |id: &str| json!({ "eventId": "main", "id": id, "ticket": waits.field("ticket") });
    let again = world.post("enter", &[], with("lee")).await;
    again.is(200, "WAIT");
    assert_eq!(
        number(&again.field("ticket")),
        number(&waits.field("ticket"))
    );
    // Another's ticket does not speak for an id.
    world
        .post("enter", &[], with("kim"))
        .await
        .is_problem(409, Some("id"));
    // Once inside, the id is taken still; complete frees it.
    let done = json!({ "successToken": inside.field("successToken") });
    world.post("complete", &[], done).await;
    world.pass(24).await;
    let entered = world.poll(&again.field("ticket")).await;
    entered.is(200, "ENTER");
    world
        .post("enter", &[], enter("lee"))
        .await
        .is_problem(409, Some("id"));
    world.complete(&entered.field("successToken")).await;
    world
        .post("enter", &[], enter("lee"))
        .await
        .is(200, "ENTER");
}

#[tokio::test]
async fn with_a_key_the_same_id_has_the_same_living_place() {
    let mut world = World::open(one_slot(|_| ()), api(&["other", "s3cret"], &[])).await;
    let key = ("authorization", "Bearer s3cret");
    let enter = |id: &str| json!({ "eventId": "main", "id": id });
    world
        .post("enter", &[], enter("kim"))
        .await
        .is_problem(401, None);
    let inside = world.post("enter", &[key], enter("kim")).await;
    inside.is(200, "ENTER");
    let again = world.post("enter", &[key], enter("kim")).await;
    again.is(200, "ENTER");
    let waits = world.post("enter", &[key, OWN_PAGE], enter("lee")).await;
    waits.is(200, "WAIT");
    assert_eq!(waits.header("set-cookie"), None);
    let same = world.post("enter", &[key], enter("lee")).await;
    assert_eq!(
        number(&same.field("ticket")),
        number(&waits.field("ticket"))
    );
    let asked = world.post("status", &[key], enter("lee")).await;
    asked.is(200, "WAIT");
    assert_eq!(asked.json()["expectedInfo"]["rank"], 1);
    world
        .post("status", &[], enter("lee"))
        .await
        .is_problem(401, None);
    world
        .post("status", &[key], enter("park"))
        .await
        .is_problem(404, Some("id"));
    world
        .complete(&inside.field("successToken"))
        .await
        .is_problem(401, None);
    let done = json!({ "successToken": again.field("successToken") });
    world.post("complete", &[key], done).await;
    world.pass(4).await;
    let entered = world.post("status", &[key], enter("lee")).await;
    entered.is(200, "ENTER");
    // The id has moved on to its session.
    world
        .post("enter", &[key], enter("lee"))
        .await
        .is(200, "ENTER");
    assert!(world.ledger("main").view().unwrap().snapshot.sessions <= 1);
}
