//! The answer of `enter` and `status`: every field of it, always; what is not
//! known is `null`. The waiting page's script reads the same answer.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::PublicDoor;
use super::caller::{Caller, Page};
use crate::api::{document, put};
use crate::ledger::Ledger;
use crate::reception::{Blocked, Inside, Line, Outcome};
use crate::room::time::millis;
use crate::token::{Pass, TICKET_SECONDS, Token};

/// The longest `time`, in minutes: 99-59.
const TIME_MINUTES_MAX: u64 = 99 * 60 + 59;

/// What is to be said to a caller.
pub(super) enum Said {
    /// What reception decided.
    Outcome(Outcome),
    /// Asked before its time: the same ticket again.
    Early(Line, String),
    /// The gate is closed; the place is kept.
    KeptOut(Line),
}

/// The answer of `enter` and `status`.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing<'a> {
    id: Option<&'a str>,
    event_id: &'a str,
    status: &'static str,
    reason: Option<&'static str>,
    retry_after_ms: Option<u64>,
    expected_info: Option<ExpectedInfo>,
    success_url: Option<&'a str>,
    success_token: Option<String>,
    ticket: Option<&'a str>,
    pass: Option<&'a str>,
    poll_after_ms: Option<u64>,
    called: bool,
    degraded: bool,
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct ExpectedInfo {
    rank: Option<u64>,
    behind: Option<u64>,
    about: bool,
    time: Option<String>,
    seconds: Option<u64>,
    low: Option<u64>,
    high: Option<u64>,
}

impl ExpectedInfo {
    fn of(line: &Line) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "waits are positive and far below 2^53 seconds"
        )]
        let whole = |seconds: f64| seconds.clamp(0.0, 1e9) as u64;
        let seconds = line.wait.map(|wait| whole(wait.seconds.ceil()));
        Self {
            rank: line.ticket.position,
            behind: line.behind,
            about: line.about,
            time: seconds.map(time),
            seconds,
            low: line.wait.map(|wait| whole(wait.low)),
            high: line.wait.map(|wait| whole(wait.high)),
        }
    }
}

/// A wait as `hh-mm`, begun minutes counted whole.
fn time(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60).min(TIME_MINUTES_MAX);
    format!("{:02}-{:02}", minutes / 60, minutes % 60)
}

impl PublicDoor {
    /// Says it, with the cookies that belong to it.
    pub(super) fn say(
        &self,
        ledger: &Ledger,
        caller: &Caller,
        said: &Said,
        by_header: bool,
    ) -> Response<Bytes> {
        let mut answer = match said {
            Said::Outcome(Outcome::Inside(inside)) => {
                self.say_inside(ledger, caller, inside, by_header)
            }
            Said::Outcome(Outcome::Waits(line)) => {
                let token = self.place_token(ledger, line);
                let mut answer = write(ledger, waits(line, token.as_deref()));
                give_place(
                    ledger,
                    caller,
                    line,
                    token.as_deref(),
                    by_header,
                    &mut answer,
                );
                answer
            }
            Said::Early(line, text) => write(ledger, waits(line, Some(text))),
            Said::Outcome(Outcome::Blocked(blocked)) => {
                write(ledger, refused(*blocked, blocked.retry_after()))
            }
            Said::KeptOut(line) => {
                let token = self.place_token(ledger, line);
                // A place is kept for those who ask.
                let often = ledger.window().div_f64(2.5);
                let standing = Standing {
                    id: Some(&line.ticket.visitor),
                    ticket: token.as_deref(),
                    ..refused(Blocked::Closed, Blocked::Closed.retry_after().min(often))
                };
                let mut answer = write(ledger, standing);
                give_place(
                    ledger,
                    caller,
                    line,
                    token.as_deref(),
                    by_header,
                    &mut answer,
                );
                answer
            }
            Said::Outcome(Outcome::Uncounted) => write(
                ledger,
                Standing {
                    status: "ENTER",
                    ..Standing::default()
                },
            ),
        };
        if is_degraded(ledger) {
            put(answer.headers_mut(), "sumun-degraded", "store");
        }
        answer
    }

