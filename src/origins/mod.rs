//! Several origins: who of them gets a request, who is trusted, and what is
//! tried elsewhere when one cannot be reached.
//!
//! The [`Fleet`] is shared by all threads and replaced whole when the file
//! changes (its `roster`); each data thread has its own connections to it
//! ([`Origins`]). One task (the [`Keeper`]'s) asks origins how they are.

mod affinity;
mod group;
mod keep;
mod member;
mod shown;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use tracing::{info, warn};

pub use affinity::Affinity;
pub use group::{Group, Origins, Sent};
pub use keep::Keeper;
pub use member::Member;
pub use shown::{Shown, ShownState};

use crate::clock::Clock;
use crate::metrics::{self as names, Metrics};
use crate::origin::{OriginSettings, Remote, Resolver};
use crate::room::event::EventId;
use crate::room::health::{self, Part, Rules, State, Turn};
use member::Vitals;

/// Most origins of one list.
pub const LIST_MAX: usize = 64;

/// What there is to be, as the file says it.
#[derive(Clone)]
pub struct Plan {
    /// The gateway's own list; at least one.
    pub origins: Vec<Named>,
    /// The lists of events that have their own.
    pub events: Vec<(EventId, Vec<Named>)>,
    /// When one is ejected and how it returns.
    pub rules: Rules,
    /// The largest share of a list that is ejected at once.
    pub eject_share: f64,
    /// Whether an answer of 500 to 599 counts as a failure.
    pub eject_on_5xx: bool,
    /// How origins are asked how they are; `None`: they are not asked.
    pub check: Option<Check>,
    /// How visitors are kept at one origin; `None`: they are not.
    pub affinity: Option<Affinity>,
}

/// One origin of a list.
#[derive(Clone)]
pub struct Named {
    /// `http://host:port`; who has the same is the same origin.
    pub url: String,
    /// `host:port`, for people and metrics.
    pub name: String,
    /// The way to it.
    pub settings: OriginSettings,
}

/// How an origin is asked how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked for.
    pub path: PathAndQuery,
    /// The time between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The statuses of a good one.
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// All origins as they are now; replaced whole.
pub(crate) struct Roster {
    /// Each origin once, whatever lists it stands in.
    pub(crate) members: Vec<Arc<Member>>,
    /// The gateway's list, then each distinct list of events.
    pub(crate) lists: Vec<List>,
    of_event: HashMap<EventId, usize>,
    pub(crate) rules: Rules,
    eject_share: f64,
    pub(crate) eject_on_5xx: bool,
    pub(crate) check: Option<Check>,
}

/// One list of origins.
pub(crate) struct List {
    pub(crate) members: Vec<Arc<Member>>,
    /// The events that have it; none for the gateway's.
    pub(crate) events: Vec<EventId>,
    /// The cookie that keeps visitors at one of them.
    pub(crate) cookie: Option<String>,
}

impl List {
    fn has(&self, member: &Member) -> bool {
        self.members.iter().any(|other| other.url == member.url)
    }

    fn out(&self, now: u64) -> usize {
        let out = |member: &&Arc<Member>| member.vitals.is_out(now);
        self.members.iter().filter(out).count()
    }
}

impl Roster {
    /// The list of an event, by its place.
    pub(crate) fn list_of(&self, event: Option<&EventId>) -> usize {
        if self.of_event.is_empty() {
            return 0;
        }
        event
            .and_then(|event| self.of_event.get(event).copied())
            .unwrap_or(0)
    }

    /// Whether each list that has this origin can spare it.
    fn can_spare(&self, member: &Member, now: u64) -> bool {
        self.lists
            .iter()
            .filter(|list| list.has(member))
            .all(|list| health::may_eject(list.members.len(), list.out(now), self.eject_share))
    }
}

/// All origins of the process.
pub struct Fleet {
    roster: ArcSwap<Roster>,
    /// Who may be ejected is told under it.
    judging: Mutex<()>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    resolver: Resolver,
}

impl Fleet {
    /// The origins of a plan.
    #[must_use]
    pub fn new(plan: Plan, clock: Clock, metrics: Arc<Metrics>, resolver: Resolver) -> Self {
        let roster = roster(plan, None, (&resolver, &clock));
        Self {
            roster: ArcSwap::from_pointee(roster),
            judging: Mutex::default(),
            clock,
            metrics,
            resolver,
        }
    }

