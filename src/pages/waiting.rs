//! The waiting page: served at the address that was asked for, it shows the
//! place, keeps it by polling, and enters by itself when the turn comes.

use std::sync::LazyLock;

use http::HeaderValue;
use minijinja::{Value, context};
use serde::Serialize;

use super::texts::{LiveTexts, Texts, people};
use super::{
    Language, MARK, MESSAGE_SHOWN, NAME_SHOWN, REFRESH_FLOOR_SECONDS, RETURN, SCRIPT, STYLE, fill,
    policy, shorten,
};

/// What a visitor who has a ticket is shown.
#[derive(Debug, Clone, Copy)]
pub struct WaitingPage<'a> {
    /// The language of every word but the operator's own.
    pub language: Language,
    /// The event's id, which the page's polls name.
    pub event_id: &'a str,
    /// The event's name for people; if blank, its id is shown. Cut off at 80 characters.
    pub event_name: &'a str,
    /// The signed ticket. It stands in the page, so that each tab knows its own.
    pub ticket: &'a str,
    /// The place in line, from 1; unknown for example during a recovery.
    pub position: Option<u64>,
    /// How many stand behind.
    pub behind: Option<u64>,
    /// The shortest wait to expect, in seconds.
    pub low_seconds: Option<u64>,
    /// The longest wait to expect, in seconds.
    pub high_seconds: Option<u64>,
    /// The position is approximate, and the page says so.
    pub about: bool,
    /// The turn has come, and a slot is being freed.
    pub called: bool,
    /// When the page polls for the first time, in milliseconds; at least 1000.
    pub poll_after_ms: u64,
    /// The operator's message, as plain text. Cut off at 1,000 characters.
    pub message: Option<&'a str>,
    /// When the numbers above were true, in milliseconds since 1970.
    pub updated_unix_ms: u64,
    /// Why nobody is let in by this place at the moment, if that is so.
    pub held: Option<HeldBy>,
    /// How the page leaves.
    pub enter: Enter<'a>,
    /// A path that no person sees: linked to where neither eye nor ear gets.
    pub decoy: Option<&'a str>,
}

/// Why a place is kept and nobody let in by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// The store is away.
    StoreAway,
    /// The turn has come, and the visitor's address has its share of the limit.
    AddressShare,
}

/// How a waiting page leaves when the turn comes. Paths carry their query and
/// begin with one slash; anything else would let a link send visitors to
/// foreign sites, and becomes `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter<'a> {
    /// By loading its own address again: query string, fragment and referrer survive.
    Reload,
    /// By going to a path of this host, without a trace in the history.
    GoTo(&'a str),
    /// The page answers a form: it says that the form was not sent, and goes
    /// to this path by GET. A reload would send the form a second time.
    FormNotSent(&'a str),
}

/// What the script reads; the name and the message it takes from the page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageData<'a> {
    event_id: &'a str,
    ticket: &'a str,
    lang: &'static str,
    poll_after_ms: u64,
    enter: Option<&'a str>,
    /// The script of the stop on the way back.
    back: &'a str,
    called: bool,
    degraded: bool,
    info: Info,
    texts: &'static LiveTexts,
}

/// The same as `expectedInfo` of the API.
#[derive(Serialize)]
struct Info {
    rank: Option<u64>,
    behind: Option<u64>,
    about: bool,
    low: Option<u64>,
    high: Option<u64>,
}

