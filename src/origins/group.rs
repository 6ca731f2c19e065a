//! The origins as one data thread uses them: its connections to each, and the
//! way of a request through a list of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::{Fleet, LIST_MAX, List, Member, Named, Plan, Roster};
use crate::alarm::Ticker;
use crate::clock::Clock;
use crate::incoming::ClientBody;
use crate::origin::{
    Ending, Errand, Forward, Forwarded, Origin, OriginError, OriginSettings, Pulse, Resolver,
    Setback,
};
use crate::room::choice::{Candidate, WHOLE, choose};
use crate::room::event::EventId;
use crate::room::health::{Part, Rules};

/// An origin that does not answer to a connection takes no more than this part
/// of the time to connect, so that others can be tried in the rest.
const PARTS: u32 = 3;

/// The origins of one data thread.
pub struct Origins {
    fleet: Arc<Fleet>,
    pulse: Rc<Pulse>,
    here: RefCell<Rc<Here>>,
}

/// The roster as this thread last saw it, with its connections.
struct Here {
    roster: Arc<Roster>,
    groups: Vec<Rc<Group>>,
}

/// One list of origins, as one data thread uses it.
pub struct Group {
    fleet: Arc<Fleet>,
    roster: Arc<Roster>,
    list: usize,
    ticker: Rc<Ticker>,
    locals: Vec<Local>,
    /// The place behind the last one chosen.
    next: Cell<usize>,
}

#[derive(Clone)]
struct Local {
    member: Arc<Member>,
    origin: Origin,
    /// Told how the bodies of its answers end.
    ending: Ending,
}

impl Local {
    fn new(fleet: &Arc<Fleet>, member: &Arc<Member>, origin: Origin) -> Self {
        let (fleet, whose) = (Arc::clone(fleet), Arc::clone(member));
        let ending = move |cut: Option<&OriginError>| match cut {
            None => whose.vitals.succeeded(Part::Body),
            Some(fault) => fleet.went_wrong(&whose, Part::Body, fault.kind()),
        };
        Self {
            member: Arc::clone(member),
            origin,
            ending: Rc::new(ending),
        }
    }
}

/// An answer, and whose it is.
pub struct Sent<G> {
    /// The answer.
    pub forwarded: Forwarded<G>,
    /// The place of the origin in its list.
    pub by: usize,
}

impl<G> Sent<G> {
    /// The answer to an OPTIONS that may go no further, which nobody was asked for.
    #[must_use]
    pub fn last_forward() -> Self {
        Self {
            forwarded: Errand::last_forward(),
            by: 0,
        }
    }
}

impl Origins {
    /// The fleet, for this thread. Must be called inside a `LocalSet`.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let roster = Arc::clone(&fleet.roster());
        let slowest = roster.members.first().map(|one| Arc::clone(&one.remote));
        let pulse = match &slowest {
            Some(remote) => Pulse::new(remote.settings()),
            None => Pulse::every_second(),
        };
        let here = Here::of(&fleet, roster, &pulse, &[]);
        Self {
            here: RefCell::new(Rc::new(here)),
            fleet,
            pulse,
        }
    }

    /// One origin alone, that is always trusted. Must be called inside a `LocalSet`.
    #[must_use]
    pub fn alone(settings: OriginSettings) -> Self {
        let plan = Plan {
            origins: vec![Named {
                url: String::new(),
                name: String::new(),
                settings,
            }],
            events: Vec::new(),
            rules: Rules {
                eject_after: 0,
                eject_ms: 0,
                eject_max_ms: 0,
                slow_start_ms: 0,
                fall: 1,
                rise: 1,
            },
            eject_share: 0.0,
            eject_on_5xx: false,
            check: None,
            affinity: None,
        };
        let fleet = Fleet::new(plan, Clock::system(), Arc::default(), Resolver::System);
        Self::new(Arc::new(fleet))
    }

    /// The list of an event, or the gateway's.
    #[must_use]
    pub fn of(&self, event: Option<&EventId>) -> Option<Rc<Group>> {
        let now = self.fleet.roster();
        let mut here = self.here.borrow_mut();
        if !Arc::ptr_eq(&now, &here.roster) {
            let fresh = Here::of(&self.fleet, Arc::clone(&now), &self.pulse, &here.groups);
            *here = Rc::new(fresh);
        }
        here.groups.get(here.roster.list_of(event)).cloned()
    }
}

