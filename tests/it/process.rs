//! What a gateway's log says, of a process of its own.

use serde_json::json;

use crate::support::process::Process;
use crate::support::{Ask, free_address, until};

#[tokio::test]
async fn an_origin_that_fails_is_told_of_once_and_not_with_each_request() {
    let gateway = Process::at(free_address(), free_address(), "").await;
    for _ in 0..40 {
        assert_eq!(gateway.open("/").await, 502);
    }
    let told = gateway.said("the origin did not answer");
    // One in ten seconds, however slow the machine is.
    assert!((1..5).contains(&told.len()), "{told:?}");
    assert_eq!(told[0]["level"], "WARN");
    assert_eq!(told[0]["fields"]["kind"], "connect");
    assert_eq!(told[0]["fields"]["passed_over"], 0);
}

#[tokio::test]
async fn a_second_process_at_the_public_address_is_told_of() {
    const SHARED: &str = "another process listens at this address too";
    let (door, origin) = (free_address(), free_address());
    let first = Process::at(door, origin, "").await;
    assert_eq!(first.open("/").await, 502);
    let second = Process::at(door, origin, "").await;
    assert_eq!(second.said(SHARED).len(), 1);
    assert_eq!(second.said(SHARED)[0]["level"], "WARN");
    assert!(first.said(SHARED).is_empty());
    drop((first, second));
    let alone = Process::at(door, origin, "").await;
    assert!(alone.said(SHARED).is_empty(), "nobody listens any more");
}

#[tokio::test]
async fn calls_of_the_api_have_a_line_in_the_access_log_without_query_and_token() {
    let gateway = Process::at(free_address(), free_address(), "").await;
    let poll = Ask::fetch("/__sumun/v1/status?eventId=main&ticket=not-a-ticket");
    assert_eq!(gateway.send(poll).await, 401);
    let lines = until("the line", async || {
        let mut lines = gateway.access();
        // The wait for the start has lines of its own.
        lines.retain(|line| line["fields"]["path"] == "/__sumun/v1/status");
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    let fields = &lines[0]["fields"];
    let told = ["method", "status", "event", "decision"].map(|name| fields[name].clone());
    assert_eq!(
        told,
        [json!("GET"), json!(401), json!("main"), json!("api")]
    );
    assert!(!lines[0].to_string().contains("not-a-ticket"), "{lines:?}");
}
