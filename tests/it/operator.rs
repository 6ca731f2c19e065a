//! What the operator sees at the admin door of what visitors do.

use serde_json::{Value, json};

use crate::support::{Answer, Ask, Plan, Site, Visitor, until};

/// A call at the admin door.
async fn call(site: &Site, ask: Ask) -> Answer {
    Visitor::at(site.admin)
        .send(ask.with("host", "localhost"))
        .await
}

/// The status of `main`.
async fn status(site: &Site) -> Value {
    let answer = call(site, Ask::fetch("/v1/events/main/status")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Looks until the status is as wanted.
async fn status_until(site: &Site, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let status = status(site).await;
        wanted(&status).then_some(status)
    })
    .await
}

#[tokio::test]
async fn totals_and_peaks_are_those_since_the_last_reset() {
    let site = Plan::event("limit = 1").open().await;
    let quiet = status(&site).await;
    assert_eq!(quiet["peaks"]["waitingAt"], Value::Null);
    let _inside = site.filled_by_one().await;
    for _ in 0..2 {
        site.visitor_in_line().await;
    }
    let busy = status_until(&site, "two who wait", |status| {
        status["peaks"]["waiting"] == 2
    })
    .await;
    let counted = [
        "sessionsBegun",
        "sessionsClosed",
        "ticketsIssued",
        "ticketsAbandoned",
    ]
    .map(|name| busy["totals"][name].clone());
    assert_eq!(counted, [json!(1), json!(0), json!(2), json!(0)]);
    assert_eq!(busy["peaks"]["sessions"], 1);
    for moment in ["sessionsAt", "waitingAt"] {
        assert!(busy["peaks"][moment].is_string(), "{busy}");
    }

    let reset = Ask::fetch("/v1/events/main/reset")
        .method(http::Method::POST)
        .with("content-type", "application/json")
        .body(r#"{"confirm":"main"}"#);
    assert_eq!(call(&site, reset).await.status, 200);
    let anew = status_until(&site, "a reset", |status| {
        status["totals"]["ticketsIssued"] == 0
    })
    .await;
    assert_eq!(anew["totals"]["sessionsBegun"], 0);
    assert_eq!(anew["totals"]["begun"], 1, "since birth");
    assert_eq!(anew["peaks"]["sessions"], 1, "sessions stay");
    assert_eq!(anew["peaks"]["waiting"], 0);
    let since = |status: &Value| {
        status["totals"]["generationSince"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(since(&anew) > since(&busy));
}

/// The hash that the gateway reports, and those that its metrics show as in
/// force.
async fn hashes(site: &Site) -> (String, Vec<String>) {
    let reported = status(site).await["gateways"][0]["config"].clone();
    let metrics = call(site, Ask::fetch("/metrics")).await.text();
    let shown = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("sumun_config_info{hash=\"")?;
        rest.strip_suffix("\"} 1").map(str::to_owned)
    });
    (reported.as_str().unwrap().to_owned(), shown.collect())
}

async fn hashes_until(site: &Site, wanted: &Plan) {
    let hash = site.hash(wanted);
    until("the hash of the file in force", async || {
        (hashes(site).await == (hash.clone(), vec![hash.clone()])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_hash_told_is_that_of_the_file_in_force() {
    let (five, six) = (Plan::event("limit = 5"), Plan::event("limit = 6"));
    let mut site = five.clone().open().await;
    hashes_until(&site, &five).await;
    site.rewrite(six.clone()).await;
    hashes_until(&site, &six).await;
    // What needs a restart is not in force, so it does not count: not at the
    // first reload and not at the next.
    for limit in ["limit = 7", "limit = 8"] {
        let plan = Plan::event(limit);
        site.rewrite(plan.clone().tables("[store]\ntimeout = \"900ms\""))
            .await;
        hashes_until(&site, &plan).await;
    }
    site.rewrite(five.clone()).await;
    hashes_until(&site, &five).await;
}

/// The operator makes an event of the API at this path, or deletes it.
async fn event(site: &Site, method: http::Method, id: &str) {
    let is_made = method == http::Method::POST;
    let path = if is_made { "" } else { id };
    let body = json!({ "eventId": id, "paths": [format!("/{id}")] }).to_string();
    let ask = Ask::fetch(format!("/v1/events/{path}").trim_end_matches('/'))
        .method(method)
        .with("content-type", "application/json")
        .body(if is_made { &body } else { "" });
    let status = call(site, ask).await.status;
    assert_eq!(status, if is_made { 201 } else { 204 });
}

/// The series of an event, without its polls and calls that never came.
async fn series(site: &Site, id: &str) -> Vec<String> {
    let label = format!("event=\"{id}\"");
    let text = call(site, Ask::fetch("/metrics")).await.text();
    let lines = text.lines().filter(|line| line.contains(&label));
    lines.map(str::to_owned).collect()
}

async fn requests(site: &Site, id: &str) -> u64 {
    let series = series(site, id).await;
    let counted = series
        .iter()
        .filter(|line| line.starts_with("sumun_http_requests_total{"));
    counted
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn a_deleted_event_has_no_series_and_those_behind_it_keep_their_own() {
    let site = Plan::event("").open().await;
    for id in ["aa", "bb"] {
        event(&site, http::Method::POST, id).await;
        for _ in 0..4 {
            site.visitor().open(&format!("/{id}")).await;
        }
        assert_eq!(requests(&site, id).await, 4);
    }
    event(&site, http::Method::DELETE, "aa").await;
    assert_eq!(series(&site, "aa").await, Vec::<String>::new());
    for _ in 0..4 {
        site.visitor().open("/bb").await;
    }
    assert_eq!(requests(&site, "bb").await, 8);

    event(&site, http::Method::POST, "aa").await;
    let gauges = until("its gauges", async || {
        let series = series(&site, "aa").await;
        let gauge = "sumun_event_sessions{";
        series
            .iter()
            .any(|line| line.starts_with(gauge))
            .then_some(series)
    })
    .await;
    assert!(
        gauges
            .iter()
            .any(|line| line.contains("sumun_event_gate_state"))
    );
    assert_eq!(requests(&site, "aa").await, 4, "counters go on");
}
