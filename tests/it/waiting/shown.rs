//! What those who wait, or are turned away, are shown.

use http::Method;

use crate::support::{Answer, Ask, Plan, Site};

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
