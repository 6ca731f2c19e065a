//! Our cookies and headers: where they are set, whom they reach, and what the
//! origin is told.

use sumun::token::{Pass, Token};

use crate::support::{Ask, Plan, Reply, Site, Visitor, ring, until};

const TRUSTED: &str = "trusted_proxies = [\"loopback\"]";

#[tokio::test]
async fn the_cookie_is_set_on_navigations_and_on_answers_that_nobody_stores() {
    let site = Site::with("limit = 5").await;
    let visitor = site.visitor_inside().await;
    let old = aged(&visitor);
    for (control, carries) in [
        ("public, max-age=600", false),
        ("max-age=600", false),
        ("no-cache", false),
        ("private", true),
        ("max-age=5, No-Store", true),
    ] {
        site.origin
            .answers(move |_| Reply::text("x").with("cache-control", control));
        let answer = old.clone().send(Ask::image("/logo.png")).await;
        assert_eq!(!answer.our_cookies().is_empty(), carries, "{control}");
        assert_eq!(answer.header("cache-control"), Some(control));
        let answer = old.clone().open("/").await;
        assert_eq!(answer.our_cookies().len(), 1, "a navigation: {control}");
    }
}

/// The same visitor with a pass that is due to be renewed.
fn aged(visitor: &Visitor) -> Visitor {
    let mut aged = visitor.clone();
    let pass = visitor.pass();
    aged.hold(&Token::Pass(Pass {
        issued_at: pass.issued_at - 3000,
        expires: pass.expires - 3000,
        ..pass
    }));
    aged
}

#[tokio::test]
async fn a_navigation_that_carries_our_cookie_leaves_all_shared_caches() {
    let site = Site::with("limit = 5").await;
    site.origin.answers(|_| {
        Reply::page()
            .with("cache-control", "public, max-age=600, s-maxage=3600")
            .with("surrogate-control", "max-age=3600")
            .with("cdn-cache-control", "max-age=3600")
    });
    let mut visitor = site.visitor();
    let answer = visitor.open("/").await;
    assert_eq!(answer.our_cookies().len(), 1);
    assert_eq!(answer.header("cache-control"), Some("private, max-age=600"));
    assert_eq!(answer.header("surrogate-control"), None);
    assert_eq!(answer.header("cdn-cache-control"), None);
    let again = until("nothing to renew", async || {
        let again = visitor.open("/").await;
        again.our_cookies().is_empty().then_some(again)
    })
    .await;
    let control = again.header("cache-control");
    assert_eq!(control, Some("public, max-age=600, s-maxage=3600"));
}

#[tokio::test]
async fn a_navigation_without_cache_control_becomes_private_with_our_cookie() {
    let site = Site::with("limit = 5").await;
    let answer = site.visitor().open("/").await;
    assert_eq!(answer.header("cache-control"), Some("private"));
    assert_eq!(answer.header("sumun-status"), Some("enter"));
}

#[tokio::test]
async fn the_cookies_of_the_origin_stay_beside_ours() {
    let site = Site::with("limit = 5").await;
    site.origin.answers(|_| {
        Reply::page()
            .with("set-cookie", "sid=1; Path=/; HttpOnly")
            .with("set-cookie", "lang=ko")
    });
    let answer = site.visitor().open("/").await;
    let all: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all[..2], ["sid=1; Path=/; HttpOnly", "lang=ko"]);
}

#[track_caller]
fn must_have(cookie: &str, parts: &[&str], not: &[&str]) {
    let attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    for part in parts {
        assert!(attributes.contains(part), "{part} in {cookie}");
    }
    for part in not {
        let there = attributes
            .iter()
            .any(|attribute| attribute.starts_with(part));
        assert!(!there, "{part} in {cookie}");
    }
}

#[tokio::test]
async fn over_http_the_cookie_is_plain_and_lax() {
    let site = Site::with("limit = 1").await;
    let pass = &site.visitor().open("/").await.our_cookies()[0];
    assert!(pass.starts_with("sumun_main="), "{pass}");
    must_have(
        pass,
        &["HttpOnly", "SameSite=Lax", "Path=/"],
        &["Secure", "Domain"],
    );
    site.until_busy().await;
    let ticket = &site.visitor().open("/").await.our_cookies()[0];
    must_have(
        ticket,
        &["HttpOnly", "SameSite=Lax", "Path=/"],
        &["Secure", "Domain"],
    );
}

