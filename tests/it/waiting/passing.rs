//! Who never waits: by the mode, by a bypass or an exclusion, and below the
//! threshold.

use crate::support::{Ask, ByHand, Plan, Reply, Site, Visitor, exchange};

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
