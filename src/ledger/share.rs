//! What a gateway admits by itself while the store is away
//! (`store.on_failure = "local"`): within the share of the slots that the
//! store granted it before, the lowest number that asks here first.
//!
//! A slot of the share is filled once. Who leaves does not give it back: the
//! store, or another gateway, may count on it already.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Ledger;
use crate::room::decision::OnFailure;
use crate::room::event::Mode;
use crate::room::gate::Gate;
use crate::room::share::{Holder, SHARE_MS, ShareAsk};
use crate::room::snapshot::Snapshot;
use crate::room::ticket::Number;
use crate::room::time::Timestamp;
use crate::store::LetIn;

/// Who stands in line and has not asked for so long does not stand before
/// others, in milliseconds: a page polls more often.
const HEARD_MS: u64 = 45_000;

/// So many who stand in line are kept in mind, the lowest numbers.
const LINE_MAX: usize = 4_096;

/// A gateway's share of an event's slots, and who wants them here.
pub(super) struct Share {
    holder: Holder,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turn: u64,
    /// Slots left to fill.
    left: u64,
    /// Until when they may be, on this gateway's own clock.
    until_ms: u64,
    /// Whether the load that this gateway sees lets anybody in.
    closed: bool,
    /// The lowest numbers that asked here while the store was away, and when.
    line: BTreeMap<Number, u64>,
    tidied_ms: u64,
    tokens: f64,
    tokens_ms: u64,
}

impl State {
    fn left(&self, now_ms: u64) -> u64 {
        if now_ms < self.until_ms { self.left } else { 0 }
    }

    /// Forgets who asks no more; once a second is enough.
    fn tidy(&mut self, now_ms: u64) {
        if now_ms >= self.tidied_ms + 1_000 {
            self.tidied_ms = now_ms;
            self.line.retain(|_, asked| *asked + HEARD_MS > now_ms);
        }
    }

    /// Takes note of who asks; false when too many stand before it.
    fn stands(&mut self, number: Number, now_ms: u64) -> bool {
        self.line.insert(number, now_ms);
        if self.line.len() > LINE_MAX {
            return self.line.pop_last().is_none_or(|(last, _)| last != number);
        }
        true
    }

