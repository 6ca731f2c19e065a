//! Sessions and their passes: whom they serve, what renews them, and what the
//! origin may say of them.

use sumun::token::Token;

use super::every_kind;
use crate::support::{Ask, ByHand, Plan, Reply, Site, Visitor, completes_at_done, until};

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
    site.origin.answers(completes_at_done);
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
    hand.origin.answers(completes_at_done);
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
