//! To the origin and back: what is taken off and put on, inside a session or
//! outside, and what the origin has to say about the session.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};

use super::asker::{Asker, SUMUN_TOKEN};
use super::{Answer, Counted, Gateway, grpc, own, put, stick, visit};
use crate::incoming::ClientBody;
use crate::ledger::{InUse, Ledger, Stay};
use crate::load::InFlight;
use crate::metrics as names;
use crate::origin::{Client, Forward, Forwarded, OriginError};
use crate::origins::{Group, Sent};
use crate::reception::Inside;
use crate::room::decision::Kind;
use crate::room::time::{Timestamp, millis};
use crate::token::cookie::Place;
use crate::token::{Pass, Token};

static SUMUN_SESSION: HeaderName = HeaderName::from_static("sumun-session");
static SUMUN_EVENT: HeaderName = HeaderName::from_static("sumun-event");
static SUMUN_CLIENT: HeaderName = HeaderName::from_static("sumun-client");

/// How often a tunnel looks whether its session has ended.
const TUNNEL_LOOK: Duration = Duration::from_secs(1);

impl Gateway {
    /// To the origin and back: the session is kept alive, what the origin says
    /// of it is done, and the pass is renewed where that is due.
    pub(super) fn through(
        self: &Rc<Self>,
        mut request: Request<ClientBody>,
        asker: &Asker,
        mut passage: Passage,
        counted: Counted,
    ) -> impl Future<Output = Answer> {
        let in_use = passage.in_use.take();
        let ledger = passage.ledger.as_ref();
        let in_flight = ledger.and_then(|ledger| in_flight(ledger, asker));
        let visit = visit(in_flight, in_use, counted);
        let group = self.origins.of(ledger.map(|ledger| &ledger.id));
        let forward = self.forward(&mut request, asker, &passage, group.as_deref());
        let mut going = group.map(|group| {
            let wanted = stick::wanted(&group, request.headers());
            (group.errand(request, forward), wanted, group)
        });
        async move {
            let Some((errand, wanted, group)) = &mut going else {
                return own::origin_failed(asker, StatusCode::BAD_GATEWAY);
            };
            let wanted = *wanted;
            let sent = match errand {
                Some(errand) => group.forward(errand, wanted, visit).await,
                None => Ok(Sent::last_forward()),
            };
            let mut answer = match sent.map(|sent| (sent.forwarded, sent.by)) {
                Ok((Forwarded::Response(mut answer, timing), by)) => {
                    let failed = answer.status().is_server_error();
                    self.measured(&passage, Some(timing.first_byte), failed);
                    let micros = u32::try_from(timing.first_byte.as_micros());
                    asker.first_byte_us.set(Some(micros.unwrap_or(u32::MAX)));
                    let whose = (asker, passage.ledger.as_deref());
                    stick::stick(group, (wanted, by), whose, &mut answer);
                    answer
                }
                Ok((Forwarded::Tunnel(answer, tunnel), _)) => {
                    let gone = gone(passage.stay.clone(), self.reception.clone());
                    tokio::task::spawn_local(tunnel.run(gone));
                    answer
                }
                Err(fault) => self.failed(asker, &passage, &fault),
            };
            let order = answer.headers_mut().remove(&SUMUN_SESSION);
            if let (Some(ledger), Some(stay)) = (&passage.ledger, &passage.stay) {
                if let Some(order) = order.filter(|_| is_own(answer.headers())) {
                    Box::pin(self.obey(ledger, stay, &order)).await;
                }
                if let Some((pass, carry)) = &passage.renewal {
                    self.renew((ledger, stay), asker, (pass, *carry), &mut answer);
                }
            }
            answer
        }
    }