impl WaitingPage<'_> {
    /// The page as HTML in UTF-8.
    #[must_use]
    pub fn render(&self) -> String {
        let texts = Texts::of(self.language);
        let live = &texts.live;
        let name = self.name();
        let message = self.message.map(|text| shorten(text, MESSAGE_SHOWN));
        let message = message.filter(|text| !text.is_empty());
        let place = self.position.map(|position| people(position, self.about));
        let behind = self
            .behind
            .map(|count| live.people.replace("{n}", &people(count, self.about)));
        let (heading, lead) = if self.called {
            (texts.live.turn, texts.live.called)
        } else {
            (texts.live.heading, texts.live.lead)
        };
        let seconds = self.refresh_seconds();
        let values = context! {
            t => Texts::for_templates(self.language),
            title => self.title(live, &name),
            refresh => self.refresh(seconds),
            state => if self.called { "turn" } else { "wait" },
            form_not_sent => matches!(self.enter, Enter::FormNotSent(_)),
            heading,
            lead,
            about => self.about && place.is_some(),
            place_unknown => place.is_none(),
            place => place.as_deref().unwrap_or(live.unknown),
            wait => live.range(self.low_seconds, self.high_seconds),
            behind => behind.as_deref().unwrap_or(live.unknown),
            updated => texts.clock_time(self.updated_unix_ms),
            note => match self.held {
                Some(HeldBy::StoreAway) => live.degraded,
                Some(HeldBy::AddressShare) => live.shared,
                None => "",
            },
            message => message.as_deref().unwrap_or_default(),
            noscript => texts.noscript.replace("{n}", &seconds.to_string()),
            data => Value::from_safe_string(self.data(live)),
            mark => Value::from_safe_string(MARK.to_owned()),
            style => Value::from_safe_string(STYLE.clone()),
            script => Value::from_safe_string(SCRIPT.clone()),
            name => name.as_str(),
            decoy => self.decoy.unwrap_or_default(),
        };
        fill("waiting.html", values)
    }

    /// The `Content-Security-Policy` of every waiting page.
    #[must_use]
    pub fn csp() -> HeaderValue {
        static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(&[&SCRIPT, &RETURN]));
        POLICY.clone()
    }

    fn name(&self) -> String {
        let name = shorten(self.event_name, NAME_SHOWN);
        if name.is_empty() {
            self.event_id.to_owned()
        } else {
            name
        }
    }

    fn title(&self, live: &LiveTexts, name: &str) -> String {
        match self.position {
            _ if self.called => format!("▶ {} · {name}", live.turn),
            Some(position) => format!("({}) {name}", people(position, self.about)),
            None => name.to_owned(),
        }
    }

    fn refresh_seconds(&self) -> u64 {
        self.poll_after_ms.div_ceil(1000).max(REFRESH_FLOOR_SECONDS)
    }

    fn refresh(&self, seconds: u64) -> String {
        match self.enter.path() {
            Some(path) => format!("{seconds};url={path}"),
            None => seconds.to_string(),
        }
    }

    fn data(&self, live: &'static LiveTexts) -> String {
        let data = PageData {
            event_id: self.event_id,
            ticket: self.ticket,
            lang: self.language.tag(),
            poll_after_ms: self.poll_after_ms.max(1000),
            enter: self.enter.path(),
            back: &RETURN,
            called: self.called,
            degraded: self.held == Some(HeldBy::StoreAway),
            info: Info {
                rank: self.position,
                behind: self.behind,
                about: self.about,
                low: self.low_seconds,
                high: self.high_seconds,
            },
            texts: live,
        };
        embeddable(&serde_json::to_string(&data).unwrap_or_default())
    }
}

impl<'a> Enter<'a> {
    /// Where to go; nowhere else for a reload.
    fn path(self) -> Option<&'a str> {
        match self {
            Self::Reload => None,
            Self::GoTo(path) | Self::FormNotSent(path) => Some(own_path(path)),
        }
    }
}

/// `path` if a browser reads it as a path of this host, else `/`. Browsers
/// take a backslash for a slash and drop tabs and line ends, so that all of
/// these could begin with two slashes, which names another host.
fn own_path(path: &str) -> &str {
    let second = path.as_bytes().get(1);
    let odd = |byte: u8| byte == b'\\' || byte <= b' ' || byte == 0x7f;
    if path.starts_with('/') && second != Some(&b'/') && !path.bytes().any(odd) {
        path
    } else {
        "/"
    }
}