    fn say_inside(
        &self,
        ledger: &Ledger,
        caller: &Caller,
        inside: &Inside,
        by_header: bool,
    ) -> Response<Bytes> {
        let token = self.pass_token(ledger, inside);
        let standing = Standing {
            id: Some(&inside.pass.visitor),
            status: "ENTER",
            success_token: self.reception.success(ledger, &inside.pass),
            pass: token.as_deref(),
            ..Standing::default()
        };
        let mut answer = write(ledger, standing);
        if let Some(token) = &token {
            give_pass(ledger, caller, inside, token, &mut answer);
            if by_header {
                put(answer.headers_mut(), "sumun-token", token);
            }
        }
        answer
    }

    /// A pass that ends when the store last acknowledged.
    pub(super) fn pass_token(&self, ledger: &Ledger, inside: &Inside) -> Option<String> {
        let pass = Pass {
            issued_at: ledger.now().seconds(),
            expires: inside.stay.acknowledged().seconds(),
            ..Pass::clone(&inside.pass)
        };
        self.reception.sign(ledger, &Token::Pass(pass))
    }

    pub(super) fn place_token(&self, ledger: &Ledger, line: &Line) -> Option<String> {
        self.reception
            .sign(ledger, &Token::Ticket(line.ticket.clone()))
    }
}

/// Hands the place on, in a cookie where it is a cookie's.
fn give_place(
    ledger: &Ledger,
    caller: &Caller,
    line: &Line,
    token: Option<&str>,
    by_header: bool,
    answer: &mut Response<Bytes>,
) {
    let Some(token) = token else {
        return;
    };
    if line.ticket.scope.is_some() && caller.page != Page::Foreign {
        caller.set_cookie(ledger, Some((token, TICKET_SECONDS)), answer);
    }
    if by_header {
        put(answer.headers_mut(), "sumun-token", token);
    }
}

/// Sets the pass in a cookie, where it is a cookie's.
pub(super) fn give_pass(
    ledger: &Ledger,
    caller: &Caller,
    inside: &Inside,
    token: &str,
    answer: &mut Response<Bytes>,
) {
    if inside.pass.scope.is_some() && caller.page != Page::Foreign {
        let settings = ledger.settings.load();
        let keep = millis(settings.session_max.max(settings.session_idle)) / 1000;
        caller.set_cookie(ledger, Some((token, keep)), answer);
    }
}

/// Whether the store is away.
pub(super) fn is_degraded(ledger: &Ledger) -> bool {
    !ledger.view().is_some_and(|view| view.store_up)
}

fn waits<'a>(line: &'a Line, token: Option<&'a str>) -> Standing<'a> {
    Standing {
        id: Some(&line.ticket.visitor),
        status: "WAIT",
        expected_info: Some(ExpectedInfo::of(line)),
        ticket: token,
        poll_after_ms: Some(millis(line.poll_after)),
        called: line.ticket.called && !line.shared,
        reason: line.shared.then_some("ADDRESS_SHARE"),
        ..Standing::default()
    }
}

fn refused(blocked: Blocked, again: std::time::Duration) -> Standing<'static> {
    Standing {
        status: "BLOCK",
        reason: Some(blocked.word()),
        retry_after_ms: Some(millis(again)),
        ..Standing::default()
    }
}

/// Writes it, with what is the same in all of them.
fn write(ledger: &Ledger, standing: Standing<'_>) -> Response<Bytes> {
    let settings = ledger.settings.load();
    let success_url = settings.success_url.as_deref();
    let whole = Standing {
        event_id: ledger.id.as_str(),
        success_url: success_url.filter(|_| standing.status == "ENTER"),
        degraded: is_degraded(ledger),
        message: settings.message.as_deref(),
        ..standing
    };
    let is_for = |blocked: Blocked| whole.reason == Some(blocked.word());
    let status = if is_for(Blocked::RateLimited) {
        StatusCode::TOO_MANY_REQUESTS
    } else if is_for(Blocked::Bot) {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::OK
    };
    let mut answer = document(status, &whole);
    let headers = answer.headers_mut();
    let word = match whole.status {
        "ENTER" => "enter",
        "WAIT" => "wait",
        _ => "block",
    };
    headers.insert(
        HeaderName::from_static("sumun-status"),
        HeaderValue::from_static(word),
    );
    if let Some(after) = whole.retry_after_ms {
        headers.insert(header::RETRY_AFTER, after.div_ceil(1000).into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_written_in_hours_and_begun_minutes() {
        let cases = [
            (0, "00-00"),
            (1, "00-01"),
            (300, "00-05"),
            (3_661, "01-02"),
            (1_000_000_000, "99-59"),
        ];
        for (seconds, written) in cases {
            assert_eq!(time(seconds), written);
        }
    }
}