    /// The answer for what the origin did not answer.
    #[cold]
    fn failed(&self, asker: &Asker, passage: &Passage, fault: &OriginError) -> Answer {
        let mut answer = own::origin_failed(asker, fault.status());
        if fault.is_clients_fault() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            return grpc::for_client(asker, answer);
        }
        self.measured(passage, None, true);
        self.reception
            .metrics
            .counter(&names::ORIGIN_FAILURES, &[("kind", fault.kind())])
            .increment(1);
        let now_ms = self.reception.clock.monotonic_ms();
        let told = self.reception.complaints.note(fault.kind(), now_ms);
        if let Some(passed_over) = told {
            tracing::warn!(kind = fault.kind(), %fault, passed_over, "the origin did not answer");
        }
        grpc::for_client(asker, answer)
    }

    fn measured(&self, passage: &Passage, first_byte: Option<Duration>, failed: bool) {
        if let Some(first_byte) = first_byte {
            self.counts.first_byte.record(first_byte.as_secs_f64());
        }
        if let Some(ledger) = &passage.ledger {
            ledger
                .load
                .answered(ledger.monotonic_ms(), first_byte, failed);
        }
    }

    /// What the origin is told, and what it is not.
    fn forward(
        &self,
        request: &mut Request<ClientBody>,
        asker: &Asker,
        passage: &Passage,
        group: Option<&Group>,
    ) -> Forward {
        let headers = request.headers_mut();
        let keep = self.manner.borrow().forward_token;
        let token = headers.remove(&SUMUN_TOKEN).filter(|_| keep);
        let cookie = stick::cookies(headers, keep, group);
        let mut own = Vec::with_capacity(4);
        if let Some(token) = token {
            own.push((SUMUN_TOKEN.clone(), token));
        }
        if let Some(ledger) = &passage.ledger {
            let bypass = &ledger.settings.load().bypass;
            if bypass.secret.is_some() {
                headers.remove(bypass.header.as_str());
            }
            let client = HeaderValue::from_static(asker.kind.word());
            own.push((SUMUN_EVENT.clone(), ledger.label.clone()));
            own.push((SUMUN_CLIENT.clone(), client));
            if let Some(stay) = &passage.stay {
                own.push((SUMUN_SESSION.clone(), stay.label.clone()));
            }
        }
        Forward {
            client: Client {
                peer: asker.visitor.peer,
                peer_label: asker.peer.clone(),
                trusted: asker.visitor.behind_trusted_proxy,
                https: asker.visitor.https,
                host: asker.visitor.host.clone(),
                port: asker.visitor.port,
            },
            headers: own,
            cookie,
        }
    }

    /// Does what the origin says of the session (docs/api.md).
    async fn obey(&self, ledger: &Arc<Ledger>, stay: &Arc<Stay>, order: &HeaderValue) {
        let order = order
            .to_str()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match order.as_str() {
            "complete" | "revoke" => {
                // Remembered here too, should the store be away: it is told
                // when it is back.
                ledger.sessions.note_ended(&[(stay.session, ledger.now())]);
                stay.end(ledger.now());
                let counter = if order == "complete" {
                    &ledger.counts.completed
                } else {
                    &ledger.counts.revoked
                };
                match ledger.desk.end(stay.session).await {
                    Ok(true) => counter.increment(1),
                    Ok(false) => {}
                    Err(_) => ledger.sessions.end_later(stay.session),
                }
            }
            order => {
                if let Some(seconds) = order.strip_prefix("extend=").and_then(|s| s.parse().ok()) {
                    self.extend(ledger, stay, seconds).await;
                }
            }
        }
    }

    /// Keeps a session through a bank's app, at most to `session_max`.
    async fn extend(&self, ledger: &Arc<Ledger>, stay: &Arc<Stay>, seconds: u64) {
        let settings = ledger.settings.load_full();
        let longest = stay.begun().plus(settings.session_max);
        let until = Timestamp(ledger.now().0.saturating_add(seconds.saturating_mul(1000)));
        if let Ok(Some(expires)) = ledger.desk.extend(stay, until.min(longest)).await {
            stay.acknowledge(expires, ledger.now(), settings.session_idle);
        }
    }

    /// Sets the pass where it may be set: on navigations and on answers that
    /// nobody stores; elsewhere a CDN would hand one pass to everybody.
    fn renew(
        &self,
        (ledger, stay): (&Arc<Ledger>, &Arc<Stay>),
        asker: &Asker,
        (pass, carry): (&Pass, Carry),
        answer: &mut Answer,
    ) {
        let acknowledged = stay.acknowledged().seconds();
        if !carry.fresh && acknowledged <= pass.expires {
            return;
        }
        let settings = ledger.settings.load();
        let eighth = settings.session_idle.as_secs() / 8;
        let due = carry.fresh || acknowledged > pass.expires + eighth;
        if !due || stay.ended().is_some() {
            return;
        }
        let private = is_private(answer.headers());
        if !carry.by_header && !asker.kind.is_navigation() && !private {
            return;
        }
        let pass = Pass {
            issued_at: ledger.now().seconds(),
            expires: acknowledged,
            ..pass.clone()
        };
        let Some(token) = self.reception.sign(ledger, &Token::Pass(pass)) else {
            return;
        };
        if carry.by_header {
            return put(answer.headers_mut(), "sumun-token", &token);
        }
        let place = Place {
            event: &ledger.id,
            settings: &settings.cookie,
            over_tls: asker.visitor.https,
        };
        let keep = millis(settings.session_max.max(settings.session_idle)) / 1000;
        if let Some(cookie) = place.set(&token, keep) {
            answer.headers_mut().append(header::SET_COOKIE, cookie);
            if !private {
                make_private(answer.headers_mut());
            }
        }
        if carry.fresh {
            put(answer.headers_mut(), "sumun-status", "enter");
        }
    }
}

