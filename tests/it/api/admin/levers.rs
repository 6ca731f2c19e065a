//! The status of an event, and the levers: ending a session, the reset.

use serde_json::{Value, json};

use super::Operator;
use crate::support::number;

#[test]
fn the_status_of_an_idle_event_is_whole_and_says_null_where_nothing_is_known() {
    let operator =
        Operator::with("[[event]]\nid = \"main\"\nlimit = 5\n[event.queue_when]\nin_flight = 10\n");
    let status = operator.until("main", |status| status["status"] == "OPEN");
    assert_eq!(status["gateways"][0]["present"], true);
    assert_eq!(status["gate"], "open");
    assert_eq!(status["storeUp"], true);
    assert_eq!(status["limitCnt"], 5);
    for count in ["sessions", "ghosts", "waiting", "offers"] {
        assert_eq!(status["counts"][count], 0, "{count}");
    }
    assert_eq!(status["counts"]["called"], status["counts"]["issued"]);
    let in_flight = &status["signals"]["inFlight"];
    assert_eq!(
        (&in_flight["load"], &in_flight["threshold"]),
        (&json!(0.0), &json!(10.0))
    );
    assert_eq!(in_flight["pressure"], 0.0);
    assert_eq!(
        status["signals"]["latencyP95"],
        json!({ "load": null, "threshold": null, "pressure": null })
    );
    assert_eq!(status["signals"].as_object().unwrap().len(), 6);
    assert_eq!(
        status["estimate"],
        json!({ "seconds": 0.0, "low": 0.0, "high": 0.0 })
    );
    assert_eq!(
        (&status["pace"], &status["recovery"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(status["showRate"], 1.0);
    assert_eq!(status["configsAgree"], true);
    assert_eq!(status["gateways"][0]["keys"].as_array().unwrap().len(), 1);
    assert!(
        status["gateways"][0]["seen"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        (&status["totals"]["begun"], &status["totals"]["closed"]),
        (&json!(0), &json!(0))
    );
    assert!(status["totals"]["since"].is_string());
    operator
        .call("PATCH", "/v1/events/main")
        .json(&json!({ "mode": "pause" }))
        .ok();
    assert_eq!(operator.status("main")["estimate"]["seconds"], Value::Null);
    operator.get("/v1/events/other/status").refused(404);
}

#[test]
fn a_session_ended_by_the_operator_frees_its_slot() {
    let operator = Operator::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    let first = operator.visit(None);
    assert_eq!((first.status, first.body.len()), (200, 32), "{first:?}");
    let status = operator.until("main", |status| status["counts"]["sessions"] == 1);
    assert_eq!(status["status"], "QUEUEING");
    assert_eq!(status["totals"]["begun"], 1);

    let path = format!("/v1/events/main/sessions/{}", first.text());
    let ended = operator.call("DELETE", &path).send();
    assert_eq!((ended.status, &*ended.text()), (204, ""));
    let status = operator.until("main", |status| status["counts"]["sessions"] == 0);
    assert_eq!(status["totals"]["closed"], 1);
    let next = operator.visit(None);
    assert_eq!((next.status, next.body.len()), (200, 32), "{next:?}");
    assert_ne!(next.body, first.body);
    assert_eq!(operator.call("DELETE", &path).send().status, 204);
    let revoked = "sumun_sessions_ended_total{event=\"main\",reason=\"revoked\"} 1";
    assert!(operator.get("/metrics").text().contains(revoked));

    for bad in ["1234", "+0000000000000000000000000000000", "%ff"] {
        let path = format!("/v1/events/main/sessions/{bad}");
        operator.call("DELETE", &path).send().refused(404);
    }
}

#[test]
fn a_reset_voids_every_place_and_keeps_the_sessions() {
    let operator = Operator::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    assert_eq!(operator.visit(None).status, 200);
    let place = operator.visit(None);
    assert_eq!(place.status, 503);
    let before = operator.until("main", |status| status["counts"]["waiting"] == 1);
    let reset = |body: Value| operator.call("POST", "/v1/events/main/reset").json(&body);
    reset(json!({})).refused_for(400, "confirm");
    reset(json!({ "confirm": "other" })).refused_for(400, "confirm");
    reset(json!({ "confirm": "main", "force": true })).refused_for(400, "force");
    assert_eq!(operator.status("main")["counts"]["waiting"], 1);

    let done = reset(json!({ "confirm": "main" })).ok();
    assert_eq!(done["eventId"], "main");
    assert_ne!(done["generation"], before["generation"]);
    let after = operator.until("main", |status| status["generation"] == done["generation"]);
    assert_eq!(
        (&after["counts"]["waiting"], &after["counts"]["sessions"]),
        (&json!(0), &json!(1))
    );
    // The old place is worth nothing: the visitor gets a new one.
    let again = operator.visit(Some(&place.cookie()));
    assert_ne!(number(&again.cookie()), number(&place.cookie()));
    let other = operator.call("POST", "/v1/events/other/reset");
    other.json(&json!({ "confirm": "other" })).refused(404);
}
