//! What a client says it is: its User-Agent, and the Client Hints (User-Agent
//! Client Hints, W3C CG draft §3) which win where a browser sends them: they say
//! what the frozen User-Agent of Chromium hides.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use woothee::parser::{Parser, WootheeResult};

use super::has;
use super::marks::{Mark, Marks};
use super::words::{Browser, Device, System};
use crate::visitor::kind::is_crawler;

/// The longest User-Agent that is read, in bytes: apps that show pages write
/// the longest honest ones, of 600. A longer one tells nothing.
const AGENT_MAX: usize = 1024;

const HINT_BRANDS: HeaderName = HeaderName::from_static("sec-ch-ua");
const HINT_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
const HINT_PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");

/// What a client says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) device: Device,
    pub(super) system: System,
    pub(super) browser: Browser,
    /// A program that fetches, or drives a browser.
    pub(super) is_tool: bool,
    /// An app of its own, or one that shows pages.
    pub(super) is_app: bool,
    pub(super) is_crawler: bool,
}

const UNKNOWN: Agent = Agent {
    device: Device::Other,
    system: System::Other,
    browser: Browser::Other,
    is_tool: false,
    is_app: false,
    is_crawler: false,
};

impl Agent {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT);
        let mut known = agent.and_then(readable).map_or(UNKNOWN, Self::by_name);
        known.is_crawler |= agent.is_some_and(is_crawler);
        known.hinted(headers)
    }

    /// By the User-Agent alone.
    fn by_name(agent: &str) -> Self {
        let marks = Marks::of(agent);
        let parsed = Parser::new().parse(agent).unwrap_or_default();
        let system = system(&parsed, marks);
        let browser = browser(&parsed, marks);
        let shows_pages = matches!(
            browser,
            Browser::KakaoTalk
                | Browser::Naver
                | Browser::Line
                | Browser::Instagram
                | Browser::Facebook
                | Browser::Webview
        );
        Self {
            device: device(&parsed, marks, system),
            system,
            browser,
            is_tool: marks.has(Mark::Tool) || parsed.name == "HTTP Library",
            is_app: shows_pages || marks.has(Mark::App),
            is_crawler: parsed.category == "crawler",
        }
    }

    /// The same, after what the hints say.
    fn hinted(self, headers: &HeaderMap) -> Self {
        let platform = headers.get(HINT_PLATFORM).and_then(readable);
        let system = platform.and_then(platform_of).unwrap_or(self.system);
        let mobile = headers.get(HINT_MOBILE).map(HeaderValue::as_bytes);
        // Chromium calls itself mobile where a page should be a phone's. What is
        // neither a phone nor a television, yet runs a phone's system, is a tablet.
        let device = match (mobile, self.device, system) {
            (Some(b"?1"), Device::Desktop | Device::Tablet | Device::Other, _) => Device::Mobile,
            (Some(b"?0"), Device::Mobile | Device::Desktop | Device::Other, System::Android) => {
                Device::Tablet
            }
            (
                Some(b"?0"),
                Device::Mobile | Device::Other,
                System::Windows | System::MacOs | System::Linux | System::ChromeOs,
            ) => Device::Desktop,
            (_, device, _) => device,
        };
        let brands = headers.get(HINT_BRANDS);
        // An app that shows pages is told by its User-Agent alone: its brands are
        // those of the view that it shows them in.
        let browser = brands
            .filter(|_| !self.is_app)
            .and_then(brand)
            .unwrap_or(self.browser);
        Self {
            device,
            system,
            browser,
            is_tool: self.is_tool || brands.is_some_and(|brands| has(brands, "headless")),
            is_app: self.is_app || browser == Browser::Webview,
            ..self
        }
    }
}

/// Printable ASCII of a sane length; anything else tells nothing.
fn readable(line: &HeaderValue) -> Option<&str> {
    if line.len() > AGENT_MAX {
        return None;
    }
    let text = std::str::from_utf8(line.as_bytes()).ok()?;
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~'))
        .then_some(text)
}

