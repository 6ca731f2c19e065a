//! Two gateways before one origin, with one real Redis between them: what
//! neither bears alone, they know together.

use std::path::Path;

use http::Method;
use serde_json::Value;
use sumun::room::gate::Gate;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::redis_process::RedisProcess;
use crate::support::{Ask, Origin, Plan, Reply, Site, Visitor, free_address, until};

/// Requests in flight at which the gate closes.
const THRESHOLD: u64 = 6;

/// Requests that each of two gateways bears: alone too few.
const EACH: u64 = 4;

/// A redis-server, and the settings of gateways that share it.
fn shared_store(dir: &Path) -> (RedisProcess, Plan) {
    let address = free_address();
    let port = address.port().to_string();
    let args = ["--bind", "127.0.0.1", "--port", &port].map(str::to_owned);
    let redis = RedisProcess::start(dir, &args, &[], "Ready to accept connections");
    let plan = Plan::event(&format!(
        "[event.queue_when]\nin_flight = {THRESHOLD}\nrelease_after = \"1s\""
    ));
    let store = format!("[store]\nurl = \"redis://{address}/\"");
    (redis, plan.tables(&store))
}

/// Sends requests to a gateway that the origin holds as long as it likes to.
fn bear(load: &mut JoinSet<()>, site: &Site, target: &'static str) {
    for _ in 0..EACH {
        let mut visitor = site.visitor();
        load.spawn(async move {
            let answer = visitor.send(Ask::image(target)).await;
            answer.must_come_from_the_origin();
        });
    }
}

/// Waits until a gateway sees so many requests in flight, at all gateways.
async fn sees(site: &Site, in_flight: u64) {
    let metric = format!("sumun_event_load{{event=\"main\",signal=\"in_flight\"}} {in_flight}");
    let metrics = &site.server.running.reception.metrics;
    until(&metric, async || {
        let shown = metrics.render();
        shown.lines().any(|line| line == metric).then_some(())
    })
    .await;
}

async fn gate_is(site: &Site, gate: Gate) {
    site.until("the gate", |view| view.snapshot.meta.gate == gate)
        .await;
}

#[tokio::test]
async fn load_is_summed_over_gateways_and_each_closes_its_gate_and_opens_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_redis, plan) = shared_store(dir.path());
    let origin = Origin::open().await;
    let (let_go_of_one, one_is_held) = watch::channel(false);
    let (let_go_of_other, other_is_held) = watch::channel(false);
    origin.answers(move |seen| match seen.target.as_str() {
        "/one" => Reply::page().behind(&one_is_held),
        "/other" => Reply::page().behind(&other_is_held),
        _ => Reply::page(),
    });
    let one = plan.clone().open_before(&origin).await;
    let other = plan.open_before(&origin).await;
    let mut load = JoinSet::new();

    // What one bears is known to both, and too little to close the gate.
    bear(&mut load, &one, "/one");
    for site in [&one, &other] {
        sees(site, EACH).await;
        assert_eq!(site.view().snapshot.meta.gate, Gate::Open);
        site.visitor_inside().await;
    }

    // What both bear closes it, at both.
    bear(&mut load, &other, "/other");
    let mut line = Vec::new();
    for site in [&one, &other] {
        gate_is(site, Gate::Queueing).await;
        sees(site, 2 * EACH).await;
        line.push(site.visitor_in_line().await);
    }

    // What the other bears alone is too little again.
    let_go_of_one.send_replace(true);
    for site in [&one, &other] {
        gate_is(site, Gate::Open).await;
        sees(site, EACH).await;
    }
    for visitor in &mut line {
        visitor.open_until_inside("/").await;
    }
    let_go_of_other.send_replace(true);
    for site in [&one, &other] {
        sees(site, 0).await;
        site.until("nobody waits", |view| !view.is_busy()).await;
        site.visitor_inside().await;
    }
    while let Some(answered) = load.join_next().await {
        answered.unwrap();
    }
}

#[tokio::test]
async fn what_is_said_at_one_gateway_is_in_the_polls_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (_redis, plan) = shared_store(dir.path());
    let plan = plan.settings("limit = 1");
    let origin = Origin::open().await;
    let one = plan.clone().open_before(&origin).await;
    let other = plan.open_before(&origin).await;
    let _inside = other.filled_by_one().await;
    let mut waits = other.visitor_in_line().await;
    let poll = |visitor: &Visitor| {
        let body = serde_json::json!({ "eventId": "main", "ticket": visitor.token() });
        Ask::fetch("/__sumun/v1/status")
            .method(Method::POST)
            .body(&body.to_string())
    };
    let quiet = waits.send(poll(&waits)).await.json();
    assert_eq!(quiet["message"], Value::Null);
    let text = "12시에 다시 엽니다";
    let body = serde_json::json!({ "message": text }).to_string();
    let ask = Ask::fetch("/v1/events/main/message").method(Method::PUT);
    let ask = ask
        .with("host", "localhost")
        .with("content-type", "application/json");
    let said = Visitor::at(one.admin).send(ask.body(&body)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let status = until("the other says it", async || {
        let status = waits.send(poll(&waits)).await.json();
        (status["message"] == text).then_some(status)
    })
    .await;
    assert_eq!(status["status"], "WAIT");
    // Its first page says so too.
    let page = other.visitor().open("/").await;
    assert!(page.must_be_a_waiting_page().text().contains(text));
}
