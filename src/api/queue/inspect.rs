//! Who calls without a pass is looked at as at the front door. A caller with a key
//! is a server of the customer's, and not looked at.

use http::HeaderValue;

use super::PublicDoor;
use super::caller::Caller;
use crate::bots::Wants;
use crate::ledger::Ledger;
use crate::reception::{Ruling, Suspect};
use crate::room::bots::BotMode;
use crate::room::decision::Kind;
use crate::token::Ticket;

impl PublicDoor {
    pub(super) fn inspect(&self, ledger: &Ledger, caller: &Caller, wants: Wants) -> Ruling {
        let settings = ledger.settings.load();
        let secret = caller.headers.get(settings.bypass.header.as_str());
        let secret = secret.map(HeaderValue::as_bytes);
        let bypassed = settings.bypass.admits(caller.visitor.address, secret);
        if bypassed || self.has_key(caller) {
            return Ruling::Passes;
        }
        with(caller, wants, |suspect| {
            self.reception.inspect(ledger, suspect)
        })
    }

    /// The same of a poll: where nothing follows from it, the first one only.
    pub(super) fn inspect_place(
        &self,
        ledger: &Ledger,
        caller: &Caller,
        ticket: &Ticket,
    ) -> Ruling {
        let is_in_force = ledger.settings.load().bots.mode == BotMode::Enforce;
        if !is_in_force && !ticket.is_first() {
            return Ruling::Passes;
        }
        self.inspect(ledger, caller, Wants::On)
    }

    /// A poll came before its time.
    pub(super) fn note_early(&self, ledger: &Ledger, caller: &Caller) {
        if !self.has_key(caller) {
            with(caller, Wants::On, |suspect| {
                self.reception.note_early(ledger, suspect);
            });
        }
    }
}

fn with<T>(caller: &Caller, wants: Wants, what: impl FnOnce(&Suspect<'_>) -> T) -> T {
    let host = caller.host();
    what(&Suspect {
        headers: &caller.headers,
        visitor: &caller.visitor,
        host: host.as_deref(),
        is_crawler: caller.kind() == Kind::Crawler,
        wants,
    })
}
