//! The table of DESIGN §5: who is forwarded, who waits, who is refused, by
//! kind of client, by what it holds and by how the event stands.

use http::Method;
use sumun::token::Token;

use crate::support::{Answer, Ask, ByHand, Plan, Reply, Seen, Site, Visitor, until};

/// One request of each kind.
fn every_kind() -> [(&'static str, Ask); 8] {
    [
        ("preflight", Ask::preflight("/x")),
        ("prefetch", Ask::prefetch("/x")),
        ("upgrade", Ask::upgrade("/x")),
        ("crawler", Ask::crawler("/x")),
        ("navigation", Ask::page("/x")),
        ("form", Ask::form("/x", "a=1")),
        ("api", Ask::fetch("/x")),
        ("subresource", Ask::image("/x")),
    ]
}

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
    site.origin.answers(|seen| completes_at("/done", seen));
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

fn completes_at(path: &str, seen: &Seen) -> Reply {
    if seen.target == path {
        Reply::page().with("sumun-session", "complete")
    } else {
        Reply::page()
    }
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
        let text = site.running.reception.metrics.render();
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

const NESTED: &str = "[[event]]\nid = \"sale\"\npaths = [\"/sale\"]\nlimit = 1";

#[tokio::test]
async fn a_pass_of_a_neighbour_serves_what_is_no_navigation() {
    let site = Plan::event("mode = \"closed\"").tables(NESTED).open().await;
    let mut visitor = site.visitor();
    visitor.open("/sale/").await.must_come_from_the_origin();
    for (kind, ask) in every_kind() {
        let answer = visitor.send(ask).await;
        let navigates = ["navigation", "form"].contains(&kind);
        assert_eq!(answer.is_from_origin(), !navigates, "{kind}: {answer:?}");
    }
    let mut elsewhere = visitor.clone().host("other.example");
    let answer = elsewhere.send(Ask::image("/x")).await;
    assert_eq!(answer.status, 503, "a pass of another cookie scope");
}

#[tokio::test]
async fn a_pass_past_its_time_is_asked_for_and_renewed_while_its_session_lives() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let mut pass = visitor.pass();
    pass.issued_at -= 600;
    pass.expires -= 600;
    visitor.hold(&Token::Pass(pass.clone()));
    let answer = visitor.open("/").await;
    answer.must_come_from_the_origin();
    assert_eq!(answer.our_cookies().len(), 1, "renewed");
    let renewed = visitor.pass();
    assert_eq!(renewed.session, pass.session);
    assert!(renewed.expires >= pass.expires + 600);
}

#[tokio::test]
async fn a_pass_past_its_time_is_asked_of_the_store_by_a_gateway_that_does_not_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = Plan::event("limit = 1").state(dir.path()).open().await;
    let mut visitor = site.filled_by_one().await;
    let mut pass = visitor.pass();
    pass.expires -= 600;
    let site = site.restarted().await;
    site.until("the end of the recovery", |v| {
        v.snapshot.meta.recovery.is_none()
    })
    .await;
    visitor = visitor.moved_to(site.door);
    visitor.hold(&Token::Pass(pass.clone()));
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(visitor.pass().session, pass.session);
    assert!(visitor.pass().expires > pass.expires);
}

#[tokio::test]
async fn a_pass_past_its_time_without_its_session_is_nothing() {
    let site = Site::with("limit = 1").await;
    let mut pass = site.filled_by_one().await.pass();
    pass.expires -= 600;
    pass.session.0[0] ^= 1;
    let mut visitor = site.visitor();
    visitor.hold(&Token::Pass(pass));
    visitor.open("/").await.must_be_a_waiting_page();
}

async fn completed(site: &Site) -> Visitor {
    site.origin.answers(|seen| completes_at("/done", seen));
    let mut visitor = site.filled_by_one().await;
    let answer = visitor.open("/done").await;
    assert_eq!(answer.header("sumun-session"), None, "ours stays ours");
    visitor
}

#[tokio::test]
async fn after_complete_the_slot_is_free_and_the_pass_serves_the_last_pages_parts_only() {
    let site = Site::with("limit = 1").await;
    let mut done = completed(&site).await;
    site.until("a free slot", |view| view.snapshot.sessions == 0)
        .await;
    let mut next = site.visitor();
    next.open("/").await.must_come_from_the_origin();
    site.until_busy().await;
    done.send(Ask::image("/thanks.png"))
        .await
        .must_come_from_the_origin();
    done.send(Ask::fetch("/receipt"))
        .await
        .must_come_from_the_origin();
    done.open("/").await.must_be_a_waiting_page();
}

