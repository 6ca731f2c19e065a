//! The embedded store's state in the form that backends are compared in.

use super::MemoryStore;
use super::state::{EventState, Named};
use crate::room::event::EventId;
use crate::room::pages::Windows;
use crate::store::dump::{self, Dump};

impl MemoryStore {
    /// An event's whole state; `None` when it is not known.
    #[must_use]
    pub fn dump(&self, event: &EventId) -> Option<Dump> {
        self.lock().events.get(event).map(of)
    }
}

fn of(state: &EventState) -> Dump {
    let named = |named: &Named| match *named {
        Named::Ticket(number) => dump::Named::Ticket(number),
        Named::Session(session, begun) => dump::Named::Session(session, begun),
    };
    Dump {
        meta: state.meta.clone(),
        tally: state.tally,
        live: pages(&state.live),
        fresh: pages(&state.fresh),
        spent: state
            .spent
            .iter()
            .filter(|(_, bits)| !bits.is_empty())
            .map(|(page, bits)| (*page, bits.clone()))
            .collect(),
        active: state.active.iter().map(|(key, at)| (*key, *at)).collect(),
        offers: state
            .offers
            .iter()
            .map(|(number, offer)| (*number, (offer.due, offer.asked)))
            .collect(),
        ended: state.ended.clone(),
        unproven: state.unproven.clone(),
        ids: state.ids.iter().map(|(id, of)| (*id, named(of))).collect(),
        density: state.density.clone(),
        gateways: state
            .gateways
            .iter()
            .map(|(gateway, row)| {
                let row = dump::Gateway {
                    slot: row.slot,
                    seen: row.seen,
                    report: row.report.clone(),
                    pushed: row.pushed,
                    batch: row.batch,
                    reply: row.reply.clone(),
                };
                (gateway.clone(), row)
            })
            .collect(),
    }
}

fn pages(
    windows: &Windows,
) -> std::collections::BTreeMap<u64, (u64, [crate::room::pages::Bits; 2])> {
    windows
        .pages()
        .filter_map(|(page, _)| {
            let (turned, [even, odd]) = windows.page(page)?;
            Some((page, (turned, [even.clone(), odd.clone()])))
        })
        .collect()
}
