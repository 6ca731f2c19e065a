//! What one session may: one copied cookie is not a thousand browsers.

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::watch;

use crate::support::{Answer, Ask, ByHand, Origin, Plan, Reply, Site, Visitor, until};

/// Requests by these clients, all at once.
async fn all_at_once(clients: Vec<Visitor>, ask: impl Fn() -> Ask) -> Vec<Answer> {
    let each = clients.into_iter().map(|mut client| {
        let ask = ask();
        async move { client.send(ask).await }
    });
    join_all(each).await
}

fn passed(answers: &[Answer]) -> usize {
    answers.iter().filter(|a| a.is_from_origin()).count()
}

/// Holds every request to `/held` until told otherwise.
fn holds(origin: &Origin) -> watch::Sender<bool> {
    let (open, gate) = watch::channel(false);
    origin.answers(move |seen| match seen.target.as_str() {
        "/held" => Reply::page().behind(&gate),
        _ => Reply::page(),
    });
    open
}

/// How many requests were refused for this reason.
fn refused(site: &Site, reason: &str) -> u64 {
    let series = format!("sumun_refusals_total{{reason=\"{reason}\"}} ");
    let text = site.server.running.reception.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("no such reason").parse().unwrap()
}

#[tokio::test]
async fn a_cookie_copied_a_hundred_times_is_one_visitor_and_nobody_else_feels_it() {
    let mut hand = ByHand::with("session_requests_per_second = 3").await;
    let owner = hand.visitor_inside().await;
    let mut other = hand.visitor_inside().await;
    // Entering was the first of thirty; the clock stands still.
    let answers = all_at_once(vec![owner.clone(); 100], || Ask::fetch("/api")).await;
    assert_eq!(passed(&answers), 29);
    for answer in answers.iter().filter(|answer| !answer.is_from_origin()) {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.our_cookies().len(), 0, "the pass is left alone");
    }
    other.open("/").await.must_come_from_the_origin();
    hand.pass_seconds(2).await;
    let answers = all_at_once(vec![owner; 100], || Ask::image("/x")).await;
    assert_eq!(passed(&answers), 6, "three a second");
}

