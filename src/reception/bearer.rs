//! Who stands at the door, and whether the pass in their hand still opens it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Known, Reception, doubt};
use crate::ledger::{Ledger, Stay};
use crate::room::ticket::id_hash;
use crate::room::time::Timestamp;
use crate::store::{IdHash, Touch};
use crate::token::{Pass, Ticket, is_over};

/// Who stands at the door.
#[derive(Clone, Debug)]
pub struct Who {
    /// The visitor's id: drawn here, or the customer's own.
    pub visitor: String,
    /// The cookie scope; `None` when asked by API.
    pub scope: Option<String>,
    /// The hash of the customer's own id.
    pub id: Option<IdHash>,
}

impl Who {
    /// A visitor nobody knows yet: 128 random bits.
    #[must_use]
    pub fn stranger(scope: Option<String>) -> Self {
        Self {
            visitor: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            scope,
            id: None,
        }
    }

    /// A visitor who was here before, by a token that is over.
    #[must_use]
    pub fn returning(visitor: String, scope: Option<String>) -> Self {
        Self {
            visitor,
            scope,
            id: None,
        }
    }

    /// A visitor whom the customer names.
    #[must_use]
    pub fn named(id: &str) -> Self {
        Self {
            visitor: id.to_owned(),
            scope: None,
            id: Some(id_hash(id)),
        }
    }

    /// The bearer of a ticket. One without a scope was got by API, and its
    /// visitor may be the customer's own id, which then moves on with it.
    #[must_use]
    pub fn bearer(ticket: &Ticket) -> Self {
        let by_api = ticket.scope.is_none();
        Self {
            visitor: ticket.visitor.clone(),
            scope: ticket.scope.clone(),
            id: by_api.then(|| id_hash(&ticket.visitor)),
        }
    }
}

/// What a well signed pass is worth.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// Its session lives.
    Lives(Arc<Stay>),
    /// Its session was ended, and when.
    Ended(Timestamp),
    /// Its session is over.
    Over,
}

/// What the store is asked about a session that this gateway does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// Its bearer was heard from: it is extended.
    Touch,
    /// Somebody else asks: it stays as it is.
    Look,
}

impl Reception {
    /// Whether the session of a pass lives: by this gateway's memory, and by
    /// the store if that does not know. Its bearer is here, so it is extended.
    pub async fn bearer(&self, ledger: &Arc<Ledger>, pass: &Pass, known: &Known) -> Bearer {
        self.judge(ledger, pass, known, Asking::Touch).await
    }

    /// The same for somebody who only asks about the bearer: nothing is extended.
    pub async fn look_at(&self, ledger: &Arc<Ledger>, pass: &Pass, known: &Known) -> Bearer {
        self.judge(ledger, pass, known, Asking::Look).await
    }

    /// The same by this gateway's memory alone, at the running time `now`; `None`
    /// when the store has to be asked.
    #[must_use]
    pub fn remembered(
        &self,
        ledger: &Ledger,
        pass: &Pass,
        known: &Known,
        now: Timestamp,
    ) -> Option<Bearer> {
        let stay = stay_of(ledger, pass, known);
        if let Some(ended) = stay.ended() {
            return Some(Bearer::Ended(ended));
        }
        (!is_over(pass.expires, now) || stay.acknowledged() > now)
            .then(|| lives(ledger, pass, stay))
    }

    async fn judge(
        &self,
        ledger: &Arc<Ledger>,
        pass: &Pass,
        known: &Known,
        asking: Asking,
    ) -> Bearer {
        if let Some(bearer) = self.remembered(ledger, pass, known, ledger.now()) {
            return bearer;
        }
        let stay = stay_of(ledger, pass, known);
        if !still_inside(ledger, pass, &stay, asking).await {
            return Bearer::Over;
        }
        lives(ledger, pass, stay)
    }
}

/// A living session; a pass older than all that the store knows tells of a loss.
fn lives(ledger: &Ledger, pass: &Pass, stay: Arc<Stay>) -> Bearer {
    if let Some(view) = ledger.glance().as_ref() {
        doubt(ledger, view, pass.begun);
    }
    Bearer::Lives(stay)
}

/// Whether a pass past its time is still good: by this gateway's memory,
/// else by the store. While the store is away it is, for as long as its
/// session may have lived.
async fn still_inside(ledger: &Arc<Ledger>, pass: &Pass, stay: &Arc<Stay>, asking: Asking) -> bool {
    let now = ledger.now();
    let idle = ledger.settings.load().session_idle;
    let touch = Touch {
        until: Timestamp(pass.expires.saturating_mul(1000)),
        ..stay.touch()
    };
    let answer = match asking {
        Asking::Touch => ledger.desk.touch(touch).await,
        Asking::Look => ledger.desk.inside(pass.session).await,
    };
    match (answer, asking) {
        (Ok(Some(expires)), Asking::Touch) => stay.acknowledge(expires, now, idle),
        (Ok(Some(expires)), Asking::Look) => stay.learn(expires),
        (Ok(None), _) => return false,
        (Err(_), _) => return now.0 < touch.until.plus(idle).0,
    }
    true
}

fn stay_of(ledger: &Ledger, pass: &Pass, known: &Known) -> Arc<Stay> {
    if let Some(stay) = known
        .stay
        .borrow()
        .as_ref()
        .filter(|stay| !stay.is_forgotten())
    {
        return Arc::clone(stay);
    }
    let stay = ledger.sessions.stay(
        pass.session,
        Timestamp(pass.begun.saturating_mul(1000)),
        Timestamp(pass.expires.saturating_mul(1000)),
    );
    *known.stay.borrow_mut() = Some(Arc::clone(&stay));
    stay
}
