//! What the head of one request says against a person: what it calls itself, what
//! it leaves out, and what contradicts itself. The order of headers is not looked
//! at: proxies and HTTP/2 change it.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::room::bots::list::AGENT_READ;
use crate::room::bots::{Signal, Signals};

static FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static HINTS: HeaderName = HeaderName::from_static("sec-ch-ua");
static PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");

/// How tools' own User-Agents begin, in small letters: words too short to be looked
/// for elsewhere.
const STARTS: &[&str] = &[
    "curl/", "wget", "xh/", "java/", "php/", "ruby", "perl", "node", "got (", "bun/", "deno/",
    "spring", "k6/", "wrk", "hey/", "oha/", "ureq/", "hyper/", "dart/",
];

/// Words of tools wherever they stand: what scripts are written with, what loads a
/// site, what copies it, what drives a browser. Apps of phones are none, nor is who
/// says that it crawls.
const TOOLS: &[&str] = &[
    "aiohttp",
    "apache-httpasyncclient",
    "apache-httpclient",
    "apachebench",
    "aria2",
    "artillery",
    "autocannon",
    "axios",
    "bombardier",
    "colly",
    "cypress",
    "faraday",
    "fasthttp",
    "gatling",
    "go-http-client",
    "go-resty",
    "guzzle",
    "h2load",
    "hackney",
    "htmlunit",
    "http_request",
    "httpie",
    "httpx",
    "httrack",
    "insomnia",
    "java-http-client",
    "jmeter",
    "libcurl",
    "libwww",
    "locust",
    "lua-resty",
    "lwp-",
    "lwp::",
    "masscan",
    "mechanize",
    "nikto",
    "nmap",
    "node-fetch",
    "nuclei",
    "pecl::http",
    "playwright",
    "postman",
    "powershell",
    "puppeteer",
    "python",
    "reactornetty",
    "reqwest",
    "rest-client",
    "scrapy",
    "selenium",
    "siege",
    "sqlmap",
    "superagent",
    "symfony",
    "typhoeus",
    "undici",
    "urllib",
    "vegeta",
    "webcopier",
    "webdriver",
    "winhttp",
    "zgrab",
];

/// Browsers without a window.
const HEADLESS: &[&str] = &["headless", "phantomjs", "slimerjs", "jsdom"];

/// Apps of phones: they speak to a server as their makers please.
const APPS: &[&str] = &["okhttp", "cfnetwork", "dalvik/", "alamofire", "darwin/"];

/// From this version on Chrome and its kin send `Sec-Fetch-*` (76; a margin).
const FETCH_SINCE: u32 = 80;

/// The head of a request, as far as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether browsers take the way for a safe one: by https, or to this machine.
    pub is_secure: bool,
    /// It calls itself a crawler: what that is worth is told elsewhere.
    pub is_crawler: bool,
}

/// What speaks against a person.
#[must_use]
pub fn signals(head: &Head<'_>) -> Signals {
    let mut signals = Signals::default();
    if head.is_crawler {
        return signals;
    }
    let agent = agent(head.headers);
    let name = named(agent);
    signals.add(Signal::Tool, name == Some(Name::Tool));
    signals.add(Signal::Headless, name == Some(Name::Headless));
    signals.add(Signal::NoAgent, !is_text(agent));
    let language = head.headers.get(header::ACCEPT_LANGUAGE);
    // Libraries that play a browser take whatever language there is.
    let speaks = language.is_some_and(|language| language.as_bytes() != b"*");
    signals.add(Signal::NoLanguage, !speaks && name != Some(Name::App));
    let is_silent = head.is_secure && !head.headers.contains_key(&FETCH_MODE);
    let chrome = number_after(agent, b"Chrome/").filter(|version| *version >= FETCH_SINCE);
    let leaves_out = is_silent && chrome.is_none() && name != Some(Name::App);
    signals.add(Signal::NoFetch, leaves_out);
    let hints = head.headers.get(&HINTS).map(HeaderValue::as_bytes);
    let hints = hints.map(|hints| hints.get(..AGENT_READ).unwrap_or(hints));
    let is_headless = hints.is_some_and(|hints| has(hints, b"Headless"));
    signals.add(Signal::HeadlessHints, is_headless);
    let contradicts = is_silent && chrome.is_some() || contradicts(head.headers, agent, hints);
    signals.add(Signal::Contradiction, contradicts);
    signals
}