#[tokio::test]
async fn revoke_ends_the_session_too() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    site.origin
        .answers(|_| Reply::page().with("sumun-session", "revoke"));
    visitor.open("/").await.must_come_from_the_origin();
    site.until("nobody inside", |view| view.snapshot.sessions == 0)
        .await;
    site.origin.answers(|_| Reply::page());
    let session = visitor.pass().session;
    visitor.open("/").await.must_come_from_the_origin();
    assert_ne!(visitor.pass().session, session, "a session of its own");
}

#[tokio::test]
async fn extend_keeps_a_session_but_never_beyond_session_max() {
    let site = Site::with("session_idle = \"1m\"\nsession_max = \"30m\"").await;
    let mut visitor = site.visitor_inside().await;
    for (seconds, at_least, at_most) in [("600", 595, 610), ("99999999", 1795, 1801)] {
        let value = format!("extend={seconds}");
        site.origin
            .answers(move |_| Reply::page().with("sumun-session", &value));
        visitor.open("/").await.must_come_from_the_origin();
        let pass = visitor.pass();
        let kept = pass.expires - pass.begun;
        assert!((at_least..=at_most).contains(&kept), "{seconds}: {kept}");
    }
}

#[tokio::test]
async fn what_the_origin_says_of_a_session_is_not_believed_of_a_shared_answer() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let shared = [
        ("age", "10"),
        ("cache-control", "public, max-age=60"),
        ("cache-control", "s-maxage=60"),
    ];
    for (name, value) in shared {
        site.origin.answers(move |_| {
            Reply::page()
                .with("sumun-session", "complete")
                .with(name, value)
        });
        let answer = visitor.open("/").await;
        answer.must_come_from_the_origin();
        assert_eq!(answer.header("sumun-session"), None, "{value}");
    }
    site.origin.answers(|_| Reply::page());
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(site.view().snapshot.sessions, 1);
}

#[tokio::test]
async fn sumun_session_is_taken_off_every_answer() {
    let site = Plan::event("limit = 5\npaths = [\"/shop\"]\nexclude = [\"/shop/open\"]")
        .open()
        .await;
    site.origin
        .answers(|_| Reply::page().with("sumun-session", "complete"));
    for path in ["/elsewhere", "/shop", "/shop/open"] {
        for ask in [Ask::page(path), Ask::image(path)] {
            let answer = site.visitor().send(ask).await;
            answer.must_come_from_the_origin();
            assert_eq!(answer.header("sumun-session"), None, "{path}");
        }
    }
}

#[tokio::test]
async fn a_session_completed_elsewhere_is_known_to_have_ended_within_a_moment() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let ledger = site.ledger();
    ledger.desk.end(visitor.pass().session).await.unwrap();
    let session = visitor.pass().session;
    until("the end", async || {
        visitor.open("/").await;
        let now = visitor.cookies.get("sumun_main")?;
        let pass = sumun::token::Verdict::Good(Token::Pass(visitor.pass()));
        (crate::support::ring(&["a"]).verify(now) == pass && visitor.pass().session != session)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn half_a_minute_after_complete_a_pass_serves_nothing_any_more() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(|seen| completes_at("/done", seen));
    let mut done = hand.visitor_inside().await;
    hand.pass_seconds(1).await;
    done.open("/done").await.must_come_from_the_origin();
    let mut next = hand.visitor_inside().await;
    for seconds in [1, 24] {
        hand.pass_seconds(seconds).await;
        next.open("/").await.must_come_from_the_origin();
        let answer = done.send(Ask::image("/thanks.png")).await;
        answer.must_come_from_the_origin();
        assert_eq!(
            answer.our_cookies().len(),
            0,
            "a pass that is over is not renewed"
        );
    }
    hand.pass_seconds(10).await;
    assert_eq!(done.send(Ask::image("/thanks.png")).await.status, 503);
    done.open("/").await.must_be_a_waiting_page();
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
async fn of_a_pass_and_a_ticket_the_pass_counts() {
    let site = Site::with("limit = 1").await;
    let inside = site.filled_by_one().await;
    let waiting = site.visitor_in_line().await;
    for (first, second) in [(&inside, &waiting), (&waiting, &inside)] {
        let both = format!(
            "sumun_main={}; __Host-sumun_main={}",
            first.token(),
            second.token()
        );
        let answer = site
            .visitor()
            .send(Ask::page("/").with("cookie", &both))
            .await;
        answer.must_come_from_the_origin();
    }
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
async fn a_request_while_the_origin_is_gone_costs_nobody_their_session() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let session = visitor.pass().session;
    site.origin.answers(|_| Reply::page().status(503));
    assert_eq!(visitor.open("/").await.status, 503);
    site.origin.answers(|_| Reply::page());
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(visitor.pass().session, session);
}
