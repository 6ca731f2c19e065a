//! What is counted of requests that never reach the origin: the calls under
//! `/__sumun/`.

use std::collections::BTreeMap;

use crate::support::{Ask, Plan, Site, Visitor};

/// Calls of the API by event and status code, and all requests that took time.
async fn counted(site: &Site) -> (BTreeMap<String, u64>, u64) {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    let text = Visitor::at(site.admin).send(ask).await.text();
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let calls = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("sumun_http_requests_total{")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        let is_call = label("decision") == Some("api");
        is_call.then(|| {
            (
                format!("{} {}", label("event").unwrap(), label("code").unwrap()),
                value(line),
            )
        })
    });
    let timed = text
        .lines()
        .find(|line| line.starts_with("sumun_http_request_duration_seconds_count"));
    assert!(text.contains("sumun_http_requests_in_flight 0\n"), "{text}");
    (calls.collect(), timed.map_or(0, value))
}

fn post(call: &str, body: &str) -> Ask {
    Ask::fetch(&format!("/__sumun/v1/{call}"))
        .method(http::Method::POST)
        .body(body)
}

#[tokio::test]
async fn calls_of_the_api_are_counted_by_event_and_status() {
    let site = Plan::event("limit = 1").open().await;
    let mut visitor = site.visitor();
    let inside = visitor
        .send(post("enter", r#"{"eventId":"main"}"#))
        .await
        .json();
    let token = inside["successToken"].as_str().unwrap().to_owned();
    let verify = format!(r#"{{"successToken":"{token}"}}"#);
    let calls = [
        post("verify", &verify),
        post("verify", r#"{"successToken":"nothing"}"#),
        post("status", r#"{"eventId":"main","ticket":"nothing"}"#),
        Ask::fetch("/__sumun/v1/status?eventId=elsewhere"),
        post("enter", "no json"),
        Ask::fetch("/__sumun/nowhere"),
        Ask::fetch("/__sumun/v1/enter"),
        Ask::fetch("/__sumun/livez"),
    ];
    for call in calls {
        site.visitor().send(call).await;
    }
    let (calls, timed) = counted(&site).await;
    let expected = [
        ("main 200", 2),
        ("main 401", 1),
        ("none 200", 2),
        ("none 400", 1),
        ("none 404", 2),
        ("none 405", 1),
    ];
    let expected = expected.map(|(label, count)| (label.to_owned(), count));
    assert_eq!(calls, BTreeMap::from(expected));
    assert_eq!(timed, 9);
}

#[tokio::test]
async fn a_waiting_page_is_counted_by_the_status_that_the_operator_wants() {
    let site = Plan::event("limit = 1\nwaiting_status = 202").open().await;
    let _inside = site.filled_by_one().await;
    let page = site.visitor().open("/__sumun/wait?event=main").await;
    assert_eq!(page.status, 202);
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    let text = Visitor::at(site.admin).send(ask).await.text();
    let labels = ["event=\"main\"", "decision=\"api\"", "code=\"202\""];
    let is_it = |line: &str| labels.iter().all(|label| line.contains(label));
    assert!(text.lines().any(is_it), "{text}");
}
