//! `GET /__sumun/wait`: a page to send a visitor to, from a single-page app.
//! It waits there and then goes where it was told, on this host only.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use url::Url;

use super::caller::Caller;
use super::said::{Said, give_pass, is_degraded};
use super::{Fields, Problem, PublicDoor};
use crate::api::{empty, own, put};
use crate::ledger::Ledger;
use crate::pages::{Enter, Notice, NoticeKind, WaitingPage};
use crate::reception::{Blocked, Line, Outcome, render};
use crate::token::TICKET_SECONDS;

const HTML: &str = "text/html; charset=utf-8";

impl PublicDoor {
    /// The page, or straight on when the visitor is inside.
    pub(super) async fn wait(
        &self,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Response<Bytes>, Problem> {
        let ledger = self.event(fields, "event")?;
        let back = here(fields.text("return")?.unwrap_or("/"));
        if !caller.kind().is_navigation() {
            // Nobody is there who would wait: an image or a frame of a foreign
            // page must not draw places for its readers.
            let problem = Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "queueing",
                "This is a waiting page",
                "only a visitor who looks at it gets a place",
            );
            return Err(problem.retry_after(10));
        }
        let held = self.held(&ledger, caller, None).await?.readable()?;
        let before = held.who_before();
        let said = match self.settle(&ledger, caller, held).await {
            Some(said) => said,
            None => self.newcomer(&ledger, caller, None, before).await,
        };
        let mut answer = match &said {
            Said::Outcome(Outcome::Inside(inside)) => {
                let mut answer = go(&back);
                if let Some(token) = self.pass_token(&ledger, inside) {
                    give_pass(&ledger, caller, inside, &token, &mut answer);
                }
                answer
            }
            Said::Outcome(Outcome::Uncounted) => go(&back),
            Said::Outcome(Outcome::Waits(line)) => {
                let token = self.place_token(&ledger, line).unwrap_or_default();
                self.waiting(&ledger, caller, line, &token, &back)
            }
            Said::Early(line, token) => self.waiting(&ledger, caller, line, token, &back),
            Said::KeptOut(_) => notice(&ledger, caller, Blocked::Closed),
            Said::Outcome(Outcome::Blocked(blocked)) => notice(&ledger, caller, *blocked),
        };
        if is_degraded(&ledger) {
            put(answer.headers_mut(), "sumun-degraded", "store");
        }
        Ok(answer)
    }

    fn waiting(
        &self,
        ledger: &Arc<Ledger>,
        caller: &Caller,
        line: &Line,
        token: &str,
        back: &str,
    ) -> Response<Bytes> {
        let language = caller.language();
        let now = self.reception.clock.unix_ms();
        let text = render(ledger, language, line, token, Enter::GoTo(back), now);
        let status = StatusCode::from_u16(ledger.settings.load().waiting_status)
            .unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut answer = own(status, HTML, text.into());
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, WaitingPage::csp());
        headers.insert(header::RETRY_AFTER, line.poll_after.as_secs().max(1).into());
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Accept-Language, Cookie"),
        );
        put(headers, "content-language", language.tag());
        put(headers, "referrer-policy", "same-origin");
        put(headers, "sumun-status", "wait");
        caller.set_cookie(ledger, Some((token, TICKET_SECONDS)), &mut answer);
        answer
    }
}

fn notice(ledger: &Ledger, caller: &Caller, blocked: Blocked) -> Response<Bytes> {
    let kind = match blocked {
        Blocked::Closed => NoticeKind::Closed,
        Blocked::Full => NoticeKind::LineFull,
        Blocked::RateLimited => NoticeKind::RateLimited,
        Blocked::Bot => NoticeKind::Bot,
    };
    let language = caller.language();
    let settings = ledger.settings.load();
    let again = blocked.retry_after().as_secs();
    let text = Notice {
        language,
        kind,
        event_name: Some(&settings.name),
        message: settings.message.as_deref(),
        retry_after_seconds: (blocked != Blocked::Bot).then_some(again),
    }
    .render();
    let mut answer = own(kind.status(), HTML, text.into());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, Notice::csp());
    headers.insert(header::RETRY_AFTER, again.into());
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
    put(headers, "content-language", language.tag());
    put(headers, "sumun-status", "block");
    answer
}

/// See Other (RFC 9110 §15.4.4): a GET, whatever brought the visitor here.
fn go(back: &str) -> Response<Bytes> {
    let mut answer = empty(StatusCode::SEE_OTHER);
    put(answer.headers_mut(), "location", back);
    put(answer.headers_mut(), "sumun-status", "enter");
    answer
}

/// A path of this host, as a browser would resolve it; anything else is `/`:
/// no link may use us to send visitors elsewhere, nor in a circle.
fn here(back: &str) -> String {
    let base = "http://host.invalid/";
    let resolved = back
        .starts_with('/')
        .then(|| Url::parse(base).ok()?.join(back).ok())
        .flatten()
        .filter(|url| url.as_str().starts_with(base));
    let Some(url) = resolved else {
        return "/".to_owned();
    };
    let rest = url.as_str().get(base.len() - 1..).unwrap_or("/");
    let path = url.path();
    if path.starts_with("//") || path == "/__sumun" || path.starts_with("/__sumun/") {
        return "/".to_owned();
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_sent_nowhere_but_to_a_path_of_this_host() {
        let cases = [
            ("/", "/"),
            ("/pay?x=1&y=%2F#z", "/pay?x=1&y=%2F#z"),
            ("/수문", "/%EC%88%98%EB%AC%B8"),
            ("/a b", "/a%20b"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("\\\\evil.example", "/"),
            ("https://evil.example/", "/"),
            ("javascript:alert(1)", "/"),
            ("/\t/evil.example", "/"),
            ("/..//evil.example", "/"),
            ("/./\\evil.example", "/"),
            ("/x/..//evil.example", "/"),
            ("", "/"),
            ("pay", "/"),
            ("/__sumun/wait?event=main", "/"),
            ("/a/../__sumun/wait", "/"),
            ("/a\r\nset-cookie: x=1", "/aset-cookie:%20x=1"),
        ];
        for (asked, sent) in cases {
            assert_eq!(here(asked), sent, "{asked:?}");
        }
    }
}
