//! The line: who walks in, who waits and in what order, what ends a place or
//! a session, and what those who wait are shown.

use http::Method;
use sumun::token::Token;

use crate::support::{Answer, Ask, ByHand, Plan, Reply, Seen, Site, Visitor, exchange};

fn completes_at_done(seen: &Seen) -> Reply {
    if seen.target == "/done" {
        Reply::page().with("sumun-session", "complete")
    } else {
        Reply::page()
    }
}

// ---------------------------------------------------------------- the order

#[tokio::test]
async fn visitors_walk_in_up_to_the_limit_and_the_next_one_waits() {
    let site = Site::with("limit = 3").await;
    for _ in 0..3 {
        site.visitor_inside().await;
    }
    for _ in 0..3 {
        site.visitor_in_line().await;
    }
    site.until("three and three", |view| {
        view.snapshot.sessions == 3 && view.waiting() == 3
    })
    .await;
}

#[tokio::test]
async fn first_come_is_first_called() {
    let site = Site::with("limit = 1").await;
    site.origin.answers(completes_at_done);
    let mut inside = site.filled_by_one().await;
    let mut line = Vec::new();
    for _ in 0..4 {
        line.push(site.visitor_in_line().await);
    }
    for turn in 0..line.len() {
        inside.open("/done").await;
        let number = line[turn].ticket().number;
        site.until("a call", |view| view.snapshot.meta.called > number)
            .await;
        for later in &mut line[turn + 1..] {
            later.open("/").await.must_be_a_waiting_page();
        }
        line[turn].open_until_inside("/").await;
        inside = line[turn].clone();
    }
}

#[tokio::test]
async fn the_page_shows_the_place_and_who_stands_behind_and_the_place_never_grows() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut line = Vec::new();
    for _ in 0..4 {
        line.push(hand.visitor_in_line().await);
        hand.pass_seconds(1).await;
    }
    for (index, visitor) in line.iter_mut().enumerate() {
        let answer = visitor.open("/").await;
        assert_eq!(answer.position(), index as u64 + 1);
        assert_eq!(answer.data()["info"]["behind"], 3 - index);
    }
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    line[0].open("/").await.must_come_from_the_origin();
    hand.pass_seconds(1).await;
    for (index, visitor) in line.iter_mut().enumerate().skip(1) {
        assert_eq!(visitor.open("/").await.position(), index as u64);
    }
}

#[tokio::test]
async fn a_newcomer_takes_a_ticket_while_the_only_waiter_is_called_and_has_not_claimed() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    let meta = hand.view().snapshot.meta.clone();
    assert_eq!(meta.called, meta.issued, "nobody is left to be called");
    let newcomer = hand.visitor_in_line().await;
    assert!(newcomer.ticket().number > waiter.ticket().number);
    waiter.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn of_two_called_tickets_the_later_may_ask_first_and_neither_loses() {
    let mut hand = ByHand::with("limit = 2").await;
    hand.origin.answers(completes_at_done);
    let mut inside = [hand.visitor_inside().await, hand.visitor_inside().await];
    let mut early = hand.visitor_in_line().await;
    let mut late = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    for visitor in &mut inside {
        visitor.open("/done").await;
    }
    hand.pass_seconds(1).await;
    late.open("/").await.must_come_from_the_origin();
    early.open("/").await.must_come_from_the_origin();
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.sessions, 2);
}

#[tokio::test]
async fn the_slot_goes_to_the_earlier_of_two_called_tickets_while_its_offer_stands() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut early = hand.visitor_in_line().await;
    let mut late = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    late.open("/").await.must_be_a_waiting_page();
    // The early one does not come: after five seconds the next one is called.
    hand.pass_seconds(7).await;
    late.open("/").await.must_come_from_the_origin();
    // Its turn is kept: it takes the next slot, before anybody later.
    early.open("/").await.must_be_a_waiting_page();
    let _newcomer = hand.visitor_in_line().await;
    late.open("/done").await;
    // One who is held asks the store once a second at most.
    hand.pass_seconds(1).await;
    early.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn a_ticket_that_was_used_is_worth_nothing_after_its_session_is_over() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    let ticket = waiter.ticket();
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    waiter.open("/").await.must_come_from_the_origin();
    waiter.open("/done").await;
    let _other = hand.visitor_inside().await;
    let mut again = hand.visitor();
    again.hold(&Token::Ticket(ticket.clone()));
    again.open("/").await.must_be_a_waiting_page();
    assert!(
        again.ticket().number > ticket.number,
        "a new place, at the end"
    );
}

