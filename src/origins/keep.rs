//! The one task that looks after origins: it asks them how they are, lets those
//! that were ejected return, asks for their names anew, and shows all of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::Gauge;
use tracing::{error, info};

use super::{Check, Fleet, Member, Roster};
use crate::metrics::{self as names, Metrics};
use crate::room::time::millis;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// What is shown of one origin.
struct Gauges {
    up: Gauge,
    in_flight: Gauge,
    used: Gauge,
    idle: Gauge,
    waiting: Gauge,
}

/// What the task remembers of an origin between two looks.
#[derive(Default)]
struct Round {
    /// When it is asked next.
    due: u64,
    /// Whether a question is under way.
    asking: Arc<AtomicBool>,
}

/// The task that looks after the origins.
pub struct Keeper {
    fleet: Arc<Fleet>,
    rounds: HashMap<String, Round>,
    gauges: HashMap<String, Gauges>,
    /// The lists of which all origins were out at the last look.
    lost: HashSet<String>,
}

impl Keeper {
    /// Looks once, so that all is shown from the start. Must be called on a runtime.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let mut keeper = Self {
            fleet,
            rounds: HashMap::new(),
            gauges: HashMap::new(),
            lost: HashSet::new(),
        };
        keeper.look();
        keeper
    }

    /// Looks again and again, for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    fn look(&mut self) {
        let fleet = &self.fleet;
        let roster = Arc::clone(&fleet.roster());
        let now = fleet.clock.monotonic_ms();
        let here = |name: &String| roster.members.iter().any(|member| member.name == *name);
        self.gauges.retain(|name, gauges| {
            let stays = here(name);
            if !stays {
                gauges.clear();
                fleet.metrics.hide_origin(name);
            }
            stays
        });
        let known = |url: &String| roster.members.iter().any(|member| member.url == *url);
        self.rounds.retain(|url, _| known(url));
        for member in &roster.members {
            let turn = member.vitals.tick(&roster.rules, now);
            fleet.tell(member, turn, "");
            if member.remote.names().is_due() {
                let remote = Arc::clone(&member.remote);
                tokio::spawn(async move { remote.names().refresh().await });
            }
            if let Some(check) = &roster.check {
                let round = self.rounds.entry(member.url.clone()).or_default();
                ask_if_due(fleet, &roster, (member, round), check);
            } else {
                let turn = member.vitals.unchecked(now);
                fleet.tell(member, turn, "");
            }
            self.gauges
                .entry(member.name.clone())
                .or_insert_with(|| Gauges::of(&fleet.metrics, &member.name))
                .show(fleet, member, now);
        }
        tell_of_lists(&roster, now, &mut self.lost);
    }
}

/// Tells once when all origins of a list are out, and once when one is back.
fn tell_of_lists(roster: &Roster, now: u64, lost: &mut HashSet<String>) {
    for list in &roster.lists {
        let origins: Vec<&str> = list.members.iter().map(|m| m.name.as_str()).collect();
        let origins = origins.join(", ");
        if list.out(now) == list.members.len() {
            if lost.insert(origins.clone()) {
                error!(%origins, "all origins are out: requests go to them all the same");
            }
        } else if lost.remove(&origins) {
            info!(%origins, "not all origins are out any more");
        }
    }
}

/// Asks an origin how it is, in a task of its own: a slow one keeps nobody waiting.
fn ask_if_due(
    fleet: &Arc<Fleet>,
    roster: &Arc<Roster>,
    (member, round): (&Arc<Member>, &mut Round),
    check: &Check,
) {
    let now = fleet.clock.monotonic_ms();
    // The interval may be a shorter one than when it was last asked.
    let longest = now.saturating_add(millis(check.interval.mul_f64(1.1)));
    round.due = round.due.min(longest);
    if now < round.due || round.asking.swap(true, Ordering::AcqRel) {
        return;
    }
    // A tenth more or less, so that several gateways do not ask at once.
    let interval = check.interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
    round.due = now.saturating_add(millis(interval));
    let (fleet, roster) = (Arc::clone(fleet), Arc::clone(roster));
    let (member, asking) = (Arc::clone(member), Arc::clone(&round.asking));
    let check = check.clone();
    tokio::spawn(async move {
        let answered = member.remote.check(&check.path, check.timeout).await;
        let (passed, why) = match &answered {
            Ok(status) => {
                let status = status.as_u16();
                let good = check.statuses.iter().any(|good| good.contains(&status));
                (good, "check_status")
            }
            Err(_) => (false, "check"),
        };
        if !passed {
            tracing::debug!(origin = %member.name, ?answered, "a check failed");
        }
        let now = fleet.clock.monotonic_ms();
        let turn = member.vitals.checked(&roster.rules, now, passed, why);
        fleet.tell(&member, turn, why);
        asking.store(false, Ordering::Release);
    });
}

impl Gauges {
    fn of(metrics: &Metrics, name: &str) -> Self {
        metrics.show_origin(name);
        let origin = ("origin", name);
        let connections = |state| {
            let labels = [origin, ("state", state)];
            metrics.gauge(&names::ORIGIN_CONNECTIONS, &labels)
        };
        Self {
            up: metrics.gauge(&names::ORIGIN_UP, &[origin]),
            in_flight: metrics.gauge(&names::ORIGIN_IN_FLIGHT, &[origin]),
            used: connections("used"),
            idle: connections("idle"),
            waiting: metrics.gauge(&names::ORIGIN_WAITING, &[origin]),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "connections of a process")]
    fn show(&self, fleet: &Fleet, member: &Member, now: u64) {
        let traffic = member.remote.traffic();
        let (open, in_flight) = (traffic.open(), traffic.in_flight());
        self.up.set(f64::from(u8::from(Fleet::is_up(member, now))));
        self.in_flight.set(in_flight as f64);
        self.used.set(open.min(in_flight) as f64);
        self.idle.set(open.saturating_sub(in_flight) as f64);
        self.waiting.set(member.remote.waiting() as f64);
        if member.remote.limit().is_none() {
            return;
        }
        for (result, count) in traffic.waits() {
            let labels = [("origin", member.name.as_str()), ("result", result)];
            let counter = fleet.metrics.counter(&names::ORIGIN_WAITS, &labels);
            counter.absolute(count);
        }
    }

    fn clear(&self) {
        for gauge in [
            &self.up,
            &self.in_flight,
            &self.used,
            &self.idle,
            &self.waiting,
        ] {
            gauge.set(0.0);
        }
    }
}
