//! Every reading that an origin may give to a path.
//!
//! Paths are compared here, but the origin gets the target as it was sent. So
//! that no spelling walks around the gate, a path stands for all the paths
//! that decoding, dot segments, doubled slashes, backslashes, `;params`,
//! overlong UTF-8 and their combinations can make of it.

use std::borrow::Cow;

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readings<'a> {
    /// One thing only.
    One(Cow<'a, [u8]>),
    /// Several; each of them counts.
    Many(Vec<Vec<u8>>),
    /// So many that only an attacker writes it.
    TooMany,
}

/// Most readings of one path. Honest paths have one or two; each further
/// trick doubles them.
const READINGS_MAX: usize = 64;

/// Most bytes of all readings of one path, so that a long target costs no
/// more than a short one.
const BYTES_MAX: usize = 256 * 1024;

/// Bytes whose encoded form may be read in two ways: decoded, or as written.
/// All others mean the same either way (RFC 3986 §6.2.2.2), or cannot stand
/// in a target unless encoded.
const TWO_FACED: &[u8] = b"/\\.;%?#";

/// All readings of the path of a request target (without its query).
#[must_use]
pub fn readings(path: &str) -> Readings<'_> {
    if is_plain(path) {
        return Readings::One(Cow::Borrowed(path.as_bytes()));
    }
    let first = decode(path.as_bytes(), |byte| {
        byte >= b' ' && !TWO_FACED.contains(&byte)
    });
    let mut bytes = first.len();
    let mut all = vec![first];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        for trick in TRICKS {
            let read = trick(&path);
            if all.contains(&read) {
                continue;
            }
            bytes += read.len();
            if all.len() == READINGS_MAX || bytes > BYTES_MAX {
                return Readings::TooMany;
            }
            all.push(read);
        }
        next += 1;
    }
    match all.pop() {
        Some(only) if all.is_empty() => Readings::One(Cow::Owned(only)),
        Some(last) => {
            all.push(last);
            Readings::Many(all)
        }
        None => Readings::TooMany,
    }
}

/// Whether `path` is `prefix` or lies below it. Whole segments only: `/a`
/// covers `/a` and `/a/b`, not `/ab`. A trailing slash of the prefix is of no
/// account.
#[must_use]
pub fn covers(prefix: &[u8], path: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// As [`covers`], but a prefix with a trailing slash covers only what lies
/// below it: `/a/` covers `/a/` and `/a/b`, not `/a`. For `exclude`.
#[must_use]
pub fn lies_below(prefix: &[u8], path: &[u8]) -> bool {
    if prefix.ends_with(b"/") {
        path.starts_with(prefix)
    } else {
        covers(prefix, path)
    }
}

/// A path as an operator may write it, in the form that readings have:
/// beginning with `/`, decoded, and with one reading only.
///
/// # Errors
/// The remedy, when it is none of that.
pub fn configured(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("write a path that begins with /");
    }
    if path.contains(['?', '#', '*']) {
        return Err("write a plain path: no query, fragment or wildcard (paths match by segment)");
    }
    match readings(path) {
        Readings::One(one) => {
            String::from_utf8(one.into_owned()).map_err(|_| "write the path in UTF-8")
        }
        Readings::Many(_) | Readings::TooMany => Err(
            "write the path plainly: no //, no . or .. segments, no ;, no backslash, no encoded / . ; %",
        ),
    }
}

/// Whether nothing in the path can be read in two ways. Looked at once, byte
/// by byte, for each request.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let plain = match byte {
            b'/' | b'.' => before != b'/',
            b'%' | b';' | b'\\' | b'?' | b'#' => false,
            _ => byte > b' ' && byte < 0x7f,
        };
        before = byte;
        plain
    })
}

/// One thing that an origin may do to a path.
type Trick = fn(&[u8]) -> Vec<u8>;

/// What origins are known to do to a path. [`readings`] applies them in every
/// order and number.
const TRICKS: [Trick; 8] = [
    decode_all,
    decode_unicode,
    shorten_overlong,
    turn_backslashes,
    drop_params,
    merge_slashes,
    resolve_dots,
    end_early,
];

/// Percent-decodes once; what is no `%XX` stays.
fn decode_all(path: &[u8]) -> Vec<u8> {
    decode(path, |_| true)
}

/// Percent-decodes the bytes that `wanted` names.
fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match after {
            [high, low, tail @ ..] if byte == b'%' => match hex(*high).zip(hex(*low)) {
                Some((high, low)) if wanted(high * 16 + low) => {
                    out.push(high * 16 + low);
                    rest = tail;
                    continue;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
        rest = after;
    }
    out
}

/// Decodes `%uXXXX` (IIS).
fn decode_unicode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        if let ([b'%', b'u' | b'U', digits @ ..], true) = (rest, byte == b'%') {
            let code = digits.get(..4).and_then(|digits| {
                digits
                    .iter()
                    .try_fold(0, |code, digit| Some(code * 16 + u32::from(hex(*digit)?)))
            });
            if let Some(letter) = code.and_then(char::from_u32) {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = digits.get(4..).unwrap_or_default();
                continue;
            }
        }
        out.push(byte);
        rest = after;
    }
    out
}

/// ASCII that was written in more bytes than it needs (`%c0%ae` for a dot).
fn shorten_overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let (short, tail) = match rest {
            [lead @ 0xc0..=0xc1, last @ 0x80..=0xbf, tail @ ..]
            | [0xe0, lead @ 0x80..=0x81, last @ 0x80..=0xbf, tail @ ..]
            | [
                0xf0,
                0x80,
                lead @ 0x80..=0x81,
                last @ 0x80..=0xbf,
                tail @ ..,
            ] => ((lead & 1) << 6 | (last & 0x3f), tail),
            _ => (byte, after),
        };
        out.push(short);
        rest = tail;
    }
    out
}

