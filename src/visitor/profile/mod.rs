//! What a newcomer is, as far as the head of one request tells: how it came in,
//! what led it here, its device, system and browser.
//!
//! Worked out once for each visitor who arrives (about 4 µs, and 2 MB for all of
//! them together), never for those inside. Everything can be made up by who asks:
//! good for statistics, no ground to let anybody in.

mod agent;
mod marks;
mod source;
mod words;

use http::{HeaderMap, HeaderValue, header};

pub use words::{Access, Browser, Device, Source, System};

use agent::Agent;

/// What a newcomer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How it came in.
    pub access: Access,
    /// What led it here.
    pub source: Source,
    /// What it holds in the hand.
    pub device: Device,
    /// The family of its operating system.
    pub system: System,
    /// The family of its browser.
    pub browser: Browser,
}

/// The head of the request that a newcomer came with.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The query of its target.
    pub query: Option<&'a str>,
    /// The host that was asked for, in normal form.
    pub host: Option<&'a str>,
    /// It came by a call that a key of `[api]` signs: from a server of the customer's.
    pub by_key: bool,
}

impl Profile {
    /// What the head of a request tells.
    #[must_use]
    pub fn of(head: &Head<'_>) -> Self {
        let agent = Agent::of(head.headers);
        Self {
            access: access(head, agent),
            source: source::of(head.headers.get(header::REFERER), head.query, head.host),
            device: agent.device,
            system: agent.system,
            browser: agent.browser,
        }
    }
}

fn access(head: &Head<'_>, agent: Agent) -> Access {
    if head.by_key {
        return Access::Api;
    }
    if agent.is_crawler {
        return Access::Crawler;
    }
    if agent.is_tool {
        return Access::Tool;
    }
    if agent.is_app {
        return Access::App;
    }
    if agent.browser != Browser::Other {
        return Access::Browser;
    }
    let asks_for = |word: &str| {
        let accept = head.headers.get(header::ACCEPT);
        accept.is_some_and(|accept| has(accept, word))
    };
    if asks_for("json") && !asks_for("text/html") {
        return Access::Api;
    }
    Access::Other
}

/// Longer lines are not searched, in bytes.
const LINE_MAX: usize = 512;

