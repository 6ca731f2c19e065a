//! Our cookies: one per event, found in any of its forms and written in one.

use std::sync::LazyLock;

use ::cookie::{Cookie, SameSite, time::Duration};
use http::HeaderValue;
use memchr::{memchr, memmem};

use crate::room::event::{CookieSettings, EventId, SameSite as Wanted, Secure};

/// The prefix by which browsers guarantee that a cookie is this host's own
/// (RFC 6265bis §4.1.3.2).
const HOST_PREFIX: &str = "__Host-";

const NAME: &[u8] = b"sumun_";

/// Finds our name anywhere in a header: most have many other cookies.
static MENTION: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(NAME));

/// Longer `Cookie` headers are not searched, in bytes.
const HEADER_BYTES_MAX: usize = 32_768;

/// A cookie of ours in a request: which event's, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The event's id, as it stands in the name.
    pub event: &'a str,
    /// The token, which is text if it is one.
    pub value: &'a [u8],
}

/// Our cookies among all that a request carries.
pub fn ours<'a>(headers: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = Found<'a>> {
    headers
        .map(HeaderValue::as_bytes)
        .filter(|header| header.len() <= HEADER_BYTES_MAX)
        .filter(|header| MENTION.find(header).is_some())
        .flat_map(pairs)
        .filter_map(|pair| {
            let pair = pair.trim_ascii();
            let at = memchr(b'=', pair)?;
            let (name, value) = pair.split_at(at);
            Some(Found {
                event: event_of(name)?,
                value: unquoted(value.get(1..)?),
            })
        })
}

/// A value without the quotes that it may stand in (RFC 6265 §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").unwrap_or(value);
    inner.strip_suffix(b"\"").unwrap_or(inner)
}

/// The pairs of a `Cookie` header.
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let (pair, after) = match memchr(b';', rest?) {
            Some(at) => (rest?.get(..at)?, rest?.get(at + 1..)),
            None => (rest?, None),
        };
        rest = after;
        Some(pair)
    })
}

/// The event that a cookie's name is for; `None` when it is not ours.
fn event_of(name: &[u8]) -> Option<&str> {
    let event = name
        .strip_prefix(HOST_PREFIX.as_bytes())
        .unwrap_or(name)
        .strip_prefix(NAME)?;
    std::str::from_utf8(event).ok()
}

/// The values of the cookies of this name.
pub fn named<'a>(
    headers: impl Iterator<Item = &'a HeaderValue>,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    headers
        .map(HeaderValue::as_bytes)
        .filter(|header| header.len() <= HEADER_BYTES_MAX)
        .flat_map(pairs)
        .filter_map(move |pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            std::str::from_utf8(unquoted(value.strip_prefix(b"=")?)).ok()
        })
}

/// Whether a cookie of this name is ours.
#[must_use]
pub fn is_ours(name: &[u8]) -> bool {
    event_of(name).is_some()
}

/// The `Cookie` header without ours, byte for byte otherwise.
///
/// `None`: there is none of ours in it. `Some(None)`: nothing is left.
#[must_use]
pub fn without_ours(header: &HeaderValue) -> Option<Option<HeaderValue>> {
    MENTION.find(header.as_bytes())?;
    without(header, is_ours)
}

/// The `Cookie` header without those whose name is taken, byte for byte otherwise.
///
/// `None`: there is none of them in it. `Some(None)`: nothing is left.
#[must_use]
pub fn without(
    header: &HeaderValue,
    is_taken: impl Fn(&[u8]) -> bool,
) -> Option<Option<HeaderValue>> {
    let bytes = header.as_bytes();
    let is_taken = |pair: &&[u8]| {
        let name = memchr(b'=', pair).map_or(*pair, |at| pair.split_at(at).0);
        is_taken(name.trim_ascii())
    };
    if !pairs(bytes).any(|pair| is_taken(&pair)) {
        return None;
    }
    let mut kept = Vec::new();
    let rest = pairs(bytes).filter(|pair| !is_taken(pair));
    for (place, pair) in rest.enumerate() {
        if place > 0 {
            kept.push(b';');
        }
        kept.extend_from_slice(pair);
    }
    let kept = kept.trim_ascii();
    Some(if kept.is_empty() {
        None
    } else {
        HeaderValue::from_bytes(kept).ok()
    })
}

/// Where a cookie is to be set.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The event.
    pub event: &'a EventId,
    /// Its cookie's settings.
    pub settings: &'a CookieSettings,
    /// Whether the visitor came over TLS, here or at a trusted proxy.
    pub over_tls: bool,
}

/// How a cookie is dressed: its attributes, whatever its name.
#[derive(Clone, Copy, Debug)]
pub struct Dress<'a> {
    /// The settings of the event that the request belongs to, or the default ones.
    pub settings: &'a CookieSettings,
    /// Whether the visitor came over TLS, here or at a trusted proxy.
    pub over_tls: bool,
}

