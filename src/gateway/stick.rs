//! Keeping a visitor at one origin, for origins that keep sessions in memory: a
//! cookie names it, is read here, and never reaches an origin.

use http::header::{self, HeaderMap, HeaderValue};

use super::Answer;
use super::asker::Asker;
use super::through::{is_private, make_private};
use crate::ledger::Ledger;
use crate::origin::Cookie;
use crate::origins::Group;
use crate::room::event::CookieSettings;
use crate::token::cookie::{self, Dress};

/// The origin that the visitor's cookie names, if there is one.
pub(super) fn wanted(group: &Group, headers: &HeaderMap) -> Option<usize> {
    let name = group.cookie()?;
    let mut values = cookie::named(headers.get_all(header::COOKIE).iter(), name);
    values.find_map(|value| group.named(value))
}

/// The `Cookie` header as the origin gets it: without ours unless they are kept,
/// and without the one that names an origin.
pub(super) fn cookies(headers: &HeaderMap, keep_ours: bool, group: Option<&Group>) -> Cookie {
    let naming = group.filter(|group| group.has_cookies());
    let others = |line: &HeaderValue| match naming {
        None if keep_ours => None,
        None => cookie::without_ours(line),
        Some(group) => cookie::without(line, |name| {
            group.is_cookie(name) || !keep_ours && cookie::is_ours(name)
        }),
    };
    let mut lines = headers.get_all(header::COOKIE).iter();
    let (Some(first), more) = (lines.next(), lines.next().is_some()) else {
        return Cookie::AsSent;
    };
    if !more {
        return match others(first) {
            None => Cookie::AsSent,
            Some(None) => Cookie::Removed,
            Some(Some(rest)) => Cookie::Replaced(rest),
        };
    }
    if keep_ours && naming.is_none() {
        return Cookie::AsSent;
    }
    // Several lines are one list (RFC 9113 §8.2.3).
    let rest: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| others(line).unwrap_or_else(|| Some(line.clone())))
        .collect();
    let joined = rest
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    match HeaderValue::from_bytes(&joined) {
        Ok(value) if !joined.is_empty() => Cookie::Replaced(value),
        _ => Cookie::Removed,
    }
}

/// Names the origin that answered, unless the visitor's cookie does already: on
/// navigations and on answers that nobody stores, like a pass; elsewhere a cache
/// would hand one origin to everybody.
pub(super) fn stick(
    group: &Group,
    (wanted, by): (Option<usize>, usize),
    (asker, ledger): (&Asker, Option<&Ledger>),
    answer: &mut Answer,
) {
    let (Some(name), false) = (group.cookie(), wanted == Some(by)) else {
        return;
    };
    let private = is_private(answer.headers());
    if !private && !asker.kind.is_navigation() {
        return;
    }
    let settings = ledger.map(|ledger| ledger.settings.load());
    let default = CookieSettings::default();
    let dress = Dress {
        settings: settings.as_ref().map_or(&default, |all| &all.cookie),
        over_tls: asker.visitor.https,
    };
    let set = group.id(by).and_then(|id| dress.set(name, id, None));
    if let Some(cookie) = set {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
        if !private {
            make_private(answer.headers_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("cookie", HeaderValue::from_static(line));
        }
        headers
    }

    fn replaced(text: &'static str) -> Cookie {
        Cookie::Replaced(HeaderValue::from_static(text))
    }

    #[test]
    fn other_cookies_stay_as_they_were_sent() {
        let others = |lines: &[&'static str]| cookies(&headers(lines), false, None);
        assert_eq!(others(&["a=1; b=2"]), Cookie::AsSent);
        assert_eq!(others(&["a=1; sumun_main=x; b=2"]), replaced("a=1; b=2"));
        assert_eq!(others(&["sumun_main=x"]), Cookie::Removed);
        let joined = replaced("a=1; b=2");
        assert_eq!(others(&["a=1", "sumun_main=x; b=2"]), joined);
    }
}
