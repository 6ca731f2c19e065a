//! Visitors who stay at one origin, by a cookie that tells nobody which.

use super::{Gateway, Here, LASTING, file, gone, list, named};
use crate::support::{Ask, Origin, Reply};

const COOKIE: &str = "SHOP_ORIGIN";
/// The shop's own, which begins alike.
const THEIRS: &str = "SHOP_ORIGIN_BASKET";

fn sticky(more: &str) -> String {
    format!("[origin_pool]\naffinity_cookie = \"{COOKIE}\"\n{more}")
}

#[tokio::test]
async fn a_visitor_stays_where_the_cookie_says_and_the_origin_never_sees_it() {
    let origins = [
        Origin::open().await,
        Origin::open().await,
        Origin::open().await,
    ];
    for (origin, name) in origins.iter().zip(["a", "b", "c"]) {
        named(origin, name);
    }
    let addresses = origins.each_ref().map(|origin| origin.address);
    let gateway = Gateway::before(&addresses, &sticky("")).await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let mut visitor = gateway.visitor().holding(THEIRS, "7");
        let first = visitor.open("/").await;
        let set = first.header("set-cookie").unwrap().to_owned();
        assert!(set.starts_with(&format!("{COOKIE}=")), "{set}");
        assert!(set.ends_with("; HttpOnly; SameSite=Lax; Path=/"), "{set}");
        assert_eq!(first.header("cache-control"), Some("private"));
        for address in &addresses {
            assert!(!set.contains(&address.port().to_string()), "{set}");
        }
        for _ in 0..4 {
            let next = visitor.open("/").await;
            assert_eq!(next.text(), first.text());
            assert_eq!(next.header("set-cookie"), None, "it has it already");
        }
        names.insert(first.text());
    }
    assert!(names.len() > 1, "{names:?}");
    for seen in origins.iter().flat_map(Origin::seen) {
        let theirs = format!("{THEIRS}=7");
        assert_eq!(seen.header("cookie"), Some(theirs.as_str()));
    }
}

#[tokio::test]
async fn it_is_set_on_nothing_that_a_cache_may_keep() {
    let (one, two) = (Origin::open().await, Origin::open().await);
    for origin in [&one, &two] {
        origin.answers(|seen| {
            let reply = Reply::text("x");
            if seen.target == "/own.png" {
                reply.with("cache-control", "no-store")
            } else {
                reply.with("cache-control", "public, max-age=60")
            }
        });
    }
    let gateway = Gateway::before(&[one.address, two.address], &sticky("")).await;
    let image = gateway.visitor().send(Ask::image("/logo.png")).await;
    assert_eq!(image.header("set-cookie"), None);
    assert_eq!(image.header("cache-control"), Some("public, max-age=60"));
    let own = gateway.visitor().send(Ask::image("/own.png")).await;
    assert!(own.header("set-cookie").is_some());
    assert_eq!(own.header("cache-control"), Some("no-store"));
    let page = gateway.visitor().open("/").await;
    assert!(page.header("set-cookie").is_some());
    assert_eq!(page.header("cache-control"), Some("private, max-age=60"));
}

#[tokio::test]
async fn who_is_at_an_origin_that_is_gone_moves_and_stays_there() {
    let (there, other) = (gone().await, Origin::open().await);
    named(&other, "other");
    let here = Here::at(there, "there").await;
    let gateway = Gateway::before(&[there, other.address], &sticky(LASTING)).await;
    let mut visitor = loop {
        let mut visitor = gateway.visitor();
        if visitor.open("/").await.text() == "there" {
            break visitor;
        }
    };
    let before = visitor.cookies[COOKIE].clone();
    here.kill().await;
    let moved = visitor.open("/").await;
    assert_eq!((moved.status, moved.text()), (200, "other".to_owned()));
    assert_ne!(visitor.cookies[COOKIE], before);
    assert_eq!(visitor.open("/").await.header("set-cookie"), None);
    // One who still holds the old cookie is served too.
    let mut late = gateway.visitor().holding(COOKIE, &before);
    assert_eq!(late.open("/").await.text(), "other");
}

#[tokio::test]
async fn the_same_key_means_the_same_origin_at_every_gateway_and_nonsense_means_none() {
    let (one, two) = (Origin::open().await, Origin::open().await);
    named(&one, "one");
    named(&two, "two");
    let both = [one.address, two.address];
    let gateway = Gateway::before(&both, &sticky("")).await;
    // The other gateway has them in another order.
    let reversed = file(&list(&[two.address, one.address]), &sticky(""));
    let other = Gateway::of(reversed).await;
    let mut visitor = gateway.visitor();
    let text = visitor.open("/").await.text();
    let mut moved = visitor.moved_to(other.door);
    for _ in 0..4 {
        assert_eq!(moved.open("/").await.text(), text);
    }
    let mut forger = gateway.visitor().holding(COOKIE, "http://127.0.0.1:1");
    let answer = forger.open("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("set-cookie").is_some());
}
