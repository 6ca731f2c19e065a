//! Who calls: what a request's head says, read once; above all whether a page
//! sent it, and whose.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, Version, header};

use url::Url;

use super::put;
use crate::ledger::Ledger;
use crate::pages::Language;
use crate::room::decision::Kind;
use crate::room::host;
use crate::token::cookie::Place;
use crate::visitor::address::Visitor;
use crate::visitor::kind::kind;

/// Whose page sent a request, as far as the browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// This host's own.
    Own,
    /// One that the operator named in `cors_origins`.
    Named,
    /// Another site's.
    Foreign,
    /// None that we know of: an app, a server, an old browser.
    Unknown,
}

/// The request's head.
pub(super) struct Caller {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) visitor: Visitor,
    pub(super) page: Page,
}

impl Caller {
    pub(super) fn new(head: Parts, visitor: Visitor, named: &[String]) -> Self {
        Self {
            page: page(&head.headers, &visitor, named),
            method: head.method,
            version: head.version,
            uri: head.uri,
            headers: head.headers,
            visitor,
        }
    }

    /// The same, on a visit: a link from anywhere may lead to a page, and
    /// nothing is done there but what a visit to the site itself would do.
    pub(super) fn on_a_visit(self) -> Self {
        Self {
            page: Page::Own,
            ..self
        }
    }

    /// A page that may have our cookies.
    pub(super) fn is_page(&self) -> bool {
        matches!(self.page, Page::Own | Page::Named)
    }

    /// The host that was asked for in normal form, if it is one.
    pub(super) fn host(&self) -> Option<Cow<'_, str>> {
        host::normal(self.visitor.host.as_ref()?.to_str().ok()?)
    }

    /// The address of the page of this host that sent it, if the browser tells.
    pub(super) fn own_page(&self) -> Option<Url> {
        if self.page != Page::Own {
            return None;
        }
        Url::parse(self.text(header::REFERER.as_str())?).ok()
    }

    pub(super) fn kind(&self) -> Kind {
        kind(&self.method, &self.headers)
    }

    pub(super) fn language(&self) -> Language {
        Language::negotiate(self.text(header::ACCEPT_LANGUAGE.as_str()))
    }

    /// A header as text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The secret of `Authorization: Bearer` (RFC 6750 §2.1).
    pub(super) fn bearer(&self) -> Option<&[u8]> {
        let value = self.headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, secret) = value.split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| secret.trim_ascii())
    }

    /// CORS (Fetch §3.2) for the origins that the operator named.
    pub(super) fn allow_origin(&self, headers: &mut HeaderMap) {
        if let (Page::Named, Some(origin)) = (self.page, self.headers.get(header::ORIGIN)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            put(headers, "access-control-allow-credentials", "true");
            put(
                headers,
                "access-control-expose-headers",
                "sumun-status, sumun-token, sumun-degraded, retry-after",
            );
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }

    /// What a preflight asks for.
    pub(super) fn allow_methods(&self, headers: &mut HeaderMap, methods: &str) {
        if self.page == Page::Named {
            put(headers, "access-control-allow-methods", methods);
            put(
                headers,
                "access-control-allow-headers",
                "content-type, authorization, sumun-token",
            );
            put(headers, "access-control-max-age", "600");
        }
    }

    /// Sets the cookie of an event, or takes it away.
    pub(super) fn set_cookie(
        &self,
        ledger: &Ledger,
        token: Option<(&str, u64)>,
        answer: &mut Response<Bytes>,
    ) {
        let settings = ledger.settings.load();
        let place = Place {
            event: &ledger.id,
            settings: &settings.cookie,
            over_tls: self.visitor.https,
        };
        let cookie = match token {
            Some((token, seconds)) => place.set(token, seconds),
            None => place.remove(),
        };
        if let Some(cookie) = cookie {
            answer.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// Whose page it was. `Sec-Fetch-Site` cannot be forged by a page, `Origin`
/// is in every POST of a page; a client that is no browser sends neither.
fn page(headers: &HeaderMap, visitor: &Visitor, named: &[String]) -> Page {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let origin = text("origin");
    let site = text("sec-fetch-site");
    if let Some(origin) = origin {
        if named.iter().any(|named| named == origin) {
            return Page::Named;
        }
        if !is_own(origin, visitor.host.as_ref()) {
            return Page::Foreign;
        }
    }
    match site {
        Some("same-origin" | "none") => Page::Own,
        Some(_) => Page::Foreign,
        None if origin.is_some() => Page::Own,
        None => Page::Unknown,
    }
}

/// Whether an origin is the host that was asked. Its scheme is not compared:
/// behind a proxy that ends TLS without saying so it cannot be known here.
fn is_own(origin: &str, asked: Option<&HeaderValue>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return false,
    };
    let parts = |authority: &str| {
        let host = host::normal(authority)?.into_owned();
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse());
        Some((host, port.and_then(Result::ok).unwrap_or(usual)))
    };
    let asked = asked.and_then(|host| host.to_str().ok()).and_then(parts);
    asked.is_some() && asked == parts(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(host: &'static str, headers: &[(&'static str, &'static str)]) -> Page {
        let address = "192.0.2.1".parse().unwrap();
        let visitor = Visitor {
            address,
            peer: address,
            behind_trusted_proxy: false,
            https: false,
            host: Some(HeaderValue::from_static(host)),
            port: 80,
        };
        let headers = headers.iter().map(|(name, value)| {
            (
                name.parse::<http::HeaderName>().unwrap(),
                HeaderValue::from_static(value),
            )
        });
        let named = ["https://app.example".to_owned()];
        page(&headers.collect(), &visitor, &named)
    }

    #[test]
    fn whose_page_it_was_is_told_by_what_a_page_cannot_forge() {
        let cases: [(&[(&str, &str)], Page); 12] = [
            (&[], Page::Unknown),
            (&[("origin", "https://shop.example")], Page::Own),
            (&[("origin", "http://shop.example:80")], Page::Own),
            (&[("origin", "https://shop.example:8443")], Page::Foreign),
            (&[("origin", "https://SHOP.example.")], Page::Own),
            (&[("origin", "null")], Page::Foreign),
            (&[("origin", "https://evil.example")], Page::Foreign),
            (&[("origin", "https://app.example")], Page::Named),
            (&[("sec-fetch-site", "same-origin")], Page::Own),
            (&[("sec-fetch-site", "cross-site")], Page::Foreign),
            (
                &[
                    ("origin", "http://shop.example"),
                    ("sec-fetch-site", "cross-site"),
                ],
                Page::Foreign,
            ),
            (&[("origin", "file://shop.example")], Page::Foreign),
        ];
        for (headers, page) in cases {
            let headers: Vec<_> = headers.to_vec();
            let leaked: &'static [(&'static str, &'static str)] = headers.leak();
            assert_eq!(whose("shop.example", leaked), page, "{leaked:?}");
        }
        assert_eq!(
            whose("[::1]:8080", &[("origin", "http://[::1]:8080")]),
            Page::Own
        );
    }
}
