//! The short pages for a visitor who neither passes nor waits: turned away,
//! asked to come back, or told that the site behind us fails.

use std::sync::LazyLock;

use http::{HeaderValue, StatusCode};
use minijinja::{Value, context};

use super::texts::{Saying, Texts};
use super::{
    Language, MARK, MESSAGE_SHOWN, NAME_SHOWN, REFRESH_FLOOR_SECONDS, STYLE, fill, policy, shorten,
};

/// One of our short pages.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The language of every word but the operator's own.
    pub language: Language,
    /// What there is to say.
    pub kind: NoticeKind,
    /// The event's name for people, where there is one. Cut off at 80 characters.
    pub event_name: Option<&'a str>,
    /// The operator's message, as plain text. Cut off at 1,000 characters.
    pub message: Option<&'a str>,
    /// If given, the page asks for its address again by itself after so many
    /// seconds (at least 5), by GET: give none where that would be wrong.
    pub retry_after_seconds: Option<u64>,
}

/// What a notice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// No more tickets: as many wait as may.
    LineFull,
    /// The operator closed the event.
    Closed,
    /// The event has not begun.
    NotBegun,
    /// The event is over, or sold out.
    Ended,
    /// Too many joins from one address.
    RateLimited,
    /// A program, as far as it shows, or somebody whom a list names.
    Bot,
    /// One visitor asks for more than one may.
    SessionBusy,
    /// The origin refused or lost the connection.
    OriginUnreachable,
    /// The origin did not answer in time.
    OriginSlow,
    /// All connections that the origin may have are in use.
    OriginBusy,
    /// A host name that is not served here.
    UnknownHost,
    /// A token signed with a key that this gateway does not know (yet).
    UnknownKey,
}

impl NoticeKind {
    /// Every kind, for those who must show them all.
    pub const ALL: [Self; 12] = [
        Self::LineFull,
        Self::Closed,
        Self::NotBegun,
        Self::Ended,
        Self::RateLimited,
        Self::Bot,
        Self::SessionBusy,
        Self::OriginUnreachable,
        Self::OriginSlow,
        Self::OriginBusy,
        Self::UnknownHost,
        Self::UnknownKey,
    ];

    /// The status that fits: 503, or what RFC 9110 §15 and RFC 6585 have for the case.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::LineFull
            | Self::Closed
            | Self::NotBegun
            | Self::Ended
            | Self::OriginBusy
            | Self::UnknownKey => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited | Self::SessionBusy => StatusCode::TOO_MANY_REQUESTS,
            Self::Bot => StatusCode::FORBIDDEN,
            Self::OriginUnreachable => StatusCode::BAD_GATEWAY,
            Self::OriginSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// Whether asking again can help the reader.
    const fn may_pass(self) -> bool {
        !matches!(self, Self::Ended | Self::UnknownHost)
    }
}

impl Notice<'_> {
    /// The page as HTML in UTF-8.
    #[must_use]
    pub fn render(&self) -> String {
        let texts = Texts::of(self.language);
        let Saying(heading, text) = texts.notice(self.kind);
        let name = shorten(self.event_name.unwrap_or_default(), NAME_SHOWN);
        let seconds = self
            .retry_after_seconds
            .map(|seconds| seconds.max(REFRESH_FLOOR_SECONDS).to_string());
        let retry = seconds
            .as_deref()
            .map(|seconds| texts.retry.replace("{n}", seconds));
        let values = context! {
            t => Texts::for_templates(self.language),
            title => if name.is_empty() { heading.to_owned() } else { format!("{heading} · {name}") },
            heading,
            text,
            message => shorten(self.message.unwrap_or_default(), MESSAGE_SHOWN),
            refresh => seconds.as_deref().unwrap_or_default(),
            retry => retry.as_deref().unwrap_or_default(),
            again => seconds.is_none() && self.kind.may_pass(),
            mark => Value::from_safe_string(MARK.to_owned()),
            style => Value::from_safe_string(STYLE.clone()),
            name,
        };
        fill("notice.html", values)
    }

    /// The `Content-Security-Policy` of every notice: no script at all.
    #[must_use]
    pub fn csp() -> HeaderValue {
        static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(&[]));
        POLICY.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::source_hash;
    use super::*;

    fn notice(kind: NoticeKind, language: Language) -> Notice<'static> {
        Notice {
            language,
            kind,
            event_name: Some("Main site"),
            message: None,
            retry_after_seconds: None,
        }
    }

    #[test]
    fn every_notice_says_its_own_in_both_languages() {
        let mut seen = std::collections::HashSet::new();
        for kind in NoticeKind::ALL {
            for language in [Language::Korean, Language::English] {
                let html = notice(kind, language).render();
                let Saying(heading, text) = Texts::of(language).notice(kind);
                assert!(html.contains(&format!("<h1>{heading}</h1>")) && html.contains(text));
                assert!(html.contains(&format!("<html lang=\"{}\">", language.tag())));
                assert!(seen.insert(text), "said twice: {text}");
                assert!(html.len() < 8_000, "{}", html.len());
                assert!(!html.contains("<script") && !html.contains("refresh"));
                for word in ["http:", "https:", "//", "src=", "url("] {
                    assert!(!html.contains(word), "{word}");
                }
            }
        }
    }

    #[test]
    fn a_notice_that_retries_says_when_and_does() {
        for (asked, told) in [(0, 5), (5, 5), (30, 30)] {
            let html = Notice {
                retry_after_seconds: Some(asked),
                ..notice(NoticeKind::RateLimited, Language::English)
            }
            .render();
            assert!(html.contains(&format!("http-equiv=\"refresh\" content=\"{told}\"")));
            assert!(html.contains(&format!("by itself in about {told} seconds")));
            assert!(!html.contains("Try again"), "an invitation to hurry");
        }
    }

    #[test]
    fn hostile_values_stay_text() {
        let html = Notice {
            event_name: Some("</title><script>alert(1)</script>"),
            message: Some("<img src=x>\n{{ 7*7 }}"),
            ..notice(NoticeKind::Closed, Language::Korean)
        }
        .render();
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("49"));
        assert_eq!(html.matches("</title>").count(), 1);
    }

    #[test]
    fn a_notice_without_event_has_no_empty_name() {
        let html = Notice {
            event_name: None,
            ..notice(NoticeKind::UnknownHost, Language::English)
        };
        let html = html.render();
        assert!(html.contains("<title>No site at this address</title>"));
        assert!(!html.contains("<span></span>") && !html.contains("href=\"\""));
    }

    #[test]
    fn the_policy_names_the_style_and_allows_no_script() {
        let html = notice(NoticeKind::Ended, Language::English).render();
        let (_, rest) = html.split_once("<style>").unwrap();
        let style = source_hash(rest.split_once("</style>").unwrap().0);
        let policy = Notice::csp();
        let policy = policy.to_str().unwrap();
        assert!(policy.contains(&format!("style-src '{style}';")));
        assert!(!policy.contains("script") && !policy.contains("connect"));
    }

    #[test]
    fn each_kind_has_a_status_of_error() {
        for kind in NoticeKind::ALL {
            assert!(kind.status().as_u16() >= 400, "{kind:?}");
        }
    }
}
