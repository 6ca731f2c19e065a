//! The rules of the door: who may come in, by which name, with what.

use std::collections::BTreeSet;

use serde_json::json;

use super::{EVENT, Operator};

#[test]
fn only_the_whole_token_opens_the_door() {
    let operator = Operator::with(&format!(
        "{EVENT}[admin]\ntoken = \"a token of some length\"\n"
    ));
    let with = |value: &str| {
        operator
            .call("GET", "/v1/events")
            .header("Authorization", value)
            .send()
    };
    with("Bearer a token of some length").ok();
    with("bearer a token of some length").ok();
    for wrong in [
        "Bearer a token of some lengt",
        "Bearer",
        "Basic YTpi",
        "a token of some length",
    ] {
        let answer = with(wrong);
        answer.refused(401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
    }
    // Without the token nobody learns which paths there are.
    operator.get("/nowhere").refused(401);
    operator
        .call("DELETE", "/v1/events/main")
        .send()
        .refused(401);
    let twice = operator
        .call("GET", "/v1/events")
        .header("Authorization", "Bearer a token of some length");
    twice
        .header("Authorization", "Bearer x")
        .send()
        .refused(401);
}

#[test]
fn a_name_that_is_not_the_doors_own_is_misdirected() {
    let operator = Operator::start();
    let port = operator.server.admin.port();
    let at = |host: &str| {
        operator
            .call("GET", "/v1/events")
            .header("Host", host)
            .send()
    };
    for own in [
        format!("localhost:{port}"),
        "LOCALHOST".into(),
        "127.0.0.1".into(),
        format!("[::1]:{port}"),
    ] {
        at(&own).ok();
    }
    for foreign in [
        "evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "",
        "a b",
    ] {
        at(foreign).refused(421);
    }
    operator
        .call("GET", "/metrics")
        .header("Host", "evil.example")
        .send()
        .refused(421);
    let absolute = operator.call("GET", "http://evil.example/v1/events");
    absolute.send().refused(421);
    let two = operator
        .call("GET", "/v1/events")
        .header("Host", "localhost");
    two.header("Host", "evil.example").send().refused(421);
}

#[test]
fn a_page_of_another_site_is_refused() {
    let operator = Operator::start();
    let with = |name: &str, value: &str| {
        operator
            .call("GET", "/v1/events")
            .header(name, value)
            .send()
    };
    with("Origin", &format!("http://{}", operator.server.admin)).ok();
    with("Sec-Fetch-Site", "same-origin").ok();
    with("Sec-Fetch-Site", "none").ok();
    for origin in ["https://evil.example", "http://127.0.0.1:1", "null", ""] {
        with("Origin", origin).refused(403);
    }
    for site in ["cross-site", "same-site", "x"] {
        with("Sec-Fetch-Site", site).refused(403);
    }
    let write = operator
        .call("PATCH", "/v1/events/main")
        .header("Origin", "https://evil.example");
    write.json(&json!({ "mode": "off" })).refused(403);
    assert_eq!(operator.get("/v1/events/main").ok()["mode"], "auto");
}

#[test]
fn a_body_is_json_of_bounded_size() {
    let operator = Operator::start();
    let patch = || operator.call("PATCH", "/v1/events/main");
    patch().raw("{}").refused(415);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "",
    ] {
        patch().header("Content-Type", kind).raw("{}").refused(415);
    }
    let utf8 = patch().header("Content-Type", "Application/JSON; charset=utf-8");
    utf8.raw("{}").ok();
    let put = operator.call("PUT", "/v1/events/main");
    put.header("Content-Type", "application/merge-patch+json")
        .raw("{}")
        .refused(415);
    let delete = operator
        .call("DELETE", "/v1/events/main")
        .header("Content-Type", "text/plain");
    delete.raw("x").refused(415);

    let problem = patch().text("{\n  \"mode\": off }").refused(400);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 2 column"),
        "{problem}"
    );
    for bad in ["", "[]", "null", "\"a\"", "{} {}"] {
        patch().text(bad).refused(400);
    }
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    patch().text(&deep).refused(400);
    let large = format!("{{\"message\":\"{}\"}}", "x".repeat(64 * 1024));
    patch().text(&large).refused(413);
    let fits = format!("{{\"message\":\"x\"{}}}", " ".repeat(60 * 1024));
    patch().text(&fits).ok();
}

#[test]
fn unknown_paths_events_and_methods_are_told_as_problems() {
    let operator = Operator::start();
    for path in [
        "/",
        "/v1",
        "/v1/events/",
        "/v1/event",
        "/__sumun/readyz",
        "/v1/events/main/limits",
    ] {
        operator.get(path).refused(404);
    }
    for event in ["other", "Main", "%00", "%ff", "..", "main%2Flimit"] {
        operator.get(&format!("/v1/events/{event}")).refused(404);
    }
    let allowed = |method: &str, path: &str| {
        let answer = operator
            .call(method, path)
            .header("Content-Type", "application/json")
            .send();
        answer.refused(405);
        let allow = answer.header("allow").unwrap();
        allow
            .split(',')
            .map(|m| m.trim().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let set = |methods: &[&str]| {
        methods
            .iter()
            .map(|m| (*m).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        allowed("DELETE", "/v1/events"),
        set(&["GET", "HEAD", "POST"])
    );
    assert_eq!(
        allowed("POST", "/v1/events/main"),
        set(&["GET", "HEAD", "PUT", "PATCH", "DELETE"])
    );
    assert_eq!(allowed("PUT", "/metrics"), set(&["GET", "HEAD"]));
    assert_eq!(allowed("GET", "/v1/events/main/reset"), set(&["POST"]));
    assert_eq!(allowed("TRACE", "/v1/events/main/limit"), set(&["PUT"]));
}

#[test]
fn head_says_what_get_would_without_a_body() {
    let operator = Operator::start();
    for path in [
        "/v1/events",
        "/v1/events/main",
        "/v1/events/main/status",
        "/healthz",
        "/metrics",
    ] {
        let (head, get) = (operator.call("HEAD", path).send(), operator.get(path));
        assert_eq!((head.status, &*head.text()), (200, ""), "{path}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let missing = operator.call("HEAD", "/v1/events/other").send();
    assert_eq!((missing.status, &*missing.text()), (404, ""));
}
