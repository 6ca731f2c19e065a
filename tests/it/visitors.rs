//! How many different visitors there were, and who arrived, as the operator asks
//! for it: over all gateways.

use serde_json::{Value, json};

use crate::support::redis_process::RedisProcess;
use crate::support::{Ask, Origin, Plan, Site, Visitor, free_address, until};

async fn ask(site: &Site, query: &str) -> crate::support::Answer {
    let path = format!("/v1/events/main/visitors{query}");
    let ask = Ask::fetch(&path).with("host", "localhost");
    Visitor::at(site.admin).send(ask).await
}

async fn told(site: &Site) -> Value {
    let answer = ask(site, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How many different ones there were today. Where midnight passes meanwhile, those
/// of both days.
async fn today(site: &Site, who: &str) -> u64 {
    let day = &told(site).await["unique"][who]["day"];
    let count = |name: &str| day[name].as_u64().unwrap();
    count("count").max(count("before"))
}

/// Waits until so many arrivals of this sort were written.
async fn arrived(site: &Site, sort: &str, expected: Value) {
    until(&format!("{sort} {expected}"), async || {
        (told(site).await["arrivals"][sort] == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn everybody_who_is_there_counts_once_in_line_and_inside() {
    let site = Site::with("limit = 2").await;
    let mut visitors = Vec::new();
    for _ in 0..2 {
        visitors.push(site.visitor_inside().await);
    }
    site.until_busy().await;
    for _ in 0..3 {
        visitors.push(site.visitor_in_line().await);
    }
    for _ in 0..3 {
        for visitor in &mut visitors {
            visitor.open("/").await;
        }
    }
    site.visitor().send(Ask::image("/a.png")).await;
    assert_eq!(today(&site, "visitors").await, 5);
    until("as seen by the store", async || {
        let told = told(&site).await;
        (told["inside"] == 2 && told["waiting"] == 3).then_some(())
    })
    .await;
    arrived(&site, "visit", json!({ "new": 5 })).await;
    arrived(&site, "device", json!({ "other": 5 })).await;
    let told = told(&site).await;
    assert!(told["arrivals"].get("country").is_none(), "{told}");
    for span in ["minute", "hour", "day"] {
        let span = &told["unique"]["visitors"][span];
        assert!(
            span["since"].is_string() && span["count"].is_u64(),
            "{told}"
        );
    }
    let metrics = site.server.running.reception.metrics.render();
    let line = "sumun_unique_visitors{event=\"main\",span=\"day\"} 5\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn bad_parameters_are_named_and_an_event_that_is_not_there_is_not_found() {
    let site = Site::with("").await;
    for (query, field) in [
        ("?hours=0", "hours"),
        ("?hours=49", "hours"),
        ("?hours=day", "hours"),
        ("?days=1", "days"),
    ] {
        let answer = ask(&site, query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
    assert_eq!(ask(&site, "?hours=48").await.status, 200);
    let nowhere = Ask::fetch("/v1/events/nowhere/visitors").with("host", "localhost");
    assert_eq!(Visitor::at(site.admin).send(nowhere).await.status, 404);
}

#[tokio::test]
async fn gateways_of_one_store_count_together_and_those_inside_do_not_need_it() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = address.port().to_string();
    let args = ["--bind", "127.0.0.1", "--port", &port].map(str::to_owned);
    let mut redis = RedisProcess::start(dir.path(), &args, &[], "Ready to accept connections");
    let plan = Plan::event("").tables(&format!("[store]\nurl = \"redis://{address}/\""));
    let origin = Origin::open().await;
    let one = plan.clone().open_before(&origin).await;
    let other = plan.open_before(&origin).await;
    let mut both = one.visitor_inside().await.moved_to(other.door);
    assert!(both.open("/").await.is_from_origin());
    one.visitor_inside().await;
    for _ in 0..3 {
        other.visitor_inside().await;
    }
    for site in [&one, &other] {
        until("all of both", async || {
            (today(site, "visitors").await == 5).then_some(())
        })
        .await;
        arrived(site, "visit", json!({ "new": 5 })).await;
    }
    redis.kill();
    until("the store is away", async || {
        one.ledger().store_is_away().then_some(())
    })
    .await;
    assert_eq!(ask(&one, "").await.status, 503);
    assert!(both.open("/again").await.is_from_origin());
}

#[tokio::test]
async fn what_was_counted_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let site = Plan::event("").state(dir.path()).open().await;
    for _ in 0..3 {
        site.visitor_inside().await;
    }
    let site = site.restarted().await;
    // In line, or inside: a restart is a recovery.
    site.visitor().open("/").await;
    assert_eq!(today(&site, "visitors").await, 4);
    arrived(&site, "visit", json!({ "new": 4 })).await;
}

#[tokio::test]
async fn users_are_counted_by_their_cookie_and_their_names_are_kept_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::event("").tables("[visitor]\nuser_from = \"cookie:uid\"");
    let site = plan.state(dir.path()).open().await;
    for user in [
        "uid=kim.of.the.hill",
        "a=b; uid=kim.of.the.hill",
        "uid=lee.of.the.lake",
        "uid=",
        "other=1",
    ] {
        let ask = Ask::page("/").with("cookie", user);
        assert!(site.visitor().send(ask).await.is_from_origin(), "{user}");
    }
    // Who logs in while inside counts from the next minute on.
    let long = format!("uid={}", "x".repeat(300));
    let ask = Ask::page("/").with("cookie", &long);
    assert!(site.visitor().send(ask).await.is_from_origin());
    assert_eq!(today(&site, "users").await, 2);
    assert_eq!(today(&site, "visitors").await, 6);
    arrived(&site, "visit", json!({ "new": 6 })).await;
    let metrics = site.server.running.reception.metrics.render();
    let line = "sumun_unique_users{event=\"main\",span=\"day\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
    let mut site = site;
    site.begin_stop();
    site.ended().await;
    let mut kept = metrics.into_bytes();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        kept.extend(std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 2, "{files}");
    for name in ["of.the.hill", "of.the.lake"] {
        let found = kept.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(!found, "{name}");
    }
}

#[tokio::test]
async fn a_header_with_the_user_is_believed_from_trusted_proxies_alone() {
    for (trusted, expected) in [("loopback", 1), ("10.0.0.0/8", 0)] {
        let plan = Plan::event("").top(&format!("trusted_proxies = [{trusted:?}]"));
        let plan = plan.tables("[visitor]\nuser_from = \"header:X-User\"");
        let site = plan.open().await;
        let ask = Ask::page("/").with("x-user", "kim");
        assert!(site.visitor().send(ask).await.is_from_origin());
        assert_eq!(today(&site, "users").await, expected, "{trusted}");
    }
    // Where nobody names it, nothing is told.
    let site = Site::with("").await;
    assert_eq!(told(&site).await["unique"]["users"], Value::Null);
}
