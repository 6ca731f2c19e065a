//! The table of `room::decision` at the front door: who is forwarded, who
//! waits, who is refused, by kind of client, by what it holds and by how the
//! event stands.

use http::Method;

use super::every_kind;
use crate::support::{Answer, Ask, Plan, Reply, Site, completes_at_done, exchange, until};

#[track_caller]
fn must_be_busy(kind: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{kind}");
    assert!(answer.headers.contains_key("retry-after"), "{kind}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{kind}");
    assert_eq!(answer.header("sumun-status"), Some("wait"), "{kind}");
    assert_eq!(answer.header("set-cookie"), None, "{kind}");
}

#[tokio::test]
async fn a_pass_of_any_kind_is_forwarded_while_it_is_calm_busy_and_closed() {
    let mut site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    for mode in ["auto", "queue", "closed"] {
        site.change(&format!("limit = 1\nmode = {mode:?}")).await;
        for (kind, ask) in every_kind() {
            let answer = visitor.send(ask).await;
            assert!(answer.is_from_origin(), "{kind} {mode}: {answer:?}");
            let session = site
                .origin
                .last()
                .header("sumun-session")
                .map(str::to_owned);
            let own = visitor.pass().session.to_string();
            assert_eq!(session, Some(own), "{kind} {mode}");
        }
    }
}

#[tokio::test]
async fn without_a_pass_everybody_but_navigations_is_forwarded_unsessioned_while_it_is_calm() {
    let site = Site::with("limit = 5").await;
    for (kind, ask) in every_kind() {
        let answer = site.visitor().send(ask).await;
        assert!(answer.is_from_origin(), "{kind}: {answer:?}");
        let navigates = ["navigation", "form"].contains(&kind);
        let seen = site.origin.last();
        assert_eq!(seen.header("sumun-session").is_some(), navigates, "{kind}");
        assert_eq!(seen.header("sumun-client"), Some(kind));
        assert_eq!(answer.our_cookies().len(), usize::from(navigates), "{kind}");
    }
    let two = |view: &sumun::ledger::View| view.snapshot.sessions == 2;
    site.until("two sessions", two).await;
}

#[tokio::test]
async fn without_a_pass_each_kind_is_refused_in_its_own_way_while_it_is_busy() {
    let site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    let before = site.origin.seen().len();
    for kind in ["prefetch", "upgrade", "crawler", "subresource"] {
        let ask = every_kind().into_iter().find(|(name, _)| *name == kind);
        let answer = site.visitor().send(ask.unwrap().1).await;
        must_be_busy(kind, &answer);
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("text/plain")
        );
        assert!(answer.body.len() < 100, "{kind}");
    }
    assert_eq!(site.origin.seen().len(), before);
    assert_eq!(
        site.view().snapshot.meta.issued,
        site.view().snapshot.meta.called
    );
}

#[tokio::test]
async fn a_script_is_told_as_a_problem_document_where_to_send_its_visitor() {
    let plan = Plan::event("limit = 1").tables("[api]\ncors_origins = [\"https://app.example\"]");
    let site = plan.open().await;
    let _inside = site.filled_by_one().await;
    let ask = Ask::fetch("/cart?x=1&y=2").with("origin", "https://app.example");
    let answer = site.visitor().send(ask).await;
    must_be_busy("api", &answer);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["eventId"], "main");
    assert_eq!(problem["queueStatus"], "WAIT");
    assert_eq!(
        problem["waitUrl"],
        "/__sumun/wait?event=main&return=%2Fcart%3Fx%3D1%26y%3D2"
    );
    assert!(problem["pollAfterMs"].as_u64().unwrap() >= 1000);
    assert!(problem["type"].is_string());
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let stranger = Ask::fetch("/cart").with("origin", "https://evil.example");
    let answer = site.visitor().send(stranger).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_preflight_is_forwarded_uncounted_even_while_it_is_busy_and_closed() {
    let mut site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    for mode in ["auto", "closed"] {
        site.change(&format!("limit = 1\nmode = {mode:?}")).await;
        let answer = site.visitor().send(Ask::preflight("/api")).await;
        answer.must_come_from_the_origin();
        assert_eq!(site.origin.last().header("sumun-session"), None);
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_navigation_without_credential_walks_in_while_it_is_calm_and_waits_while_it_is_busy() {
    let site = Site::with("limit = 1").await;
    let inside = site.filled_by_one().await;
    assert_eq!(inside.pass().event.as_str(), "main");
    let mut late = site.visitor();
    let answer = late.open("/sale").await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.position(), 1);
    assert_eq!(late.ticket().event.as_str(), "main");
}

#[tokio::test]
async fn a_navigation_with_a_ticket_keeps_its_place_and_enters_when_called() {
    let site = Site::with("limit = 1").await;
    site.origin.answers(completes_at_done);
    let mut first = site.filled_by_one().await;
    let mut second = site.visitor_in_line().await;
    let number = second.ticket().number;
    second.open("/").await.must_be_a_waiting_page();
    assert_eq!(second.ticket().number, number);
    first.open("/done").await.must_come_from_the_origin();
    second.open_until_inside("/").await;
    second
        .send(Ask::fetch("/api"))
        .await
        .must_come_from_the_origin();
}

#[tokio::test]
async fn a_form_without_a_pass_is_forwarded_whole_while_it_is_calm() {
    let site = Site::with("limit = 5").await;
    let mut visitor = site.visitor();
    let answer = visitor.send(Ask::form("/pay", "amount=1")).await;
    answer.must_come_from_the_origin();
    let seen = site.origin.last();
    assert_eq!(
        (seen.method, &seen.body[..]),
        (Method::POST, &b"amount=1"[..])
    );
    assert_eq!(
        seen.headers["sumun-session"],
        visitor.pass().session.to_string()
    );
}

#[tokio::test]
async fn a_form_without_a_pass_is_told_that_it_was_not_sent_and_enters_by_get() {
    let site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    let before = site.origin.seen().len();
    let mut visitor = site.visitor();
    let ask = Ask::form("/pay?step=2", "amount=1").with("accept-language", "en");
    let answer = visitor.send(ask).await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.data()["enter"], "/pay?step=2");
    assert!(answer.text().contains("not sent"), "{}", answer.text());
    assert!(!answer.text().contains("amount=1"));
    assert_eq!(site.origin.seen().len(), before);
}