#[tokio::test]
async fn over_tls_at_a_trusted_proxy_the_cookie_is_secure_and_this_hosts_own() {
    let site = Plan::event("limit = 5").top(TRUSTED).open().await;
    let mut visitor = site.visitor().always("x-forwarded-proto", "https");
    let cookie = &visitor.open("/").await.our_cookies()[0];
    assert!(cookie.starts_with("__Host-sumun_main="), "{cookie}");
    must_have(
        cookie,
        &["HttpOnly", "Secure", "SameSite=None", "Path=/"],
        &["Domain"],
    );
    let session = visitor.pass().session.to_string();
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(site.origin.last().header("sumun-session"), Some(&*session));
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_say_that_it_was_https() {
    let site = Plan::event("limit = 5")
        .top("trusted_proxies = []")
        .open()
        .await;
    let mut visitor = site.visitor().always("x-forwarded-proto", "https");
    let cookie = &visitor.open("/").await.our_cookies()[0];
    assert!(cookie.starts_with("sumun_main="), "{cookie}");
}

#[tokio::test]
async fn a_domain_makes_one_pass_good_for_all_its_hosts() {
    let cookie = "[event.cookie]\ndomain = \"shop.example\"";
    let plan = Plan::event("limit = 5\nhosts = [\"shop.example\", \"m.shop.example\"]");
    let site = plan.top(TRUSTED).tables(cookie).open().await;
    let mut visitor = site.visitor().always("x-forwarded-proto", "https");
    let set = &visitor.open("/").await.our_cookies()[0];
    assert!(set.starts_with("sumun_main="), "{set}");
    must_have(
        set,
        &["Domain=shop.example", "Secure", "SameSite=None"],
        &[],
    );
    let session = visitor.pass().session.to_string();
    let mut mobile = visitor.host("m.shop.example");
    mobile.open("/").await.must_come_from_the_origin();
    assert_eq!(site.origin.last().header("sumun-session"), Some(&*session));
}

#[tokio::test]
async fn the_cookies_attributes_are_what_the_operator_orders() {
    let cookie = "[event.cookie]\nsame_site = \"strict\"\nsecure = \"always\"";
    let site = Plan::event("limit = 5").tables(cookie).open().await;
    let set = &site.visitor().open("/").await.our_cookies()[0];
    assert!(set.starts_with("__Host-sumun_main="), "{set}");
    must_have(set, &["Secure", "SameSite=Strict"], &[]);
}

#[tokio::test]
async fn the_origin_never_sees_our_cookies_and_the_others_byte_for_byte() {
    let site = Site::with("limit = 5").await;
    let pass = site.visitor_inside().await.token().to_owned();
    let cookies = format!("a=\"x y\";b=1;  sumun_main={pass}; __Host-sumun_sale=z;c=%20;; d");
    let ask = Ask::page("/").with("cookie", &cookies);
    site.visitor().send(ask).await.must_come_from_the_origin();
    let seen = site.origin.last();
    assert_eq!(seen.header("cookie"), Some("a=\"x y\";b=1;c=%20;; d"));
    assert!(seen.headers.contains_key("sumun-session"));
    let only = Ask::page("/").with("cookie", &format!("sumun_main={pass}"));
    site.visitor().send(only).await.must_come_from_the_origin();
    assert_eq!(site.origin.last().header("cookie"), None);
    let foreign = "xsumun_main=1; sumunmain=2; SUMUN_MAIN=3";
    let ask = Ask::page("/").with("cookie", foreign);
    site.visitor().send(ask).await.must_come_from_the_origin();
    assert_eq!(site.origin.last().header("cookie"), Some(foreign));
}

#[tokio::test]
async fn the_origin_is_told_event_session_and_client_and_spoofed_ones_are_dropped() {
    let site = Site::with("limit = 5\nexclude = [\"/open/\"]").await;
    let spoofed = |ask: Ask| {
        [
            "sumun-event",
            "sumun-session",
            "sumun-client",
            "Sumun-Session",
        ]
        .iter()
        .fold(ask, |ask, name| ask.with(name, "spoofed"))
    };
    let mut visitor = site.visitor();
    visitor.send(spoofed(Ask::page("/"))).await;
    let seen = site.origin.last();
    let session = visitor.pass().session.to_string();
    for (name, value) in [
        ("sumun-event", "main"),
        ("sumun-session", &*session),
        ("sumun-client", "navigation"),
    ] {
        let values: Vec<_> = seen.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    for ask in [Ask::fetch("/api"), Ask::page("/open/x")] {
        site.visitor().send(spoofed(ask)).await;
        assert_eq!(site.origin.last().header("sumun-session"), None);
        assert_eq!(site.origin.last().header("sumun-event"), Some("main"));
    }
}

#[tokio::test]
async fn where_no_event_is_spoofed_headers_of_ours_are_dropped_too() {
    let site = Site::with("limit = 5\npaths = [\"/shop\"]").await;
    let ask = Ask::page("/elsewhere")
        .with("sumun-session", "spoofed")
        .with("sumun-event", "x");
    site.visitor().send(ask).await.must_come_from_the_origin();
    let seen = site.origin.last();
    assert_eq!(
        (seen.header("sumun-session"), seen.header("sumun-event")),
        (None, None)
    );
}

#[tokio::test]
async fn a_pass_in_the_header_serves_and_is_renewed_in_the_header() {
    let site = Site::with("limit = 5").await;
    let held = site.visitor_inside().await;
    let session = held.pass().session.to_string();
    let token = aged(&held).token().to_owned();
    let answer = site
        .visitor()
        .send(Ask::fetch("/api").with("sumun-token", &token))
        .await;
    answer.must_come_from_the_origin();
    let seen = site.origin.last();
    assert_eq!(seen.header("sumun-session"), Some(&*session));
    assert_eq!(seen.header("sumun-token"), None);
    assert_eq!(answer.our_cookies().len(), 0);
    let renewed = answer
        .header("sumun-token")
        .expect("not renewed")
        .to_owned();
    let Some(Token::Pass(pass)) = read(&renewed) else {
        panic!("{renewed}")
    };
    assert_eq!(pass.session.to_string(), session);
}

fn read(text: &str) -> Option<Token> {
    match ring(&["a", "b", "c"]).verify(text) {
        sumun::token::Verdict::Good(token) => Some(token),
        _ => None,
    }
}

#[tokio::test]
async fn a_ticket_in_the_header_keeps_its_place_in_the_header() {
    let site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    let waiting = site.visitor_in_line().await;
    let token = waiting.token().to_owned();
    let answer = site
        .visitor()
        .send(Ask::page("/").with("sumun-token", &token))
        .await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.our_cookies().len(), 0);
    let Some(Token::Ticket(ticket)) = read(answer.header("sumun-token").unwrap()) else {
        panic!("{answer:?}")
    };
    assert_eq!(ticket.number, waiting.ticket().number);
}

#[tokio::test]
async fn a_success_token_serves_in_the_header_and_not_as_a_cookie() {
    let site = Site::with("limit = 1").await;
    let inside = site.filled_by_one().await;
    let reception = &site.server.running.reception;
    let success = reception.success(&site.ledger(), &inside.pass()).unwrap();
    let answer = site
        .visitor()
        .send(Ask::fetch("/api").with("sumun-token", &success))
        .await;
    answer.must_come_from_the_origin();
    let session = inside.pass().session.to_string();
    assert_eq!(site.origin.last().header("sumun-session"), Some(&*session));
    let mut thief = site.visitor().holding("sumun_main", &success);
    thief.open("/").await.must_be_a_waiting_page();
}

#[tokio::test]
async fn forward_token_lets_the_origin_see_ours() {
    let site = Plan::event("limit = 5")
        .top("forward_token = true")
        .open()
        .await;
    let mut visitor = site.visitor_inside().await.holding("a", "1");
    let cookies = format!("a=1; sumun_main={}", visitor.token());
    visitor.open("/").await.must_come_from_the_origin();
    assert_eq!(site.origin.last().header("cookie"), Some(&*cookies));
    let ask = Ask::fetch("/").with("sumun-token", visitor.token());
    site.visitor().send(ask).await.must_come_from_the_origin();
    assert_eq!(
        site.origin.last().header("sumun-token"),
        Some(visitor.token())
    );
}

#[tokio::test]
async fn a_slow_answer_still_brings_the_newcomers_pass() {
    let site = Site::with("limit = 5").await;
    let slow = std::time::Duration::from_millis(1500);
    site.origin.answers(move |_| Reply::page().after(slow));
    let mut visitor = site.visitor();
    let answer = visitor.open("/").await;
    assert_eq!(answer.our_cookies().len(), 1);
    assert_eq!(answer.header("sumun-status"), Some("enter"));
    let session = site
        .origin
        .last()
        .header("sumun-session")
        .map(str::to_owned);
    assert_eq!(session, Some(visitor.pass().session.to_string()));
}

#[tokio::test]
async fn a_pass_is_renewed_before_it_ends_as_long_as_it_is_used() {
    let site = Site::with("limit = 1").await;
    let mut visitor = site.filled_by_one().await;
    let first = visitor.pass();
    until("a longer pass", async || {
        visitor.open("/").await.must_come_from_the_origin();
        (visitor.pass().expires > first.expires + 500).then_some(())
    })
    .await;
    assert_eq!(visitor.pass().session, first.session);
}
