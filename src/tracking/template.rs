//! Segments that stand for many: numbers, identifiers, tokens, slugs with a
//! number, files of a page.

/// What a segment that names one of many is called.
pub(super) const ID: &str = "{id}";

/// The same, where it can be read.
pub(super) const SLUG: &str = "{slug}";

/// Whatever stands there.
pub(super) const ANY: &str = "{*}";

/// Shorter ones may well be words.
const HEX_LEAST: usize = 8;
const TOKEN_LEAST: usize = 16;

/// Endings of files that pages are made of. A deployment renames them all.
const ASSETS: &[&str] = &[
    "avif", "bmp", "css", "cur", "eot", "gif", "ico", "jpeg", "jpg", "js", "m4a", "map", "mjs",
    "mp3", "mp4", "ogg", "otf", "png", "svg", "ttf", "wasm", "wav", "webm", "webp", "woff",
    "woff2",
];

/// Endings that a page's address may have.
const PAGES: &[&str] = &[
    "asp", "aspx", "do", "htm", "html", "jsp", "json", "php", "xml",
];

/// The ending of a file that pages are made of, if it is one.
pub(super) fn asset(segment: &str) -> Option<&'static str> {
    let (stem, ending) = segment.rsplit_once('.')?;
    let known = |known: &&&str| ending.eq_ignore_ascii_case(known);
    ASSETS
        .iter()
        .find(known)
        .filter(|_| !stem.is_empty())
        .copied()
}

/// What a segment is called if it names one of many, and the ending that stays.
pub(super) fn template(segment: &str) -> Option<(&'static str, &str)> {
    if let Some((stem, ending)) = segment.rsplit_once('.')
        && PAGES.contains(&ending)
    {
        return Some((of(stem)?, segment.get(stem.len()..)?));
    }
    Some((of(segment)?, ""))
}

fn of(segment: &str) -> Option<&'static str> {
    let text = segment.as_bytes();
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    if is_email(segment) {
        return Some(ID);
    }
    if digits == 0 || text.is_empty() {
        return None;
    }
    let dashes = segment.matches('-').count();
    let hexes = text.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    // Numbers, dates, UUIDs.
    let is_number = digits + dashes == text.len();
    let is_hex = hexes == text.len() && hexes >= HEX_LEAST;
    let is_uuid = text.len() == 36 && dashes == 4 && hexes == 32;
    if is_number || is_hex || is_uuid {
        return Some(ID);
    }
    if is_slug(segment) {
        return Some(SLUG);
    }
    is_token(text, digits).then_some(ID)
}

fn is_email(segment: &str) -> bool {
    segment.split_once('@').is_some_and(|(name, domain)| {
        let dotted = domain.rsplit_once('.');
        !name.is_empty() && dotted.is_some_and(|(host, top)| !host.is_empty() && !top.is_empty())
    })
}

/// Words and a number behind a hyphen or an underscore.
fn is_slug(segment: &str) -> bool {
    segment
        .rsplit_once(['-', '_'])
        .is_some_and(|(words, number)| {
            !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && words.chars().any(char::is_alphabetic)
        })
}

/// The alphabet of base64url and digits among the letters: of both cases, or
/// more of them than names of things have.
fn is_token(text: &[u8], digits: usize) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~=+".contains(byte);
    let upper = text.iter().any(u8::is_ascii_uppercase);
    let lower = text.iter().any(u8::is_ascii_lowercase);
    let plain = text.iter().all(u8::is_ascii_alphanumeric);
    text.len() >= TOKEN_LEAST && text.iter().all(letter) && (upper && lower || plain && digits >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_one_of_many_is_told_from_what_names_itself() {
        for (segment, name) in [
            ("42", ID),
            ("2026-12-01", ID),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", ID),
            ("deadbeef1", ID),
            ("DEADBEEF00", ID),
            ("someone@shop.example.com", ID),
            ("dQw4w9WgXcQabcdefg", ID),
            ("01hv3k9x2jv0q8r7m5n4", ID),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", ID),
            ("red-shoes-123", SLUG),
            ("공연_7", SLUG),
            ("covid-19", SLUG),
        ] {
            assert_eq!(template(segment), Some((name, "")), "{segment}");
        }
        assert_eq!(template("123.html"), Some((ID, ".html")));
        assert_eq!(template("shoes-9.php"), Some((SLUG, ".php")));
        for literal in [
            "",
            "products",
            "v2",
            "top10",
            "facade",
            "deadbeef",
            "about-us",
            "공연",
            "@",
            "a@b",
            "index.html",
            "privacy-policy-of-the-shop",
            "IntroductionToTheShop",
            "-",
            "mp3",
        ] {
            assert_eq!(template(literal), None, "{literal}");
        }
    }

    #[test]
    fn files_of_a_page_are_known_by_their_ending() {
        assert_eq!(asset("app.3f9a8b7c.js"), Some("js"));
        assert_eq!(asset("LOGO.PNG"), Some("png"));
        for other in [".js", "js", "page.html", "a.b.", "report.pdf"] {
            assert_eq!(asset(other), None, "{other}");
        }
    }
}
