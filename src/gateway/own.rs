//! The answers that are our own: the waiting page, notices, problems. None of
//! them may be stored by anybody on the way.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::asker::Asker;
use super::{Answer, Gateway, body, put};
use crate::ledger::Ledger;
use crate::origin::Body;
use crate::pages::{Enter, Notice, NoticeKind, WaitingPage};
use crate::reception::{Blocked, Line, render};
use crate::room::decision::Kind;
use crate::token::cookie::Place;
use crate::token::{TICKET_SECONDS, Token};

const HTML: &str = "text/html; charset=utf-8";

/// An answer of our own that nobody may store.
pub(super) fn own(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(body(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    put(headers, "x-content-type-options", "nosniff");
    answer
}

/// A short plain answer.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Answer {
    own(status, "text/plain; charset=utf-8", text.to_owned())
}

/// A notice of a kind that belongs to no event.
pub(super) fn notice(asker: &Asker, kind: NoticeKind, retry_after: Option<u64>) -> Answer {
    page(asker, kind, None, None, retry_after)
}

fn page(
    asker: &Asker,
    kind: NoticeKind,
    name: Option<&str>,
    message: Option<&str>,
    retry_after: Option<u64>,
) -> Answer {
    let mut answer = if asker.kind.is_navigation() {
        // A page retries by GET: never what was a form.
        let by_itself = retry_after.filter(|_| asker.method == Method::GET);
        let text = Notice {
            language: asker.language(),
            kind,
            event_name: name,
            message,
            retry_after_seconds: by_itself,
        }
        .render();
        let mut answer = own(kind.status(), HTML, text);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, Notice::csp());
        put(headers, "content-language", asker.language().tag());
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
        answer
    } else {
        plain(kind.status(), word(kind))
    };
    if let Some(seconds) = retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    put(answer.headers_mut(), "sumun-status", "block");
    bodiless(asker, answer)
}

/// HEAD is answered without the body (RFC 9110 §9.3.2).
fn bodiless(asker: &Asker, mut answer: Answer) -> Answer {
    if asker.method == Method::HEAD {
        *answer.body_mut() = Body::Empty;
    }
    answer
}

/// What those who get no page get.
fn word(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::LineFull => "The line is full.\n",
        NoticeKind::Closed => "Closed.\n",
        NoticeKind::NotBegun => "Not begun yet.\n",
        NoticeKind::Ended => "Ended.\n",
        NoticeKind::Bot => "Not let in.\n",
        NoticeKind::RateLimited => "Too many newcomers from this address.\n",
        NoticeKind::SessionBusy => "Too many requests of one visitor.\n",
        NoticeKind::OriginUnreachable => "The site cannot be reached.\n",
        NoticeKind::OriginSlow => "The site did not answer in time.\n",
        NoticeKind::OriginBusy => "The site has too much to do at the moment.\n",
        NoticeKind::UnknownHost => "This host is not served here.\n",
        NoticeKind::UnknownKey => "Try again in a moment.\n",
    }
}

/// The closed page.
pub(super) fn closed(ledger: &Ledger, asker: &Asker) -> Answer {
    blocked(ledger, asker, Blocked::Closed)
}

/// Turned away, with the reason.
pub(super) fn blocked(ledger: &Ledger, asker: &Asker, blocked: Blocked) -> Answer {
    let kind = match blocked {
        Blocked::Closed => NoticeKind::Closed,
        Blocked::Full => NoticeKind::LineFull,
        Blocked::RateLimited => NoticeKind::RateLimited,
        Blocked::Bot => NoticeKind::Bot,
    };
    let settings = ledger.settings.load();
    let mut answer = page(
        asker,
        kind,
        Some(&settings.name),
        settings.message.as_deref(),
        // Who is taken for a program is not to try again by itself.
        (blocked != Blocked::Bot).then_some(blocked.retry_after().as_secs()),
    );
    degraded(ledger, &mut answer);
    answer
}

/// Says that the store is away.
fn degraded(ledger: &Ledger, answer: &mut Answer) {
    if !ledger.view().is_some_and(|view| view.store_up) {
        put(answer.headers_mut(), "sumun-degraded", "store");
    }
}

/// How soon somebody turned away without a ticket may try again.
const BUSY_RETRY_SECONDS: u64 = 10;

/// 503 with a few words, for parts of pages, upgrades, prefetches, crawlers.
pub(super) fn busy_plain(ledger: &Ledger) -> Answer {
    let mut answer = plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "Busy. Visitors are queueing.\n",
    );
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, BUSY_RETRY_SECONDS.into());
    put(headers, "sumun-status", "wait");
    degraded(ledger, &mut answer);
    answer
}

/// How soon a session that asks too much may ask again.
const TOO_MUCH_RETRY_SECONDS: u64 = 5;

impl Gateway {
    /// 503 as a problem document (RFC 9457), for scripts.
    pub(super) fn busy_problem(&self, ledger: &Ledger, asker: &Asker) -> Answer {
        let path = asker.uri.path_and_query().map_or("/", |path| path.as_str());
        let document = json!({
            "type": "urn:sumun:queueing",
            "title": "Visitors are queueing",
            "status": 503,
            "detail": "Send the visitor to waitUrl; the request can be repeated when they are inside.",
            "eventId": ledger.id.as_str(),
            "queueStatus": "WAIT",
            "waitUrl": wait_url(ledger, path),
            "pollAfterMs": BUSY_RETRY_SECONDS * 1000,
        });
        let mut answer = own(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/problem+json",
            document.to_string(),
        );
        let headers = answer.headers_mut();
        headers.insert(header::RETRY_AFTER, BUSY_RETRY_SECONDS.into());
        put(headers, "sumun-status", "wait");
        self.allow_origin(asker, &mut answer);
        degraded(ledger, &mut answer);
        answer
    }

