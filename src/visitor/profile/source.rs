//! What led a visitor here: a campaign that the address names, or whose page the
//! link was on. Only the host of that page is read, and nothing of it is kept.

use http::HeaderValue;

use super::words::Source;
use crate::room::host::normal;

/// How much of a query is searched, in bytes.
const QUERY_MAX: usize = 2048;

/// How much of a referrer is read, in bytes: scheme, host, and a query of this site's own.
const REFERRER_MAX: usize = 2048;

/// Search engines whose name alone tells, each with what lies below it.
const SEARCH: &[&str] = &[
    "bing.com",
    "baidu.com",
    "duckduckgo.com",
    "ecosia.org",
    "m.search.naver.com",
    "search.brave.com",
    "search.daum.net",
    "search.naver.com",
    "search.nate.com",
    "search.zum.com",
    "startpage.com",
    "qwant.com",
];

/// Those that have a name for each country: what follows it is a country's ending.
const SEARCH_ANYWHERE: &[&str] = &["google", "www.google", "yandex", "www.yandex"];

/// Where people pass links to each other.
const SOCIAL: &[&str] = &[
    "band.us",
    "blog.naver.com",
    "bsky.app",
    "cafe.daum.net",
    "cafe.naver.com",
    "discord.com",
    "facebook.com",
    "instagram.com",
    "kakao.com",
    "line.me",
    "linkedin.com",
    "lnkd.in",
    "m.blog.naver.com",
    "m.cafe.naver.com",
    "pinterest.com",
    "reddit.com",
    "t.co",
    "t.me",
    "telegram.org",
    "threads.com",
    "threads.net",
    "tiktok.com",
    "twitter.com",
    "vk.com",
    "weibo.com",
    "x.com",
    "youtu.be",
    "youtube.com",
];

/// Apps of Android that name themselves as the referrer.
const APPS: &[(&str, Source)] = &[
    ("com.google.android.googlequicksearchbox", Source::Search),
    ("com.nhn.android.search", Source::Search),
    ("com.kakao.talk", Source::Social),
    ("com.twitter.android", Source::Social),
    ("com.linkedin.android", Source::Social),
    ("com.slack", Source::Social),
];

/// What led here, by the referrer, the query that was asked for, and the host in
/// normal form.
pub(super) fn of(
    referrer: Option<&HeaderValue>,
    query: Option<&str>,
    host: Option<&str>,
) -> Source {
    if query.is_some_and(names_campaign) {
        return Source::Campaign;
    }
    let Some(referrer) = referrer.map(HeaderValue::as_bytes) else {
        return Source::Direct;
    };
    if referrer.is_empty() {
        return Source::Direct;
    }
    // What a hostile one goes on with is not looked at: the host stands in front.
    let referrer = referrer.get(..REFERRER_MAX).unwrap_or(referrer);
    let Some((scheme, rest)) = split(referrer) else {
        return Source::Other;
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, after) = rest.split_at(end.unwrap_or(rest.len()));
    let Ok(authority) = std::str::from_utf8(authority) else {
        return Source::Other;
    };
    if scheme == b"android-app" {
        let app = APPS.iter().find(|(name, _)| *name == authority);
        return app.map_or(Source::Referral, |(_, source)| *source);
    }
    let Some(from) = normal(authority) else {
        return Source::Other;
    };
    if host.is_some_and(|host| is_same_site(&from, host)) {
        return from_own_page(after);
    }
    by_host(&from)
}

/// The scheme of a referrer that has one of those that pages have, and the rest.
fn split(referrer: &[u8]) -> Option<(&'static [u8], &[u8])> {
    const SCHEMES: [&[u8]; 3] = [b"https", b"http", b"android-app"];
    SCHEMES.iter().find_map(|scheme| {
        let rest = referrer.strip_prefix(*scheme)?.strip_prefix(b"://")?;
        Some((*scheme, rest))
    })
}

/// A visitor who came by a campaign to a page that no event covers, and went on.
fn from_own_page(after: &[u8]) -> Source {
    let at = after.iter().position(|byte| *byte == b'?');
    let query = at.and_then(|at| after.get(at + 1..));
    let query = query.and_then(|query| std::str::from_utf8(query).ok());
    if query.is_some_and(names_campaign) {
        Source::Campaign
    } else {
        Source::Internal
    }
}

fn by_host(host: &str) -> Source {
    let is_anywhere = |name: &&str| {
        let ending = host.strip_prefix(*name);
        let ending = ending.and_then(|rest| rest.strip_prefix('.'));
        ending.is_some_and(is_countrys)
    };
    let is_search = SEARCH.iter().any(|name| is_below(host, name))
        || SEARCH_ANYWHERE.iter().any(is_anywhere)
        || host.starts_with("search.yahoo.")
        || host.contains(".search.yahoo.");
    if is_search {
        return Source::Search;
    }
    if SOCIAL.iter().any(|name| is_below(host, name)) {
        return Source::Social;
    }
    Source::Referral
}

