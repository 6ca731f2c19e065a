//! Routes as an operator writes them: `/products/{slug}`, `/docs/{*}`.

use std::fmt;

use crate::room::paths;

/// Segments of one pattern, and of a path that is looked at.
pub(super) const SEGMENTS_MAX: usize = 16;

/// Longest name within braces, in characters.
const NAME_MAX: usize = 32;

/// A route that was named.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
    /// It ends with `{*}`: whatever lies below.
    open: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The remedy, when it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("write a path that begins with /, like \"/products/{slug}\"");
        };
        if text.len() > super::ROUTE_BYTES_MAX {
            return Err("write at most 160 bytes");
        }
        let mut pattern = Self {
            text: String::new(),
            segments: Vec::new(),
            open: false,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let written: Vec<&str> = rest.split('/').filter(|_| !rest.is_empty()).collect();
        if written.len() > SEGMENTS_MAX {
            return Err("write at most 16 segments");
        }
        for (at, segment) in written.iter().enumerate() {
            pattern.text.push('/');
            match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some("*") if at + 1 == written.len() => pattern.open = true,
                Some("*") => return Err("{*} stands at the end only: name the others, like {id}"),
                Some(name) if is_name(name) => pattern.segments.push(Segment::Any),
                Some(_) => {
                    return Err("write a name of a-z, 0-9 and _ within the braces, at most 32");
                }
                None => {
                    let literal = literal(segment)?;
                    pattern.text.push_str(&literal);
                    pattern.segments.push(Segment::Literal(literal));
                    continue;
                }
            }
            pattern.text.push_str(segment);
        }
        if pattern.text.is_empty() {
            pattern.text.push('/');
        }
        Ok(pattern)
    }

    /// Whether a path of these segments, decoded, is of this route.
    pub(super) fn fits(&self, path: &[&str]) -> bool {
        let long_enough = if self.open {
            path.len() > self.segments.len()
        } else {
            path.len() == self.segments.len()
        };
        long_enough
            && self
                .segments
                .iter()
                .zip(path)
                .all(|(segment, text)| match segment {
                    Segment::Literal(literal) => literal == text,
                    Segment::Any => true,
                })
    }

    /// As it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// A segment as it is, decoded.
fn literal(segment: &str) -> Result<String, &'static str> {
    if segment.is_empty() {
        return Err("write each slash once");
    }
    if segment.contains(['{', '}']) {
        return Err("braces hold a whole segment: write /{slug}, not /a-{slug}");
    }
    if segment.chars().any(char::is_control) {
        return Err("write no control characters");
    }
    let plain = paths::configured(&format!("/{segment}"))?;
    Ok(plain.trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        Pattern::parse(pattern).unwrap().fits(&path)
    }

    #[test]
    fn a_pattern_fits_segment_by_segment() {
        assert!(fits("/products/{slug}", "/products/red-shoes"));
        assert!(fits("/공연/{id}/seats", "/공연/7/seats"));
        assert!(fits("/docs/{*}", "/docs/a/b/c") && !fits("/docs/{*}", "/docs"));
        assert!(fits("/", "/") && fits("/{*}", "/x"));
        for path in ["/products", "/products/a/b", "/product/a", "/Products/a"] {
            assert!(!fits("/products/{slug}", path), "{path}");
        }
    }

    #[test]
    fn a_pattern_is_shown_decoded_and_without_a_slash_at_its_end() {
        let shown = |text| Pattern::parse(text).unwrap().as_str().to_owned();
        assert_eq!(shown("/%EA%B3%B5%EC%97%B0/{id}/"), "/공연/{id}");
        assert_eq!(shown("/"), "/");
        assert_eq!(shown("/docs/{*}"), "/docs/{*}");
    }

    #[test]
    fn what_is_no_pattern_has_a_remedy() {
        let long = format!("/{}", "a".repeat(200));
        let deep = "/a".repeat(17);
        for bad in [
            "",
            "products",
            "/a/{*}/b",
            "/{}",
            "/{Slug}",
            "/a-{slug}",
            "/{a",
            "/a//b",
            "/a/../b",
            "/a?b",
            "/a;b",
            "/a\u{7}",
            &long,
            &deep,
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
