//! What happened to an event, slice by slice, as its operator asks for it.

use serde_json::Value;

use crate::support::{Answer, Ask, Plan, Site, Visitor, until};

async fn ask(site: &Site, query: &str) -> Answer {
    let path = format!("/v1/events/main/stats?{query}");
    let ask = Ask::fetch(&path).with("host", "localhost");
    Visitor::at(site.admin).send(ask).await
}

async fn items(site: &Site, query: &str) -> Vec<Value> {
    let answer = ask(site, query).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

/// A site with one inside, who has seen two products, and two who wait.
async fn visited(plan: Plan) -> Site {
    let site = plan.open().await;
    let mut inside = site.filled_by_one().await;
    for path in ["/products/1", "/products/2", "/=1+1"] {
        inside.open(path).await.must_come_from_the_origin();
    }
    for _ in 0..2 {
        site.visitor().open("/sale").await.must_be_a_waiting_page();
    }
    site.until("two wait", |view| view.waiting() == 2).await;
    site
}

#[tokio::test]
async fn what_happened_is_told_by_event_and_by_route_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let site = visited(Plan::event("limit = 1").state(dir.path())).await;
    // The end of the process ends its slices.
    let site = site.restarted().await;
    let total = items(&site, "step=total").await;
    assert_eq!(total.len(), 1, "{total:?}");
    for (name, value) in [
        ("arrivals", 3),
        ("admitted", 1),
        ("walkedIn", 1),
        ("waited", 0),
        ("waitingPages", 2),
        ("requests", 6),
        ("views", 4),
        ("2xx", 4),
        ("5xx", 0),
        ("insidePeak", 1),
        ("waitingPeak", 2),
    ] {
        assert_eq!(total[0][name], value, "{name}: {total:?}");
    }
    assert_eq!(total[0]["waitP50Seconds"], Value::Null);
    assert!(total[0]["firstByteP95Ms"].as_f64().unwrap() > 0.0);
    let routes = items(&site, "step=total&group_by=route").await;
    let named = |route: &str| routes.iter().find(|row| row["route"] == route);
    assert_eq!(named("/products/{id}").unwrap()["views"], 2);
    assert_eq!(named("/sale").unwrap()["waitingPages"], 2);
    assert_eq!(named("/sale").unwrap()["views"], 0);
    for step in ["10s", "1m", "1h"] {
        let rows = items(&site, &format!("step={step}")).await;
        let sum: u64 = rows
            .iter()
            .map(|row| row["requests"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, 6, "{step}: {rows:?}");
    }
}

#[tokio::test]
async fn a_slice_is_told_while_the_gateway_runs_on() {
    let site = visited(Plan::event("limit = 1")).await;
    let row = until("a slice with those who wait", async || {
        let rows = items(&site, "step=total").await;
        rows.into_iter().find(|row| row["requests"] == 6)
    })
    .await;
    let seen = until("peaks", async || {
        let rows = items(&site, "step=total").await;
        rows.into_iter().find(|row| row["waitingPeak"] == 2)
    })
    .await;
    assert_eq!(
        (&row["requests"], &seen["insidePeak"]),
        (&6.into(), &1.into())
    );
}

#[tokio::test]
async fn who_arrived_is_told_by_each_sort_of_words() {
    let dir = tempfile::tempdir().unwrap();
    let site = visited(Plan::event("limit = 1").state(dir.path())).await;
    let site = site.restarted().await;
    for sort in ["access", "source", "device", "os", "browser", "visit"] {
        for step in ["total", "1m"] {
            let rows = items(&site, &format!("step={step}&group_by={sort}")).await;
            let arrived = rows.iter().map(|row| row["arrivals"].as_u64().unwrap());
            assert_eq!(arrived.sum::<u64>(), 3, "{sort}: {rows:?}");
            assert!(rows.iter().all(|row| row[sort].is_string()), "{rows:?}");
        }
    }
    let visits = items(&site, "step=total&group_by=visit").await;
    assert_eq!(visits.len(), 1, "{visits:?}");
    assert_eq!(
        (&visits[0]["visit"], &visits[0]["arrivals"]),
        (&"new".into(), &3.into())
    );
    let none = items(&site, "step=total&group_by=country").await;
    assert!(none.is_empty(), "no file tells of countries: {none:?}");
    let sheet = ask(&site, "step=total&group_by=country&format=csv").await;
    assert_eq!(sheet.text(), "start,country,arrivals\r\n");
    let unknown = ask(&site, "group_by=shoe").await;
    assert_eq!(unknown.status, 400);
    let told = unknown.json()["detail"].to_string();
    assert!(told.contains("route, visit, access"), "{told}");
}

#[tokio::test]
async fn a_sheet_has_a_line_for_each_row() {
    let dir = tempfile::tempdir().unwrap();
    let site = visited(Plan::event("limit = 1").state(dir.path())).await;
    let site = site.restarted().await;
    let answer = ask(&site, "step=total&group_by=route&format=csv").await;
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/csv"), "{kind}");
    let text = answer.text();
    let mut lines = text.split("\r\n");
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(names[..4], ["start", "route", "requests", "views"]);
    let lines: Vec<Vec<&str>> = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split(',').collect())
        .collect();
    assert!(lines.iter().all(|line| line.len() == names.len()), "{text}");
    assert!(
        lines
            .iter()
            .any(|line| line[1..4] == ["/products/{id}", "2", "2"]),
        "{text}"
    );
    let accepts = Ask::fetch("/v1/events/main/stats?step=total")
        .with("host", "localhost")
        .with("accept", "text/csv");
    let both = Visitor::at(site.admin).send(accepts).await;
    // The browser of the visitor accepts JSON too.
    assert_eq!(both.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn bad_parameters_are_named_and_an_event_that_is_not_there_is_not_found() {
    let site = Plan::event("").open().await;
    for (query, field) in [
        ("from=noon", "from"),
        ("step=2m", "step"),
        ("group_by=shoe", "group_by"),
        ("until=now", "until"),
    ] {
        let answer = ask(&site, query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
    let ask = Ask::fetch("/v1/events/nowhere/stats").with("host", "localhost");
    assert_eq!(Visitor::at(site.admin).send(ask).await.status, 404);
}

#[tokio::test]
async fn switched_off_nothing_is_counted() {
    let plan = Plan::event("").tables("[statistics]\nenabled = false");
    let dir = tempfile::tempdir().unwrap();
    let site = plan.state(dir.path()).open().await;
    site.visitor()
        .open("/products/1")
        .await
        .must_come_from_the_origin();
    let site = site.restarted().await;
    assert_eq!(items(&site, "step=total").await, [Value::Null; 0]);
}