/// The beginning of the User-Agent.
#[must_use]
pub fn agent(headers: &HeaderMap) -> &[u8] {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let agent = agent.unwrap_or_default();
    agent.get(..AGENT_READ).unwrap_or(agent)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Headless,
    App,
    Tool,
}

fn named(agent: &[u8]) -> Option<Name> {
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        let words = HEADLESS.iter().chain(APPS).chain(STARTS).chain(TOOLS);
        builder.ascii_case_insensitive(true).build(words).ok()
    });
    let words = WORDS.as_ref()?;
    let apps = HEADLESS.len();
    let starts = apps + APPS.len();
    let tools = starts + STARTS.len();
    let found = words.find_overlapping_iter(agent).filter_map(|found| {
        let word = found.pattern().as_usize();
        let counts = !(starts..tools).contains(&word) || found.start() == 0;
        counts.then_some(word)
    });
    Some(match found.min()? {
        word if word < apps => Name::Headless,
        word if word < starts => Name::App,
        _ => Name::Tool,
    })
}

fn is_text(agent: &[u8]) -> bool {
    !agent.trim_ascii().is_empty() && agent.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn has(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}

/// The number that follows a word.
fn number_after(text: &[u8], word: &[u8]) -> Option<u32> {
    let at = memchr::memmem::find(text, word)? + word.len();
    let digits = text.get(at..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit());
    let digits = digits.get(..end.unwrap_or(digits.len()).min(4))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn contradicts(headers: &HeaderMap, agent: &[u8], hints: Option<&[u8]>) -> bool {
    let chrome = number_after(agent, b"Chrome/");
    let Some(chrome) = chrome else {
        // Only Chromium has Client Hints; apps around it may call themselves anything.
        let is_other = has(agent, b"Firefox/") || has(agent, b"Safari/") && has(agent, b"Version/");
        return hints.is_some() && is_other;
    };
    let told = hints.and_then(|hints| number_after(hints, b"\"Chromium\";v=\""));
    told.is_some_and(|told| told != chrome) || is_elsewhere(headers, agent)
}

/// Whether the platform of the Client Hints is another one than the User-Agent's.
/// A phone that asks for the page of a desktop says `X11; Linux` of itself.
fn is_elsewhere(headers: &HeaderMap, agent: &[u8]) -> bool {
    let Some(platform) = headers.get(&PLATFORM) else {
        return false;
    };
    let fits: &[&[u8]] = match platform.as_bytes() {
        b"\"Windows\"" => &[b"Windows"],
        b"\"macOS\"" => &[b"Mac OS X", b"Macintosh"],
        b"\"Linux\"" | b"\"Android\"" => &[b"Linux", b"Android", b"X11"],
        _ => return false,
    };
    !fits.iter().any(|word| has(agent, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &[u8])], is_secure: bool) -> Vec<Signal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let head = Head {
            headers: &headers,
            is_secure,
            is_crawler: false,
        };
        signals(&head).iter().collect()
    }

    fn by_agent(agent: &str) -> Vec<Signal> {
        let language: (&str, &[u8]) = ("accept-language", b"ko-KR");
        of(&[("user-agent", agent.as_bytes()), language], false)
    }

    #[test]
    fn tools_are_named_and_apps_and_browsers_are_not() {
        for agent in [
            "curl/8.5.0",
            "Wget/1.21.4",
            "python-requests/2.32.3",
            "Python-urllib/3.12",
            "Python/3.12 aiohttp/3.9.5",
            "python-httpx/0.27.0",
            "Scrapy/2.11.2 (+https://scrapy.org)",
            "Go-http-client/1.1",
            "Java/17.0.10",
            "Java-http-client/21",
            "Apache-HttpClient/4.5.14 (Java/1.8.0_392)",
            "k6/0.49.0 (https://k6.io/)",
            "axios/1.7.2",
            "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
            "undici",
            "GuzzleHttp/7",
            "Ruby",
            "libwww-perl/6.72",
            "PostmanRuntime/7.39.0",
            "ApacheBench/2.3",
            "reqwest/0.12",
            "wrk/4.2",
            "oha/1.4.5",
        ] {
            assert_eq!(by_agent(agent), [Signal::Tool], "{agent}");
        }
        for agent in [
            "okhttp/4.12.0",
            "MyShop/5.2 CFNetwork/1498 Darwin/23.6.0",
            "Dalvik/2.1.0 (Linux; U; Android 14; SM-S918N Build/UP1A)",
            "Mozilla/5.0 (Linux; Android 14; Ruby) AppleWebKit/537.36 (KHTML, like Gecko) Aloha/5 Ubuntu",
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        ] {
            assert_eq!(by_agent(agent), [], "{agent}");
        }
        let headless = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                        HeadlessChrome/130.0.0.0 Safari/537.36";
        assert_eq!(by_agent(headless), [Signal::Headless]);
    }

    #[test]
    fn what_is_missing_is_told_but_not_of_apps() {
        assert_eq!(of(&[], false), [Signal::NoAgent, Signal::NoLanguage]);
        let all = [Signal::NoAgent, Signal::NoLanguage, Signal::NoFetch];
        assert_eq!(of(&[], true), all);
        let app: (&str, &[u8]) = ("user-agent", b"okhttp/4.12.0");
        assert_eq!(of(&[app], true), []);
    }

    const WINDOWS: &[u8] = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
        (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";

    #[test]
    fn a_chrome_that_does_not_speak_like_one_contradicts_itself() {
        let agent = ("user-agent", WINDOWS);
        let language: (&str, &[u8]) = ("accept-language", b"ko");
        let fetch: (&str, &[u8]) = ("sec-fetch-mode", b"navigate");
        let hints: (&str, &[u8]) = (
            "sec-ch-ua",
            b"\"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
        );
        let old: (&str, &[u8]) = ("sec-ch-ua", b"\"Chromium\";v=\"118\"");
        let linux: (&str, &[u8]) = ("sec-ch-ua-platform", b"\"Linux\"");
        let windows: (&str, &[u8]) = ("sec-ch-ua-platform", b"\"Windows\"");
        let wrong = vec![Signal::Contradiction];
        assert_eq!(of(&[agent, language], false), []);
        assert_eq!(of(&[agent, language], true), wrong);
        assert_eq!(of(&[agent, language, fetch, hints, windows], true), []);
        assert_eq!(of(&[agent, language, fetch, old], true), wrong);
        assert_eq!(of(&[agent, language, fetch, hints, linux], true), wrong);
        let headless: (&str, &[u8]) = (
            "sec-ch-ua",
            b"\"HeadlessChrome\";v=\"130\", \"Chromium\";v=\"130\"",
        );
        let hinted = vec![Signal::HeadlessHints];
        assert_eq!(of(&[agent, language, fetch, headless], true), hinted);
        let firefox: (&str, &[u8]) = (
            "user-agent",
            b"Mozilla/5.0 (X11; rv:130.0) Gecko/20100101 Firefox/130.0",
        );
        assert_eq!(of(&[firefox, language, fetch, hints], true), wrong);
    }

    #[test]
    fn hostile_agents_are_read_to_a_bound_and_are_nobodys_name() {
        let language: (&str, &[u8]) = ("accept-language", b"ko");
        for agent in [&[0xff_u8, 0xfe, 0x80][..], b"a\tb", &[0xed, 0x95, 0x9c]] {
            assert_eq!(
                of(&[("user-agent", agent), language], false),
                [Signal::NoAgent]
            );
        }
        let mut long = vec![b'x'; 8_192];
        long.extend_from_slice(b"curl/8");
        assert_eq!(of(&[("user-agent", &long), language], false), []);
        let digits = format!("Chrome/{}", "9".repeat(8_000));
        let told = of(&[("user-agent", digits.as_bytes()), language], true);
        assert_eq!(told, [Signal::Contradiction]);
        assert_eq!(number_after(b"Chrome/", b"Chrome/"), None);
    }

    #[test]
    fn who_calls_itself_a_crawler_is_judged_elsewhere() {
        let head = Head {
            headers: &HeaderMap::new(),
            is_secure: true,
            is_crawler: true,
        };
        assert!(signals(&head).is_empty());
    }

    #[test]
    fn every_word_is_in_small_letters_and_there_once() {
        let all: Vec<_> = HEADLESS
            .iter()
            .chain(APPS)
            .chain(STARTS)
            .chain(TOOLS)
            .collect();
        for (at, word) in all.iter().enumerate() {
            assert_eq!(word.to_ascii_lowercase(), **word);
            assert!(!all[..at].contains(word), "{word}");
        }
    }
}
