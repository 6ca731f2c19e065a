//! Who arrives, as the metrics tell: by what a request says of itself, in words
//! that are ours.

use std::collections::BTreeMap;

use http::Method;

use crate::support::{Ask, Plan, Site, Visitor, until};

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1";
const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";

async fn metrics(site: &Site) -> String {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    Visitor::at(site.admin).send(ask).await.text()
}

/// The arrivals of one sort, by word.
async fn arrivals(site: &Site, sort: &str) -> BTreeMap<String, u64> {
    let family = match sort {
        "visit" => "sumun_arrivals_total{".to_owned(),
        other => format!("sumun_arrivals_by_{other}_total{{"),
    };
    let text = metrics(site).await;
    let lines = text.lines().filter(|line| line.starts_with(&family));
    let counted = lines.map(|line| {
        assert!(line.contains("event=\"main\""), "{line}");
        let (_, rest) = line.split_once(&format!("{sort}=\"")).unwrap();
        let (word, rest) = rest.split_once('"').unwrap();
        let count = rest.rsplit(' ').next().unwrap();
        (word.to_owned(), count.parse().unwrap())
    });
    counted.collect()
}

fn counts(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let words = words
        .iter()
        .map(|(word, count)| ((*word).to_owned(), *count));
    words.collect()
}

#[tokio::test]
async fn who_arrives_is_counted_once_by_what_its_request_says() {
    let site = Site::with("limit = 2").await;
    let mut phone = site.visitor();
    let page = Ask::page("/?utm_source=mail").with("user-agent", IPHONE);
    phone.send(page.clone()).await;
    // Inside already: nothing of it counts again.
    phone.send(page).await;
    phone
        .send(Ask::image("/a.png").with("user-agent", CHROME))
        .await;
    let computer = Ask::page("/")
        .with("user-agent", CHROME)
        .with("sec-ch-ua-platform", "\"macOS\"")
        .with("referer", "https://www.google.com/");
    site.visitor().send(computer).await;
    site.until_busy().await;
    // A place is an arrival; a poll of it is none.
    let mut third = site.visitor();
    let page = Ask::page("/").with("referer", "http://shop.example/before");
    assert_eq!(third.send(page.clone()).await.status, 503);
    assert_eq!(third.send(page).await.status, 503);
    // Who brings a browser's cookies without a place, and no page, arrives nowhere.
    site.visitor().send(Ask::image("/b.png")).await;
    for (sort, expected) in [
        ("visit", &[("new", 3)][..]),
        ("access", &[("browser", 2), ("other", 1)]),
        ("source", &[("campaign", 1), ("search", 1), ("internal", 1)]),
        ("device", &[("mobile", 1), ("desktop", 1), ("other", 1)]),
        ("os", &[("ios", 1), ("macos", 1), ("other", 1)]),
        ("browser", &[("safari", 1), ("chrome", 1), ("other", 1)]),
    ] {
        assert_eq!(arrivals(&site, sort).await, counts(expected), "{sort}");
    }
}

#[tokio::test]
async fn calls_of_the_api_arrive_too_and_a_key_tells_of_a_server() {
    let secret = "0123456789abcdef";
    let keys = format!("[api]\nkeys = [{{ id = \"shop\", secret = {secret:?} }}]");
    let site = Plan::event("").tables(&keys).open().await;
    let enter = Ask::fetch("/__sumun/v1/enter").method(Method::POST);
    let by_page = enter.clone().body(r#"{"eventId":"main"}"#);
    let by_page = by_page.with("user-agent", CHROME);
    assert_eq!(site.visitor().send(by_page).await.status, 200);
    let by_server = enter
        .body(r#"{"eventId":"main","id":"one"}"#)
        .with("authorization", &format!("Bearer {secret}"))
        .with("user-agent", "Java/17.0.2");
    // The same id again has its session: it does not arrive twice.
    assert_eq!(site.visitor().send(by_server.clone()).await.status, 200);
    assert_eq!(site.visitor().send(by_server).await.status, 200);
    let expected = counts(&[("api", 1), ("browser", 1)]);
    assert_eq!(arrivals(&site, "access").await, expected);
}

#[tokio::test]
async fn who_comes_back_with_what_is_over_goes_on_under_the_same_name() {
    let site = Site::with("").await;
    let mut visitor = site.visitor_inside().await;
    let name = visitor.pass().visitor;
    let first = visitor.pass().session;
    let done = Ask::fetch("/__sumun/v1/complete").method(Method::POST);
    let done = done.body(r#"{"eventId":"main"}"#);
    let cookies = visitor.cookies.clone();
    assert_eq!(visitor.send(done).await.status, 200);
    // The answer takes the cookie away; a browser that was closed meanwhile has it still.
    visitor.cookies = cookies;
    until("another session", async || {
        let answer = visitor.send(Ask::page("/")).await;
        assert!(answer.is_from_origin());
        (visitor.pass().session != first).then_some(())
    })
    .await;
    assert_eq!(visitor.pass().visitor, name);
    let expected = counts(&[("new", 1), ("returning", 1)]);
    assert_eq!(arrivals(&site, "visit").await, expected);
}

#[tokio::test]
async fn what_a_hostile_request_says_is_no_words_of_a_metric() {
    let site = Site::with("").await;
    let long = format!("<script>alert(1)</script>{}", "x".repeat(6000));
    for text in [long.as_str(), "=cmd|'/c calc'!A1", "a\"} 1\tb"] {
        let ask = Ask::page("/?utm_source=%3Cscript%3E")
            .with("user-agent", text)
            .with("referer", text)
            .with("sec-ch-ua", text)
            .with("sec-ch-ua-platform", text)
            .with("sec-ch-ua-mobile", text);
        assert!(site.visitor().send(ask).await.is_from_origin());
    }
    let expected = counts(&[("other", 3)]);
    for sort in ["access", "device", "os", "browser"] {
        assert_eq!(arrivals(&site, sort).await, expected, "{sort}");
    }
    let text = metrics(&site).await;
    for word in ["<script", "calc", "xxxx"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn nothing_is_counted_where_nobody_asks() {
    let off = Plan::event("").tables("[visitor]\nstatistics = false");
    let mut site = off.open().await;
    site.visitor_inside().await;
    assert_eq!(arrivals(&site, "visit").await, counts(&[]));
    site.rewrite(Plan::event("")).await;
    until("statistics after a reload", async || {
        site.visitor_inside().await;
        (!arrivals(&site, "visit").await.is_empty()).then_some(())
    })
    .await;
}
