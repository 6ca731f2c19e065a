//! One address has its share of the limit and no more, as long as others wait
//! (`sessions_per_address_ratio`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Line, Reception, session_of, spread};
use crate::ledger::{Ledger, Stay};
use crate::token::Ticket;
use crate::visitor::address::network;

/// A visitor whose address has its share is asked to come back after this.
const AGAIN: Duration = Duration::from_secs(5);

impl Reception {
    /// What a called ticket is told whose address has its share: it keeps its place,
    /// and its slot goes to the next. Tickets that programs drew come from servers,
    /// whose address says nothing of the visitor.
    pub(super) fn over_its_share(
        &self,
        ledger: &Arc<Ledger>,
        ticket: &Ticket,
        from: IpAddr,
    ) -> Option<Line> {
        ticket.scope.as_ref()?;
        let most = ledger.settings.load().sessions_of(from)?;
        let others_wait = ledger.view().is_some_and(|view| view.waiting() > 0);
        let sessions = &ledger.sessions;
        // Who was let in and has not heard of it asks once more.
        let is_inside = || sessions.lives(session_of(ticket), ledger.now());
        if !others_wait || sessions.networks.sessions(network(from)) < most || is_inside() {
            return None;
        }
        ledger.counts.shared.increment(1);
        if sessions.networks.is_to_be_told(ledger.now()) {
            tracing::info!(
                event = %ledger.id, address = %from, most,
                "an address has its share of the limit; one that many visitors share may be named in shared_addresses"
            );
        }
        Some(Line {
            poll_after: spread(AGAIN),
            shared: true,
            ..self.line(ledger, ticket, false)
        })
    }
}

/// A session begins, of a visitor at this address.
pub(super) fn begins_from(ledger: &Ledger, stay: &Stay, address: IpAddr) {
    let network = network(address);
    stay.heard_from(network);
    ledger.sessions.networks.begins(network);
}