    /// Puts another plan in force. An origin that stays keeps its counts and what
    /// is known of its health, and its connections unless its settings differ;
    /// requests under way end where they are.
    pub fn change(&self, plan: Plan) {
        let before = self.roster.load_full();
        let after = roster(plan, Some(&before), (&self.resolver, &self.clock));
        for member in &before.members {
            if !after.members.iter().any(|other| other.url == member.url) {
                info!(origin = %member.name, "an origin left the file: it gets no more requests");
            }
        }
        for member in &after.members {
            if !before.members.iter().any(|other| other.url == member.url) {
                info!(origin = %member.name, "an origin came into the file");
            }
        }
        self.roster.store(Arc::new(after));
    }

    pub(crate) fn roster(&self) -> arc_swap::Guard<Arc<Roster>> {
        self.roster.load()
    }

    /// An origin did not answer, or not to the end, by its own fault. It may be ejected
    /// for it.
    #[cold]
    pub(crate) fn went_wrong(&self, member: &Member, part: Part, kind: &'static str) {
        let now = self.clock.monotonic_ms();
        self.metrics
            .counter(
                &names::ORIGIN_ATTEMPTS_FAILED,
                &[("origin", &member.name), ("kind", kind)],
            )
            .increment(1);
        // As the origins are now, and one after the other: of two that fail at once
        // only one can be spared.
        let roster = self.roster();
        let turn = {
            let _judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
            let can_spare = roster.can_spare(member, now);
            (member.vitals).failed(&roster.rules, now, can_spare, (part, kind))
        };
        self.tell(member, turn, kind);
    }

    /// Tells of what became of an origin.
    pub(crate) fn tell(&self, member: &Member, turn: Option<Turn>, why: &'static str) {
        let origin = member.name.as_str();
        match turn {
            None => return,
            Some(Turn::Ejected(for_ms)) => {
                warn!(
                    origin,
                    reason = why,
                    for_ms,
                    "an origin is ejected: it failed again and again"
                );
            }
            Some(Turn::Down) => {
                warn!(origin, reason = why, "an origin is out: its checks fail");
            }
            Some(Turn::Returned) => {
                info!(origin, "an origin is tried again, with a share that grows");
            }
            Some(Turn::Up) => info!(origin, "an origin is back, with a share that grows"),
        }
        if matches!(turn, Some(Turn::Ejected(_) | Turn::Down)) {
            self.metrics
                .counter(
                    &names::ORIGIN_EJECTIONS,
                    &[("origin", origin), ("reason", why)],
                )
                .increment(1);
        }
    }

    /// Each origin as it is now, in the order of the file.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let roster = self.roster();
        let now = self.clock.monotonic_ms();
        let shown = roster.members.iter();
        shown
            .map(|member| Shown::of(&roster, member, now))
            .collect()
    }

    /// Whether an origin gets requests; for tests and the keeper's metrics.
    pub(crate) fn is_up(member: &Member, now: u64) -> bool {
        matches!(member.vitals.state(now), State::Up | State::Returning(_))
    }
}

/// The roster of a plan; what is the same as before is kept.
fn roster(plan: Plan, before: Option<&Roster>, resolver: (&Resolver, &Clock)) -> Roster {
    let mut members: Vec<Arc<Member>> = Vec::new();
    let affinity = plan.affinity.as_ref();
    let mut enlist = |named: Vec<Named>| -> Vec<Arc<Member>> {
        let mut list: Vec<Arc<Member>> = Vec::new();
        for named in named.into_iter().take(LIST_MAX) {
            let known = members.iter().find(|member| member.url == named.url);
            let member = known.cloned().unwrap_or_else(|| {
                let old = before.and_then(|before| {
                    before.members.iter().find(|member| member.url == named.url)
                });
                let member = Arc::new(member_of(named, old, affinity, resolver));
                members.push(Arc::clone(&member));
                member
            });
            if !list.iter().any(|other| other.url == member.url) {
                list.push(member);
            }
        }
        list
    };
    let cookie = |suffix: Option<&EventId>| affinity.map(|affinity| affinity.cookie(suffix));
    let mut lists = vec![List {
        members: enlist(plan.origins),
        events: Vec::new(),
        cookie: cookie(None),
    }];
    let mut of_event = HashMap::new();
    for (event, named) in plan.events {
        let own = enlist(named);
        let same = |list: &List| {
            list.members.len() == own.len()
                && list.members.iter().zip(&own).all(|(a, b)| a.url == b.url)
        };
        let place = lists.iter().position(same).unwrap_or_else(|| {
            lists.push(List {
                members: own,
                events: Vec::new(),
                cookie: cookie(Some(&event)),
            });
            lists.len() - 1
        });
        if let Some(list) = lists.get_mut(place) {
            list.events.push(event.clone());
        }
        of_event.insert(event, place);
    }
    Roster {
        members,
        lists,
        of_event,
        rules: plan.rules,
        eject_share: plan.eject_share,
        eject_on_5xx: plan.eject_on_5xx,
        check: plan.check,
    }
}