impl Dress<'_> {
    fn is_secure(&self) -> bool {
        match self.settings.secure {
            Secure::Auto => self.over_tls,
            Secure::Always => true,
            Secure::Never => false,
        }
    }

    /// `SameSite=None` over TLS: a bank returns by a cross-site POST, and Lax
    /// would lose the customer (RFC 6265bis §5.5: None needs Secure).
    fn same_site(&self) -> SameSite {
        match self.settings.same_site {
            Wanted::Auto if self.is_secure() => SameSite::None,
            Wanted::Auto | Wanted::Lax => SameSite::Lax,
            Wanted::Strict => SameSite::Strict,
            Wanted::None => SameSite::None,
        }
    }

    /// The `Set-Cookie` value; without `seconds` the browser drops it when it ends.
    #[must_use]
    pub fn set(&self, name: &str, value: &str, seconds: Option<u64>) -> Option<HeaderValue> {
        let mut cookie = Cookie::build((name, value))
            .http_only(true)
            .secure(self.is_secure())
            .same_site(self.same_site())
            .path("/");
        if let Some(seconds) = seconds {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            cookie = cookie.max_age(Duration::seconds(seconds));
        }
        if let Some(domain) = &self.settings.domain {
            cookie = cookie.domain(domain.clone());
        }
        HeaderValue::from_str(&cookie.build().to_string()).ok()
    }
}

impl Place<'_> {
    fn dress(&self) -> Dress<'_> {
        Dress {
            settings: self.settings,
            over_tls: self.over_tls,
        }
    }

    fn name(&self) -> String {
        let prefix = if self.dress().is_secure() && self.settings.domain.is_none() {
            HOST_PREFIX
        } else {
            ""
        };
        format!("{prefix}{}{}", NAME.escape_ascii(), self.event)
    }

    /// The `Set-Cookie` value for a token that is kept for `seconds`.
    #[must_use]
    pub fn set(&self, token: &str, seconds: u64) -> Option<HeaderValue> {
        self.dress().set(&self.name(), token, Some(seconds))
    }

    /// The `Set-Cookie` value that takes the cookie away.
    #[must_use]
    pub fn remove(&self) -> Option<HeaderValue> {
        self.set("", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    fn set(settings: &CookieSettings, over_tls: bool) -> String {
        let event = EventId::new("main").unwrap();
        let place = Place {
            event: &event,
            settings,
            over_tls,
        };
        place.set("T", 60).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn over_tls_the_cookie_is_this_hosts_own_and_survives_a_bank() {
        let text = set(&CookieSettings::default(), true);
        assert!(text.starts_with("__Host-sumun_main=T;"), "{text}");
        for part in [
            "HttpOnly",
            "Secure",
            "SameSite=None",
            "Path=/",
            "Max-Age=60",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn over_http_the_cookie_is_plain_and_lax() {
        let text = set(&CookieSettings::default(), false);
        assert!(text.starts_with("sumun_main=T;"), "{text}");
        assert!(text.contains("SameSite=Lax") && !text.contains("Secure"));
    }

    #[test]
    fn a_domain_forbids_the_host_prefix() {
        let settings = CookieSettings {
            domain: Some("example.com".into()),
            ..CookieSettings::default()
        };
        let text = set(&settings, true);
        assert!(text.starts_with("sumun_main=T;") && text.contains("Domain=example.com"));
    }

    #[test]
    fn a_cookie_of_another_name_is_found_and_wears_the_same_attributes() {
        let headers = [value("a=1; SHOP=\"x\"; SHOPPER=2"), value("SHOP=y")];
        let found: Vec<_> = named(headers.iter(), "SHOP").collect();
        assert_eq!(found, ["x", "y"]);
        let settings = CookieSettings::default();
        let dress = Dress {
            settings: &settings,
            over_tls: true,
        };
        let text = dress.set("SHOP", "x", None).unwrap();
        let text = text.to_str().unwrap();
        assert_eq!(text, "SHOP=x; HttpOnly; SameSite=None; Secure; Path=/");
    }

    #[test]
    fn every_form_is_read() {
        let headers = [
            value("a=1; __Host-sumun_main=X; sumun_sale=\"Y\""),
            value("sumun_main=Z"),
        ];
        let found: Vec<_> = ours(headers.iter()).map(|f| (f.event, f.value)).collect();
        let expected: [(&str, &[u8]); 3] = [("main", b"X"), ("sale", b"Y"), ("main", b"Z")];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_ours_are_taken_out_and_the_rest_stays_byte_for_byte() {
        let header = value("a=1;b=\"x y\"; sumun_main=X;  c=3");
        assert_eq!(
            without_ours(&header),
            Some(Some(value("a=1;b=\"x y\";  c=3")))
        );
        assert_eq!(without_ours(&value("__Host-sumun_main=X")), Some(None));
        assert_eq!(without_ours(&value("a=sumun_main; xsumun_b=1")), None);
    }
}
