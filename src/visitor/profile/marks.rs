//! Words in a User-Agent that tell what the parser does not: programs, apps that
//! show pages, tablets, televisions, consoles, and what browsers are in Korea.
//! All of them are found in one walk.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What a word tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A program that fetches, or drives a browser.
    Tool,
    /// An app of its own.
    App,
    /// An app that shows pages.
    KakaoTalk,
    Naver,
    Line,
    Instagram,
    Facebook,
    /// A browser that the parser takes for another.
    Whale,
    Vivaldi,
    Mobile,
    Tablet,
    Tv,
    Tizen,
    WebOs,
    Console,
    ChromeOs,
}

const MARKS: &[(Mark, &[&str])] = &[
    (
        Mark::Tool,
        &[
            "apachebench/",
            "apache-httpclient/",
            "axios/",
            "aiohttp/",
            "colly",
            "curl/",
            "cypress/",
            "faraday",
            "go-http-client/",
            "got (",
            "guzzlehttp/",
            "headlesschrome",
            "htmlunit",
            "httpie/",
            "insomnia/",
            "java/",
            "jmeter",
            "k6/",
            "libwww-perl/",
            "locust",
            "lwp::",
            "mechanize",
            "node-fetch",
            "phantomjs",
            "php/",
            "playwright",
            "postmanruntime/",
            "powershell/",
            "puppeteer",
            "python-",
            "python/",
            "reqwest/",
            "ruby",
            "scrapy/",
            "selenium",
            "undici",
            "vegeta",
            "webdriver",
            "wget/",
            "winhttp",
            "wrk/",
        ],
    ),
    (
        Mark::App,
        &[
            "; wv)",
            "alamofire/",
            "bytedancewebview",
            "cfnetwork/",
            "dalvik/",
            "dart/",
            "daumapps",
            "electron/",
            "gsa/",
            "micromessenger/",
            "musical_ly",
            "okhttp/",
            "pinterest/",
            "snapchat/",
        ],
    ),
    (Mark::KakaoTalk, &["kakaotalk"]),
    (Mark::Naver, &["naver(inapp"]),
    (Mark::Line, &[" line/"]),
    (Mark::Instagram, &["instagram "]),
    (Mark::Facebook, &["fban/", "fbav/", "fb_iab/"]),
    (Mark::Whale, &["whale/"]),
    (Mark::Vivaldi, &["vivaldi/"]),
    (Mark::Mobile, &["mobile", "iphone", "ipod"]),
    (Mark::Tablet, &["ipad", "tablet", "kindle", "silk/"]),
    (
        Mark::Tv,
        &[
            "android tv",
            "apple tv",
            "appletv",
            "bravia",
            "crkey/",
            "googletv",
            "google tv",
            "hbbtv",
            "netcast",
            "roku",
            "smart-tv",
            "smarttv",
            "smart tv",
        ],
    ),
    (Mark::Tizen, &["tizen"]),
    (Mark::WebOs, &["web0s", "webos"]),
    (Mark::Console, &["playstation", "xbox", "nintendo"]),
    (Mark::ChromeOs, &["; cros "]),
];

/// The marks of one User-Agent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks(u32);

impl Marks {
    /// All marks that a text bears.
    pub(super) fn of(agent: &str) -> Self {
        static WORDS: LazyLock<Option<(AhoCorasick, Vec<Mark>)>> = LazyLock::new(|| {
            let mut words: Vec<&str> = Vec::new();
            let mut marks = Vec::new();
            for (mark, known) in MARKS {
                words.extend(*known);
                marks.extend(known.iter().map(|_| *mark));
            }
            let mut builder = AhoCorasick::builder();
            let found = builder.ascii_case_insensitive(true).build(words).ok()?;
            Some((found, marks))
        });
        let Some((words, marks)) = WORDS.as_ref() else {
            return Self::default();
        };
        let found = words
            .find_overlapping_iter(agent)
            .filter_map(|found| marks.get(found.pattern().as_usize()));
        Self(found.fold(0, |all, mark| all | 1 << *mark as u32))
    }

    /// Whether it bears this one.
    pub(super) fn has(self, mark: Mark) -> bool {
        self.0 & 1 << mark as u32 != 0
    }
}