    /// 429: more than one session may.
    pub(super) fn too_much(&self, ledger: &Ledger, asker: &Asker) -> Answer {
        if asker.kind != Kind::Api {
            let name = ledger.settings.load().name.clone();
            let retry_after = Some(TOO_MUCH_RETRY_SECONDS);
            return page(
                asker,
                NoticeKind::SessionBusy,
                Some(&name),
                None,
                retry_after,
            );
        }
        let document = json!({
            "type": "urn:sumun:session-limit",
            "title": "Too many requests of one visitor",
            "status": 429,
            "detail": "The session stays. Repeat the request after Retry-After.",
            "eventId": ledger.id.as_str(),
            "retryAfterMs": TOO_MUCH_RETRY_SECONDS * 1000,
        });
        let mut answer = own(
            StatusCode::TOO_MANY_REQUESTS,
            "application/problem+json",
            document.to_string(),
        );
        let headers = answer.headers_mut();
        headers.insert(header::RETRY_AFTER, TOO_MUCH_RETRY_SECONDS.into());
        put(headers, "sumun-status", "block");
        self.allow_origin(asker, &mut answer);
        bodiless(asker, answer)
    }

    /// 403 or 429: no visitor, or too many of them.
    pub(super) fn turned_away(&self, ledger: &Ledger, asker: &Asker, why: Blocked) -> Answer {
        if asker.kind != Kind::Api {
            return blocked(ledger, asker, why);
        }
        let (status, title) = match why {
            Blocked::RateLimited => (429, "Too many newcomers from this address"),
            Blocked::Closed | Blocked::Full | Blocked::Bot => (403, "Not let in"),
        };
        let document = json!({
            "type": "urn:sumun:bot",
            "title": title,
            "status": status,
            "detail": "What a person does in a browser is let in; whoever runs this may ask the operator of the site to allow it.",
            "eventId": ledger.id.as_str(),
            "reason": why.word(),
            "retryAfterMs": why.retry_after().as_secs() * 1000,
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let mut answer = own(status, "application/problem+json", document.to_string());
        let headers = answer.headers_mut();
        headers.insert(header::RETRY_AFTER, why.retry_after().as_secs().into());
        put(headers, "sumun-status", "block");
        self.allow_origin(asker, &mut answer);
        bodiless(asker, answer)
    }

    /// CORS (Fetch §3.2) for the origins that the operator named.
    pub(super) fn allow_origin(&self, asker: &Asker, answer: &mut Answer) {
        let Some(origin) = &asker.origin else {
            return;
        };
        let manner = self.manner.borrow();
        let named = origin
            .to_str()
            .is_ok_and(|origin| manner.cors_origins.iter().any(|named| named == origin));
        if named {
            let headers = answer.headers_mut();
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

    /// The waiting page, with the place in a cookie.
    pub(super) fn waiting_page(
        &self,
        ledger: &Arc<Ledger>,
        asker: &Asker,
        line: &Line,
        by_header: bool,
    ) -> Answer {
        let settings = ledger.settings.load();
        let path = asker.uri.path_and_query().map_or("/", |path| path.as_str());
        let enter = if asker.method == Method::GET || asker.method == Method::HEAD {
            Enter::Reload
        } else {
            Enter::FormNotSent(path)
        };
        let token = self
            .reception
            .sign(ledger, &Token::Ticket(line.ticket.clone()))
            .unwrap_or_default();
        let text = render(
            ledger,
            asker.language(),
            line,
            &token,
            enter,
            self.reception.clock.unix_ms(),
        );
        let status = StatusCode::from_u16(settings.waiting_status)
            .unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut answer = own(status, HTML, text);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, WaitingPage::csp());
        headers.insert(header::RETRY_AFTER, line.poll_after.as_secs().max(1).into());
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Accept-Language, Cookie"),
        );
        put(headers, "content-language", asker.language().tag());
        put(headers, "referrer-policy", "same-origin");
        put(headers, "sumun-status", "wait");
        if by_header {
            put(headers, "sumun-token", &token);
        } else {
            let place = Place {
                event: &ledger.id,
                settings: &settings.cookie,
                over_tls: asker.visitor.https,
            };
            if let Some(cookie) = place.set(&token, TICKET_SECONDS) {
                headers.append(header::SET_COOKIE, cookie);
            }
        }
        degraded(ledger, &mut answer);
        bodiless(asker, answer)
    }
}

/// Where to send a visitor who is to wait and then go to `path`.
fn wait_url(ledger: &Ledger, path: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("event", ledger.id.as_str())
        .append_pair("return", path)
        .finish();
    format!("/__sumun/wait?{query}")
}

/// The answer for a request that the origin did not answer.
pub(super) fn origin_failed(asker: &Asker, status: StatusCode) -> Answer {
    let kind = match status {
        StatusCode::GATEWAY_TIMEOUT => NoticeKind::OriginSlow,
        StatusCode::BAD_GATEWAY => NoticeKind::OriginUnreachable,
        StatusCode::SERVICE_UNAVAILABLE => NoticeKind::OriginBusy,
        _ => return plain(status, "The request could not be understood.\n"),
    };
    let retry_after = (kind == NoticeKind::OriginBusy).then_some(BUSY_RETRY_SECONDS);
    if asker.kind == Kind::Api {
        let title = match kind {
            NoticeKind::OriginSlow => "The site did not answer in time",
            NoticeKind::OriginBusy => "The site has too much to do at the moment",
            _ => "The site cannot be reached",
        };
        let document = json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "detail": title,
        });
        let mut answer = own(status, "application/problem+json", document.to_string());
        if let Some(seconds) = retry_after {
            let headers = answer.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        return answer;
    }
    notice(asker, kind, retry_after)
}
