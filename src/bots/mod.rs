//! Who is no visitor: signals in, a verdict out.
//!
//! Somebody without a pass is looked at when it asks: by the lists, by how often
//! its address brings newcomers, by what the head of its request says, and by what
//! became of the places it drew. Whoever is inside is not weighed at all. What this
//! gateway remembers stays in it, bounded (`table`); the lists of the API are shared.

pub mod agents;
pub mod lists;
mod table;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;
use http::HeaderMap;
use tracing::info;

pub use lists::{Lists, Side};
pub use table::{RECORDS_MAX, Record, Whose, address_of, network_of};

use crate::metrics::{self as names, Metrics};
use crate::room::bots::bucket::Bucket;
use crate::room::bots::entry::Entry;
use crate::room::bots::list::{List, Sought};
use crate::room::bots::{Action, BotMode, BotSettings, Reason, Signal, Signals};
use crate::room::event::EventId;
use crate::room::time::millis;
use agents::Head;
use table::Table;

/// Most lines a minute about addresses that are turned away for the first time.
const LINES_PER_MINUTE: u64 = 30;

/// Somebody without a pass, as far as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The address.
    pub address: IpAddr,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Whether browsers take the way for a safe one.
    pub is_secure: bool,
    /// It calls itself a crawler.
    pub is_crawler: bool,
    /// Its autonomous system, where it was looked up.
    pub asn: Option<u32>,
    /// Its country, where it was looked up.
    pub country: Option<&'a str>,
    /// Who is logged in, by the hash.
    pub user: Option<u64>,
    /// What it is about to get.
    pub wants: Wants,
}

/// What somebody without a pass is about to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A session or a place of its own: a newcomer.
    In,
    /// To go on with the place that it has.
    On,
    /// Something that costs no place.
    Other,
}

/// An event, as far as it matters here.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// Which one.
    pub event: &'a EventId,
    /// Its settings.
    pub settings: &'a BotSettings,
    /// The lists that the API keeps for it.
    pub lists: &'a Lists,
    /// This gateway's own clock, in milliseconds.
    pub now_ms: u64,
}

impl At<'_> {
    /// Until when what happens now is held against somebody.
    fn remembered_ms(&self) -> u64 {
        self.now_ms + millis(self.settings.block_for)
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is done, or would be.
    pub action: Action,
    /// Why; `None` where nothing speaks against it.
    pub reason: Option<Reason>,
    /// Of 100.
    pub score: u64,
    /// What the score is made of.
    pub signals: Signals,
}

impl Verdict {
    const CLEAN: Self = Self {
        action: Action::Allow,
        reason: None,
        score: 0,
        signals: Signals::NONE,
    };

    fn by(reason: Reason, action: Action) -> Self {
        Self {
            action,
            reason: Some(reason),
            ..Self::CLEAN
        }
    }
}

/// What this gateway knows of those who ask.
#[derive(Default)]
pub struct Watch {
    table: Table,
    names: RandomState,
    lines: Mutex<Bucket>,
    unsaid: AtomicU64,
}

impl Watch {
    /// Looks at somebody without a pass, counts what is found and remembers it.
    pub fn judge(&self, at: &At<'_>, asker: &Asker<'_>, metrics: &Metrics) -> Verdict {
        if at.settings.mode == BotMode::Off {
            return Verdict::CLEAN;
        }
        let verdict = self.weigh(at, asker);
        count(at, &verdict, metrics);
        verdict
    }

    /// The same of somebody who is inside, by the lists alone.
    pub fn judge_inside(&self, at: &At<'_>, asker: &Asker<'_>, metrics: &Metrics) -> Verdict {
        let verdict = by_lists(at, asker).unwrap_or(Verdict::CLEAN);
        if verdict.action == Action::Block {
            count(at, &verdict, metrics);
        }
        verdict
    }

    fn weigh(&self, at: &At<'_>, asker: &Asker<'_>) -> Verdict {
        if let Some(verdict) = by_lists(at, asker) {
            return verdict;
        }
        if let Some(reason) = self.beyond_rates(at, asker) {
            return Verdict::by(reason, Action::Block);
        }
        self.score(at, asker)
    }