fn system(parsed: &WootheeResult<'_>, marks: Marks) -> System {
    if marks.has(Mark::Tizen) {
        return System::Tizen;
    }
    if marks.has(Mark::WebOs) {
        return System::WebOs;
    }
    if marks.has(Mark::ChromeOs) {
        return System::ChromeOs;
    }
    match parsed.os {
        "iPhone" | "iPad" | "iPod" | "iOS" => System::Ios,
        "Mac OSX" => System::MacOs,
        "Android" => System::Android,
        "Linux" => System::Linux,
        "ChromeOS" => System::ChromeOs,
        name if name.starts_with("Windows") => System::Windows,
        _ => System::Other,
    }
}

fn device(parsed: &WootheeResult<'_>, marks: Marks, system: System) -> Device {
    if marks.has(Mark::Console) {
        return Device::Console;
    }
    // Watches and phones run Tizen too, and say that they are mobile.
    let of_tv = matches!(system, System::Tizen | System::WebOs) && !marks.has(Mark::Mobile);
    if marks.has(Mark::Tv) || of_tv {
        return Device::Tv;
    }
    // Android's own rule: a tablet leaves out the word "Mobile".
    let of_tablet = system == System::Android
        && !marks.has(Mark::Mobile)
        && parsed.name != woothee::woothee::VALUE_UNKNOWN;
    if marks.has(Mark::Tablet) || of_tablet {
        return Device::Tablet;
    }
    match parsed.category {
        "pc" => Device::Desktop,
        "smartphone" | "mobilephone" => Device::Mobile,
        _ => Device::Other,
    }
}

fn browser(parsed: &WootheeResult<'_>, marks: Marks) -> Browser {
    const BY_MARK: &[(Mark, Browser)] = &[
        (Mark::KakaoTalk, Browser::KakaoTalk),
        (Mark::Naver, Browser::Naver),
        (Mark::Line, Browser::Line),
        (Mark::Instagram, Browser::Instagram),
        (Mark::Facebook, Browser::Facebook),
        (Mark::Whale, Browser::Whale),
        (Mark::Vivaldi, Browser::Vivaldi),
    ];
    let marked = BY_MARK.iter().find(|(mark, _)| marks.has(*mark));
    if let Some((_, browser)) = marked {
        return *browser;
    }
    match parsed.name {
        "Chrome" => Browser::Chrome,
        "Safari" => Browser::Safari,
        "Edge" => Browser::Edge,
        "Firefox" => Browser::Firefox,
        "SamsungBrowser" => Browser::Samsung,
        "Opera" => Browser::Opera,
        "Vivaldi" => Browser::Vivaldi,
        "YaBrowser" | "Yandex Browser" => Browser::Yandex,
        "Internet Explorer" => Browser::InternetExplorer,
        "Webview" => Browser::Webview,
        _ => Browser::Other,
    }
}

/// `Sec-CH-UA-Platform` is a string (RFC 9651 §3.3.3) of a closed set.
fn platform_of(hint: &str) -> Option<System> {
    Some(match hint.trim() {
        "\"Windows\"" => System::Windows,
        "\"macOS\"" => System::MacOs,
        "\"iOS\"" => System::Ios,
        "\"Android\"" => System::Android,
        "\"Linux\"" => System::Linux,
        "\"Chrome OS\"" | "\"Chromium OS\"" => System::ChromeOs,
        _ => return None,
    })
}

/// The brand among those of `Sec-CH-UA`, which has decoys and the engine in it too.
fn brand(hint: &HeaderValue) -> Option<Browser> {
    const BRANDS: &[(&str, Browser)] = &[
        ("\"Android WebView\"", Browser::Webview),
        ("\"Microsoft Edge\"", Browser::Edge),
        ("\"Whale\"", Browser::Whale),
        ("\"Samsung Internet\"", Browser::Samsung),
        ("\"Opera", Browser::Opera),
        ("\"Vivaldi\"", Browser::Vivaldi),
        ("\"Yandex\"", Browser::Yandex),
        ("\"YaBrowser\"", Browser::Yandex),
        ("\"Brave\"", Browser::Brave),
        ("\"Google Chrome\"", Browser::Chrome),
        ("\"Chromium\"", Browser::Chrome),
    ];
    let text = readable(hint)?;
    let known = BRANDS.iter().find(|(brand, _)| text.contains(brand));
    known.map(|(_, browser)| *browser)
}
