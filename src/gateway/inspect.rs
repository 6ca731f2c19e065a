//! Who comes without a pass is looked at before it gets anything: a person notices
//! nothing of it.

use http::{Request, StatusCode};

use super::asker::{Asker, Held};
use super::{Answer, At, Gateway, Way, own};
use crate::bots::Wants;
use crate::incoming::ClientBody;
use crate::ledger::Ledger;
use crate::reception::{Blocked, Ruling, Suspect};
use crate::room::decision::{Decision, Kind};

impl Gateway {
    /// Whether it may go on. Who is inside is looked for in the lists alone; what a
    /// browser sends of its own accord, without the headers of a page, is let be.
    pub(super) fn inspect(
        &self,
        at: &At<'_>,
        (decision, has_place): (&Decision, bool),
        request: &Request<ClientBody>,
        asker: &Asker,
    ) -> Ruling {
        let wants = match decision {
            Decision::Inside => {
                let suspect = suspect(request, asker, Wants::Other);
                return self.reception.inspect_inside(at.ledger, &suspect);
            }
            Decision::Enter if !has_place => Wants::In,
            Decision::Enter | Decision::Wait | Decision::Claim => Wants::On,
            Decision::Uncounted
            | Decision::BusyProblem
            | Decision::BusyPlain
            | Decision::Closed => Wants::Other,
        };
        if matches!(asker.kind, Kind::Preflight | Kind::Prefetch) {
            return Ruling::Passes;
        }
        let suspect = suspect(request, asker, wants);
        self.reception.inspect(at.ledger, &suspect)
    }

    /// The answer to who is turned away; a place in line is kept meanwhile.
    pub(super) fn reject(
        &self,
        ledger: &Ledger,
        asker: &Asker,
        held: &Held,
        why: Blocked,
    ) -> Answer {
        if let Some(ticket) = &held.ticket {
            ledger.heard.hear(ticket.number);
        }
        self.turned_away(ledger, asker, why)
    }

    /// What no person sees was asked for: there is nothing, and it is remembered.
    pub(super) fn decoy(&self, at: &At<'_>, request: &Request<ClientBody>, asker: &Asker) -> Way {
        // A browser fetches ahead whatever is linked to.
        if !matches!(asker.kind, Kind::Preflight | Kind::Prefetch) {
            let suspect = suspect(request, asker, Wants::Other);
            self.reception.note_decoy(at.ledger, &suspect);
        }
        let answer = own::plain(StatusCode::NOT_FOUND, "Not found.\n");
        Way::own(answer, at.done("decoy"))
    }
}

fn suspect<'a>(request: &'a Request<ClientBody>, asker: &'a Asker, wants: Wants) -> Suspect<'a> {
    Suspect {
        headers: request.headers(),
        visitor: &asker.visitor,
        host: asker.host.as_deref(),
        is_crawler: asker.kind == Kind::Crawler,
        wants,
    }
}