#[tokio::test]
async fn a_ticket_shown_twice_gets_the_same_session() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    let mut twin = waiter.clone();
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    waiter.open("/").await.must_come_from_the_origin();
    twin.open("/").await.must_come_from_the_origin();
    assert_eq!(twin.pass().session, waiter.pass().session);
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
}

// ------------------------------------------------------- what ends by itself

#[tokio::test]
async fn a_session_that_never_comes_back_ends_after_half_a_minute() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"10m\"").await;
    let _gone = hand.visitor().open("/").await;
    hand.pass_seconds(29).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
    hand.pass_seconds(2).await;
    assert_eq!(hand.view().snapshot.sessions, 0);
    hand.visitor_inside().await;
}

#[tokio::test]
async fn a_session_in_use_stays_and_an_idle_one_ends_and_its_pass_is_worth_nothing() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"2m\"").await;
    let mut visitor = hand.visitor_inside().await;
    let session = visitor.pass().session;
    for _ in 0..6 {
        hand.pass_seconds(25).await;
        visitor.open("/").await.must_come_from_the_origin();
        assert_eq!(visitor.pass().session, session);
    }
    hand.pass_seconds(125).await;
    assert_eq!(hand.view().snapshot.sessions, 0);
    let _next = hand.visitor_inside().await;
    hand.pass_seconds(1).await;
    visitor.open("/").await.must_be_a_waiting_page();
    let answer = visitor.send(Ask::fetch("/api")).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn assets_and_excluded_paths_keep_a_session_too() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"1m\"\nexclude = [\"/open/\"]").await;
    let mut visitor = hand.visitor_inside().await;
    for ask in [
        Ask::image("/a.png"),
        Ask::page("/open/x"),
        Ask::fetch("/api"),
    ] {
        for _ in 0..2 {
            hand.pass_seconds(20).await;
            visitor.send(ask.clone()).await.must_come_from_the_origin();
        }
    }
    hand.pass_seconds(20).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
}

#[tokio::test]
async fn no_session_outlives_session_max_while_others_wait() {
    let settings = "limit = 1\nsession_idle = \"1m\"\nsession_max = \"2m\"\nticket_idle = \"1h\"";
    let mut hand = ByHand::with(settings).await;
    let mut visitor = hand.visitor_inside().await;
    for _ in 0..10 {
        hand.pass_seconds(20).await;
        visitor.open("/").await.must_come_from_the_origin();
    }
    let mut waiter = hand.visitor_in_line().await;
    for second in 0..90 {
        hand.pass_seconds(1).await;
        if second % 15 == 0 {
            visitor.open("/").await;
        }
        if second % 3 == 0 && waiter.open("/").await.is_from_origin() {
            return;
        }
    }
    panic!("nobody made room");
}

#[tokio::test]
async fn who_stands_at_the_front_is_asked_to_look_often_enough_to_be_there_when_called() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"10m\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    for _ in 0..3 {
        let mut waiter = hand.visitor_in_line().await;
        for _ in 0..9 {
            hand.pass_seconds(15).await;
            inside.open("/").await.must_come_from_the_origin();
            waiter.open("/").await.must_be_a_waiting_page();
        }
        inside.open("/done").await;
        hand.pass_seconds(1).await;
        waiter.open("/").await.must_come_from_the_origin();
        hand.pass_seconds(1).await;
        waiter.open("/").await.must_come_from_the_origin();
        inside = waiter;
    }
    let mut front = hand.visitor_in_line().await;
    for _ in 0..15 {
        hand.pass_seconds(4).await;
        inside.open("/").await;
        let poll = front.open("/").await.data()["pollAfterMs"].as_u64();
        assert!(poll.unwrap() < 4500, "an offer stands for 5 s: {poll:?}");
    }
}

#[tokio::test]
async fn a_ticket_not_heard_from_is_skipped_and_an_abandoned_line_keeps_nobody_out() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"30s\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let _gone = hand.visitor_in_line().await;
    let _gone_too = hand.visitor_in_line().await;
    let mut patient = hand.visitor_in_line().await;
    for _ in 0..12 {
        hand.pass_seconds(5).await;
        inside.open("/").await.must_come_from_the_origin();
        patient.open("/").await.must_be_a_waiting_page();
    }
    assert_eq!(hand.view().waiting(), 1);
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    patient.open("/").await.must_come_from_the_origin();
    patient.open("/done").await;
    hand.pass_seconds(1).await;
    hand.visitor_inside().await;
}

