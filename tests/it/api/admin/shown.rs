//! Events as they are shown, listed and made, and what a bad one is told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{EVENT, Operator};

#[test]
fn an_event_of_the_file_is_shown_with_everything_about_it() {
    let operator = Operator::start();
    operator.until("main", |status| status["status"] == "OPEN");
    let answer = operator.get("/v1/events/main");
    let event = answer.ok();
    assert_eq!(answer.header("etag"), Some("\"0\""));
    assert_eq!(event["eventId"], "main");
    assert_eq!(event["name"], "main");
    assert_eq!(event["limitCnt"], 500);
    assert_eq!(event["mode"], "auto");
    assert_eq!(event["status"], "OPEN");
    assert_eq!(event["source"], "FILE");
    assert_eq!(event["overrides"], json!({}));
    assert_eq!(event["version"], 0);
    assert_eq!(event["generation"], 0);
    assert_eq!(event["sessionIdle"], "10m");
    assert_eq!(event["paths"], json!(["/"]));
    for unknown in ["createdAt", "updatedAt", "admitPerSecond"] {
        assert!(event.as_object().unwrap().contains_key(unknown));
        assert_eq!(event[unknown], Value::Null);
    }
}

#[test]
fn an_event_is_made_changed_deleted_and_made_again() {
    let operator = Operator::start();
    let concert =
        json!({ "eventId": "concert", "name": "Concert", "limitCnt": 5, "paths": ["/concert"] });
    let made = operator.call("POST", "/v1/events").json(&concert);
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), Some("/v1/events/concert"));
    assert_eq!(made.header("etag"), Some("\"1\""));
    let event = made.ok();
    assert_eq!(event["source"], "API");
    assert_eq!(
        event["overrides"],
        json!({ "name": "Concert", "limitCnt": 5, "paths": ["/concert"] })
    );
    assert_eq!(event["createdAt"], event["updatedAt"]);
    assert!(event["createdAt"].is_string());
    operator.until("concert", |status| status["limitCnt"] == 5);

    operator
        .call("POST", "/v1/events")
        .json(&concert)
        .refused(409);
    let event = operator
        .call("PUT", "/v1/events/concert")
        .json(&json!({ "limitCnt": 6 }))
        .ok();
    assert_eq!(event["paths"], json!([]));
    assert_eq!(event["version"], 2);

    assert_eq!(
        operator.call("DELETE", "/v1/events/concert").send().status,
        204
    );
    for gone in ["/v1/events/concert", "/v1/events/concert/status"] {
        operator.get(gone).refused(404);
    }
    operator
        .call("DELETE", "/v1/events/concert")
        .send()
        .refused(404);
    operator
        .call("PUT", "/v1/events/concert")
        .json(&json!({}))
        .refused(404);
    operator
        .call("PATCH", "/v1/events/concert")
        .json(&json!({}))
        .refused(404);
    let again = operator.call("POST", "/v1/events").json(&concert).ok();
    assert_eq!(again["version"], 4);
}

#[test]
fn an_event_of_the_file_cannot_be_made_again() {
    let operator = Operator::start();
    let post = |body: Value| operator.call("POST", "/v1/events").json(&body);
    post(json!({ "eventId": "main" })).refused(409);
    post(json!({})).refused_for(400, "eventId");
    post(json!({ "eventId": "Main" })).refused_for(400, "eventId");
    post(json!({ "eventId": 7 })).refused_for(400, "eventId");
    let put = operator.call("PUT", "/v1/events/main");
    put.json(&json!({ "eventId": "other" }))
        .refused_for(400, "eventId");
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let operator = Operator::start();
    let bad = json!({
        "eventId": "a", "limitCnt": 0, "sesionIdle": "5m", "paths": ["/a/../b"],
        "queueWhen": { "latencyP95": "fast" }, "bypass": { "secret": "x" },
    });
    let problem = operator.call("POST", "/v1/events").json(&bad).refused(400);
    let fields: BTreeSet<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    let expected = [
        "limitCnt",
        "sesionIdle",
        "paths[0]",
        "queueWhen.latencyP95",
        "bypass.secret",
    ];
    assert_eq!(fields, BTreeSet::from(expected));
    assert!(
        problem["errors"].to_string().contains("did you mean"),
        "{problem}"
    );
    operator.get("/v1/events/a").refused(404);
    let patch = operator
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "sessionIdle": "2h" }));
    patch.refused_for(400, "sessionIdle");
}

#[test]
fn a_path_belongs_to_one_event_and_a_clash_is_no_reason_to_refuse_the_rest() {
    let operator = Operator::with(&format!(
        "{EVENT}[[event]]\nid = \"sale\"\npaths = [\"/sale\"]\n"
    ));
    let post = |body: Value| operator.call("POST", "/v1/events").json(&body);
    let problem =
        post(json!({ "eventId": "b", "paths": ["/b", "/sale/"] })).refused_for(400, "paths");
    assert!(
        problem["detail"].as_str().unwrap().contains("sale"),
        "{problem}"
    );
    post(json!({ "eventId": "b", "paths": ["/b"] })).ok();
    let put = operator.call("PATCH", "/v1/events/b");
    put.json(&json!({ "paths": ["/"] }))
        .refused_for(400, "paths");
}

#[test]
fn events_are_listed_in_pages() {
    let operator = Operator::start();
    for id in ["b", "a", "z"] {
        operator
            .call("POST", "/v1/events")
            .json(&json!({ "eventId": id }))
            .ok();
    }
    let page = |query: &str| {
        let list = operator.get(&format!("/v1/events{query}")).ok();
        let items = list["items"].as_array().unwrap().iter();
        let ids: Vec<String> = items
            .map(|e| e["eventId"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), list["next"].clone())
    };
    assert_eq!(page(""), ("a b main z".to_owned(), Value::Null));
    assert_eq!(page("?limit=2"), ("a b".to_owned(), json!("b")));
    assert_eq!(page("?limit=2&after=b"), ("main z".to_owned(), Value::Null));
    assert_eq!(page("?after=zz"), (String::new(), Value::Null));
    operator.get("/v1/events?limit=0").refused_for(400, "limit");
    operator.get("/v1/events?page=2").refused_for(400, "page");
}