#[tokio::test]
async fn a_form_that_a_bank_sends_back_comes_through_with_its_pass_while_it_is_busy() {
    let site = Site::with("limit = 1").await;
    let mut customer = site.filled_by_one().await;
    let ask = Ask::form("/pay/return", "paid=1")
        .with("sec-fetch-site", "cross-site")
        .with("origin", "https://bank.example");
    customer.send(ask).await.must_come_from_the_origin();
    let seen = site.origin.last();
    assert_eq!(
        (seen.method, &seen.body[..]),
        (Method::POST, &b"paid=1"[..])
    );
    assert_eq!(
        seen.headers["sumun-session"],
        customer.pass().session.to_string()
    );
}

#[tokio::test]
async fn an_origin_that_is_silent_is_504_with_a_page_of_ours_and_counted_by_kind() {
    let plan = Plan::event("limit = 5").tables("[timeouts]\nfirst_byte = \"200ms\"");
    let site = plan.open().await;
    let (_never, gate) = tokio::sync::watch::channel(false);
    site.origin.answers(move |_| Reply::page().behind(&gate));
    let ask = Ask::page("/slow").with("accept-language", "en");
    let answer = site.visitor().send(ask).await;
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("<html"), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = site.visitor().send(Ask::fetch("/slow")).await;
    assert_eq!(answer.status, 504);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let counted = "sumun_origin_failures_total{kind=\"first_byte_timeout\"} 2";
    until("both are counted", async || {
        let text = site.server.running.reception.metrics.render();
        text.lines().any(|line| line == counted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn crawlers_are_forwarded_while_it_is_busy_if_the_operator_allows_it() {
    let site = Site::with("limit = 1\ncrawlers = \"allow\"").await;
    let _inside = site.filled_by_one().await;
    let answer = site.visitor().send(Ask::crawler("/")).await;
    answer.must_come_from_the_origin();
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(site.origin.last().header("sumun-session"), None);
}

#[tokio::test]
async fn while_the_gate_is_closed_everybody_without_a_pass_is_turned_away() {
    let site = Site::with("limit = 5\nmode = \"closed\"\nmessage = \"Sold out\"").await;
    for (kind, ask) in every_kind() {
        let answer = site.visitor().send(ask).await;
        if kind == "preflight" {
            answer.must_come_from_the_origin();
            continue;
        }
        assert_eq!(answer.status, 503, "{kind}");
        assert_eq!(answer.header("set-cookie"), None, "{kind}");
        assert!(answer.headers.contains_key("retry-after"), "{kind}");
        let navigates = ["navigation", "form"].contains(&kind);
        assert_eq!(answer.text().contains("Sold out"), navigates, "{kind}");
        if navigates {
            assert_eq!(answer.header("sumun-status"), Some("block"));
        }
    }
}

#[tokio::test]
async fn a_ticket_stays_valid_while_the_gate_is_closed() {
    let mut site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    let mut waiting = site.visitor_in_line().await;
    let number = waiting.ticket().number;
    site.change("limit = 1\nmode = \"closed\"").await;
    let answer = waiting.open("/").await;
    assert_eq!(answer.header("sumun-status"), Some("block"));
    assert_eq!(answer.header("set-cookie"), None);
    site.change("limit = 2").await;
    waiting.open_until_inside("/").await;
    assert!(waiting.pass().begun >= waiting.pass().issued_at.saturating_sub(30));
    assert!(site.view().snapshot.meta.called > number);
}

#[tokio::test]
async fn a_form_of_somebody_in_line_is_not_sent_and_keeps_the_place() {
    let site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    let mut waiting = site.visitor_in_line().await;
    let number = waiting.ticket().number;
    let before = site.origin.seen().len();
    let answer = waiting.send(Ask::form("/pay", "amount=1")).await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.data()["enter"], "/pay");
    assert_eq!(waiting.ticket().number, number);
    assert_eq!(site.origin.seen().len(), before);
}

#[tokio::test]
async fn what_is_ours_never_reaches_the_origin_in_any_spelling() {
    let site = Site::with("limit = 1").await;
    for path in [
        "/__sumun/v1/x",
        "/%5f_sumun/x",
        "/a/../__sumun/x",
        "//__sumun/x",
        "/__sumun",
    ] {
        let answer = site.visitor().send(Ask::page(path)).await;
        assert!(!answer.is_from_origin(), "{path}");
    }
    assert_eq!(site.origin.seen().len(), 0);
    site.visitor()
        .open("/__sumunx")
        .await
        .must_come_from_the_origin();
}

#[tokio::test]
async fn a_target_of_which_nothing_is_left_is_the_front_page() {
    let site = Site::with("limit = 5").await;
    // Behind another request in one piece; hyper cuts fragments off.
    let request = "GET /first HTTP/1.1\r\nhost: shop.example\r\n\r\n\
         GET http://shop.example#x HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
    let answer = exchange(site.door, request).await;
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    let targets: Vec<String> = site.origin.seen().into_iter().map(|s| s.target).collect();
    assert_eq!(targets, ["/first", "/"]);
}