    /// How many may be admitted now at so many a second.
    fn tokens(&mut self, rate: Option<f64>, now_ms: u64) -> f64 {
        let Some(rate) = rate else {
            return f64::INFINITY;
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of an outage")]
        let elapsed = now_ms.saturating_sub(self.tokens_ms) as f64;
        self.tokens = (self.tokens + elapsed * rate / 1000.0).min(rate.max(1.0));
        self.tokens_ms = now_ms;
        self.tokens
    }
}

impl Share {
    /// A share of nothing.
    #[must_use]
    pub(super) fn new(gateway: &str) -> Self {
        Self {
            holder: Holder::new(gateway, rand::random()),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Whether this gateway admits by itself while the store is away.
    #[must_use]
    pub fn keeps_share(&self) -> bool {
        self.on_failure.get() == Some(&OnFailure::Local)
    }

    /// What is said of the share with the next look: from here on no more than
    /// `wanted` is filled of it. `None` when this gateway keeps no share.
    #[must_use]
    pub fn say_share(&self, wanted: u64) -> Option<ShareAsk> {
        if !self.keeps_share() {
            return None;
        }
        let now_ms = self.monotonic_ms();
        let mut state = self.share.lock();
        state.turn += 1;
        state.left = state.left(now_ms).min(wanted);
        let filled = self.sessions.untold();
        Some(ShareAsk {
            holder: self.share.holder,
            turn: state.turn,
            held: state.left + filled,
            wanted: wanted + filled,
        })
    }

    /// The store answered what was said at `asked_ms`, on this gateway's own
    /// clock: what it counts may be filled, and no more.
    pub(crate) fn granted(&self, ask: &ShareAsk, snapshot: &Snapshot, asked_ms: u64) {
        let shares = &snapshot.meta.shares;
        let own = shares.iter().find(|share| share.holder == ask.holder);
        let slots = own.map_or(0, |share| share.slots);
        let mut state = self.share.lock();
        if state.turn == ask.turn {
            state.left = (state.left + slots).saturating_sub(ask.held);
            state.until_ms = asked_ms + SHARE_MS;
            // The next outage begins anew.
            state.line.clear();
            (state.closed, state.tokens, state.tokens_ms) = (false, 0.0, self.monotonic_ms());
        }
    }

    /// Slots that this gateway may fill by itself.
    #[must_use]
    pub fn share_left(&self) -> u64 {
        self.share.lock().left(self.monotonic_ms())
    }

    /// Whether the load lets anybody in, as far as this gateway sees it.
    pub(crate) fn set_share_gate(&self, gate: Gate) {
        self.share.lock().closed = gate != Gate::Open;
    }

    /// Whether this gateway admits by itself now. Orders for the event go
    /// before, and who waited when the store was lost is called by it.
    fn admits_alone(&self) -> bool {
        self.keeps_share()
            && self.can_queue()
            && self.settings.load().mode == Mode::Auto
            && self.store_is_away()
            && self.view().is_some_and(|view| {
                let meta = &view.snapshot.meta;
                meta.gate() == Gate::Open && meta.recovery.is_none() && meta.called == meta.issued
            })
    }

    /// Slots that may be filled, by the share and by the limit as it is now: that of
    /// the settings or of the store, whichever is lower.
    fn slots(&self, left: u64) -> u64 {
        let Some(view) = self.view() else { return 0 };
        let meta = &view.snapshot.meta;
        let limits = [self.settings.load().limit, meta.rules.limit];
        let Some(limit) = limits.into_iter().flatten().min() else {
            return u64::MAX;
        };
        let own = meta
            .shares
            .iter()
            .find(|share| share.holder == self.share.holder);
        let others = meta.reserved() - own.map_or(0, |share| share.slots).min(meta.reserved());
        let taken = view.snapshot.sessions + meta.ghosts + others + self.sessions.untold();
        left.min(limit.saturating_sub(taken))
    }

    /// Whether a newcomer would walk in by this gateway's share.
    #[must_use]
    pub(super) fn share_is_open(&self) -> bool {
        if !self.admits_alone() {
            return false;
        }
        let now_ms = self.monotonic_ms();
        let mut state = self.share.lock();
        state.tidy(now_ms);
        !state.closed && state.line.is_empty() && self.slots(state.left(now_ms)) > 0
    }

    /// Fills a slot of the share, for a newcomer or for who stands in line:
    /// the store is told when it is back. False when there is none for them.
    pub(super) fn fill_slot(&self, visitor: LetIn, now: Timestamp, expires: Timestamp) -> bool {
        if !self.admits_alone() {
            return false;
        }
        if self.sessions.is_let_in(visitor.session) {
            return true;
        }
        if visitor
            .number
            .is_some_and(|number| self.heard.is_spent(number))
        {
            return false;
        }
        let rate = self.rate_alone();
        let now_ms = self.monotonic_ms();
        let mut state = self.share.lock();
        state.tidy(now_ms);
        if let Some(number) = visitor.number
            && !state.stands(number, now_ms)
        {
            return false;
        }
        let before = match visitor.number {
            Some(number) => state.line.range(..number).count() as u64,
            None if state.line.is_empty() => 0,
            None => return false,
        };
        let slots = self.slots(state.left(now_ms));
        #[expect(clippy::cast_precision_loss, reason = "at most LINE_MAX")]
        let paid = state.tokens(rate, now_ms) >= before as f64 + 1.0;
        // Noted before the slot is taken: what is said of the share meanwhile
        // is rather too much.
        if state.closed || slots <= before || !paid || !self.begin_untold(visitor, now, expires) {
            return false;
        }
        state.left = state.left.saturating_sub(1);
        if rate.is_some() {
            state.tokens -= 1.0;
        }
        if let Some(number) = visitor.number {
            state.line.remove(&number);
        }
        true
    }

    /// Takes note of a place given: should the store go, nobody passes it here.
    pub fn stands_alone(&self, number: Number) {
        if self.keeps_share() {
            let now_ms = self.monotonic_ms();
            self.share.lock().stands(number, now_ms);
        }
    }

    /// This gateway's part of the admissions a second.
    #[expect(clippy::cast_precision_loss, reason = "at most 256 gateways")]
    fn rate_alone(&self) -> Option<f64> {
        let view = self.view()?;
        let gateways = view.snapshot.present().count().max(1) as f64;
        let rate = view.snapshot.meta.rate();
        let ordered = self.settings.load().admit_per_second;
        rate.into_iter()
            .chain(ordered)
            .reduce(f64::min)
            .map(|rate| rate / gateways)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::View;
    use crate::metrics::Metrics;
    use crate::room::event::{EventId, EventSettings, QueueWhen};
    use crate::room::gate::{Load, readings};
    use crate::room::ticket::SessionKey;
    use crate::room::{estimate::Rates, share};
    use crate::store::{
        Ask, Batch, Entered, Entrant, Fence, MemoryStore, Reply, Shadow, Step, Store,
    };

    const MORNING_MS: u64 = 1_800_000_000_000;
    const LIMIT: u64 = 12;

    /// Some gateways on one store, and a network that loses and delays.
    struct Town {
        clock: Clock,
        store: Store,
        ledgers: Vec<Arc<Ledger>>,
        /// Looks on their way to the store.
        late: Vec<Ask>,
        batches: u64,
        /// Sessions that the store let in.
        inside: Vec<SessionKey>,
    }

    impl Town {
        async fn new(gateways: usize) -> Self {
            let clock = Clock::manual(MORNING_MS);
            let store = Store::Memory(MemoryStore::new(clock.clone(), "run"));
            let mut settings = EventSettings::new(EventId::new("main").unwrap());
            settings.limit = Some(LIMIT);
            let ledgers = (0..gateways).map(|gateway| {
                let (name, metrics) = (format!("g{gateway}"), Metrics::default());
                let ledger = Ledger::open(settings.clone(), &store, &name, clock.clone(), &metrics);
                ledger.on_failure.set(OnFailure::Local).unwrap();
                ledger
            });
            let ledgers: Vec<_> = ledgers.collect();
            let shadow = Shadow {
                rules: ledgers.first().map(|ledger| ledger.rules()),
                ..Shadow::default()
            };
            store.restore(&ledgers[0].id, &shadow).await.unwrap();
            Self {
                clock,
                store,
                ledgers,
                late: Vec::new(),
                batches: 0,
                inside: Vec::new(),
            }
        }

        fn ask(&self, gateway: usize, random: &mut StdRng) -> Ask {
            let ledger = &self.ledgers[gateway];
            let wanted = match ledger.view() {
                Some(view) if view.store_up => share::wanted(&view.snapshot),
                _ => ledger.share_left(),
            };
            // Now and then it gives back what it would rather keep, or wants more.
            let wanted = match random.random_range(0..4) {
                0 => 0,
                1 => LIMIT,
                _ => wanted,
            };
            Ask {
                gateway: format!("g{gateway}"),
                share: ledger.say_share(wanted),
                ..Ask::default()
            }
        }

        /// A look: it arrives or not, its reply too; or it arrives late.
        async fn look(&mut self, gateway: usize, random: &mut StdRng) {
            let (ask, asked_ms) = (self.ask(gateway, random), self.clock.monotonic_ms());
            let ledger = Arc::clone(&self.ledgers[gateway]);
            let fate = random.random_range(0..10);
            if fate < 3 {
                self.late.extend((fate < 2).then_some(ask));
            } else {
                let reply = self.store.snapshot(&ledger.id, &ask).await.unwrap();
                if let (Reply::Done(snapshot), true) = (reply, fate > 3) {
                    ledger.granted(ask.share.as_ref().unwrap(), &snapshot, asked_ms);
                    let readings = readings(&Load::default(), 0, &QueueWhen::default());
                    let view = View::new(snapshot, asked_ms, Rates::default(), readings);
                    return ledger.publish(view);
                }
            }
            if let Some(view) = ledger.view() {
                ledger.publish(view.stale());
            }
        }

        /// A newcomer: by the store, or by the share when that is away.
        async fn newcomer(&mut self, gateway: usize) {
            let ledger = &self.ledgers[gateway];
            let session = SessionKey(rand::random());
            if ledger.store_is_away() {
                let visitor = LetIn {
                    session,
                    number: None,
                    proven: true,
                    until: Timestamp(0),
                    id: None,
                };
                let now = ledger.now();
                let idle = ledger.settings.load().session_idle;
                let _let_in = ledger.let_in(visitor, now, now.plus(idle));
                return;
            }
            self.batches += 1;
            let batch = Batch {
                gateway: format!("g{gateway}"),
                batch: self.batches,
                above: None,
                entrants: vec![Entrant { session, id: None }],
            };
            let entered = self.store.enter(&ledger.id, &batch).await.unwrap();
            if let Reply::Done(entered) = entered
                && matches!(entered[..], [Entered::Session { .. }])
            {
                self.inside.push(session);
            }
        }

        /// Tells of those let in; the reply may be lost.
        async fn tell(&self, gateway: usize, random: &mut StdRng) {
            let ledger = &self.ledgers[gateway];
            let visitors = ledger.sessions.take_let_in(64, ledger.now());
            let told = self.store.let_in(&ledger.id, &visitors).await.unwrap();
            if !matches!(told, Reply::Done(_)) || random.random_bool(0.3) {
                for visitor in visitors {
                    assert!(ledger.sessions.note_let_in(visitor));
                }
            }
        }

        /// Whoever got a ticket leaves the line, somebody inside leaves the site.
        async fn leave(&mut self) {
            let event = &self.ledgers[0].id;
            if let Some(session) = self.inside.pop() {
                let _ended = self.store.end(event, &[session]).await.unwrap();
            }
            let snapshot = self.store.snapshot(event, &Ask::default()).await.unwrap();
            let Reply::Done(Snapshot { meta, .. }) = snapshot else {
                return;
            };
            let step = Step {
                fence: Fence {
                    born: meta.born,
                    run: meta.run.clone(),
                    seq: meta.seq,
                },
                gate: meta.gate,
                calm_since: None,
                to: meta.issued,
                offers: Vec::new(),
                pace: None,
                show: 1.0,
                sweep: Vec::new(),
                waiting: 0,
            };
            let _stepped = self.store.step(event, &step).await.unwrap();
        }

        /// All who are inside, whoever knows of them.
        async fn inside(&self) -> u64 {
            let ask = Ask::default();
            let reply = self.store.snapshot(&self.ledgers[0].id, &ask).await;
            let mut inside = match reply.unwrap() {
                Reply::Done(snapshot) => snapshot.sessions,
                _ => 0,
            };
            for ledger in &self.ledgers {
                for visitor in ledger.sessions.let_in() {
                    let keys = [visitor.session];
                    let known = self.store.inside(&ledger.id, &keys).await.unwrap();
                    let known = matches!(known, Reply::Done(known) if known[0].is_some());
                    inside += u64::from(!known);
                }
            }
            inside
        }
    }

    #[tokio::test]
    async fn whatever_is_lost_or_late_nobody_is_let_in_above_the_limit() {
        let mut alone = 0;
        for seed in 0..250 {
            let mut random = StdRng::seed_from_u64(seed);
            let gateways = random.random_range(1..4);
            let mut town = Town::new(gateways).await;
            for _ in 0..300 {
                let gateway = random.random_range(0..gateways);
                match random.random_range(0..13) {
                    0..4 => town.look(gateway, &mut random).await,
                    4..7 => {
                        for _ in 0..random.random_range(1..8) {
                            town.newcomer(gateway).await;
                        }
                    }
                    7 => town.tell(gateway, &mut random).await,
                    8 => town.leave().await,
                    9..12 if !town.late.is_empty() => {
                        let at = random.random_range(0..town.late.len());
                        let ask = town.late.remove(at);
                        let _late = town.store.snapshot(&town.ledgers[0].id, &ask).await;
                    }
                    _ => town.clock.advance(300),
                }
                let inside = town.inside().await;
                assert!(inside <= LIMIT, "seed {seed}: {inside} inside");
            }
            let untold = town.ledgers.iter().map(|ledger| ledger.sessions.untold());
            alone += untold.sum::<u64>();
        }
        assert!(alone > 0, "nobody was ever let in by a share");
    }
}
