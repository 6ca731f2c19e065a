//! From a path to the name of its route: the operator's patterns first, then
//! templates of segments that stand for many.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Named;
use super::pattern::SEGMENTS_MAX;
use super::template::{ANY, asset, template};
use crate::room::event::EventId;

/// The longest name of a route, in bytes.
pub const ROUTE_BYTES_MAX: usize = 160;

/// A longer segment is nobody's name for a page, in bytes.
const SEGMENT_MAX: usize = 64;

/// Segments of a name that was not given; what lies deeper is `{*}`.
const DEPTH_MAX: usize = 8;

/// Writes the name of a path's route. `keeps` says whether this child of this
/// parent may have a name of its own.
pub(super) fn name(
    path: &str,
    (event, named): (&EventId, &[Named]),
    out: &mut String,
    mut keeps: impl FnMut(&str, &str) -> bool,
) {
    out.clear();
    // Most paths have fewer segments than this, and nothing to decode.
    let mut decoded: [Cow<'_, str>; SEGMENTS_MAX] = [const { Cow::Borrowed("") }; SEGMENTS_MAX];
    let mut count = 0;
    let mut all = path.split('/').filter(|segment| !segment.is_empty());
    for (place, segment) in decoded.iter_mut().zip(&mut all) {
        *place = decode(segment);
        count += 1;
    }
    let is_deeper = all.next().is_some();
    let segments = decoded.get(..count).unwrap_or_default();
    if !is_deeper && let Some(named) = find(segments, event, named) {
        return out.push_str(named.pattern.as_str());
    }
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == count && !is_deeper;
        if at >= DEPTH_MAX || out.len() + segment.len() + ANY.len() + 2 > ROUTE_BYTES_MAX {
            out.push('/');
            return out.push_str(ANY);
        }
        one(segment, is_last, out, &mut keeps);
    }
    if count == 0 {
        out.push('/');
    }
}

fn find<'a>(segments: &[Cow<'_, str>], event: &EventId, named: &'a [Named]) -> Option<&'a Named> {
    if named.is_empty() {
        return None;
    }
    let mut plain = [""; SEGMENTS_MAX];
    for (place, segment) in plain.iter_mut().zip(segments) {
        *place = segment;
    }
    let plain = plain.get(..segments.len())?;
    named.iter().find(|named| {
        named.event.as_ref().is_none_or(|own| own == event) && named.pattern.fits(plain)
    })
}

fn one(segment: &str, is_last: bool, out: &mut String, keeps: &mut impl FnMut(&str, &str) -> bool) {
    if is_last && let Some(ending) = asset(segment) {
        out.push('/');
        out.push_str(ANY);
        out.push('.');
        return out.push_str(ending);
    }
    if let Some((name, ending)) = template(segment) {
        out.push('/');
        out.push_str(name);
        return out.push_str(ending);
    }
    let is_name = segment.len() <= SEGMENT_MAX && is_plain(segment) && keeps(out, segment);
    out.push('/');
    out.push_str(if is_name { segment } else { ANY });
}

/// Nothing that could be taken for a template, nor garble a label or a table.
fn is_plain(segment: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '{' | '}' | '"' | '\\' | '\u{fffd}');
    !segment.contains(bad)
}

/// A segment as it reads; one whose decoding would make two of it, or none,
/// stays as it was sent.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    match percent_decode_str(segment).decode_utf8() {
        Ok(decoded) if !decoded.contains('/') => decoded,
        _ => Cow::Borrowed(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;
    use proptest::prelude::*;

    fn named(path: &str, patterns: &[(&str, Option<&str>)]) -> String {
        let patterns: Vec<Named> = patterns
            .iter()
            .map(|(text, event)| Named {
                pattern: Pattern::parse(text).unwrap(),
                event: event.map(|id| EventId::new(id).unwrap()),
            })
            .collect();
        let mut out = String::new();
        let main = EventId::new("main").unwrap();
        name(path, (&main, &patterns), &mut out, |_, _| true);
        out
    }

    #[test]
    fn paths_find_their_routes_by_themselves() {
        for (path, route) in [
            ("/", "/"),
            ("//", "/"),
            ("/shop/", "/shop"),
            ("/products/42", "/products/{id}"),
            ("/products/42/reviews", "/products/{id}/reviews"),
            ("/p/red-shoes-123", "/p/{slug}"),
            ("/static/app.3f9a8b7c.js", "/static/{*}.js"),
            ("/%EA%B3%B5%EC%97%B0/7", "/공연/{id}"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%7Bid%7D", "/{*}"),
            ("/a%00b", "/{*}"),
            ("/%ff%fe", "/%ff%fe"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/{*}"),
        ] {
            assert_eq!(named(path, &[]), route, "{path}");
        }
        let long = format!("/{}", "x".repeat(5_000));
        assert_eq!(named(&long, &[]), "/{*}");
    }

    #[test]
    fn the_operators_patterns_go_first_in_their_order() {
        let patterns = [
            ("/products/sale", None),
            ("/products/{slug}", None),
            ("/user/{name}", Some("other")),
            ("/user/{*}", None),
        ];
        assert_eq!(named("/products/red", &patterns), "/products/{slug}");
        assert_eq!(named("/products/sale/", &patterns), "/products/sale");
        assert_eq!(named("/products/sal%65", &patterns), "/products/sale");
        assert_eq!(named("/user/kim", &patterns), "/user/{*}");
        assert_eq!(named("/cart", &patterns), "/cart");
    }

    #[test]
    fn a_guarded_parent_has_one_child_and_what_lies_below_it_keeps_its_name() {
        let mut out = String::new();
        let main = EventId::new("main").unwrap();
        let keeps = |parent: &str, _: &str| parent != "/user";
        name("/user/kim/orders", (&main, &[]), &mut out, keeps);
        assert_eq!(out, "/user/{*}/orders");
    }

    proptest! {
        #[test]
        fn no_path_makes_a_long_or_garbled_name(path in "/[^?#]{0,400}") {
            let name = named(&path, &[]);
            prop_assert!(name.len() <= ROUTE_BYTES_MAX, "{}", name);
            prop_assert!(name.starts_with('/'));
            prop_assert!(!name.contains(|c: char| c.is_control() || c == '"' || c == '\\'));
        }
    }
}