fn member_of(
    named: Named,
    old: Option<&Arc<Member>>,
    affinity: Option<&Affinity>,
    (resolver, clock): (&Resolver, &Clock),
) -> Member {
    let remote = match old {
        Some(old) if old.remote.settings().agrees_with(&named.settings) => Arc::clone(&old.remote),
        _ => {
            let traffic = old.map(|old| Arc::clone(old.remote.traffic()));
            let traffic = traffic.unwrap_or_default();
            Arc::new(Remote::new(
                named.settings,
                (resolver.clone(), clock.clone()),
                traffic,
            ))
        }
    };
    Member {
        ids: affinity.map_or_else(Vec::new, |affinity| affinity.ids(&named.url)),
        url: named.url,
        name: named.name,
        remote,
        vitals: old.map_or_else(
            || Arc::new(Vitals::default()),
            |old| Arc::clone(&old.vitals),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, connections: usize) -> Named {
        let url = format!("http://{name}:80");
        let mut settings = OriginSettings::new(&url, &[]).unwrap();
        settings.connections = connections;
        Named {
            name: format!("{name}:80"),
            url,
            settings,
        }
    }

    fn plan(origins: &[&str], events: &[(&str, &[&str])]) -> Plan {
        let list = |names: &[&str]| names.iter().map(|name| named(name, 0)).collect();
        let event = |(id, names): &(&str, &[&str])| (EventId::new(id).unwrap(), list(names));
        Plan {
            origins: list(origins),
            events: events.iter().map(event).collect(),
            rules: Rules {
                eject_after: 1,
                eject_ms: 1_000,
                eject_max_ms: 1_000,
                slow_start_ms: 0,
                fall: 1,
                rise: 1,
            },
            eject_share: 0.5,
            eject_on_5xx: false,
            check: None,
            affinity: None,
        }
    }

    fn fleet(plan: Plan) -> (Fleet, Clock) {
        let clock = Clock::manual(10);
        let fleet = Fleet::new(plan, clock.clone(), Arc::default(), Resolver::System);
        (fleet, clock)
    }

    fn fail(fleet: &Fleet, name: &str) {
        let roster = fleet.roster();
        let member = roster.members.iter().find(|one| one.name.starts_with(name));
        fleet.went_wrong(member.unwrap(), Part::Head, "connect");
    }

    fn states(fleet: &Fleet) -> Vec<&'static str> {
        fleet.shown().iter().map(|one| one.state.word()).collect()
    }

    #[test]
    fn an_origin_of_several_lists_is_one_and_equal_lists_are_one_too() {
        let (fleet, _) = fleet(plan(
            &["a", "b"],
            &[("x", &["b", "c"]), ("y", &["b", "c"]), ("z", &["a", "b"])],
        ));
        let roster = fleet.roster();
        assert_eq!(roster.members.len(), 3);
        let list = |event: &str| roster.list_of(Some(&EventId::new(event).unwrap()));
        assert_eq!(["x", "y", "z", "other"].map(list), [1, 1, 0, 0]);
        assert!(Arc::ptr_eq(
            &roster.lists[0].members[1],
            &roster.lists[1].members[0]
        ));
    }

    #[test]
    fn an_origin_is_ejected_only_where_each_of_its_lists_can_spare_it() {
        let (fleet, clock) = fleet(plan(&["a", "b"], &[("x", &["b"])]));
        fail(&fleet, "b");
        assert_eq!(states(&fleet), ["UP", "UP"], "it is the last one of x");
        fail(&fleet, "a");
        assert_eq!(states(&fleet), ["EJECTED", "UP"]);
        clock.advance(1_000);
        assert_eq!(states(&fleet), ["UP", "UP"]);
    }

    #[test]
    fn a_change_keeps_what_is_known_of_those_that_stay() {
        let (fleet, _) = fleet(plan(&["a", "b", "c"], &[]));
        fail(&fleet, "a");
        let before = Arc::clone(&fleet.roster());
        let mut fresh = plan(&["c", "a", "d"], &[]);
        fresh.origins[0].settings.connections = 7;
        fleet.change(fresh);
        assert_eq!(states(&fleet), ["UP", "EJECTED", "UP"]);
        let after = fleet.roster();
        let remotes = |at: usize, was: usize| {
            let (now, then) = (&after.members[at].remote, &before.members[was].remote);
            (
                Arc::ptr_eq(now, then),
                Arc::ptr_eq(now.traffic(), then.traffic()),
            )
        };
        assert_eq!(remotes(1, 0), (true, true), "its connections go on");
        assert_eq!(
            remotes(0, 2),
            (false, true),
            "other settings: other connections"
        );
    }
}
