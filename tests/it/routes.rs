//! What each page bears: routes that are found by themselves, and what is
//! counted of them.

use std::collections::BTreeMap;

use crate::support::{Ask, Plan, Reply, Seen, Site, Visitor, until};

/// The series of routes, by family and labels.
async fn series(site: &Site) -> BTreeMap<String, u64> {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    let text = Visitor::at(site.admin).send(ask).await.text();
    let lines = text.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix("sumun_route_")?.rsplit_once(' ')?;
        // Sums are floating point, and no matter here.
        Some((series.to_owned(), value.parse().ok()?))
    });
    lines.collect()
}

/// Waits until a series has this value.
async fn until_is(site: &Site, series_of: &str, value: u64) -> BTreeMap<String, u64> {
    until(series_of, async || {
        let all = series(site).await;
        let found = all.get(series_of).copied();
        (found == Some(value)).then_some(all)
    })
    .await
}

fn of(family: &str, route: &str) -> String {
    format!("{family}{{event=\"main\",route=\"{route}\"}}")
}

fn answers(route: &str, class: &str) -> String {
    format!("answers_total{{event=\"main\",route=\"{route}\",class=\"{class}\"}}")
}

fn shop(seen: &Seen) -> Reply {
    let path = seen.target.split('?').next().unwrap();
    match path {
        "/nowhere" => Reply::text("no").status(404),
        "/moved" => Reply::text("").status(302).with("location", "/"),
        "/products/13" => Reply::text("sold out").status(404),
        "/broken" => Reply::text("").status(500),
        _ => Reply::text("x".repeat(1_000)),
    }
}

#[tokio::test]
async fn pages_are_counted_by_the_route_that_they_are() {
    let site = Plan::event("").open().await;
    site.origin.answers(shop);
    let mut visitor = site.visitor();
    for path in [
        "/products/1",
        "/products/2?colour=red",
        "/products/13",
        "/moved",
        "/broken",
        "/nowhere",
        "/%EA%B3%B5%EC%97%B0/7",
    ] {
        visitor.open(path).await;
    }
    visitor.send(Ask::image("/static/logo.1.png")).await;
    visitor.send(Ask::image("/static/shoe.2.png")).await;
    visitor.send(Ask::fetch("/api/cart")).await;
    let all = until("ten answers", async || {
        let all = series(&site).await;
        let answers = all
            .iter()
            .filter(|(name, _)| name.starts_with("answers_total"));
        let sum: u64 = answers.map(|(_, value)| value).sum();
        (sum >= 10).then_some(all)
    })
    .await;
    let expected = [
        (answers("/products/{id}", "2xx"), 2),
        (answers("/products/{id}", "4xx"), 1),
        (of("views_total", "/products/{id}"), 3),
        (of("views_total", "/moved"), 0),
        (answers("/moved", "3xx"), 1),
        (answers("/broken", "5xx"), 1),
        (answers("(other)", "4xx"), 1),
        (answers("/static/{*}.png", "2xx"), 2),
        (of("views_total", "/static/{*}.png"), 0),
        (of("views_total", "/공연/{id}"), 1),
        (of("first_byte_seconds_count", "/products/{id}"), 3),
        (of("sent_bytes_total", "/products/{id}"), 2_008),
    ];
    for (series, value) in expected {
        assert_eq!(all.get(&series), Some(&value), "{series}");
    }
    assert!(!all.contains_key(&answers("/nowhere", "4xx")));
}

#[tokio::test]
async fn the_operators_routes_go_first_and_change_with_the_file() {
    let plan = Plan::event("");
    let route = |pattern: &str| format!("[[route]]\npattern = \"{pattern}\"");
    let mut site = plan.clone().tables(&route("/{shelf}/{slug}")).open().await;
    site.visitor().open("/shoes/red").await;
    until_is(&site, &answers("/{shelf}/{slug}", "2xx"), 1).await;
    site.rewrite(plan.tables(&route("/shoes/{*}"))).await;
    until("the other name", async || {
        site.visitor().open("/shoes/red").await;
        let all = series(&site).await;
        all.contains_key(&answers("/shoes/{*}", "2xx"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_download_is_in_flight_until_its_last_byte() {
    let site = Plan::event("").open().await;
    site.visitor().open("/film").await;
    until_is(&site, &answers("/film", "2xx"), 1).await;
    let parts = site.origin.answers_once_in_parts();
    let mut visitor = site.visitor();
    let answer = visitor.begin(Ask::page("/film")).await;
    until_is(&site, &of("requests_in_flight", "/film"), 1).await;
    parts.send("the end".into()).unwrap();
    drop(parts);
    let sent = series(&site).await[&of("sent_bytes_total", "/film")];
    let body = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "the end");
    until_is(&site, &of("requests_in_flight", "/film"), 0).await;
    let all = until_is(&site, &of("sent_bytes_total", "/film"), sent + 7).await;
    assert_eq!(all[&answers("/film", "2xx")], 2);
}

#[tokio::test]
async fn waiting_pages_and_who_got_in_after_them_are_counted_where_they_waited() {
    let mut site = Plan::event("limit = 1").open().await;
    let _inside = site.filled_by_one().await;
    let (mut by_page, mut by_poll) = (site.visitor(), site.visitor());
    by_page.open("/sale/1").await.must_be_a_waiting_page();
    let page = by_poll.open("/sale/2").await;
    page.must_be_a_waiting_page();
    site.visitor().send(Ask::fetch("/sale/3")).await;
    let exposures = of("waiting_pages_total", "/sale/{id}");
    let all = until_is(&site, &exposures, 2).await;
    assert_eq!(all[&of("views_total", "/sale/{id}")], 0);
    site.change("limit = 5").await;
    by_page.open_until_inside("/sale/1").await;
    let conversions = of("conversions_total", "/sale/{id}");
    until_is(&site, &conversions, 1).await;
    until("entering by a poll", async || {
        let poll = Ask::fetch("/__sumun/v1/status?eventId=main")
            .with("sec-fetch-site", "same-origin")
            .with("referer", "http://shop.example/sale/2");
        let answer = by_poll.send(poll).await;
        (answer.json()["status"] == "ENTER").then_some(())
    })
    .await;
    until_is(&site, &conversions, 2).await;
    by_poll.open("/sale/2").await.must_come_from_the_origin();
    until_is(&site, &of("views_total", "/sale/{id}"), 2).await;
    assert_eq!(series(&site).await[&conversions], 2);
}

#[tokio::test]
async fn a_flood_of_addresses_costs_no_more_than_the_most_routes() {
    let site = Plan::event("limit = 100000").open().await;
    let mut visitor = site.visitor_inside().await;
    for name in 0..90 {
        let letters = |n: u8| char::from(b'a' + n % 26);
        let name = format!("{}{}{}", letters(name / 26), letters(name), "name");
        visitor.open(&format!("/user/{name}")).await;
    }
    // Beyond 64 all of them are one.
    let all = until("one name for all", async || {
        visitor.open("/user/another").await;
        let all = series(&site).await;
        all.contains_key(&answers("/user/{*}", "2xx"))
            .then_some(all)
    })
    .await;
    let routes = all
        .keys()
        .filter(|series| series.starts_with("views_total"));
    assert!(routes.count() <= 21);
}