/// Whether the beginning of a line has a word in small letters.
fn has(line: &HeaderValue, word: &str) -> bool {
    let line = line.as_bytes();
    let line = line.get(..LINE_MAX).unwrap_or(line);
    line.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(lines: &[(&'static str, &[u8])]) -> Profile {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Profile::of(&Head {
            headers: &headers,
            query: None,
            host: Some("shop.example"),
            by_key: false,
        })
    }

    fn seen(lines: &[(&'static str, &str)]) -> String {
        let lines: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let Profile {
            access,
            device,
            system,
            browser,
            ..
        } = profile(&lines);
        let words = [access.word(), device.word(), system.word(), browser.word()];
        words.join(" ")
    }

    /// Of each kind one that is met in the field.
    const AGENTS: &[(&str, &str)] = &[
        (
            "browser desktop windows chrome",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        (
            "browser desktop windows edge",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0",
        ),
        (
            "browser desktop windows whale",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Whale/3.28.266.14 Safari/537.36",
        ),
        (
            "browser desktop windows opera",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0",
        ),
        (
            "browser desktop windows vivaldi",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Vivaldi/7.0",
        ),
        (
            "browser desktop windows ie",
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
        ),
        (
            "browser desktop macos safari",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
        ),
        (
            "browser desktop linux firefox",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        ),
        (
            "browser desktop chromeos chrome",
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        (
            "browser mobile ios safari",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
        ),
        (
            "browser tablet ios safari",
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
        ),
        (
            "browser mobile android chrome",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
        ),
        (
            "browser tablet android chrome",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        (
            "browser tablet android samsung",
            "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Safari/537.36",
        ),
        (
            "app mobile ios kakaotalk",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 KAKAOTALK 10.9.0",
        ),
        (
            "app mobile android naver",
            "Mozilla/5.0 (Linux; Android 14; SM-S918N Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 NAVER(inapp; search; 2000; 12.8.4)",
        ),
        (
            "app mobile android webview",
            "Mozilla/5.0 (Linux; Android 14; SM-S918N Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36",
        ),
        (
            "app mobile ios instagram",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/21G80 Instagram 345.0.0.23.94 (iPhone14,5; iOS 17_6)",
        ),
        (
            "app mobile android other",
            "Dalvik/2.1.0 (Linux; U; Android 14; SM-S918N Build/UP1A)",
        ),
        ("app other other other", "okhttp/4.12.0"),
        (
            "app mobile ios other",
            "MyShop/5.2 CFNetwork/1498 Darwin/23.6.0",
        ),
        (
            "browser tv tizen safari",
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) 94.0.4606.31/7.0 TV Safari/537.36",
        ),
        (
            "browser tv webos chrome",
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 (; LGE; webOSTV; WEBOS6.3.2;)",
        ),
        (
            "browser console other safari",
            "Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15",
        ),
        (
            "crawler other other other",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ),
        (
            "tool desktop linux chrome",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36",
        ),
        ("tool other other other", "python-requests/2.32.3"),
        ("tool other other other", "curl/8.5.0"),
        ("tool other other other", "Go-http-client/2.0"),
        ("tool other other other", "Java/17.0.2"),
        ("other other other other", "network online/1.0"),
        ("other other other other", ""),
    ];

    #[test]
    fn each_kind_of_client_is_known_by_its_user_agent() {
        for (expected, agent) in AGENTS {
            assert_eq!(seen(&[("user-agent", agent)]), *expected, "{agent}");
        }
    }

    #[test]
    fn client_hints_win_over_the_user_agent() {
        let frozen = AGENTS[11].1;
        let desktop = AGENTS[0].1;
        let whale = "\"Not.A/Brand\";v=\"8\", \"Chromium\";v=\"130\", \"Whale\";v=\"3\"";
        let cases: &[(&str, &[(&'static str, &str)])] = &[
            (
                "browser tablet android chrome",
                &[("user-agent", frozen), ("sec-ch-ua-mobile", "?0")],
            ),
            (
                "browser desktop macos whale",
                &[
                    ("user-agent", desktop),
                    ("sec-ch-ua", whale),
                    ("sec-ch-ua-mobile", "?0"),
                    ("sec-ch-ua-platform", "\"macOS\""),
                ],
            ),
            (
                "browser mobile windows chrome",
                &[("user-agent", desktop), ("sec-ch-ua-mobile", "?1")],
            ),
            (
                "tool desktop windows chrome",
                &[
                    ("user-agent", desktop),
                    (
                        "sec-ch-ua",
                        "\"HeadlessChrome\";v=\"130\", \"Chromium\";v=\"130\"",
                    ),
                ],
            ),
            // A tablet that wants pages for computers names one in its User-Agent.
            (
                "browser tablet android chrome",
                &[
                    ("user-agent", AGENTS[7].1),
                    ("sec-ch-ua", "\"Google Chrome\""),
                    ("sec-ch-ua-platform", "\"Android\""),
                    ("sec-ch-ua-mobile", "?0"),
                ],
            ),
            (
                "app mobile android naver",
                &[
                    ("user-agent", AGENTS[15].1),
                    ("sec-ch-ua", "\"Android WebView\";v=\"130\""),
                ],
            ),
            // What no browser says changes nothing.
            (
                "browser desktop windows chrome",
                &[
                    ("user-agent", desktop),
                    ("sec-ch-ua", "\"A New One\""),
                    ("sec-ch-ua-platform", "Windows 11"),
                    ("sec-ch-ua-mobile", "yes"),
                ],
            ),
        ];
        for (expected, lines) in cases {
            assert_eq!(seen(lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn how_a_program_came_in_is_told_by_what_it_asks_for_and_by_its_key() {
        assert_eq!(
            profile(&[("accept", b"application/json")]).access,
            Access::Api
        );
        assert_eq!(
            profile(&[("accept", b"text/html, application/json")]).access,
            Access::Other
        );
        let headers =
            HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static("Java/17.0.2"))]);
        let head = Head {
            headers: &headers,
            query: None,
            host: None,
            by_key: true,
        };
        assert_eq!(Profile::of(&head).access, Access::Api);
    }

    #[test]
    fn a_hostile_head_tells_nothing() {
        let long = format!(
            "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0.0.0 {}",
            "x".repeat(8192)
        );
        let hostile: [&[u8]; 4] = [
            long.as_bytes(),
            b"Mozilla/5.0 (Windows NT 10.0)\tChrome/130.0.0.0 Safari/537.36",
            b"Mozilla/5.0 (Windows NT 10.0) \xff\xfe Chrome/130.0.0.0 Safari/537.36",
            "Mozilla/5.0 (Windows NT 10.0) \u{202e} Chrome/130.0.0.0".as_bytes(),
        ];
        for agent in hostile {
            let lines: &[(&'static str, &[u8])] = &[
                ("user-agent", agent),
                ("sec-ch-ua", agent),
                ("sec-ch-ua-mobile", agent),
                ("sec-ch-ua-platform", agent),
                ("referer", agent),
                ("accept", agent),
            ];
            let expected = Profile {
                access: Access::Other,
                source: Source::Other,
                device: Device::Other,
                system: System::Other,
                browser: Browser::Other,
            };
            assert_eq!(profile(lines), expected, "{}", agent.escape_ascii());
        }
    }
}