#[tokio::test]
async fn a_line_that_everybody_left_lets_newcomers_walk_in() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"30s\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    for _ in 0..5 {
        hand.visitor_in_line().await;
    }
    for _ in 0..14 {
        hand.pass_seconds(5).await;
        inside.open("/").await.must_come_from_the_origin();
    }
    assert_eq!(hand.view().waiting(), 0);
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    hand.visitor_inside().await;
}

// ---------------------------------------------------------- what they are shown

/// A visitor at a full house, asking for this.
async fn at_a_full_house(settings: &str, ask: Ask) -> (Site, Answer) {
    let site = Site::with(settings).await;
    let _inside = site.filled_by_one().await;
    let answer = site.visitor().send(ask).await;
    (site, answer)
}

#[tokio::test]
async fn the_page_stands_at_the_address_asked_for_and_enters_by_loading_it_again() {
    let ask = Ask::page("/goods/7?color=red&utm=x#").with("accept-language", "en");
    let (_site, answer) = at_a_full_house("limit = 1\nname = \"The sale\"", ask).await;
    answer.must_be_a_waiting_page();
    assert_eq!(answer.header("location"), None);
    assert_eq!(answer.data()["enter"], serde_json::Value::Null, "a reload");
    assert_eq!(answer.data()["eventId"], "main");
    assert!(answer.text().contains("The sale"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("vary").unwrap().contains("Cookie"));
}

#[tokio::test]
async fn without_script_the_page_asks_again_by_itself() {
    let (_site, answer) = at_a_full_house("limit = 1", Ask::page("/")).await;
    let text = answer.text();
    let (_, noscript) = text.split_once("<noscript>").expect("no noscript");
    let (noscript, _) = noscript.split_once("</noscript>").unwrap();
    assert!(noscript.contains("http-equiv=\"refresh\""), "{noscript}");
}

#[tokio::test]
async fn the_page_speaks_the_visitors_language() {
    let site = Site::with("limit = 1").await;
    let _inside = site.filled_by_one().await;
    for (accepted, tag) in [
        ("ko-KR,ko;q=0.9", "ko"),
        ("en-GB", "en"),
        ("ja, en;q=0.5", "en"),
    ] {
        let ask = Ask::page("/").with("accept-language", accepted);
        let answer = site.visitor().send(ask).await;
        assert_eq!(answer.header("content-language"), Some(tag), "{accepted}");
        assert!(
            answer.text().contains(&format!("<html lang=\"{tag}\"")),
            "{accepted}"
        );
        assert!(answer.header("vary").unwrap().contains("Accept-Language"));
    }
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let ask = Ask::page("/").method(Method::HEAD);
    let (site, answer) = at_a_full_house("limit = 1", ask).await;
    assert_eq!((answer.status, answer.body.len()), (503, 0));
    assert_eq!(answer.header("sumun-status"), Some("wait"));
    assert_eq!(answer.our_cookies().len(), 1);
    let inside = Site::with("limit = 1")
        .await
        .visitor()
        .send(Ask::page("/").method(Method::HEAD))
        .await;
    assert!(inside.is_from_origin() && inside.body.is_empty());
    drop(site);
}

#[tokio::test]
async fn the_status_of_the_page_is_what_the_operator_wants() {
    for status in [200, 202, 429, 503] {
        let settings = format!("limit = 1\nwaiting_status = {status}");
        let (_site, answer) = at_a_full_house(&settings, Ask::page("/")).await;
        answer.must_be_a_waiting_page();
        assert_eq!(answer.status, status);
        assert!(answer.headers.contains_key("retry-after"), "{status}");
    }
}

#[tokio::test]
async fn the_page_may_run_nothing_but_its_own() {
    let (_site, answer) = at_a_full_house(
        "limit = 1\nmessage = \"<script>x</script>\"",
        Ask::page("/?%3Cscript%3E"),
    )
    .await;
    let policy = answer.header("content-security-policy").expect("no policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!answer.text().contains("<script>x"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

// -------------------------------------------------------------- who is refused

#[tokio::test]
async fn a_full_line_takes_nobody_more_and_keeps_those_in_it() {
    let site = Site::with("limit = 1\nwaiting_max = 2").await;
    let _inside = site.filled_by_one().await;
    let mut first = site.visitor_in_line().await;
    let _second = site.visitor_in_line().await;
    site.until("two in line", |view| view.waiting() == 2).await;
    let ask = Ask::page("/").with("accept-language", "en");
    let answer = site.visitor().send(ask).await;
    assert_eq!(
        (answer.status, answer.header("sumun-status")),
        (503, Some("block"))
    );
    assert_eq!(answer.header("set-cookie"), None);
    assert!(answer.headers.contains_key("retry-after"));
    assert!(
        answer.text().contains("http-equiv=\"refresh\""),
        "retries by itself"
    );
    first.open("/").await.must_be_a_waiting_page();
}

#[tokio::test]
async fn one_address_brings_so_many_newcomers_a_minute_and_no_more() {
    let plan = Plan::event("limit = 1\njoins_per_address_per_minute = 3");
    let site = plan.top("trusted_proxies = [\"loopback\"]").open().await;
    let _inside = site.filled_by_one().await;
    let from = |address: &str| site.visitor().always("x-forwarded-for", address);
    for _ in 0..3 {
        from("203.0.113.7").open("/").await.must_be_a_waiting_page();
    }
    let answer = from("203.0.113.7").open("/").await;
    assert_eq!((answer.status, answer.header("set-cookie")), (429, None));
    assert_eq!(answer.header("sumun-status"), Some("block"));
    assert!(answer.text().contains("http-equiv=\"refresh\""));
    from("203.0.113.8").open("/").await.must_be_a_waiting_page();
    let mut known = from("203.0.113.9");
    for _ in 0..6 {
        known.open("/").await.must_be_a_waiting_page();
    }
}

#[tokio::test]
async fn a_host_that_nobody_named_is_421_and_one_named_to_pass_passes() {
    let plan = Plan::event("limit = 1\nhosts = [\"shop.example\"]");
    let site = plan.top("pass_hosts = [\"static.example\"]").open().await;
    for (host, status) in [
        ("shop.example", 200),
        ("SHOP.Example.:8080", 200),
        ("static.example", 200),
        ("evil.example", 421),
        ("shop.example.evil.example", 421),
    ] {
        let answer = site.visitor().host(host).send(Ask::image("/")).await;
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(answer.is_from_origin(), status == 200, "{host}");
    }
    let answer = site.visitor().host("evil.example").open("/").await;
    assert_eq!((answer.status, answer.header("set-cookie")), (421, None));
}

// -------------------------------------------------------------------- the modes

#[tokio::test]
async fn in_mode_queue_everybody_new_waits_first_and_is_called() {
    let site = Site::with("limit = 5\nmode = \"queue\"").await;
    let mut visitor = site.visitor_in_line().await;
    visitor.open_until_inside("/").await;
    let _next = site.visitor_in_line().await;
}

#[tokio::test]
async fn in_mode_pause_nobody_is_called_until_it_is_over() {
    let mut hand = ByHand::with("limit = 5\nmode = \"pause\"").await;
    let mut visitor = hand.visitor_in_line().await;
    for _ in 0..6 {
        hand.pass_seconds(10).await;
        visitor.open("/").await.must_be_a_waiting_page();
    }
    let mut settings = (**hand.ledger.settings.load()).clone();
    settings.mode = sumun::room::event::Mode::Auto;
    hand.ledger.change(settings);
    hand.pass_seconds(2).await;
    visitor.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn in_modes_off_and_shadow_nobody_waits() {
    for mode in ["off", "shadow"] {
        let mut site = Site::with("limit = 1").await;
        let _inside = site.filled_by_one().await;
        let mut waiting = site.visitor_in_line().await;
        site.change(&format!("limit = 1\nmode = {mode:?}")).await;
        for _ in 0..3 {
            site.visitor_inside().await;
        }
        site.visitor()
            .send(Ask::fetch("/api"))
            .await
            .must_come_from_the_origin();
        waiting.open("/").await.must_come_from_the_origin();
    }
}

// ----------------------------------------------------- bypass and exclusions

const STAFF: &str = "[event.bypass]\naddresses = [\"198.51.100.0/24\"]\nheader = \"X-Staff\"\nsecret = \"sixteen-bytes-or-more\"";

#[tokio::test]
async fn staff_pass_by_address_or_secret_uncounted_and_the_secret_stays_here() {
    let plan = Plan::event("limit = 1")
        .top("trusted_proxies = [\"loopback\"]")
        .tables(STAFF);
    let site = plan.open().await;
    let _inside = site.filled_by_one().await;
    let by_address = site.visitor().always("x-forwarded-for", "198.51.100.9");
    let by_secret = site.visitor().always("x-staff", "sixteen-bytes-or-more");
    for mut staff in [by_address, by_secret] {
        for ask in [Ask::page("/"), Ask::fetch("/api"), Ask::form("/", "a=1")] {
            let answer = staff.send(ask).await;
            answer.must_come_from_the_origin();
            assert_eq!(answer.our_cookies().len(), 0);
            assert_eq!(site.origin.last().header("x-staff"), None);
            assert_eq!(site.origin.last().header("sumun-session"), None);
        }
    }
    let mut guess = site.visitor().always("x-staff", "sixteen-bytes-or-mora");
    guess.open("/").await.must_be_a_waiting_page();
    assert_eq!(site.view().snapshot.sessions, 1);
}

const EXCLUDES: &str = "limit = 1\nexclude = [\"/assets/\", { path = \"/notify\", methods = [\"POST\"] }, { query = \"wc-api\" }]";

#[tokio::test]
async fn exclusions_pass_uncounted_while_it_is_busy() {
    let site = Site::with(EXCLUDES).await;
    let _inside = site.filled_by_one().await;
    let pass = [
        Ask::page("/assets/app.css"),
        Ask::page("/assets/"),
        Ask::form("/notify", "paid=1"),
        Ask::page("/?wc-api=1"),
    ];
    for ask in pass {
        let answer = site.visitor().send(ask.clone()).await;
        assert!(answer.is_from_origin(), "{ask:?}");
        assert_eq!(answer.our_cookies().len(), 0, "{ask:?}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_slips_into_an_exclusion() {
    let site = Site::with(EXCLUDES).await;
    let _inside = site.filled_by_one().await;
    let before = site.origin.seen().len();
    for path in [
        "/assets/%2e%2e/secret",
        "/assets/../secret",
        "/assets/..%2fsecret",
        "/assets/%2e%2e%2fsecret",
        "/assets%2f..%2fsecret",
        "/assets/..;/secret",
        "/assets\\..\\secret",
        "/assetsx/secret",
        "/notify",
        "/?WC-API=1",
        "/secret?x=wc-api",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: shop.example\r\nsec-fetch-dest: document\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(site.door, &request).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("x-origin"), "{path}: {answer}");
    }
    assert_eq!(site.origin.seen().len(), before);
}

// ---------------------------------------------------------- below the threshold

/// Head lines (sorted) and body of a whole answer.
fn parts(answer: &[u8]) -> (Vec<String>, Vec<u8>) {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    lines.sort();
    (lines, answer[end + 4..].to_vec())
}

#[tokio::test]
async fn below_the_threshold_an_answer_equals_the_origins_but_for_the_headers_named() {
    let site = Site::with("limit = 5").await;
    site.origin.answers(|_| {
        Reply::page()
            .with("date", "Tue, 24 Nov 2026 00:00:00 GMT")
            .with("etag", "W/\"x\"")
            .with("x-odd", "a , b")
            .with("set-cookie", "sid=1; Path=/")
            .with("server", "shop/1.0")
            .with("cache-control", "max-age=60")
    });
    let mut visitor = site.visitor_inside().await;
    for _ in 0..2 {
        visitor.open("/").await;
    }
    let request = |cookie: &str| {
        format!(
            "GET /x?y=%20z HTTP/1.1\r\nhost: shop.example\r\nsec-fetch-dest: document\r\n{cookie}connection: close\r\n\r\n"
        )
    };
    let direct = parts(&exchange(site.origin.address, &request("")).await);
    let held = format!("cookie: sumun_main={}\r\n", visitor.token());
    let inside = parts(&exchange(site.door, &request(&held)).await);
    assert_eq!(inside, direct, "with a pass: nothing at all");
    let (new, body) = parts(&exchange(site.door, &request("")).await);
    let ours = ["set-cookie: sumun_", "sumun-status: ", "cache-control: "];
    let rest = |lines: &[String]| -> Vec<String> {
        let named = |line: &String| ours.iter().any(|name| line.starts_with(name));
        lines.iter().filter(|line| !named(line)).cloned().collect()
    };
    assert_eq!((rest(&new), body), (rest(&direct.0), direct.1));
    assert!(new.contains(&"cache-control: private, max-age=60".to_owned()));
}

#[tokio::test]
async fn with_neither_limit_nor_thresholds_nobody_is_ever_queued() {
    let site = Site::with("").await;
    let all: Vec<Visitor> = (0..40).map(|_| site.visitor()).collect();
    for mut visitor in all {
        visitor.open("/").await.must_come_from_the_origin();
    }
    site.until("forty sessions", |view| view.snapshot.sessions == 40)
        .await;
    assert!(!site.view().is_busy());
}
