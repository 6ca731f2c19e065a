//! Changes of an event: overrides, their way back, and two who change at once.

use serde_json::{Value, json};

use super::{EVENT, Operator};

#[test]
fn a_changed_limit_is_an_override_and_in_force_at_the_store() {
    let operator = Operator::start();
    let path = "/v1/events/main/limit";
    let answer = operator.call("PUT", path).json(&json!({ "limitCnt": 7 }));
    let event = answer.ok();
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(event["limitCnt"], 7);
    assert_eq!(event["overrides"], json!({ "limitCnt": 7 }));
    assert_eq!(event["source"], "FILE");
    assert_eq!(event["version"], 1);
    assert!(event["updatedAt"].as_str().unwrap().ends_with('Z'));
    let site = operator.server.running.reception.site.load();
    let ledger = site.ledgers.get("main").unwrap();
    assert_eq!(ledger.settings.load().limit, Some(7));
    operator.until("main", |status| status["limitCnt"] == 7);
    assert_eq!(operator.rules("main").limit, Some(7));

    // Back to the file, by null or by deleting what was overridden.
    let event = operator
        .call("PUT", path)
        .json(&json!({ "limitCnt": null }))
        .ok();
    assert_eq!(
        (&event["limitCnt"], &event["version"]),
        (&json!(500), &json!(2))
    );
    assert_eq!(event["overrides"], json!({}));
    operator
        .call("PUT", path)
        .json(&json!({ "limitCnt": 8 }))
        .ok();
    assert_eq!(
        operator.call("DELETE", "/v1/events/main").send().status,
        204
    );
    let event = operator.get("/v1/events/main").ok();
    assert_eq!(
        (&event["limitCnt"], &event["version"]),
        (&json!(500), &json!(4))
    );
    assert_eq!(event["overrides"], json!({}));
    operator.until("main", |status| status["limitCnt"] == 500);
    assert_eq!(
        operator.call("DELETE", "/v1/events/main").send().status,
        204
    );
}

#[test]
fn the_limit_call_takes_a_limit_alone() {
    let operator = Operator::start();
    let put = |body: Value| operator.call("PUT", "/v1/events/main/limit").json(&body);
    put(json!({ "limitCnt": 0 })).refused_for(400, "limitCnt");
    put(json!({ "limitCnt": "7" })).refused_for(400, "limitCnt");
    put(json!({ "limitCnt": 7, "mode": "off" })).refused_for(400, "mode");
    put(json!({})).refused_for(400, "limitCnt");
    let other = operator.call("PUT", "/v1/events/other/limit");
    other.json(&json!({ "limitCnt": 7 })).refused(404);
}

#[test]
fn the_message_call_takes_one_line_alone() {
    let operator = Operator::with(&format!("{EVENT}message = \"from the file\"\n"));
    let put = |body: Value| operator.call("PUT", "/v1/events/main/message").json(&body);
    let long = "문".repeat(500);
    let event = put(json!({ "message": long })).ok();
    assert_eq!(event["message"], long);
    assert_eq!(event["overrides"], json!({ "message": long }));
    // Nothing is said, though the file says something; then what the file says.
    let event = put(json!({ "message": "" })).ok();
    assert_eq!(event["message"], Value::Null);
    assert_eq!(event["overrides"], json!({ "message": "" }));
    let event = put(json!({ "message": null })).ok();
    assert_eq!(event["message"], "from the file");
    assert_eq!(event["overrides"], json!({}));

    let wrong = [
        json!(long + "문"),
        json!(7),
        json!("two\nlines"),
        json!("\u{1b}[2J"),
        json!("\u{85}"),
    ];
    for message in wrong {
        put(json!({ "message": message })).refused_for(400, "message");
    }
    put(json!({})).refused_for(400, "message");
    put(json!({ "message": "x", "mode": "off" })).refused_for(400, "mode");
    assert_eq!(operator.get("/v1/events/main").ok()["version"], 3);
    let other = operator.call("PUT", "/v1/events/other/message");
    other.json(&json!({ "message": "x" })).refused(404);
}

#[test]
fn a_patch_changes_what_it_names_and_null_takes_an_override_back() {
    let operator = Operator::start();
    let patch = |body: Value| operator.call("PATCH", "/v1/events/main").json(&body);
    let event =
        patch(json!({ "mode": "queue", "queueWhen": { "inFlight": 9, "sessions": 4 } })).ok();
    assert_eq!(event["status"], "QUEUEING");
    assert_eq!(event["queueWhen"]["inFlight"], 9);
    let event =
        patch(json!({ "queueWhen": { "inFlight": null }, "message": "곧 시작합니다" })).ok();
    let overrides =
        json!({ "mode": "queue", "queueWhen": { "sessions": 4 }, "message": "곧 시작합니다" });
    assert_eq!(event["overrides"], overrides);
    for (mode, status) in [
        ("pause", "PAUSED"),
        ("closed", "CLOSED"),
        ("off", "OPEN"),
        ("shadow", "OPEN"),
    ] {
        assert_eq!(patch(json!({ "mode": mode })).ok()["status"], status);
        assert_eq!(operator.status("main")["status"], status);
    }
    let merge = operator.call("PATCH", "/v1/events/main");
    let merge = merge.header("Content-Type", "application/merge-patch+json");
    assert_eq!(merge.raw("{\"mode\":null}").ok()["mode"], "auto");
    // What changes nothing is no new version.
    let version = patch(json!({})).ok()["version"].clone();
    assert_eq!(
        patch(json!({ "mode": "auto", "limitCnt": 500 })).ok()["version"],
        version
    );
}