impl Here {
    /// The roster with this thread's connections; those of the groups before are
    /// kept where the origin is the same and its settings agree.
    fn of(
        fleet: &Arc<Fleet>,
        roster: Arc<Roster>,
        pulse: &Rc<Pulse>,
        before: &[Rc<Group>],
    ) -> Self {
        let old = before.iter().flat_map(|group| &group.locals);
        let old: Vec<&Local> = old.collect();
        let locals: Vec<Local> = roster
            .members
            .iter()
            .map(|member| {
                let same = |local: &&&Local| Arc::ptr_eq(local.origin.remote(), &member.remote);
                let origin = match old.iter().find(same) {
                    Some(local) => local.origin.clone(),
                    None => Origin::on(pulse, Arc::clone(&member.remote)),
                };
                Local::new(fleet, member, origin)
            })
            .collect();
        let local = |member: &Arc<Member>| {
            let mut all = locals.iter();
            all.find(|local| Arc::ptr_eq(&local.member, member))
                .cloned()
        };
        let groups = roster
            .lists
            .iter()
            .enumerate()
            .map(|(list, of)| {
                Rc::new(Group {
                    fleet: Arc::clone(fleet),
                    roster: Arc::clone(&roster),
                    list,
                    ticker: Rc::clone(pulse.ticker()),
                    locals: of.members.iter().filter_map(local).collect(),
                    // Threads that begin at the same one would all crowd there.
                    next: Cell::new(rand::random_range(0..of.members.len().max(1))),
                })
            })
            .collect();
        Self { roster, groups }
    }
}

impl Group {
    /// Makes a request ready for these origins. `None`: it may go no further
    /// ([`Errand::last_forward`] is its answer).
    #[must_use]
    pub fn errand(&self, request: Request<ClientBody>, forward: Forward) -> Option<Box<Errand>> {
        Errand::new(request, forward, &self.ticker, self.connect())
    }

