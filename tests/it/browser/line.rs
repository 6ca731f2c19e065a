//! The line as a browser goes through it: to the door, through reloads, tabs,
//! forms and faults, and in.

use std::fmt::Write as _;

use fantoccini::Locator;
use http::Method;
use serde_json::Value;

use super::driver::{Browser, ENGLISH, Manner};
use super::{Shop, complete};
use crate::support::{Ask, Visitor, until};

#[tokio::test]
async fn a_browser_waits_at_its_address_and_enters_there_by_itself() {
    let shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser
        .go(&shop.url("/start?to=/tickets?seat=7%23row"))
        .await;
    let referrer = browser.url().await;
    browser.click("link").await;
    browser.says("heading", "You are in line").await;
    browser.says("place", "1").await;
    assert_eq!(browser.client.title().await.unwrap(), "(1) Spring sale");
    assert_eq!(
        browser.evaluate("document.documentElement.lang").await,
        "en"
    );
    let here = shop.url("/tickets?seat=7#row");
    assert_eq!(browser.url().await, here);
    assert_eq!(browser.evaluate("document.referrer").await, *referrer);
    assert!(shop.asked_for("/tickets?seat=7").is_empty());

    complete(&mut other).await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, here);
    let visits = shop.asked_for("/tickets?seat=7");
    let [visit] = visits.as_slice() else {
        panic!("one visit: {visits:?}")
    };
    assert_eq!(visit.method, Method::GET);
    // The site learns where the visitor came from, as if there had been no line.
    assert_eq!(visit.header("referer"), Some(&*referrer));
    assert_eq!(browser.evaluate("document.referrer").await, *referrer);
    // The waiting left nothing in the history: one step back is the link.
    browser.client.back().await.unwrap();
    browser.says("link", "to the tickets").await;
    browser.close().await;
}

#[tokio::test]
async fn a_korean_browser_reads_korean() {
    let shop = Shop::open("").await;
    let _other = shop.filled_by_another().await;
    let browser = Browser::open(Manner {
        languages: "ko-KR,ko",
        ..ENGLISH
    })
    .await;
    browser.go(&shop.url("/tickets")).await;
    browser.says("heading", "접속 대기 중입니다").await;
    assert_eq!(
        browser.evaluate("document.documentElement.lang").await,
        "ko"
    );
    assert_eq!(browser.client.title().await.unwrap(), "(1) Spring sale");
    browser.close().await;
}

#[tokio::test]
async fn what_the_operator_says_is_on_the_open_page_at_its_next_poll() {
    let shop = Shop::open("").await;
    let _other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&shop.url("/tickets")).await;
    browser.says("place", "1").await;
    assert_eq!(browser.text("said").await, None, "nothing is said yet");
    browser
        .client
        .execute("window.same = 1", vec![])
        .await
        .unwrap();
    let say = async |text: &str| {
        let ask = Ask::fetch("/v1/events/main/message").method(Method::PUT);
        let ask = ask.with("host", "localhost");
        let ask = ask.with("content-type", "application/json");
        let body = serde_json::json!({ "message": text }).to_string();
        let answer = Visitor::at(shop.site.admin).send(ask.body(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let text = "Back at <b>12:00</b> & not before";
    say(text).await;
    browser.says("message", text).await;
    // Who does not see the page hears it.
    assert_eq!(
        browser
            .evaluate("document.getElementById('live').textContent")
            .await,
        text
    );
    say("").await;
    until("nothing is said any more", async || {
        browser.text("said").await.is_none().then_some(())
    })
    .await;
    assert_eq!(
        browser.evaluate("window.same").await,
        1,
        "one and the same page"
    );
    browser.close().await;
}

#[tokio::test]
async fn a_reload_and_a_second_tab_keep_the_place_and_both_enter() {
    let shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&shop.url("/tickets?tab=1")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;
    assert_eq!(browser.number_in_cookie().await, place);

    browser.client.refresh().await.unwrap();
    browser.says("place", "1").await;
    assert_eq!(browser.number_on_page().await, place);

    let first = browser.client.window().await.unwrap();
    let second = browser.client.new_window(true).await.unwrap().handle;
    browser
        .client
        .switch_to_window(second.clone())
        .await
        .unwrap();
    browser.go(&shop.url("/tickets?tab=2")).await;
    browser.says("place", "1").await;
    assert_eq!(browser.number_on_page().await, place);
    assert_eq!(browser.number_in_cookie().await, place);
    // Nobody stands behind: the second tab took no place of its own.
    browser.says("behind", "0").await;

    complete(&mut other).await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, shop.url("/tickets?tab=2"));
    browser.client.switch_to_window(first).await.unwrap();
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, shop.url("/tickets?tab=1"));
    browser.close().await;
}