#[test]
fn an_event_can_be_read_edited_and_written_back_and_keeps_only_what_differs() {
    let operator = Operator::with(
        "[[event]]\nid = \"main\"\nlimit = 500\nsession_idle = \"300s\"\nadmit_per_second = 50\n\
         [event.bypass]\naddresses = [\"203.0.113.7\"]\nsecret = \"open sesame, it is me\"\n",
    );
    let mut event = operator.get("/v1/events/main").ok();
    assert!(!event.to_string().contains("sesame"));
    let put = |event: &Value| operator.call("PUT", "/v1/events/main").json(event).ok();
    assert_eq!(put(&event)["version"], 0);
    event["limitCnt"] = json!(3);
    event["queueWhen"]["latencyP95"] = json!("800ms");
    let written = put(&event);
    assert_eq!(
        written["overrides"],
        json!({ "limitCnt": 3, "queueWhen": { "latencyP95": "800ms" } })
    );
    // Whatever is not named is not overridden any more.
    assert_eq!(
        put(&json!({ "mode": "off" }))["overrides"],
        json!({ "mode": "off" })
    );
    assert_eq!(put(&json!({ "sessionIdle": "5m" }))["overrides"], json!({}));
    // Staff still get past: the secret was never touched.
    let site = operator.server.running.reception.site.load();
    let settings = site.ledgers.get("main").unwrap().settings.load_full();
    assert!(
        settings
            .bypass
            .secret
            .as_ref()
            .unwrap()
            .is(b"open sesame, it is me")
    );
}

#[test]
fn who_changed_an_event_in_between_is_not_overwritten() {
    let operator = Operator::start();
    let patch = |version: &str, limit: u64| {
        let call = operator
            .call("PATCH", "/v1/events/main")
            .header("If-Match", version);
        call.json(&json!({ "limitCnt": limit }))
    };
    assert_eq!(patch("\"0\"", 5).ok()["version"], 1);
    let stale = patch("\"0\"", 6);
    stale.refused(412);
    assert_eq!(stale.header("etag"), Some("\"1\""));
    assert_eq!(patch("\"7\", \"1\"", 6).ok()["version"], 2);
    assert_eq!(patch("*", 7).ok()["version"], 3);
    patch("W/\"3\"", 8).refused(412);
    patch("3", 8).refused(400);
    let put = operator
        .call("PUT", "/v1/events/main")
        .header("If-Match", "\"1\"");
    put.json(&json!({})).refused(412);
    let limit = operator
        .call("PUT", "/v1/events/main/limit")
        .header("If-Match", "\"1\"");
    limit.json(&json!({ "limitCnt": 9 })).refused(412);
    let delete = operator
        .call("DELETE", "/v1/events/main")
        .header("If-Match", "\"1\"");
    delete.send().refused(412);
    let other = operator
        .call("DELETE", "/v1/events/other")
        .header("If-Match", "\"1\"");
    other.send().refused(404);
    assert_eq!(operator.get("/v1/events/main").ok()["limitCnt"], 7);
}

#[test]
fn changes_made_at_once_all_happen() {
    let operator = Operator::start();
    let keys = ["limitCnt", "waitingMax", "joinsPerAddressPerMinute"];
    std::thread::scope(|scope| {
        for key in keys {
            let operator = &operator;
            scope.spawn(move || {
                for value in 1..=10 {
                    operator
                        .call("PATCH", "/v1/events/main")
                        .json(&json!({ key: value }))
                        .ok();
                }
            });
        }
    });
    let event = operator.get("/v1/events/main").ok();
    assert_eq!(event["version"], 30);
    assert_eq!(
        event["overrides"],
        json!({ "limitCnt": 10, "waitingMax": 10, "joinsPerAddressPerMinute": 10 })
    );
}

#[test]
fn what_the_api_changed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::at(Some(dir.path()), EVENT);
    operator
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "limitCnt": 9 }))
        .ok();
    operator
        .call("POST", "/v1/events")
        .json(&json!({ "eventId": "a", "limitCnt": 3 }))
        .ok();
    operator
        .call("POST", "/v1/events")
        .json(&json!({ "eventId": "b" }))
        .ok();
    operator.call("DELETE", "/v1/events/b").send();
    let before = operator.get("/v1/events/main").ok();
    drop(operator);

    let operator = Operator::at(Some(dir.path()), EVENT);
    let after = operator.get("/v1/events/main").ok();
    for member in ["limitCnt", "overrides", "version", "updatedAt", "source"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(operator.get("/v1/events/a").ok()["limitCnt"], 3);
    operator.get("/v1/events/b").refused(404);
    operator.until("main", |status| status["limitCnt"] == 9);
}
