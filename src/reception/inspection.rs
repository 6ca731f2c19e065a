//! Whether whoever asks without a pass is a visitor at all: what the trades know of
//! it is put together for `bots`, and its verdict is carried out where the operator
//! has ordered that.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::{Blocked, Brought, Reception, Who};
use crate::bots::{Asker, At, Wants};
use crate::ledger::{Ledger, Stay};
use crate::room::bots::{Action, BotMode, Reason};
use crate::room::event::Mode;
use crate::store::Leave;
use crate::token::Ticket;
use crate::visitor::address::Visitor;
use crate::visitor::region::Country;

/// Somebody without a pass.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// The headers of its request.
    pub headers: &'a HeaderMap,
    /// Its address, and who brought the request.
    pub visitor: &'a Visitor,
    /// The host that was asked for, in normal form.
    pub host: Option<&'a str>,
    /// It calls itself a crawler.
    pub is_crawler: bool,
    /// What it is about to get.
    pub wants: Wants,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It goes on.
    Passes,
    /// Its place is exchanged for one at the end of the line.
    SentBack,
    /// It is turned away.
    TurnedAway(Blocked),
}

impl Reception {
    /// Looks at somebody without a pass. What is found is counted; it is carried
    /// out in the mode `enforce` alone.
    pub fn inspect(&self, ledger: &Ledger, suspect: &Suspect<'_>) -> Ruling {
        self.with(ledger, suspect, |at, asker| {
            let verdict = self.bots.judge(at, asker, &self.metrics);
            let is_in_force = ledger.settings.load().mode != Mode::Shadow;
            if at.settings.mode != BotMode::Enforce || !is_in_force {
                return Ruling::Passes;
            }
            match verdict.action {
                // Who has no place yet gets one at the end anyway.
                Action::EndOfLine
                    if suspect.wants == Wants::On && self.bots.sends_back(at, asker) =>
                {
                    Ruling::SentBack
                }
                Action::Allow | Action::Log | Action::EndOfLine => Ruling::Passes,
                Action::Block if verdict.reason.is_some_and(Reason::is_rate) => {
                    Ruling::TurnedAway(Blocked::RateLimited)
                }
                Action::Block => Ruling::TurnedAway(Blocked::Bot),
            }
        })
        .unwrap_or(Ruling::Passes)
    }

    /// Looks whether a list of the operator's names somebody who is inside: no score
    /// puts them out. Where nothing is enforced this costs nothing.
    pub fn inspect_inside(&self, ledger: &Ledger, suspect: &Suspect<'_>) -> Ruling {
        let settings = ledger.settings.load();
        let is_in_force = settings.bots.mode == BotMode::Enforce && settings.mode != Mode::Shadow;
        let is_nobody =
            settings.bots.block.is_empty() && ledger.bot_lists.load().block().is_empty();
        if !is_in_force || is_nobody {
            return Ruling::Passes;
        }
        let judged = self.with(ledger, suspect, |at, asker| {
            self.bots.judge_inside(at, asker, &self.metrics).action
        });
        if judged == Some(Action::Block) {
            Ruling::TurnedAway(Blocked::Bot)
        } else {
            Ruling::Passes
        }
    }

    /// Somebody asked before the time that it was told.
    pub fn note_early(&self, ledger: &Ledger, suspect: &Suspect<'_>) {
        let _off = self.with(ledger, suspect, |at, asker| {
            self.bots.asked_early(at, asker);
        });
    }

    /// Somebody fetched what no person sees.
    pub fn note_decoy(&self, ledger: &Ledger, suspect: &Suspect<'_>) {
        let _off = self.with(ledger, suspect, |at, asker| {
            self.bots.fetched_decoy(at, asker);
        });
    }

    /// A place or a pass was brought back from an address.
    pub fn note_return(&self, ledger: &Ledger, address: IpAddr) {
        Self::at(self, ledger, |at| self.bots.came_back(at, address));
    }

    /// Somebody inside was heard from, for the first time in this minute.
    pub(super) fn note_inside(&self, ledger: &Ledger, stay: &Stay, brought: &Brought<'_>) {
        Self::at(self, ledger, |at| {
            let address = brought.visitor.address;
            self.bots.came_back(at, address);
            let mark = self.bots.mark(address);
            if stay.alternates(mark, address.to_canonical().is_ipv6()) {
                self.bots.used_in_two_networks(at, address, brought.headers);
            }
        });
    }

    /// A place is given back: its holder gets another one, at the end of the line.
    pub async fn give_up(ledger: &Arc<Ledger>, ticket: &Ticket) {
        ledger.heard.spend(ticket.number);
        let leave = Leave {
            number: ticket.number,
            id: Who::bearer(ticket).id,
        };
        // A place that the store cannot free now is skipped when nobody asks for it.
        let _left = ledger.desk.leave(leave).await;
    }

    /// A newcomer has got a session or a place.
    pub(super) fn note_draw(&self, ledger: &Ledger, visitor: &Visitor, brought: &Brought<'_>) {
        let wanted = self.wanted.load();
        let users = wanted.users.as_ref();
        let user = users.and_then(|users| users.hash(brought, ledger.now()));
        Self::at(self, ledger, |at| self.bots.drew(at, visitor.address, user));
    }

    /// An event, as far as bots go; nothing where nobody looks for them.
    fn at<T>(&self, ledger: &Ledger, what: impl FnOnce(&At<'_>) -> T) -> Option<T> {
        let settings = ledger.settings.load();
        // To let all pass by order means all of them.
        if settings.bots.mode == BotMode::Off || settings.mode == Mode::Off {
            return None;
        }
        let lists = ledger.bot_lists.load();
        Some(what(&At {
            event: &ledger.id,
            settings: &settings.bots,
            lists: &lists,
            now_ms: self.clock.monotonic_ms(),
        }))
    }

    fn with<T>(
        &self,
        ledger: &Ledger,
        suspect: &Suspect<'_>,
        what: impl FnOnce(&At<'_>, &Asker<'_>) -> T,
    ) -> Option<T> {
        self.at(ledger, |at| {
            let visitor = suspect.visitor;
            let wanted = self.wanted.load();
            let (settings, lists) = (at.settings, at.lists);
            let is_new = suspect.wants == Wants::In;
            let by_asn = lists.has_asns()
                || settings.allow.has_asns()
                || settings.block.has_asns()
                || is_new && settings.arrivals_per_asn_per_minute.is_some();
            let by_country = lists.has_countries()
                || settings.allow.has_countries()
                || settings.block.has_countries();
            let brought = Brought {
                headers: suspect.headers,
                visitor,
            };
            let users = wanted.users.as_ref().filter(|_| is_new);
            let country = by_country.then(|| wanted.regions.country(visitor.address));
            let asker = Asker {
                address: visitor.address,
                headers: suspect.headers,
                is_secure: visitor.https || suspect.host.is_some_and(is_this_machine),
                is_crawler: suspect.is_crawler,
                asn: (by_asn.then(|| wanted.regions.network(visitor.address))).flatten(),
                country: country.flatten().and_then(Country::code),
                user: users.and_then(|users| users.hash(&brought, ledger.now())),
                wants: suspect.wants,
            };
            what(at, &asker)
        })
    }
}

/// Browsers take these for safe without TLS (W3C Secure Contexts §3.1).
fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}