#[tokio::test]
async fn the_page_outlives_cut_connections_foreign_errors_and_a_restart() {
    let mut shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&shop.url("/tickets?seat=7")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;

    shop.close().await;
    // Cut off; a load balancer's error page; our own "ask again".
    shop.answer_instead(1, b"").await;
    let interrupted = "The connection is interrupted. Your place is kept; trying again.";
    browser.says("note", interrupted).await;
    let page = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 13\r\ncontent-type: text/html\r\n\
                 connection: close\r\n\r\n<h1>502</h1>\n";
    shop.answer_instead(1, page).await;
    let mut away =
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n".to_owned();
    let problem = r#"{"type":"urn:sumun:away","status":503,"detail":"","field":null}"#;
    let _ = write!(
        away,
        "content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    shop.answer_instead(1, away.as_bytes()).await;
    assert_eq!(browser.text("place").await.as_deref(), Some("1"));

    shop.open_again().await;
    until("the page's connection", async || {
        browser.text("note").await.is_none().then_some(())
    })
    .await;
    assert_eq!(browser.text("place").await.as_deref(), Some("1"));
    assert_eq!(browser.number_in_cookie().await, place);
    assert!(shop.asked_for("/tickets?seat=7").is_empty());
    complete(&mut other).await;
    browser.is_inside("/tickets").await;
    browser.close().await;
}

#[tokio::test]
async fn a_form_sent_while_busy_is_said_to_be_unsent_and_is_never_sent_again() {
    let shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&shop.url("/form")).await;
    browser.click("send").await;
    until("the word that the form was not sent", async || {
        let box_of = Locator::Css(".warn h2");
        let said = browser.client.find(box_of).await.ok()?.text().await.ok()?;
        (said == "Your form was not sent").then_some(())
    })
    .await;
    assert_eq!(browser.url().await, shop.url("/order"));
    complete(&mut other).await;
    browser.is_inside("/order").await;
    let methods: Vec<Method> = shop
        .asked_for("/order")
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(methods, [Method::GET]);
    // Back is the form, to be sent again by the visitor.
    browser.client.back().await.unwrap();
    browser.says("send", "Order").await;
    browser.close().await;
}

#[tokio::test]
async fn without_script_the_page_refreshes_itself_and_gets_in() {
    let shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(Manner {
        script: false,
        ..ENGLISH
    })
    .await;
    browser.go(&shop.url("/tickets?seat=7")).await;
    browser.says("place", "1").await;
    let place = browser.number_on_page().await;
    let notice = browser.client.find(Locator::Css("footer noscript p"));
    let notice = notice.await.unwrap().text().await.unwrap();
    assert!(notice.contains("seconds"), "{notice:?}");
    assert_eq!(browser.number_in_cookie().await, place);
    complete(&mut other).await;
    browser.is_inside("/tickets").await;
    assert_eq!(browser.url().await, shop.url("/tickets?seat=7"));
    browser.close().await;
}

#[tokio::test]
async fn a_place_to_wait_leads_to_the_path_that_was_asked_for() {
    let shop = Shop::open("").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    let wait = shop.url("/__sumun/wait?event=main&return=/done%3Fa%3D1%26b%3D2");
    browser.go(&wait).await;
    browser.says("place", "1").await;
    assert_eq!(browser.url().await, wait);
    complete(&mut other).await;
    browser.is_inside("/done").await;
    assert_eq!(browser.url().await, shop.url("/done?a=1&b=2"));
    // Who is inside is sent on at once.
    browser.go(&wait).await;
    browser.is_inside("/done").await;
    browser.close().await;
}

#[tokio::test]
async fn the_waiting_page_asks_nobody_else_and_the_console_stays_empty() {
    let shop = Shop::open("waiting_status = 200").await;
    let mut other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    browser.go(&shop.url("/tickets")).await;
    browser.says("place", "1").await;
    complete(&mut other).await;
    browser.is_inside("/tickets").await;
    // Errors, refusals by the policy, and warnings all stand in this log.
    let said = browser.log("browser").await;
    assert!(said.is_empty(), "{said:#?}");
    let mut polls = 0;
    for entry in browser.log("performance").await {
        let text = entry["message"].as_str().unwrap();
        let event: Value = serde_json::from_str(text).unwrap();
        if event["message"]["method"] != "Network.requestWillBeSent" {
            continue;
        }
        let request = &event["message"]["params"];
        // The browser's own new tab, before the page.
        if request["documentURL"]
            .as_str()
            .unwrap()
            .starts_with("chrome:")
        {
            continue;
        }
        let asked = request["request"]["url"].as_str().unwrap();
        polls += usize::from(asked == shop.url("/__sumun/v1/status"));
        let ours = asked.starts_with(&shop.url("/"));
        // Neither leaves the browser: the empty icon, and the timer's worker.
        let inside = asked.starts_with("data:,") || asked.starts_with("blob:");
        assert!(ours || inside, "{asked}");
    }
    assert!(polls > 0, "the page has polled");
    browser.close().await;
}