/// JSON that cannot end the `<script>` element around it, nor begin a comment.
fn embeddable(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::source_hash;
    use super::*;

    const HOSTILE: &str =
        "</script><!--<script>alert(1)</script>\"'&amp;<img src=x>{{ 7*7 }}\u{2028}";

    fn page(language: Language) -> WaitingPage<'static> {
        WaitingPage {
            language,
            event_id: "main",
            event_name: "Main site",
            ticket: "e30.eyJudW0iOjd9.c2ln",
            position: Some(12_345),
            behind: Some(4_211),
            low_seconds: Some(310),
            high_seconds: Some(590),
            about: false,
            called: false,
            poll_after_ms: 3_000,
            message: None,
            updated_unix_ms: 1_764_000_000_123,
            held: None,
            enter: Enter::Reload,
            decoy: None,
        }
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }

    fn data(html: &str) -> serde_json::Value {
        let json = between(
            html,
            "<script type=\"application/json\" id=\"data\">",
            "</script>",
        );
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_page_tells_place_people_wait_and_time_in_both_languages() {
        let english = page(Language::English).render();
        for part in [
            "<html lang=\"en\">",
            "<title>(12,345) Main site</title>",
            ">12,345</b>",
            ">4,211</dd>",
            ">5–10 min</dd>",
            ">16:00:00 UTC</dd>",
        ] {
            assert!(english.contains(part), "{part}");
        }
        let korean = page(Language::Korean).render();
        for part in [
            "<html lang=\"ko\">",
            ">12,345</b>",
            ">4,211명</dd>",
            ">5~10분</dd>",
        ] {
            assert!(korean.contains(part), "{part}");
        }
    }

    #[test]
    fn a_decoy_is_linked_to_where_no_person_meets_it() {
        assert!(!page(Language::Korean).render().contains("nofollow"));
        let html = WaitingPage {
            decoy: Some("/__sumun-list"),
            ..page(Language::Korean)
        }
        .render();
        // The templates escape slashes, which reads the same.
        let link = between(&html, "<a href=\"", "</a>").replace("&#x2f;", "/");
        assert_eq!(
            link,
            "/__sumun-list\" rel=\"nofollow\" tabindex=\"-1\" aria-hidden=\"true\" hidden>"
        );
    }

    #[test]
    fn an_approximate_place_says_so() {
        let html = WaitingPage {
            about: true,
            ..page(Language::Korean)
        }
        .render();
        assert!(
            html.contains("<small id=\"about\">약 </small><b id=\"place\">12,400</b>")
                && html.contains("<title>(12,400) ")
        );
    }

    #[test]
    fn a_place_not_known_yet_is_said_and_not_invented() {
        let html = WaitingPage {
            position: None,
            behind: None,
            low_seconds: None,
            held: Some(HeldBy::StoreAway),
            ..page(Language::English)
        }
        .render();
        assert_eq!(html.matches(">Not known yet</").count(), 3);
        assert!(html.contains("<title>Main site</title>") && html.contains(">We keep your place."));
    }

    #[test]
    fn a_called_visitor_reads_that_it_is_their_turn() {
        let html = WaitingPage {
            called: true,
            ..page(Language::English)
        }
        .render();
        assert!(html.contains("<title>▶ It is your turn · Main site</title>"));
        assert!(html.contains("data-state=\"turn\""));
    }

    #[test]
    fn the_largest_page_stays_under_20_kilobytes() {
        let name = "수".repeat(500);
        let message = "문".repeat(1000);
        let ticket = "t".repeat(700);
        let path = format!("/shop?query={}", "%EC%88%98".repeat(50));
        for language in [Language::Korean, Language::English] {
            let usual = page(language).render();
            assert!(usual.len() < 20_000, "{language:?}: {}", usual.len());
            let html = WaitingPage {
                event_name: &name,
                ticket: &ticket,
                position: Some(u64::MAX),
                behind: Some(u64::MAX),
                message: Some(&message[..3 * 120]),
                held: Some(HeldBy::StoreAway),
                about: true,
                enter: Enter::FormNotSent(&path),
                ..page(language)
            }
            .render();
            assert!(html.len() < 20 << 10, "{language:?}: {}", html.len());
        }
    }

    #[test]
    fn the_longest_message_leaves_the_page_under_20_kilobytes() {
        // As many characters as an event may have: of three bytes, and of one to be escaped.
        for message in ["문".repeat(500), "\"".repeat(500)] {
            for language in [Language::Korean, Language::English] {
                let html = WaitingPage {
                    message: Some(&message),
                    ..page(language)
                }
                .render();
                assert!(html.len() < 20 << 10, "{language:?}: {}", html.len());
                assert!(!html.contains('…'), "it is shown whole");
            }
        }
    }

    #[test]
    fn names_and_messages_are_bounded() {
        let long = "가".repeat(100_000);
        let html = WaitingPage {
            event_name: &long,
            message: Some(&long),
            ..page(Language::Korean)
        };
        assert!(html.render().len() < 40_000);
    }

    #[test]
    fn hostile_values_stay_text() {
        let html = WaitingPage {
            event_id: HOSTILE,
            event_name: HOSTILE,
            ticket: HOSTILE,
            message: Some(HOSTILE),
            enter: Enter::GoTo("/a?b=\"><script>alert(1)</script>"),
            ..page(Language::English)
        }
        .render();
        let ours = html.replace("'<script>'", "");
        assert_eq!(
            ours.matches("<script").count(),
            2,
            "the data and our script"
        );
        assert_eq!(ours.matches("</script>").count(), 2);
        assert!(!html.contains("<img") && !html.contains("<!--") && !html.contains("49"));
        let data = data(&html);
        for field in ["eventId", "ticket"] {
            assert_eq!(data[field], HOSTILE, "{field}");
        }
    }

    #[test]
    fn only_paths_of_this_host_are_gone_to() {
        let good = [
            "/",
            "/a/b?c=d&e=//f",
            "/a//b",
            "/%2f%2fevil.example",
            "/한글",
        ];
        for path in good {
            assert_eq!(own_path(path), path);
        }
        let bad = [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            " /a",
            "https://evil.example/",
            "javascript:alert(1)",
            "/a b",
            "/a\u{7f}",
            "?a",
        ];
        for path in bad {
            assert_eq!(own_path(path), "/", "{path:?}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_anywhere_else() {
        let html = page(Language::Korean).render();
        let without_comparison = html.replace("/^(https?:\\/\\/|", "");
        for word in ["http:", "https:", "src=", "url(", "@import", "\"//", "'//"] {
            assert!(!without_comparison.contains(word), "{word}");
        }
        assert_eq!(
            html.matches(" href=").count(),
            2,
            "an empty icon and the door"
        );
        assert!(html.contains("<link rel=\"icon\" href=\"data:,\">") && html.contains("href=\"\""));
    }

    #[test]
    fn the_policy_names_the_very_style_and_script_of_the_page() {
        let html = page(Language::English).render();
        let policy = WaitingPage::csp();
        let policy = policy.to_str().unwrap();
        let style = source_hash(between(&html, "<style>", "</style>"));
        let script = source_hash(between(&html, "<script>", "</script>"));
        assert!(policy.starts_with("default-src 'none'; "));
        let stop = source_hash(&RETURN);
        assert!(policy.contains(&format!(
            "style-src '{style}'; script-src '{script}' '{stop}'; "
        )));
        assert!(!policy.contains("unsafe") && !html.contains(" style="));
        assert_eq!(html.matches("<style").count(), 1);
    }

    #[test]
    fn without_script_the_page_refreshes_itself_no_faster_than_five_seconds() {
        let html = page(Language::English).render();
        assert!(html.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"));
        assert!(html.contains("refreshes itself every 5 seconds"));
        let html = WaitingPage {
            poll_after_ms: 41_001,
            ..page(Language::Korean)
        }
        .render();
        assert!(html.contains("content=\"42\"") && html.contains("42초마다"));
    }

    #[test]
    fn a_form_that_was_not_sent_is_said_so_and_never_sent_again() {
        for language in [Language::Korean, Language::English] {
            let html = WaitingPage {
                enter: Enter::FormNotSent("/order?x=1&y=2"),
                ..page(language)
            };
            let html = html.render();
            assert!(html.contains(Texts::of(language).form_not_sent));
            assert_eq!(data(&html)["enter"], "/order?x=1&y=2");
            assert!(html.contains("content=\"5;url=&#x2f;order?x=1&amp;y=2\""));
        }
        let plain = page(Language::English).render();
        assert!(!plain.contains("was not sent") && data(&plain)["enter"].is_null());
    }

    #[test]
    fn the_first_poll_is_never_sooner_than_a_second() {
        let html = WaitingPage {
            poll_after_ms: 0,
            ..page(Language::English)
        }
        .render();
        assert_eq!(data(&html)["pollAfterMs"], 1000);
    }
}