#[tokio::test]
async fn each_kind_of_client_is_told_in_its_own_way_and_the_session_stays() {
    let mut hand = ByHand::with("limit = 5\nsession_requests_per_second = 1").await;
    let mut visitor = hand.visitor_inside().await;
    let session = visitor.pass().session;
    for _ in 0..9 {
        visitor
            .send(Ask::image("/x"))
            .await
            .must_come_from_the_origin();
    }
    let page = visitor
        .send(Ask::page("/").with("accept-language", "en"))
        .await;
    assert_eq!(
        (page.status, page.header("sumun-status")),
        (429, Some("block"))
    );
    assert!(page.text().contains("http-equiv=\"refresh\""), "{page:?}");
    assert!(page.text().contains("Too many requests at once"));
    let form = visitor.send(Ask::form("/x", "a=1")).await;
    assert_eq!(form.status, 429);
    assert!(
        !form.text().contains("http-equiv"),
        "a form is not sent again"
    );
    let script = visitor.send(Ask::fetch("/x")).await;
    assert_eq!(
        script.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(script.json()["type"], "urn:sumun:session-limit");
    assert_eq!(script.json()["status"], 429);
    let image = visitor.send(Ask::image("/x")).await;
    assert_eq!(image.status, 429);
    assert_eq!(image.text(), "Too many requests of one visitor.\n");
    hand.pass_seconds(1).await;
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(visitor.pass().session, session);
    assert_eq!(hand.view().snapshot.sessions, 1);
}

#[tokio::test]
async fn what_a_session_has_in_flight_is_bounded_and_counted_and_changes_by_the_api() {
    let site = Site::with("session_requests_in_flight = 2").await;
    let open = holds(&site.origin);
    let visitor = site.visitor_inside().await;
    let held: Vec<_> = (0..2)
        .map(|_| tokio::spawn(visitor.clone().send_until_answered(Ask::page("/held"))))
        .collect();
    let at_the_origin = || {
        let seen = site.origin.seen();
        seen.iter().filter(|seen| seen.target == "/held").count()
    };
    until("two in flight", async || {
        (at_the_origin() == 2).then_some(())
    })
    .await;
    let mut copy = visitor.clone();
    assert_eq!(copy.send(Ask::fetch("/x")).await.status, 429);
    assert!(refused(&site, "session_requests_in_flight") > 0);
    assert_eq!(refused(&site, "session_requests_per_second"), 0);
    site.visitor_inside().await;

    let patch = Ask::fetch("/v1/events/main")
        .method(http::Method::PATCH)
        .with("content-type", "application/json")
        .with("host", "localhost")
        .body(&json!({ "sessionRequestsInFlight": 3 }).to_string());
    let answer = Visitor::at(site.admin).send(patch).await;
    assert_eq!(answer.json()["sessionRequestsInFlight"], 3);
    until("the third", async || {
        copy.send(Ask::fetch("/x"))
            .await
            .is_from_origin()
            .then_some(())
    })
    .await;

    open.send(true).unwrap();
    for held in held {
        held.await.unwrap().must_come_from_the_origin();
    }
    for _ in 0..5 {
        copy.open("/").await.must_come_from_the_origin();
    }
}

#[tokio::test]
async fn a_pass_lent_to_another_event_is_on_the_same_account() {
    let nested = "[[event]]\nid = \"sale\"\npaths = [\"/sale\"]";
    let plan = Plan::event("session_requests_in_flight = 1").tables(nested);
    let site = plan.open().await;
    let open = holds(&site.origin);
    let mut visitor = site.visitor();
    visitor.open("/sale/").await.must_come_from_the_origin();
    let held = tokio::spawn(visitor.clone().send_until_answered(Ask::image("/held")));
    let at_the_origin = || site.origin.seen().iter().any(|seen| seen.target == "/held");
    until("one in flight", async || at_the_origin().then_some(())).await;
    assert_eq!(visitor.send(Ask::image("/x")).await.status, 429);
    open.send(true).unwrap();
    held.await.unwrap();
    visitor.send_until_answered(Ask::image("/x")).await;
}

#[tokio::test]
async fn a_ticket_copied_a_hundred_times_and_called_is_one_visitor_and_its_turn_is_kept() {
    let mut hand = ByHand::with("limit = 1\nsession_requests_per_second = 1").await;
    hand.origin.answers(crate::support::completes_at_done);
    let mut inside = hand.visitor_inside().await;
    hand.pass_seconds(1).await;
    let ticket = hand.visitor_in_line().await;
    let mut next = hand.visitor_in_line().await;
    inside.open("/done").await.must_come_from_the_origin();
    hand.pass_seconds(1).await;
    let answers = all_at_once(vec![ticket.clone(); 100], || Ask::page("/")).await;
    assert_eq!(passed(&answers), 10);
    hand.pass_seconds(1).await;
    assert_eq!(
        hand.view().snapshot.sessions,
        1,
        "one session for all copies"
    );
    let mut late = ticket;
    late.open("/").await.must_come_from_the_origin();
    next.open("/").await.must_be_a_waiting_page();
}

#[tokio::test]
async fn what_the_operator_lets_through_is_not_bounded() {
    let plan = "limit = 5\nsession_requests_per_second = 1\nexclude = [\"/free\"]";
    let hand = ByHand::with(plan).await;
    let mut visitor = hand.visitor_inside().await;
    for _ in 0..30 {
        visitor.open("/free").await.must_come_from_the_origin();
    }
    visitor.open("/").await.must_come_from_the_origin();
    for mode in ["off", "shadow"] {
        let lines = "session_requests_in_flight = 1\nlimit = 5";
        let mut site = Site::with(lines).await;
        let visitor = site.visitor_inside().await;
        site.change(&format!("{lines}\nmode = {mode:?}")).await;
        let _gate = holds(&site.origin);
        let mut held: Vec<_> = (0..3).map(|_| visitor.clone()).collect();
        let all = join_all(held.iter_mut().map(|copy| copy.begin(Ask::page("/held"))));
        let at_the_origin = async || {
            let seen = site.origin.seen();
            let held = seen.iter().filter(|seen| seen.target == "/held");
            (held.count() == 3).then_some(())
        };
        tokio::select! {
            answers = all => panic!("{mode}: {:?}", answers[0].status()),
            () = until("three in flight", at_the_origin) => {}
        }
    }
}