/// Backslashes as slashes (IIS, and browsers).
fn turn_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
        .collect()
}

/// Segments without what follows their `;` (Java containers).
fn drop_params(path: &[u8]) -> Vec<u8> {
    let mut dropping = false;
    path.iter()
        .copied()
        .filter(|byte| {
            dropping = *byte == b';' || (dropping && *byte != b'/');
            !dropping
        })
        .collect()
}

/// Runs of slashes as one.
fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut before = 0;
    path.iter()
        .copied()
        .filter(|byte| {
            let again = *byte == b'/' && before == b'/';
            before = *byte;
            !again
        })
        .collect()
}

/// Removes dot segments (RFC 3986 §5.2.4); what climbs above the root stays
/// at the root.
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in path
        .strip_prefix(b"/")
        .unwrap_or(path)
        .split(|b| *b == b'/')
    {
        ends_open = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if ends_open {
        kept.push(b"");
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    out
}

/// Without control bytes, and only to the first `?` or `#`: what a second
/// parser makes of a decoded path.
fn end_early(path: &[u8]) -> Vec<u8> {
    path.iter()
        .copied()
        .take_while(|byte| !matches!(byte, b'?' | b'#' | 0))
        .filter(|byte| *byte >= b' ')
        .collect()
}

/// The value of a hex digit of either case.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(path: &str) -> Vec<String> {
        match readings(path) {
            Readings::One(one) => vec![String::from_utf8_lossy(&one).into_owned()],
            Readings::Many(many) => many
                .iter()
                .map(|one| String::from_utf8_lossy(one).into_owned())
                .collect(),
            Readings::TooMany => Vec::new(),
        }
    }

    #[test]
    fn a_plain_path_is_itself_and_is_not_copied() {
        for path in ["/", "/shop/", "/assets/app.min.js", "/a-b_c~d/e@f:g,h"] {
            let read = readings(path);
            assert!(
                matches!(&read, Readings::One(Cow::Borrowed(one)) if *one == path.as_bytes()),
                "{path}: {read:?}"
            );
        }
    }

    #[test]
    fn korean_spaces_and_encoded_letters_have_one_reading() {
        assert_eq!(all("/%EA%B3%B5%ec%97%b0"), ["/공연"]);
        assert_eq!(all("/a%20b"), ["/a b"]);
        assert_eq!(all("/%73%61le"), ["/sale"]);
        assert_eq!(all("/.well-known/x"), ["/.well-known/x"]);
        assert_eq!(all("/50%"), ["/50%"]);
    }

    #[test]
    fn each_classic_trick_is_seen_through() {
        for (path, read) in [
            ("/x/../sale", "/sale"),
            ("/x/%2e%2e/sale", "/sale"),
            ("/x/.%2E/sale", "/sale"),
            ("/x/%252e%252e/sale", "/sale"),
            ("/./sale", "/sale"),
            ("//sale", "/sale"),
            ("/%2fsale", "/sale"),
            ("/\\sale", "/sale"),
            ("/x/..%5csale", "/sale"),
            ("/sale;v=1/x", "/sale/x"),
            ("/x/..;/sale", "/sale"),
            ("/x/..%3b/sale", "/sale"),
            ("/x/%c0%ae%c0%ae/sale", "/sale"),
            ("/x/%e0%80%ae%e0%80%ae/sale", "/sale"),
            ("/x/%u002e%u002e/sale", "/sale"),
            ("/x/..%09/sale", "/sale"),
            ("/sale%00.png", "/sale"),
            ("/sale%3fx", "/sale"),
            ("/../../sale", "/sale"),
            ("/x/..//sale", "/sale"),
        ] {
            assert!(all(path).iter().any(|one| one == read), "{path}");
        }
    }

    #[test]
    fn a_heap_of_tricks_is_refused_within_bounds() {
        let wide = "/%2e%2e;a//\\%252f%c0%ae/%253b;x/%u002f".repeat(20);
        assert_eq!(readings(&wide), Readings::TooMany);
    }

    #[test]
    fn prefixes_match_whole_segments() {
        assert!(covers(b"/", b"/x"));
        assert!(covers(b"/a", b"/a") && covers(b"/a", b"/a/b") && covers(b"/a/", b"/a"));
        assert!(!covers(b"/a", b"/ab") && !covers(b"/a/b", b"/a"));
        assert!(lies_below(b"/a/", b"/a/x") && !lies_below(b"/a/", b"/a"));
        assert!(lies_below(b"/a", b"/a") && !lies_below(b"/a", b"/ab"));
    }

    #[test]
    fn an_operator_writes_paths_plainly() {
        assert_eq!(configured("/공연").as_deref(), Ok("/공연"));
        assert_eq!(configured("/%EA%B3%B5%EC%97%B0").as_deref(), Ok("/공연"));
        assert_eq!(configured("/.well-known/").as_deref(), Ok("/.well-known/"));
        for bad in [
            "", "shop", "/a/../b", "//a", "/a;b", "/a%2fb", "/a\\b", "/a?b", "/a/*",
        ] {
            assert!(configured(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn readings_of_any_target_are_bounded_and_never_panic(path in "/[ -~]{0,200}") {
            if let Readings::Many(many) = readings(&path) {
                prop_assert!(many.len() <= READINGS_MAX);
            }
        }
    }
}
