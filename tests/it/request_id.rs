//! A request's id: at the origin, in the answer, in the access log.

use crate::support::process::{Doors, Process};
use crate::support::{Ask, Plan, Reply, free_address, until};

const HEADER: &str = "x-request-id";

#[tokio::test]
async fn the_origin_and_the_visitor_see_the_same_id_and_a_trusted_proxys_is_taken_over() {
    let plan = Plan::event("limit = 1").top("request_id_header = \"X-Request-Id\"");
    let site = plan.top("trusted_proxies = [\"loopback\"]").open().await;
    let mut inside = site.visitor_inside().await;
    let answer = inside.open("/").await;
    let drawn = answer.header(HEADER).unwrap();
    assert_eq!(drawn.len(), 32);
    assert_eq!(site.origin.last().header(HEADER), Some(drawn));

    let answer = inside.send(Ask::page("/").with(HEADER, "lb-7.42")).await;
    assert_eq!(answer.header(HEADER), Some("lb-7.42"));
    assert_eq!(site.origin.last().header(HEADER), Some("lb-7.42"));
    let answer = inside.send(Ask::page("/").with(HEADER, "two words")).await;
    assert_eq!(answer.header(HEADER).map(str::len), Some(32));

    // Our own answers have one too.
    site.until_busy().await;
    let answer = site.visitor().open("/").await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.header(HEADER).map(str::len), Some(32));
    let answer = inside.send(Ask::fetch("/__sumun/readyz")).await;
    assert_eq!(answer.header(HEADER).map(str::len), Some(32));
    // The origin has the last word.
    site.origin
        .answers(|_| Reply::page().with(HEADER, "its own"));
    assert_eq!(inside.open("/").await.header(HEADER), Some("its own"));
}

#[tokio::test]
async fn without_a_header_for_it_a_request_has_no_id() {
    let site = Plan::event("").open().await;
    let sent = Ask::page("/")
        .with(HEADER, "sent")
        .with("traceparent", "00-1-2-01");
    let answer = site.visitor().send(sent).await;
    assert_eq!(answer.header(HEADER), None);
    assert_eq!(site.origin.last().header(HEADER), Some("sent"));
    assert_eq!(site.origin.last().header("traceparent"), Some("00-1-2-01"));
}

#[tokio::test]
async fn the_access_log_says_the_id_and_the_address() {
    let (doors, folder) = (Doors::free(), tempfile::tempdir().unwrap());
    let file = folder.path().join("gateway.toml");
    let text = doors.file(free_address(), "");
    std::fs::write(
        &file,
        format!("request_id_header = \"X-Request-Id\"\n{text}"),
    )
    .unwrap();
    let gateway = Process::run(&file, doors);
    until("the process is ready", async || {
        gateway.is_ready().then_some(())
    })
    .await;
    for path in ["/page", "/__sumun/v1/status?eventId=main&ticket=none"] {
        let _ = gateway.send(Ask::fetch(path)).await;
        let line = until("the line", async || {
            let path = path.split('?').next();
            let mut lines = gateway.access().into_iter();
            lines.find(|line| line["fields"]["path"].as_str() == path)
        })
        .await;
        let fields = &line["fields"];
        assert_eq!(fields["client"], "127.0.0.1");
        // Nobody is trusted here: what is sent counts for nothing.
        assert_eq!(fields["request_id"].as_str().map(str::len), Some(32));
    }
}