/// `com`, `kr`, `co.kr`, `com.br`: no name that somebody else could have.
fn is_countrys(ending: &str) -> bool {
    let is_country = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_lowercase());
    match ending.split_once('.') {
        None => ending == "com" || is_country(ending),
        Some((first, country)) => matches!(first, "co" | "com") && is_country(country),
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// One host, or one below the other: `shop.example` and `www.shop.example`.
fn is_same_site(one: &str, other: &str) -> bool {
    let is_name = |host: &str| host.contains('.');
    is_below(one, other) && is_name(other) || is_below(other, one) && is_name(one) || one == other
}

/// Whether a query has a `utm_…` that says something.
fn names_campaign(query: &str) -> bool {
    let bytes = query.as_bytes();
    let bytes = bytes.get(..QUERY_MAX).unwrap_or(bytes);
    bytes.split(|byte| *byte == b'&').any(|pair| {
        pair.strip_prefix(b"utm_").is_some_and(|rest| {
            let at = rest.iter().position(|byte| *byte == b'=');
            at.is_some_and(|at| at > 0 && at + 1 < rest.len())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(referrer: &str, query: &str) -> &'static str {
        let line = HeaderValue::from_bytes(referrer.as_bytes()).unwrap();
        let line = (referrer != "-").then_some(&line);
        of(line, Some(query), Some("www.shop.example")).word()
    }

    #[test]
    fn what_led_here_is_told_by_the_host_of_the_page_before() {
        for (referrer, expected) in [
            ("-", "direct"),
            ("", "direct"),
            ("https://www.google.com/", "search"),
            ("https://google.co.kr/search?q=a", "search"),
            ("https://www.google.evil.example/", "referral"),
            ("https://mail.google.com/", "referral"),
            ("https://notgoogle.com/", "referral"),
            ("https://search.naver.com/search.naver?query=a", "search"),
            ("https://m.search.naver.com/", "search"),
            ("https://www.bing.com/", "search"),
            ("https://search.yahoo.co.jp/", "search"),
            ("https://blog.naver.com/somebody/1", "social"),
            ("https://l.facebook.com/l.php?u=a", "social"),
            ("http://t.co/abc", "social"),
            ("https://at.co/abc", "referral"),
            ("https://netflix.com/", "referral"),
            ("android-app://com.kakao.talk/", "social"),
            (
                "android-app://com.google.android.googlequicksearchbox/",
                "search",
            ),
            ("android-app://org.example.mine/", "referral"),
            ("https://shop.example/list", "internal"),
            ("https://WWW.Shop.Example:8443/list", "internal"),
            ("https://m.www.shop.example/", "internal"),
            ("https://evilshop.example/", "referral"),
            ("https://example/", "referral"),
            ("https://partner.example/?at=www.shop.example", "referral"),
            ("https://www.shop.example/?utm_source=mail", "campaign"),
            ("https://partner.example/?utm_source=mail", "referral"),
            ("javascript:alert(1)", "other"),
            ("https://user@www.google.com/", "other"),
            ("https://", "other"),
            ("https://\u{c1fc}\u{d551}.example/", "referral"),
        ] {
            assert_eq!(source(referrer, "a=b"), expected, "{referrer}");
        }
    }

    #[test]
    fn a_campaign_goes_before_the_page_that_it_stood_on() {
        for (query, expected) in [
            ("utm_source=news", "campaign"),
            ("a=1&utm_campaign=sale&b=2", "campaign"),
            ("utm_source=", "search"),
            ("utm_=x", "search"),
            ("xutm_source=a", "search"),
            ("a=utm_source=b", "search"),
        ] {
            assert_eq!(
                source("https://www.google.com/", query),
                expected,
                "{query}"
            );
        }
        let far = format!("{}&utm_source=a", "x".repeat(QUERY_MAX));
        assert_eq!(source("-", &far), "direct");
    }

    #[test]
    fn a_hostile_referrer_is_other_or_no_more_than_its_host() {
        let long = format!("https://{}/", "a".repeat(8192));
        assert_eq!(source(&long, ""), "other");
        let long = format!("https://www.google.com/{}", "a".repeat(8192));
        assert_eq!(source(&long, ""), "search");
        let noise = HeaderValue::from_bytes(b"https://\xff\xfe.example/").unwrap();
        assert_eq!(of(Some(&noise), None, None), Source::Other);
        let noise = HeaderValue::from_bytes(b"\xff\t").unwrap();
        assert_eq!(of(Some(&noise), None, None), Source::Other);
    }
}
