//! Tokens: which are worth nothing, and what rotating keys keeps.

use sumun::room::ticket::Number;
use sumun::token::{Pass, Ticket, Token};

use crate::support::{Answer, Ask, Plan, Site, Visitor, ring};

/// A visitor inside, one in line, and no free slot.
async fn full(site: &Site) -> (Visitor, Visitor) {
    let inside = site.filled_by_one().await;
    (inside, site.visitor_in_line().await)
}

/// Whether somebody with this cookie is a newcomer who takes a place.
async fn is_nothing(site: &Site, text: &str) -> bool {
    let mut visitor = site.visitor().holding("sumun_main", text);
    let last = site.view().snapshot.meta.issued;
    let answer = visitor.open("/").await;
    answer.is_waiting_page() && visitor.ticket().number >= last
}

#[tokio::test]
async fn tokens_that_are_forged_or_damaged_are_nothing() {
    let site = Site::with("limit = 1").await;
    let (inside, waiting) = full(&site).await;
    for token in [inside.token(), waiting.token()] {
        let (head, rest) = token.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        let swapped = if signature.starts_with('A') { "B" } else { "A" };
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiYSJ9";
        for forged in [
            format!("{head}.{claims}.{swapped}{}", &signature[1..]),
            format!("{head}.{claims}."),
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{signature}"),
            format!("{head}.{claims}"),
            String::from("x"),
            "y".repeat(5000),
        ] {
            assert!(is_nothing(&site, &forged).await, "{forged}");
        }
    }
}

#[tokio::test]
async fn passes_of_another_time_event_or_scope_are_nothing() {
    let site = Plan::event("limit = 1")
        .tables("[[event]]\nid = \"sale\"\npaths = [\"/sale\"]")
        .open()
        .await;
    let (inside, _) = full(&site).await;
    let pass = inside.pass();
    let unknown = sumun::room::ticket::SessionKey([7; 16]);
    let event = |id: &str| id.parse().unwrap();
    for (what, wrong) in [
        (
            "expired, of no session",
            Pass {
                expires: pass.expires - 900,
                session: unknown,
                ..pass.clone()
            },
        ),
        (
            "another event",
            Pass {
                event: event("sale"),
                ..pass.clone()
            },
        ),
        (
            "an event that is not there",
            Pass {
                event: event("gone"),
                ..pass.clone()
            },
        ),
        (
            "another scope",
            Pass {
                scope: Some("other.example".into()),
                ..pass.clone()
            },
        ),
        (
            "got by API, in a cookie",
            Pass {
                scope: None,
                ..pass.clone()
            },
        ),
    ] {
        let text = ring(&["a"]).sign(&Token::Pass(wrong), &[]).unwrap();
        assert!(is_nothing(&site, &text).await, "{what}");
    }
}

#[tokio::test]
async fn tickets_of_another_time_event_scope_or_generation_are_nothing() {
    let site = Site::with("limit = 1").await;
    let (_inside, waiting) = full(&site).await;
    let ticket = waiting.ticket();
    let generation = sumun::room::ticket::Generation(ticket.generation.0 + 1);
    let horizon = Number(ticket.number.0 + (90 << 20));
    for (what, wrong) in [
        (
            "expired",
            Ticket {
                expires: ticket.issued_at - 1,
                ..ticket.clone()
            },
        ),
        (
            "another event",
            Ticket {
                event: "sale".parse().unwrap(),
                ..ticket.clone()
            },
        ),
        (
            "another scope",
            Ticket {
                scope: Some("other.example".into()),
                ..ticket.clone()
            },
        ),
        (
            "another generation",
            Ticket {
                generation,
                ..ticket.clone()
            },
        ),
        (
            "a number of the future",
            Ticket {
                number: horizon,
                ..ticket.clone()
            },
        ),
        (
            "an absurd number",
            Ticket {
                number: Number((1 << 53) - 1),
                ..ticket.clone()
            },
        ),
    ] {
        let text = ring(&["a"]).sign(&Token::Ticket(wrong), &[]).unwrap();
        assert!(is_nothing(&site, &text).await, "{what}");
    }
    let highest = site.view().snapshot.meta.issued;
    assert!(highest < horizon, "an absurd number moved the numbering");
}

#[tokio::test]
async fn a_ticket_is_never_a_pass() {
    let site = Site::with("limit = 1").await;
    let (_inside, mut waiting) = full(&site).await;
    for ask in [
        Ask::fetch("/api"),
        Ask::image("/a.png"),
        Ask::upgrade("/ws"),
    ] {
        assert_eq!(waiting.send(ask).await.status, 503);
    }
    waiting.open("/").await.must_be_a_waiting_page();
}

#[track_caller]
fn must_ask_to_come_back(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.header("set-cookie"), None, "the cookie must survive");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_token_of_a_key_that_only_another_gateway_knows_is_asked_to_come_back() {
    let site = Site::with("limit = 1").await;
    let (inside, waiting) = full(&site).await;
    for token in [Token::Pass(inside.pass()), Token::Ticket(waiting.ticket())] {
        let text = ring(&["c"]).sign(&token, &[]).unwrap();
        let mut visitor = site.visitor().holding("sumun_main", &text);
        must_ask_to_come_back(&visitor.open("/").await);
        must_ask_to_come_back(&visitor.send(Ask::fetch("/api")).await);
        assert_eq!(visitor.token(), text);
    }
}

#[tokio::test]
async fn key_rotation_keeps_places_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::event("limit = 1").state(dir.path());
    let site = plan.clone().keys(&["a"]).open().await;
    let (inside, waiting) = full(&site).await;
    let site = site.replaced_by(plan.keys(&["b", "a"])).await;
    let mut inside = inside.moved_to(site.door);
    let mut waiting = waiting.moved_to(site.door);
    let (session, number) = (inside.pass().session, waiting.ticket().number);
    inside.open("/").await.must_come_from_the_origin();
    waiting.open("/").await.must_be_a_waiting_page();
    assert_eq!(inside.pass().session, session);
    assert_eq!(waiting.ticket().number, number);
    let renewed = || {
        matches!(
            ring(&["b"]).verify(waiting.token()),
            sumun::token::Verdict::Good(_)
        )
    };
    assert!(renewed(), "signed by the new key");
}

#[tokio::test]
async fn of_two_tickets_the_earlier_place_counts() {
    let site = Site::with("limit = 1").await;
    let (_inside, first) = full(&site).await;
    let second = site.visitor_in_line().await;
    assert!(first.ticket().number < second.ticket().number);
    let both = format!(
        "sumun_main={}; __Host-sumun_main={}",
        second.token(),
        first.token()
    );
    let mut visitor = site.visitor();
    let answer = visitor.send(Ask::page("/").with("cookie", &both)).await;
    answer.must_be_a_waiting_page();
    assert_eq!(visitor.ticket().number, first.ticket().number);
}
