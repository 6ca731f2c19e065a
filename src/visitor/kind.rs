//! What kind of client asks, from what its request says of itself.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use http::{HeaderMap, HeaderName, Method, header};

use crate::room::decision::Kind;

/// Words that crawlers' User-Agents carry, in lower case. A first sieve: who
/// really is one is told elsewhere.
const CRAWLERS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "slurp",
    "yeti",
    "daum",
    "facebookexternalhit",
    "mediapartners",
    "ia_archiver",
    "bingpreview",
    "lighthouse",
    "apis-google",
    "feedfetcher",
    "whatsapp",
    "embedly",
];

/// Longer User-Agents are not read to their end, in bytes.
const USER_AGENT_MAX: usize = 512;

static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
static PURPOSE: HeaderName = HeaderName::from_static("purpose");
static X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// The kind of a request; first match in the order of [`Kind`].
#[must_use]
pub fn kind(method: &Method, headers: &HeaderMap) -> Kind {
    if *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return Kind::Preflight;
    }
    if says(headers, &SEC_PURPOSE, "prefetch") || says(headers, &PURPOSE, "prefetch") {
        return Kind::Prefetch;
    }
    if headers.contains_key(header::UPGRADE) {
        return Kind::Upgrade;
    }
    if is_crawler(headers) {
        return Kind::Crawler;
    }
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if is_navigation(headers) {
        return if safe {
            Kind::Navigation
        } else {
            Kind::FormPost
        };
    }
    if !safe || is_script(headers) {
        return Kind::Api;
    }
    Kind::Subresource
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let text = text(headers, name).as_bytes();
    text.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_crawler(headers: &HeaderMap) -> bool {
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).build(CRAWLERS).ok()
    });
    let Some(agent) = headers.get(header::USER_AGENT) else {
        return false;
    };
    let agent = agent.as_bytes();
    let agent = agent.get(..USER_AGENT_MAX).unwrap_or(agent);
    WORDS.as_ref().is_some_and(|words| words.is_match(agent))
}

/// `Sec-Fetch-Dest` says it (Fetch Metadata); without it, who accepts HTML and
/// is no script.
fn is_navigation(headers: &HeaderMap) -> bool {
    if headers.contains_key(&SEC_FETCH_DEST) {
        return matches!(text(headers, &SEC_FETCH_DEST), "document" | "iframe");
    }
    says(headers, &header::ACCEPT, "text/html") && !headers.contains_key(&X_REQUESTED_WITH)
}

fn is_script(headers: &HeaderMap) -> bool {
    headers.contains_key(&X_REQUESTED_WITH)
        || says(headers, &header::ACCEPT, "json")
        || says(headers, &header::CONTENT_TYPE, "json")
        || (text(headers, &SEC_FETCH_DEST) == "empty"
            && matches!(text(headers, &SEC_FETCH_MODE), "cors" | "same-origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, pairs: &[(&str, &str)]) -> Kind {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        kind(&Method::from_bytes(method.as_bytes()).unwrap(), &headers)
    }

    #[test]
    fn each_kind_is_told_by_what_its_request_says() {
        type Row = (&'static str, &'static [(&'static str, &'static str)], Kind);
        let table: &[Row] = &[
            (
                "OPTIONS",
                &[("access-control-request-method", "PUT")],
                Kind::Preflight,
            ),
            ("OPTIONS", &[], Kind::Api),
            (
                "GET",
                &[
                    ("sec-purpose", "prefetch;prerender"),
                    ("sec-fetch-dest", "document"),
                ],
                Kind::Prefetch,
            ),
            ("GET", &[("purpose", "prefetch")], Kind::Prefetch),
            (
                "GET",
                &[("upgrade", "websocket"), ("connection", "upgrade")],
                Kind::Upgrade,
            ),
            (
                "GET",
                &[
                    (
                        "user-agent",
                        "Mozilla/5.0 (compatible; Yeti/1.1; +https://naver.me/spd)",
                    ),
                    ("accept", "text/html"),
                ],
                Kind::Crawler,
            ),
            (
                "GET",
                &[
                    ("sec-fetch-dest", "document"),
                    ("user-agent", "Mozilla/5.0"),
                ],
                Kind::Navigation,
            ),
            ("GET", &[("sec-fetch-dest", "iframe")], Kind::Navigation),
            ("POST", &[("sec-fetch-dest", "document")], Kind::FormPost),
            (
                "GET",
                &[("accept", "text/html,application/xhtml+xml")],
                Kind::Navigation,
            ),
            (
                "GET",
                &[
                    ("accept", "text/html"),
                    ("x-requested-with", "XMLHttpRequest"),
                ],
                Kind::Api,
            ),
            ("POST", &[("accept", "text/html")], Kind::FormPost),
            ("GET", &[("accept", "application/json")], Kind::Api),
            (
                "GET",
                &[
                    ("sec-fetch-dest", "empty"),
                    ("sec-fetch-mode", "cors"),
                    ("accept", "*/*"),
                ],
                Kind::Api,
            ),
            ("DELETE", &[("accept", "*/*")], Kind::Api),
            (
                "GET",
                &[("sec-fetch-dest", "image"), ("accept", "image/*")],
                Kind::Subresource,
            ),
            ("GET", &[], Kind::Subresource),
        ];
        for (method, headers, kind) in table {
            assert_eq!(of(method, headers), *kind, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_huge_user_agent_is_read_only_at_its_head() {
        let long = format!("Mozilla/5.0 {} bot", "x".repeat(8_000));
        let kind = of(
            "GET",
            &[("user-agent", &long), ("sec-fetch-dest", "document")],
        );
        assert_eq!(kind, Kind::Navigation);
    }
}
