//! What kind of client asks, from what its request says of itself.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use http::{HeaderMap, HeaderValue, Method};

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

/// What a request says of itself, as far as its kind goes by it: the first line of
/// each header, found in one walk.
#[derive(Default)]
struct Said<'a> {
    accept: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    fetch_dest: Option<&'a HeaderValue>,
    fetch_mode: Option<&'a HeaderValue>,
    preflight: Option<&'a HeaderValue>,
    purpose: Option<&'a HeaderValue>,
    requested_with: Option<&'a HeaderValue>,
    sec_purpose: Option<&'a HeaderValue>,
    upgrade: Option<&'a HeaderValue>,
    user_agent: Option<&'a HeaderValue>,
}

/// The kind of a request; first match in the order of [`Kind`].
#[must_use]
pub fn kind(method: &Method, headers: &HeaderMap) -> Kind {
    let said = Said::by(headers);
    if *method == Method::OPTIONS && said.preflight.is_some() {
        return Kind::Preflight;
    }
    if says(said.sec_purpose, "prefetch") || says(said.purpose, "prefetch") {
        return Kind::Prefetch;
    }
    if said.upgrade.is_some() {
        return Kind::Upgrade;
    }
    if said.user_agent.is_some_and(is_crawler) {
        return Kind::Crawler;
    }
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if said.is_navigation() {
        return if safe {
            Kind::Navigation
        } else {
            Kind::FormPost
        };
    }
    if !safe || said.is_script() {
        return Kind::Api;
    }
    Kind::Subresource
}

impl<'a> Said<'a> {
    fn by(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let line = match name.as_str() {
                "accept" => &mut said.accept,
                "access-control-request-method" => &mut said.preflight,
                "content-type" => &mut said.content_type,
                "purpose" => &mut said.purpose,
                "sec-fetch-dest" => &mut said.fetch_dest,
                "sec-fetch-mode" => &mut said.fetch_mode,
                "sec-purpose" => &mut said.sec_purpose,
                "upgrade" => &mut said.upgrade,
                "user-agent" => &mut said.user_agent,
                "x-requested-with" => &mut said.requested_with,
                _ => continue,
            };
            line.get_or_insert(value);
        }
        said
    }

    /// `Sec-Fetch-Dest` says it (Fetch Metadata); without it, who accepts HTML and
    /// is no script.
    fn is_navigation(&self) -> bool {
        match self.fetch_dest {
            Some(dest) => matches!(dest.as_bytes(), b"document" | b"iframe"),
            None => says(self.accept, "text/html") && self.requested_with.is_none(),
        }
    }

    fn is_script(&self) -> bool {
        let is = |value: Option<&HeaderValue>, words: &[&str]| {
            value.is_some_and(|value| words.iter().any(|word| value.as_bytes() == word.as_bytes()))
        };
        self.requested_with.is_some()
            || says(self.accept, "json")
            || says(self.content_type, "json")
            || (is(self.fetch_dest, &["empty"]) && is(self.fetch_mode, &["cors", "same-origin"]))
    }
}

/// Whether a line of text has the word, in whatever case; one that is no text has none.
fn says(line: Option<&HeaderValue>, word: &str) -> bool {
    let text = line.and_then(|value| value.to_str().ok());
    text.unwrap_or_default()
        .as_bytes()
        .windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

pub(super) fn is_crawler(agent: &HeaderValue) -> bool {
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).build(CRAWLERS).ok()
    });
    let agent = agent.as_bytes();
    let agent = agent.get(..USER_AGENT_MAX).unwrap_or(agent);
    WORDS.as_ref().is_some_and(|words| words.is_match(agent))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

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
