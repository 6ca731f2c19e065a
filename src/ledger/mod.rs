//! What this gateway knows of each event, shared by all of its threads: the
//! last snapshot, the sessions and tickets it heard from, and the desk that
//! asks the store.
//!
//! The request path reads here and waits for nothing; the controller writes.
//! It is also the gateway's memory from which a store that lost everything is
//! rebuilt.

mod arrivals;
mod counts;
pub mod desk;
mod memory;
mod networks;
mod sessions;
mod share;
mod sketch;
mod stay;
mod tickets;
mod uniques;
mod view;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use http::HeaderValue;
use tokio::sync::Notify;

pub use arrivals::{Arrival, Arrivals};
pub use counts::{Codes, Counted, Counts, Polls, Waits};
pub use memory::{Facts, Moment, Remembered};
pub use networks::Networks;
pub use sessions::Sessions;
pub use sketch::{Sketch, hash};
pub use stay::{InUse, Stay};
pub use tickets::Heard;
pub use uniques::{Uniques, start_of};
pub use view::View;

use crate::bots::Lists;
use crate::clock::Clock;
use crate::load::Meter;
use crate::metrics::Metrics;
use crate::room::decision::{OnFailure, Standing};
use crate::room::event::{EventId, EventSettings, Mode};
use crate::room::gate::Gate;
use crate::room::snapshot::Rules;
use crate::room::ticket::{Number, slot_of};
use crate::room::time::{SILENCE, Timestamp, millis};
use crate::store::{LetIn, Shadow, Store};
use desk::Desk;

/// How many bits count this gateway's own numbers within a second; more than
/// a number has room for, so that a crowd does not run into the next second.
const COUNTER_BITS: u32 = 24;

/// One event, as this gateway knows it.
pub struct Ledger {
    /// Which event.
    pub id: EventId,
    /// Its id as a header's value.
    pub label: HeaderValue,
    /// Its effective settings.
    pub settings: ArcSwap<EventSettings>,
    /// What the origin bears for it.
    pub load: Arc<Meter>,
    /// The sessions heard from.
    pub sessions: Sessions,
    /// The tickets heard from.
    pub heard: Heard,
    /// Where the store is asked.
    pub desk: Desk,
    /// What is counted of it.
    pub counts: Counts,
    /// Who arrived at it.
    pub arrivals: Arrivals,
    /// How many different visitors it had.
    pub visitors: Uniques,
    /// The same of users who are logged in.
    pub users: Uniques,
    /// Who is a bot and who is none, as the API says.
    pub bot_lists: ArcSwap<Lists>,
    /// What this gateway may admit by itself.
    share: share::Share,
    /// What happens while the store is away; until it is said, places are held.
    pub on_failure: OnceLock<OnFailure>,
    /// Rung when a valid token is older than all that the store knows.
    pub doubt: Notify,
    clock: Clock,
    /// The running time at the first look of this process; 0: none yet.
    begun: AtomicU64,
    /// The slot that this gateway will ask the store for.
    slot: u8,
    view: ArcSwapOption<View>,
    self_numbered: AtomicU64,
    /// The highest number that this gateway has given by itself; 0: none.
    own: Arc<AtomicU64>,
    /// When the store last answered, on this gateway's own clock.
    answered_ms: AtomicU64,
    rules_changed: AtomicBool,
}

