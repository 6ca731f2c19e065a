//! What a controller tells the store of those whom its gateway heard from.

use std::time::Duration;

use tracing::info;

use super::Controller;
use crate::room::decision::OnFailure;
use crate::room::time::{Timestamp, millis};
use crate::store::{LetIn, Reply};

/// Touches and beats go to the store at least this often.
const BEAT: Duration = Duration::from_secs(5);

/// The most sessions or pages in one call.
const PART: usize = 64;

/// The most that one pass tells of an outage: the loop must go on.
const CATCH_UP: usize = 1_024;

impl Controller {
    /// Tells the store who was heard from: touches each pass, beats each few
    /// seconds, in a recovery at once: what it ends without is passed over.
    pub(super) async fn tell(&mut self, at_once: bool) {
        let now_ms = self.ledger.monotonic_ms();
        let beat = if at_once {
            Duration::ZERO
        } else {
            BEAT.min(self.ledger.window() / 10)
        };
        if now_ms >= self.beaten_ms + millis(beat) {
            self.beaten_ms = now_ms;
            let idle = self.ledger.settings.load().session_idle;
            self.ledger.sessions.sweep(self.ledger.now(), idle);
            self.beat().await;
        }
        // Before sessions are touched: one that the store does not know is over.
        self.tell_ends().await;
        self.tell_let_in().await;
        self.touch().await;
    }

    /// Tells of sessions that ended while the store was away.
    async fn tell_ends(&self) {
        let sessions = self.ledger.sessions.take_end_later(CATCH_UP);
        if sessions.is_empty() {
            return;
        }
        let told = self.bench.store.end(&self.ledger.id, &sessions).await;
        if !matches!(told, Ok(Reply::Done(_))) {
            for session in sessions {
                self.ledger.sessions.end_later(session);
            }
        }
    }

    /// Tells of those let in by order while the store was away.
    async fn tell_let_in(&self) {
        let visitors = self
            .ledger
            .sessions
            .take_let_in(CATCH_UP, self.ledger.now());
        if visitors.is_empty() {
            return;
        }
        let told = self.bench.store.let_in(&self.ledger.id, &visitors).await;
        let Ok(Reply::Done(told)) = told else {
            for visitor in visitors {
                self.ledger.sessions.note_let_in(visitor);
            }
            return;
        };
        let now = self.ledger.now();
        let each = visitors.iter().zip(told);
        let over = each.filter(|(_, expires)| expires.is_none());
        let over: Vec<_> = over.map(|(visitor, _)| (visitor.session, now)).collect();
        self.ledger.sessions.note_ended(&over);
        info!(event = %self.ledger.id, visitors = visitors.len(), "whom the gateway let in without the store counts now");
    }

    async fn beat(&self) {
        let untold = self.ledger.heard.take_untold();
        for part in untold.chunks(PART) {
            let told = self.bench.store.beat(&self.ledger.id, part).await;
            if !matches!(told, Ok(Reply::Done(()))) {
                self.ledger.heard.put_back(part);
            }
        }
    }

    async fn touch(&self) {
        let due = self.ledger.sessions.take_due();
        let idle = self.ledger.settings.load().session_idle;
        // Others may have let in whom the store was not told of.
        let open = !matches!(self.ledger.on_failure.get(), None | Some(OnFailure::Hold));
        for part in due.chunks(PART) {
            let touches: Vec<_> = part.iter().map(|(_, touch)| *touch).collect();
            let answer = self.bench.store.touch(&self.ledger.id, &touches).await;
            let Ok(Reply::Done(extended)) = answer else {
                for (stay, _) in part {
                    self.ledger.sessions.hear(stay, self.ledger.now());
                }
                continue;
            };
            let now = self.ledger.now();
            for ((stay, _), expires) in part.iter().zip(extended) {
                match expires {
                    Some(expires) => stay.acknowledge(expires, now, idle),
                    // Its pass is good, so another gateway let it in without
                    // the store and has not told of it, or never will.
                    None if open && stay.acknowledged() > now && stay.ended().is_none() => {
                        self.ledger.sessions.note_let_in(LetIn {
                            session: stay.session,
                            number: None,
                            proven: true,
                            until: Timestamp(0),
                            id: None,
                        });
                        self.ledger.sessions.hear(stay, now);
                    }
                    None => stay.end(now),
                }
            }
        }
    }
}