/// How a pass travels.
#[derive(Clone, Copy)]
pub(super) struct Carry {
    /// In the header `Sumun-Token`, not in a cookie.
    pub(super) by_header: bool,
    /// The visitor does not have it yet.
    pub(super) fresh: bool,
}

/// Counts a request as load; what becomes a tunnel is not in flight.
fn in_flight(ledger: &Ledger, asker: &Asker) -> Option<InFlight> {
    let begun = ledger.load.begin(asker.came_ms);
    (asker.kind != Kind::Upgrade).then_some(begun)
}

/// On whose account a request goes to the origin.
#[derive(Default)]
pub(super) struct Passage {
    /// The event that covers it.
    ledger: Option<Arc<Ledger>>,
    /// The session that it keeps alive.
    stay: Option<Arc<Stay>>,
    /// What keeps a session alive until the answer is over.
    in_use: Option<InUse>,
    /// The pass that its answer may renew.
    renewal: Option<(Rc<Pass>, Carry)>,
}

impl Passage {
    /// Inside a session.
    pub(super) fn inside(
        ledger: &Arc<Ledger>,
        inside: Inside,
        in_use: InUse,
        carry: Carry,
    ) -> Self {
        Self {
            ledger: Some(Arc::clone(ledger)),
            stay: Some(inside.stay),
            in_use: Some(in_use),
            renewal: Some((inside.pass, carry)),
        }
    }

    /// What the event does not count as a visit, as load only. A session at
    /// hand is kept alive by it all the same.
    pub(super) fn uncounted(ledger: &Arc<Ledger>, stay: Option<Arc<Stay>>) -> Self {
        Self {
            ledger: Some(Arc::clone(ledger)),
            in_use: stay.as_ref().map(Stay::hold),
            stay,
            renewal: None,
        }
    }

    /// On the account of another event's session, which the origin is not told of.
    pub(super) fn lent(ledger: &Arc<Ledger>, in_use: Option<InUse>) -> Self {
        Self {
            in_use,
            ..Self::uncounted(ledger, None)
        }
    }
}

/// Resolves when a tunnel's session has ended; a tunnel outside any session
/// ends only by itself.
async fn gone(stay: Option<Arc<Stay>>, reception: Arc<crate::reception::Reception>) {
    let Some(stay) = stay else {
        return std::future::pending().await;
    };
    // The open tunnel holds its session, so only an end from elsewhere is
    // looked for here.
    while stay.ended().is_none() && !reception.is_closing() {
        tokio::time::sleep(TUNNEL_LOOK).await;
    }
}

fn cache_control(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
}

/// Nobody but the visitor's own browser stores it (RFC 9111 §5.2.2).
pub(super) fn is_private(headers: &HeaderMap) -> bool {
    cache_control(headers).any(|directive| matches!(directive.as_str(), "no-store" | "private"))
}

/// Whether an answer is this visitor's own: what it says of the session counts.
fn is_own(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AGE) && !is_public(headers)
}

fn is_public(headers: &HeaderMap) -> bool {
    cache_control(headers).any(|d| d == "public" || d.starts_with("s-maxage"))
}

/// Takes an answer that now carries a pass out of all shared caches.
pub(super) fn make_private(headers: &mut HeaderMap) {
    let mut kept: Vec<String> = cache_control(headers)
        .filter(|d| !d.is_empty() && d != "public" && !d.starts_with("s-maxage"))
        .collect();
    kept.insert(0, "private".to_owned());
    if let Ok(value) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    for name in ["surrogate-control", "cdn-cache-control"] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn an_answer_with_a_pass_leaves_all_shared_caches() {
        let mut headers = headers(&[
            ("cache-control", "public, max-age=600, s-maxage=3600"),
            ("surrogate-control", "max-age=3600"),
            ("cdn-cache-control", "max-age=3600"),
        ]);
        make_private(&mut headers);
        assert_eq!(headers["cache-control"], "private, max-age=600");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn what_is_private_or_public_is_told_by_its_directives() {
        assert!(is_private(&headers(&[("cache-control", "No-Store")])));
        assert!(!is_private(&headers(&[("cache-control", "no-cache")])));
        assert!(is_public(&headers(&[("cache-control", "s-maxage=5")])));
        assert!(!is_public(&headers(&[])));
    }
}
