//! Everything that Sumun itself shows a person: the waiting page and the
//! notices. Pure functions from plain structs to HTML and to the
//! `Content-Security-Policy` that fits it. Each page is one response without
//! any further resource, because the site behind it may be what is failing.

mod language;
mod notice;
mod texts;
mod waiting;

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use minifier::{css, js};
use minijinja::{Environment, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};

pub use language::Language;
pub use notice::{Notice, NoticeKind};
pub use waiting::{Enter, HeldBy, WaitingPage};

/// Longest event name shown, in characters; the rest is cut off.
const NAME_SHOWN: usize = 80;
/// Longest operator's message shown, in characters; the rest is cut off.
const MESSAGE_SHOWN: usize = 1000;
/// Shortest self-refresh of a page without script, in seconds.
const REFRESH_FLOOR_SECONDS: u64 = 5;

/// The one style sheet, without what only our readers need.
static STYLE: LazyLock<String> = LazyLock::new(|| {
    let source = include_str!("assets/page.css");
    css::minify(source).map_or_else(|_| source.to_owned(), |style| style.to_string())
});
/// The waiting page's script, likewise.
static SCRIPT: LazyLock<String> = LazyLock::new(|| short(include_str!("assets/waiting.js")));
/// The script of the stop on the way back, likewise.
static RETURN: LazyLock<String> = LazyLock::new(|| short(include_str!("assets/return.js")));
static MARK: &str = include_str!("assets/mark.svg");

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let sources = [
        ("waiting.html", include_str!("assets/waiting.html")),
        ("notice.html", include_str!("assets/notice.html")),
    ];
    for (name, source) in sources {
        let added = environment.add_template(name, source);
        debug_assert!(added.is_ok(), "{name} is compiled in: {added:?}");
    }
    environment
});

/// What is left if a template fails, which the tests rule out: still a page
/// that comes back by itself, for a visitor must never see an empty one.
const BARE_PAGE: &str = "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"15\">\
<title>Please wait</title><p>Please wait. 잠시만 기다려 주세요.";

/// Fills a template. Its name ends in `.html`, so every value is escaped.
fn fill(name: &str, values: Value) -> String {
    TEMPLATES
        .get_template(name)
        .and_then(|template| template.render(values))
        .unwrap_or_else(|_| BARE_PAGE.to_owned())
}

fn short(script: &str) -> String {
    js::minify(script).map_or_else(|_| script.to_owned(), |script| script.to_string())
}

/// The policy of a page with our style and these inline scripts.
fn policy(scripts: &[&str]) -> HeaderValue {
    let hashes = scripts
        .iter()
        .map(|script| format!(" '{}'", source_hash(script)));
    let script = if scripts.is_empty() {
        String::new()
    } else {
        let hashes: String = hashes.collect();
        format!("script-src{hashes}; connect-src 'self'; worker-src blob:; ")
    };
    let style = source_hash(&STYLE);
    let policy = format!(
        "default-src 'none'; style-src '{style}'; {script}img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    HeaderValue::try_from(policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'"))
}

/// A hash source as CSP 3 §2.3.1 spells it.
fn source_hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}

/// The first `limit` characters, with an ellipsis in place of the rest.
fn shorten(text: &str, limit: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_asks_nobody_for_anything() {
        assert!(STYLE.len() < include_str!("assets/page.css").len());
        for word in ["//", "url(", "@import", "@font-face", "</"] {
            assert!(!STYLE.contains(word), "{word}");
        }
    }

    #[test]
    fn the_script_can_stand_inside_a_page() {
        for word in [
            "//",
            "/*",
            "</",
            "<!--",
            "innerHTML",
            "eval(",
            "=>",
            "`",
            "\u{2028}",
        ] {
            assert!(!SCRIPT.contains(word) && !RETURN.contains(word), "{word}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten(" 수문 ", 2), "수문");
        assert_eq!(shorten("수문수", 2), "수문…");
        assert_eq!(shorten("", 2), "");
    }
}