    /// The rate that one more newcomer is beyond.
    fn beyond_rates(&self, at: &At<'_>, asker: &Asker<'_>) -> Option<Reason> {
        if asker.wants != Wants::In {
            return None;
        }
        rates(at, asker).into_iter().flatten().find_map(|rate| {
            let record = self.table.open(at.event, rate.whose);
            let is_within = record.lock().arrivals.take(at.now_ms, rate.per_minute);
            (!is_within).then_some(rate.reason)
        })
    }

    fn score(&self, at: &At<'_>, asker: &Asker<'_>) -> Verdict {
        let whose = self.asker(asker.address, asker.headers);
        let known = self.table.get(at.event, whose);
        if let Some(known) = &known
            && known.lock().blocked_ms > at.now_ms
        {
            return Verdict::by(Reason::Blocked, Action::Block);
        }
        let head = Head {
            headers: asker.headers,
            is_secure: asker.is_secure,
            is_crawler: asker.is_crawler,
        };
        let mut signals = agents::signals(&head);
        if let Some(known) = &known {
            signals = signals.and(known.lock().signals(at.now_ms));
        }
        let address = Whose::Address(address_of(asker.address));
        if let Some(record) = self.table.get(at.event, address) {
            signals = signals.and(record.lock().signals(at.now_ms));
        }
        let user = asker
            .user
            .and_then(|user| self.table.get(at.event, Whose::User(user)));
        if let Some(record) = user {
            let many = record.lock().signals(at.now_ms).has(Signal::ManyTickets);
            signals.add(Signal::ManyTickets, many);
        }
        let score = signals.score();
        let action = at.settings.action(score);
        if action == Action::Allow {
            return Verdict {
                score,
                signals,
                ..Verdict::CLEAN
            };
        }
        let reason = signals.heaviest().map(Reason::Signal);
        let verdict = Verdict {
            action,
            reason,
            score,
            signals,
        };
        let record = self.table.open(at.event, whose);
        record.lock().seen = signals;
        if action == Action::Block {
            record.lock().blocked_ms = at.remembered_ms();
            self.tell(at, asker, &verdict);
        }
        verdict
    }

