//! Clients by the headers that they really send.

/// A client's name, and its headers but the cookies and the host.
pub(super) type Client = (&'static str, &'static [(&'static str, &'static str)]);

const HTML: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

/// What people hold in their hands.
pub(super) const BROWSERS: &[Client] = &[
    (
        "Chrome on Windows",
        &[
            (
                "sec-ch-ua",
                "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
            ),
            ("sec-ch-ua-mobile", "?0"),
            ("sec-ch-ua-platform", "\"Windows\""),
            ("upgrade-insecure-requests", "1"),
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-user", "?1"),
            ("sec-fetch-dest", "document"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"),
        ],
    ),
    (
        "Chrome on Android",
        &[
            (
                "sec-ch-ua",
                "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
            ),
            ("sec-ch-ua-mobile", "?1"),
            ("sec-ch-ua-platform", "\"Android\""),
            (
                "user-agent",
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "Safari on iOS 17",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "Safari on iOS 15, before it spoke of fetches",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 15_8 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.6.1 Mobile/15E148 Safari/604.1",
            ),
            ("accept", HTML),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "Safari on macOS",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "en-GB,en;q=0.9"),
        ],
    ),
    (
        "Firefox on Linux",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
            ),
            ("accept", HTML),
            ("accept-language", "ko-KR,ko;q=0.8,en-US;q=0.5,en;q=0.3"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("priority", "u=0, i"),
        ],
    ),
    (
        "Samsung Internet",
        &[
            (
                "sec-ch-ua",
                "\"Samsung Internet\";v=\"25.0\", \"Chromium\";v=\"121\", \"Not=A?Brand\";v=\"24\"",
            ),
            ("sec-ch-ua-mobile", "?1"),
            ("sec-ch-ua-platform", "\"Android\""),
            (
                "user-agent",
                "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918N) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "a phone that asks for the page of a desktop",
        &[
            (
                "sec-ch-ua",
                "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\"",
            ),
            ("sec-ch-ua-mobile", "?0"),
            ("sec-ch-ua-platform", "\"Android\""),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "Edge",
        &[
            (
                "sec-ch-ua",
                "\"Chromium\";v=\"130\", \"Microsoft Edge\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
            ),
            ("sec-ch-ua-mobile", "?0"),
            ("sec-ch-ua-platform", "\"Windows\""),
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko,en;q=0.9"),
        ],
    ),
    (
        "Whale",
        &[
            (
                "sec-ch-ua",
                "\"Whale\";v=\"3\", \"Chromium\";v=\"130\", \"Not.A/Brand\";v=\"8\"",
            ),
            ("sec-ch-ua-platform", "\"Windows\""),
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Whale/3.28.266.14 Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "a page within KakaoTalk on iOS",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 KAKAOTALK 10.9.0",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "a page within KakaoTalk on Android",
        &[
            (
                "sec-ch-ua",
                "\"Chromium\";v=\"130\", \"Android WebView\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
            ),
            ("sec-ch-ua-mobile", "?1"),
            ("sec-ch-ua-platform", "\"Android\""),
            (
                "user-agent",
                "Mozilla/5.0 (Linux; Android 14; SM-S918N Build/UP1A.231005.007; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.6723.86 Mobile Safari/537.36;KAKAOTALK 2410950",
            ),
            ("accept", HTML),
            ("x-requested-with", "com.kakao.talk"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"),
        ],
    ),
    (
        "a page within Naver's app",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (Linux; Android 14; SM-S918N Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 NAVER(inapp; search; 2000; 12.8.4)",
            ),
            ("accept", HTML),
            ("x-requested-with", "com.nhn.android.search"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "ko-KR,ko;q=0.9"),
        ],
    ),
    (
        "Internet Explorer, which some offices still have",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            ),
            ("accept", "text/html, application/xhtml+xml, */*"),
            ("accept-language", "ko-KR"),
        ],
    ),
    (
        "an app of the shop's own",
        &[
            ("user-agent", "okhttp/4.12.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
        ],
    ),
];

/// What scripts send when nobody dresses them up.
pub(super) const SCRIPTS: &[Client] = &[
    ("curl", &[("user-agent", "curl/8.5.0"), ("accept", "*/*")]),
    (
        "Wget",
        &[
            ("user-agent", "Wget/1.21.4"),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
        ],
    ),
    (
        "python-requests",
        &[
            ("user-agent", "python-requests/2.32.3"),
            ("accept-encoding", "gzip, deflate"),
            ("accept", "*/*"),
        ],
    ),
    (
        "aiohttp",
        &[
            ("user-agent", "Python/3.12 aiohttp/3.9.5"),
            ("accept", "*/*"),
            ("accept-encoding", "gzip, deflate"),
        ],
    ),
    (
        "Go",
        &[
            ("user-agent", "Go-http-client/1.1"),
            ("accept-encoding", "gzip"),
        ],
    ),
    (
        "Java",
        &[
            ("user-agent", "Java/17.0.10"),
            ("accept", "text/html, image/gif, image/jpeg, */*; q=.2"),
        ],
    ),
    (
        "HttpClient",
        &[
            ("user-agent", "Apache-HttpClient/4.5.14 (Java/1.8.0_392)"),
            ("accept-encoding", "gzip,deflate"),
        ],
    ),
    (
        "Scrapy",
        &[
            ("user-agent", "Scrapy/2.11.2 (+https://scrapy.org)"),
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ),
            ("accept-language", "en"),
        ],
    ),
    (
        "node-fetch",
        &[
            (
                "user-agent",
                "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
            ),
            ("accept", "*/*"),
        ],
    ),
    (
        "fetch of Node.js",
        &[
            ("user-agent", "node"),
            ("accept", "*/*"),
            ("accept-language", "*"),
            ("sec-fetch-mode", "cors"),
        ],
    ),
    ("k6", &[("user-agent", "k6/0.49.0 (https://k6.io/)")]),
    ("wrk, which says nothing", &[]),
    (
        "headless Chrome",
        &[
            (
                "sec-ch-ua",
                "\"HeadlessChrome\";v=\"130\", \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
            ),
            ("sec-ch-ua-platform", "\"Linux\""),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36",
            ),
            ("accept", HTML),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-language", "en-US"),
        ],
    ),
    (
        "a script that calls itself Chrome",
        &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            ),
            ("accept", "*/*"),
            ("accept-encoding", "gzip, deflate"),
        ],
    ),
];