impl Ledger {
    /// A ledger that knows nothing yet. The desk's tasks run on the present
    /// runtime.
    #[must_use]
    pub fn open(
        settings: EventSettings,
        store: &Store,
        gateway: &str,
        clock: Clock,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let id = settings.id.clone();
        let own = Arc::<AtomicU64>::default();
        Arc::new(Self {
            // An id is of letters, digits and hyphens.
            label: HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("event")),
            counts: Counts::new(metrics, id.as_str()),
            desk: Desk::open(
                store.clone(),
                id.clone(),
                gateway.to_owned(),
                Arc::clone(&own),
            ),
            id,
            settings: ArcSwap::from_pointee(settings),
            arrivals: Arrivals::default(),
            visitors: Uniques::default(),
            users: Uniques::default(),
            bot_lists: ArcSwap::default(),
            load: Arc::default(),
            sessions: Sessions::default(),
            heard: Heard::default(),
            share: share::Share::new(gateway),
            on_failure: OnceLock::new(),
            doubt: Notify::new(),
            slot: slot_of(gateway),
            view: ArcSwapOption::empty(),
            self_numbered: AtomicU64::new(0),
            own,
            begun: AtomicU64::new(0),
            answered_ms: AtomicU64::new(clock.monotonic_ms()),
            clock,
            rules_changed: AtomicBool::new(false),
        })
    }

    /// The last look at the store; `None` before the first.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    /// A glance at it, for what is soon done: it is not counted among its holders.
    #[must_use]
    pub fn glance(&self) -> Guard<Option<Arc<View>>> {
        self.view.load()
    }

    /// Publishes a look at the store to the request path.
    pub fn publish(&self, view: View) {
        if view.store_up {
            self.answered();
        }
        let now = view.snapshot.now().0;
        let _begun_before =
            self.begun
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.view.store(Some(Arc::new(view)));
    }

    /// Milliseconds on this gateway's own clock, for load and intervals.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// The store's running time, as far as it can be known here: it stands
    /// still when the store is silent, so no pass lapses by an outage.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now_at(self.clock.monotonic_ms())
    }

    /// The same, when this gateway's own clock shows so many milliseconds.
    #[must_use]
    pub fn now_at(&self, monotonic_ms: u64) -> Timestamp {
        self.view.load().as_ref().map_or_else(
            || Timestamp(self.clock.unix_ms()),
            |view| view.now(monotonic_ms),
        )
    }

    /// The store's wall clock in Unix seconds, as far as it can be known here.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.view.load().as_ref().map_or_else(
            || self.clock.unix_ms() / 1000,
            |view| view.unix_seconds(self.clock.monotonic_ms()),
        )
    }

    /// Whether this event can ever queue anybody: without a limit, a rate, a
    /// threshold or an order it only measures.
    #[must_use]
    pub fn can_queue(&self) -> bool {
        let settings = self.settings.load();
        let when = &settings.queue_when;
        let thresholds = [
            when.sessions.is_some(),
            when.arrivals_per_second.is_some(),
            when.requests_per_second.is_some(),
            when.in_flight.is_some(),
            when.latency_p95.is_some(),
            when.failure_ratio.is_some(),
        ];
        settings.mode != Mode::Auto
            || settings.limit.is_some()
            || settings.admit_per_second.is_some()
            || thresholds.contains(&true)
    }

    /// Whether the store did not answer when it was last asked.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        !self.view.load().as_ref().is_some_and(|view| view.store_up)
    }

    /// The store answers.
    pub(crate) fn answered(&self) {
        let now = self.clock.monotonic_ms();
        self.answered_ms.store(now, Ordering::Relaxed);
    }

    /// Whether whoever wants in walks in, because the store is away and the
    /// operator has ordered so for that time. Orders for the event go before,
    /// and one late answer is no outage.
    #[must_use]
    pub fn lets_all_in(&self) -> bool {
        let silent = || {
            let answered = self.answered_ms.load(Ordering::Relaxed);
            self.clock.monotonic_ms().saturating_sub(answered) >= millis(SILENCE)
        };
        self.on_failure.get() == Some(&OnFailure::Open)
            && matches!(self.settings.load().mode, Mode::Auto | Mode::Queue)
            && self.store_is_away()
            && silent()
    }

    /// Lets a visitor in without the store, as `store.on_failure` says: it is
    /// told when it is back. False when this one is to wait, or when so many
    /// were let in that no more can be told of.
    #[must_use]
    pub fn let_in(&self, visitor: LetIn, now: Timestamp, expires: Timestamp) -> bool {
        if self.lets_all_in() {
            return self.begin_untold(visitor, now, expires);
        }
        self.fill_slot(visitor, now, expires)
    }

    /// A session begins that the store is told of later. It is known before it is
    /// noted: whoever tells looks whether it lives.
    fn begin_untold(&self, visitor: LetIn, now: Timestamp, expires: Timestamp) -> bool {
        let stay = self.sessions.stay(visitor.session, now, expires);
        let noted = self.sessions.note_let_in(visitor);
        if !noted {
            stay.end(now);
        }
        noted
    }

    /// How long a session may be idle: as the store guards it, where its rules are
    /// stricter than the settings here.
    #[must_use]
    pub fn session_idle(&self) -> Duration {
        let idle = self.settings.load().session_idle;
        let view = self.view.load();
        let guarded = view
            .as_ref()
            .map(|view| view.snapshot.meta.rules.session_idle_ms);
        guarded.map_or(idle, |guarded| idle.min(Duration::from_millis(guarded)))
    }

    /// How the event stands towards newcomers. An order of the operator's
    /// holds also while the store is away.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let settings = self.settings.load();
        let view = self.view.load();
        let (gate, busy) = match (settings.mode, view.as_ref()) {
            (Mode::Closed, _) => (Gate::Closed, true),
            (Mode::Off | Mode::Shadow, _) => (Gate::Open, false),
            (Mode::Queue | Mode::Pause, _) => (Gate::Queueing, true),
            (Mode::Auto, Some(view)) => (view.snapshot.meta.gate(), view.is_busy()),
            (Mode::Auto, None) => (Gate::Open, self.can_queue()),
        };
        let (gate, busy) = if self.lets_all_in() {
            (Gate::Open, false)
        } else {
            let away = !view.as_ref().is_some_and(|view| view.store_up);
            let held = away && gate == Gate::Open && self.can_queue();
            (gate, (busy || held) && !self.share_is_open())
        };
        Standing {
            mode: settings.mode,
            gate,
            busy,
            crawlers: settings.crawlers,
        }
    }

    /// A number of this gateway's own, for the time the store is away.
    /// `None` when this second's 2,048 are used up.
    #[must_use]
    pub fn number_without_store(&self) -> Option<Number> {
        let view = self.view.load();
        let slot = view.as_ref().map_or(self.slot, |v| v.snapshot.slot);
        // After a birth or a recovery the store numbers up to two seconds
        // ahead of the clock: who comes now comes behind those.
        let issued = view.as_ref().map(|v| v.snapshot.meta.issued.unix_second());
        let present = self.unix_seconds().max(issued.unwrap_or(0));
        // The upper bits hold the second that the lower ones count in. It
        // never goes back, though the estimate may when the store is seen
        // again: a number must not be given twice.
        let next = |last: u64| {
            if present > last >> COUNTER_BITS {
                present << COUNTER_BITS
            } else {
                last + 1
            }
        };
        let last = self
            .self_numbered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            })
            .unwrap_or_default();
        let given = next(last);
        let (second, counter) = (given >> COUNTER_BITS, given & ((1 << COUNTER_BITS) - 1));
        let number = Number::by_gateway(second, slot, counter)?;
        self.own.fetch_max(number.0, Ordering::AcqRel);
        Some(number)
    }

    /// The highest number that this gateway has given by itself: whoever comes
    /// later, to any gateway, comes behind it.
    #[must_use]
    pub fn highest_own(&self) -> Option<Number> {
        highest(&self.own)
    }

    /// The last number of this gateway's own: its second above the counter.
    fn last_number_of_own(&self) -> u64 {
        self.self_numbered.load(Ordering::Relaxed)
    }

    /// Numbers of this gateway's own begin in this second.
    fn number_from_second(&self, second: u64) {
        self.self_numbered
            .fetch_max(second << COUNTER_BITS, Ordering::Relaxed);
    }

    /// Puts other settings in force.
    pub fn change(&self, settings: EventSettings) {
        if **self.settings.load() != settings {
            self.settings.store(Arc::new(settings));
            self.rules_changed.store(true, Ordering::Release);
        }
    }

    /// Whether the settings changed since this was last asked.
    #[must_use]
    pub fn rules_changed(&self) -> bool {
        self.rules_changed.swap(false, Ordering::AcqRel)
    }

    /// What the store is to guard, from the settings.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let settings = self.settings.load();
        Rules {
            mode: settings.mode,
            limit: settings.limit,
            admit_per_second: settings.admit_per_second,
            session_idle_ms: millis(settings.session_idle),
            session_max_ms: millis(settings.session_max),
            window_ms: millis(settings.ticket_idle) / 2,
        }
    }

    /// The window of liveness.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.settings.load().ticket_idle / 2
    }

    /// What this gateway remembers, in parts of at most 64 pages.
    #[must_use]
    pub fn shadows(&self, gateway: &str, newborn: u64, token: bool) -> Vec<Shadow> {
        let view = self.view.load();
        let mut first = Shadow {
            gateway: gateway.to_owned(),
            newborn,
            rules: Some(self.rules()),
            token,
            ..Shadow::default()
        };
        if let Some(view) = view.as_ref() {
            view.remember(&mut first, self.clock.monotonic_ms());
            // What an earlier process acknowledged last its disk may not have: a second's
            // worth, written within two.
            let idle = millis(self.settings.load().session_idle);
            let begun = self.begun.load(Ordering::Relaxed);
            first.young = first.time.0 < begun.saturating_add(idle + millis(SILENCE));
        }
        first.ended = self.sessions.ended();
        // Of whom the store was not told, it is told as of newcomers.
        let mut sessions = self.sessions.living(self.now());
        sessions.retain(|(session, _)| !self.sessions.is_let_in(*session));
        let (mut live, mut spent) = self.heard.memory();
        let mut parts = Vec::new();
        loop {
            let mut part = if parts.is_empty() {
                first.clone()
            } else {
                Shadow {
                    ended: Vec::new(),
                    ..first.clone()
                }
            };
            part.live = live.split_off(live.len().saturating_sub(32));
            part.spent = spent.split_off(spent.len().saturating_sub(32));
            part.sessions = sessions.split_off(sessions.len().saturating_sub(1_000));
            part.complete = live.is_empty() && spent.is_empty() && sessions.is_empty();
            let last = part.complete;
            parts.push(part);
            if last {
                return parts;
            }
        }
    }
}

/// The highest of a gateway's own numbers, if it gave any.
fn highest(own: &AtomicU64) -> Option<Number> {
    let number = own.load(Ordering::Acquire);
    (number > 0).then_some(Number(number))
}

/// All events of this gateway.
#[derive(Default)]
pub struct Ledgers {
    by_id: HashMap<EventId, Arc<Ledger>>,
    order: Vec<Arc<Ledger>>,
}

impl Ledgers {
    /// The events in the order in which requests are matched against them.
    #[must_use]
    pub fn new(order: Vec<Arc<Ledger>>) -> Self {
        Self {
            by_id: order
                .iter()
                .map(|ledger| (ledger.id.clone(), Arc::clone(ledger)))
                .collect(),
            order,
        }
    }

    /// The event of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Ledger>> {
        self.by_id.get(id)
    }

    /// The event at this place of the order.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Arc<Ledger>> {
        self.order.get(index)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Ledger>> {
        self.order.iter()
    }
}