    /// Forwards one request to the origin that has the least in flight among
    /// those that are trusted; `wanted`, a place in the list, goes first. One that
    /// cannot be reached is replaced by another for as long as there is one and
    /// the time to connect is not over.
    ///
    /// # Errors
    /// See [`OriginError`]; [`OriginError::status`] is what the client should get.
    pub async fn forward<G: 'static>(
        &self,
        errand: &mut Errand,
        wanted: Option<usize>,
        guard: G,
    ) -> Result<Sent<G>, OriginError> {
        let connect = self.connect();
        let mut tried = 0_u64;
        let mut last = OriginError::ConnectTimeout;
        while let Some((by, local)) = self.choose(tried, wanted) {
            tried |= 1 << by;
            let untried = self.locals.len() - tried.count_ones() as usize;
            let part = part(errand.left, connect, untried);
            let underway = local.origin.begin();
            match local.origin.attempt(errand, part, underway).await {
                Ok(arrived) => {
                    let status = arrived.status();
                    let settled = local.origin.settle(errand, arrived, guard);
                    let failed = self.roster.eject_on_5xx && status.is_server_error();
                    match &settled {
                        Ok(_) if failed => self.went_wrong(local, "status"),
                        Ok(_) => local.member.vitals.succeeded(Part::Head),
                        Err(fault) if fault.is_origins_fault() => {
                            self.went_wrong(local, fault.kind());
                        }
                        Err(_) => {}
                    }
                    let mut forwarded = settled?;
                    if let Forwarded::Response(answer, _) = &mut forwarded {
                        answer.body_mut().tell(&local.ending);
                    }
                    return Ok(Sent { forwarded, by });
                }
                Err(setback) => {
                    let fault = setback.fault();
                    let busy = matches!(fault, OriginError::NoConnectionFree);
                    if fault.is_origins_fault() {
                        self.went_wrong(local, fault.kind());
                    }
                    match setback {
                        Setback::Unsent(fault) if !busy && !errand.left.is_zero() => last = fault,
                        setback => return Err(setback.into_fault()),
                    }
                }
            }
        }
        Err(last)
    }

    fn went_wrong(&self, local: &Local, kind: &'static str) {
        self.fleet.went_wrong(&local.member, Part::Head, kind);
    }

    fn connect(&self) -> Duration {
        let first = self.locals.first();
        first.map_or(Duration::ZERO, |one| one.origin.remote().settings().connect)
    }

    fn here(&self) -> Option<&List> {
        self.roster.lists.get(self.list)
    }

    /// The cookie that keeps visitors at one of these origins.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        // One alone has nobody to be kept from.
        let list = self.here().filter(|list| list.members.len() > 1)?;
        list.cookie.as_deref()
    }

    /// Whether there are such cookies, of this list or of another.
    #[must_use]
    pub fn has_cookies(&self) -> bool {
        self.roster.lists.iter().any(|list| list.cookie.is_some())
    }

    /// Whether a cookie of this name names an origin of some list: no origin is to see it.
    #[must_use]
    pub fn is_cookie(&self, name: &[u8]) -> bool {
        let cookies = self
            .roster
            .lists
            .iter()
            .filter_map(|list| list.cookie.as_ref());
        cookies.into_iter().any(|cookie| cookie.as_bytes() == name)
    }

    /// The origin that a cookie's value names.
    #[must_use]
    pub fn named(&self, value: &str) -> Option<usize> {
        let is_named = |local: &Local| local.member.ids.iter().any(|id| id == value);
        self.locals.iter().position(is_named)
    }

    /// How the cookie names an origin.
    #[must_use]
    pub fn id(&self, place: usize) -> Option<&str> {
        let local = self.locals.get(place)?;
        local.member.ids.first().map(String::as_str)
    }

    /// The origin that gets a request, of those not tried yet.
    fn choose(&self, tried: u64, wanted: Option<usize>) -> Option<(usize, &Local)> {
        if let [only] = self.locals.as_slice() {
            return (tried == 0).then_some((0, only));
        }
        let plain = self
            .locals
            .iter()
            .all(|local| local.member.vitals.is_plain());
        let (now, draw) = if plain {
            (0, 0)
        } else {
            let now = self.fleet.clock.monotonic_ms();
            (now, rand::random_range(0..WHOLE))
        };
        if tried == 0
            && let Some(place) = wanted
            && let Some(local) = self.locals.get(place)
            && !local.member.vitals.is_out(now)
        {
            return Some((place, local));
        }
        // Looked at once: they change while they are compared.
        let mut seen: [Option<Candidate>; LIST_MAX] = [None; LIST_MAX];
        for (place, (seen, local)) in seen.iter_mut().zip(&self.locals).enumerate() {
            if tried & (1 << place) == 0 {
                *seen = Some(local.member.candidate(&self.roster.rules, now, draw));
            }
        }
        let candidates = seen.iter().enumerate();
        let candidates = candidates.filter_map(|(place, seen)| Some((place, (*seen)?)));
        let place = choose(candidates, self.next.get())?;
        self.next.set(place + 1);
        Some((place, self.locals.get(place)?))
    }
}

/// How long one origin may take to be reached, when so many others are left.
fn part(left: Duration, connect: Duration, others: usize) -> Duration {
    let tries = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    (left / tries).max(connect / PARTS).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_connect_is_parted_among_those_that_are_left() {
        let seconds = Duration::from_secs;
        assert_eq!(part(seconds(3), seconds(3), 0), seconds(3));
        assert_eq!(part(seconds(3), seconds(3), 1), seconds(3) / 2);
        assert_eq!(part(seconds(3), seconds(3), 9), seconds(1));
        assert_eq!(part(seconds(3) / 10, seconds(3), 9), seconds(3) / 10);
    }
}
