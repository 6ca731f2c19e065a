//! What a gateway remembers, brought to a store that has forgotten it.

use super::Controller;
use crate::metrics as names;
use crate::room::pages::PAGE_NUMBERS;
use crate::room::snapshot::{Cause, Snapshot};
use crate::room::ticket::Number;
use crate::store::{Restored, Shadow};

/// What this gateway pushes its memory for.
#[derive(Clone, Copy)]
pub(super) enum Why<'a> {
    /// The store does not know the event, or less of it.
    Forgotten,
    /// The recovery that this look found.
    Recovery(&'a Snapshot),
    /// A valid token is older than all that the store knows.
    Token,
}

impl Controller {
    /// Whether the store knows less than this gateway does.
    pub(super) fn has_forgotten(&self, snapshot: &Snapshot) -> bool {
        self.ledger.view().is_some_and(|view| {
            let known = &view.snapshot.meta;
            known.born != snapshot.meta.born || known.seq > snapshot.meta.seq
        })
    }

    /// A reset, made at any gateway, makes every place void.
    pub(super) fn follow_reset(&self, snapshot: &Snapshot) {
        let is_new = self
            .ledger
            .view()
            .is_some_and(|view| view.snapshot.meta.generation < snapshot.meta.generation);
        if is_new {
            self.ledger.heard.forget_below(snapshot.meta.floor());
        }
    }

    /// Pushes what this gateway remembers, after a look at a process whose state
    /// had gone through so many recoveries. One that this begins needs no
    /// second push: that would count those inside again who left in between.
    pub(super) async fn heal(&mut self, run: &str, recoveries: u64) {
        let Some(restored) = self.push(Why::Forgotten).await else {
            return;
        };
        if restored.began.is_some() {
            self.pushed = Some((restored.born, run.to_owned(), recoveries + 1));
        }
    }

    /// Whether this gateway has pushed its memory for a recovery.
    pub(super) fn has_pushed(&self, born: u64, run: &str, id: u64) -> bool {
        let pushed = self.pushed.as_ref();
        pushed.is_some_and(|(of, by, for_id)| {
            (*of, *for_id) == (born, id) && (by.is_empty() || by == run)
        })
    }

    /// Pushes what this gateway remembers; `None` if not all of it was taken.
    pub(super) async fn push(&mut self, why: Why<'_>) -> Option<Restored> {
        let newborn = rand::random::<u64>() >> 11;
        let token = matches!(why, Why::Token);
        let parts = self.ledger.shadows(&self.bench.gateway, newborn, token);
        let in_vain = self.called_in_vain(why);
        let mut pushed: Option<Restored> = None;
        for mut part in parts {
            if in_vain {
                (part.called, part.marks) = (Number(0), Vec::new());
            }
            match self.bench.store.restore(&self.ledger.id, &part).await {
                Ok(restored) => {
                    self.count_restored(&part, restored.sessions);
                    let began = pushed.and_then(|before| before.began).or(restored.began);
                    pushed = Some(Restored { began, ..restored });
                }
                Err(fault) => {
                    self.failed(&fault);
                    return None;
                }
            }
        }
        pushed
    }

    /// Whether the watermark known here is that of a state which was born open,
    /// with everybody called, and which is about to learn of those who wait.
    fn called_in_vain(&self, why: Why<'_>) -> bool {
        let Some(view) = self.ledger.view() else {
            return false;
        };
        let known = &view.snapshot.meta;
        known.recoveries == 0
            && match why {
                Why::Token => true,
                Why::Forgotten => false,
                Why::Recovery(snapshot) => {
                    let cause = snapshot.meta.recovery.map(|recovery| recovery.cause);
                    known.born == snapshot.meta.born
                        && matches!(cause, Some(Cause::Loss | Cause::Token))
                }
            }
    }

    fn count_restored(&self, part: &Shadow, sessions: u64) {
        if part.born.is_none() {
            return;
        }
        let tickets: u64 = part
            .live
            .iter()
            .map(|(_, bits)| bits.count(0, PAGE_NUMBERS))
            .sum();
        for (what, count) in [("sessions", sessions), ("tickets", tickets)] {
            self.bench
                .metrics
                .counter(&names::RESTORED, &[("what", what)])
                .increment(count);
        }
    }
}
