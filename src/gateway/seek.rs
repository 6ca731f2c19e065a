//! A visitor who wants in: the store is asked for a session or a place, and who
//! gets one has arrived.

use http::Request;

use super::asker::Asker;
use super::through::{Carry, Passage};
use super::unanswered::done;
use super::{Gateway, Seeker, WAIT, Way, own};
use crate::incoming::ClientBody;
use crate::reception::{Newcomer, Outcome, Reception, Who};
use crate::visitor::profile::Head;

impl Gateway {
    /// A visitor who wants in, with or without a ticket.
    pub(super) async fn seek(
        &self,
        seeker: Seeker,
        request: &Request<ClientBody>,
        asker: &Asker,
    ) -> Way {
        let Seeker { ledger, .. } = &seeker;
        let done = |decision| done(Some(seeker.event), decision);
        match self.outcome(&seeker, request, asker).await {
            Outcome::Inside(inside) => {
                let carry = Carry {
                    by_header: seeker.by_header,
                    fresh: true,
                };
                let mut way = self.within(seeker.event, ledger, asker, (inside, carry), "enter");
                if let Way::Through(_, done) = &mut way {
                    done.has_waited = seeker.ticket.is_some();
                }
                way
            }
            Outcome::Uncounted => Way::Through(Passage::uncounted(ledger, None), done("uncounted")),
            Outcome::Waits(line) => {
                let page = self.waiting_page(ledger, asker, &line, seeker.by_header);
                Way::own(page, done(WAIT))
            }
            Outcome::Blocked(blocked) => {
                Way::own(own::blocked(ledger, asker, blocked), done("block"))
            }
        }
    }

    async fn outcome(
        &self,
        seeker: &Seeker,
        request: &Request<ClientBody>,
        asker: &Asker,
    ) -> Outcome {
        let ledger = &seeker.ledger;
        let scope = Some(asker.scope(ledger));
        let former = seeker.former.clone();
        let mut returning = former.is_some();
        let mut who = former.map_or_else(
            || Who::stranger(scope.clone()),
            |visitor| Who::returning(visitor, scope.clone()),
        );
        let address = asker.visitor.address;
        if let Some(ticket) = &seeker.ticket {
            if ticket.is_first() {
                self.reception.note_return(ledger, address);
            }
            if seeker.is_sent_back {
                Reception::give_up(ledger, ticket).await;
            } else if let Some(outcome) = self.reception.ask(ledger, ticket, None, address).await {
                return outcome;
            }
            who = Who::bearer(ticket);
            returning = true;
        }
        let outcome = self.reception.join(ledger, &who, address).await;
        let newcomer = Newcomer {
            head: Head {
                headers: request.headers(),
                query: request.uri().query(),
                host: asker.host.as_deref(),
                by_key: false,
            },
            visitor: &asker.visitor,
            returning,
        };
        self.reception.count_arrival(ledger, &outcome, &newcomer);
        outcome
    }
}