    /// One line for an address that is turned away for the first time, or again.
    fn tell(&self, at: &At<'_>, asker: &Asker<'_>, verdict: &Verdict) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.take(at.now_ms, LINES_PER_MINUTE) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(lines);
        let reasons: Vec<&str> = verdict.signals.counting().map(Signal::word).collect();
        info!(
            event = %at.event,
            mode = at.settings.mode.word(),
            network = %network_of(asker.address),
            score = verdict.score,
            reasons = %reasons.join(" "),
            unsaid = self.unsaid.swap(0, Ordering::Relaxed),
            "a bot is named: turned away where bots.mode is enforce"
        );
    }

    /// A newcomer got a place or a session.
    pub fn drew(&self, at: &At<'_>, address: IpAddr, user: Option<u64>) {
        if at.settings.mode == BotMode::Off {
            return;
        }
        let address = Whose::Address(address_of(address));
        for whose in [Some(address), user.map(Whose::User)].into_iter().flatten() {
            self.table.open(at.event, whose).lock().draw(at.now_ms);
        }
    }

    /// Somebody came back with a place or a pass, for the first time or after a while.
    pub fn came_back(&self, at: &At<'_>, address: IpAddr) {
        let whose = Whose::Address(address_of(address));
        if let Some(record) = self.table.get(at.event, whose) {
            record.lock().bring_back(at.now_ms);
        }
    }

    /// Somebody asked before the time that it was told.
    pub fn asked_early(&self, at: &At<'_>, asker: &Asker<'_>) {
        self.note(at, asker, |record| record.ask_early(at.now_ms));
    }

    /// Somebody fetched what no person sees.
    pub fn fetched_decoy(&self, at: &At<'_>, asker: &Asker<'_>) {
        self.note(at, asker, |record| record.fetch_decoy(at.remembered_ms()));
    }

    /// The pass that somebody holds is used in two networks in turn.
    pub fn used_in_two_networks(&self, at: &At<'_>, address: IpAddr, headers: &HeaderMap) {
        let record = self.table.open(at.event, self.asker(address, headers));
        record.lock().use_two_networks(at.remembered_ms());
    }

    /// A network's mark, to be compared with others of its family: never 0, below 2^14.
    #[must_use]
    pub fn mark(&self, address: IpAddr) -> u32 {
        let hash = self.names.hash_one(network_of(address));
        u32::try_from(hash % 16_383).unwrap_or_default() + 1
    }

    fn note(&self, at: &At<'_>, asker: &Asker<'_>, what: impl FnOnce(&mut Record)) {
        if at.settings.mode != BotMode::Off {
            let record = self
                .table
                .open(at.event, self.asker(asker.address, asker.headers));
            what(&mut record.lock());
        }
    }

    /// Whether a place of this one is to be exchanged for one at the end: once in a
    /// while, so that it does cost, and not with each poll.
    pub fn sends_back(&self, at: &At<'_>, asker: &Asker<'_>) -> bool {
        let record = self
            .table
            .open(at.event, self.asker(asker.address, asker.headers));
        let mut record = record.lock();
        let is_due = record.sent_back_ms <= at.now_ms;
        if is_due {
            record.sent_back_ms = at.remembered_ms();
        }
        is_due
    }

    fn asker(&self, address: IpAddr, headers: &HeaderMap) -> Whose {
        let name = self.names.hash_one(agents::agent(headers));
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let name = name as u32;
        Whose::Asker(address_of(address), name)
    }

    /// What is remembered of an address: of itself and its network, and of each name
    /// that asked from there.
    #[must_use]
    pub fn remembered(&self, event: &EventId, address: IpAddr) -> Vec<(Whose, Record)> {
        let own = self.table.of_address(event, address_of(address));
        let mut known: Vec<_> = own
            .into_iter()
            .map(|(key, record)| (key.whose, record.lock().clone()))
            .collect();
        let network = Whose::Network(network_of(address));
        let record = self.table.get(event, network);
        known.extend(record.map(|record| (network, record.lock().clone())));
        known
    }

    /// Forgets an address: what it was turned away for counts no more. Tells
    /// whether anything was known of it.
    pub fn release(&self, event: &EventId, address: IpAddr) -> bool {
        self.table.forget(event, address_of(address))
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn rates(at: &At<'_>, asker: &Asker<'_>) -> [Option<Rate>; 4] {
    let settings = at.settings;
    let rate = |reason, whose, per_minute| {
        Some(Rate {
            reason,
            whose,
            per_minute,
        })
    };
    [
        rate(
            Reason::RateAddress,
            Whose::Address(address_of(asker.address)),
            settings.arrivals_per_address_per_minute,
        ),
        rate(
            Reason::RateNetwork,
            Whose::Network(network_of(asker.address)),
            settings.arrivals_per_network_per_minute,
        ),
        (asker.asn.zip(settings.arrivals_per_asn_per_minute))
            .and_then(|(asn, per_minute)| rate(Reason::RateAsn, Whose::Asn(asn), per_minute)),
        asker.user.and_then(|user| {
            let per_minute = settings.arrivals_per_user_per_minute;
            rate(Reason::RateUser, Whose::User(user), per_minute)
        }),
    ]
}

fn by_lists(at: &At<'_>, asker: &Asker<'_>) -> Option<Verdict> {
    listed(at, asker).map(|(side, _)| match side {
        Side::Allow => Verdict::by(Reason::AllowList, Action::Allow),
        Side::Block => Verdict::by(Reason::BlockList, Action::Block),
    })
}

fn count(at: &At<'_>, verdict: &Verdict, metrics: &Metrics) {
    if let Some(reason) = verdict.reason {
        let labels = [
            ("event", at.event.as_str()),
            ("mode", at.settings.mode.word()),
            ("action", verdict.action.word()),
            ("reason", reason.word()),
        ];
        metrics.counter(&names::BOT_VERDICTS, &labels).increment(1);
    }
}

struct Rate {
    reason: Reason,
    whose: Whose,
    per_minute: u64,
}

/// The entry that means somebody, and what it says. To allow beats to block.
#[must_use]
pub fn listed(at: &At<'_>, asker: &Asker<'_>) -> Option<(Side, Entry)> {
    let sought = Sought {
        address: asker.address,
        asn: asker.asn,
        country: asker.country,
        agent: agents::agent(asker.headers),
    };
    let find = |side, written: &List, kept: &List| {
        let found = written.find(&sought).or_else(|| kept.find(&sought));
        found.map(|entry| (side, entry))
    };
    let (settings, lists) = (at.settings, at.lists);
    find(Side::Allow, &settings.allow, lists.allow())
        .or_else(|| find(Side::Block, &settings.block, lists.block()))
}

#[cfg(test)]
mod tests;
