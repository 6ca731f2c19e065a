//! The loop of an event: measure, decide the gate, plan admissions, move the
//! watermark, publish to the request path. It runs on every gateway, without
//! a leader: one of them wins each step, the others see that and go on.

mod alone;
mod gauges;
mod healing;
mod pages;
mod telling;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use alone::Alone;
use gauges::Gauges;
use healing::Why;
use pages::{next_of, pages_to_read};

use crate::ledger::{Ledger, View};
use crate::metrics::{self as names, Metrics};
use crate::room::admission::{self, Measured, Plan};
use crate::room::census::Census;
use crate::room::decision::OnFailure;
use crate::room::estimate::History;
use crate::room::gate::{self, Load, Next, Signal};
use crate::room::snapshot::{OFFER_MS, Report, Snapshot};
use crate::room::ticket::Number;
use crate::room::time::Timestamp;
use crate::store::{Answer, Ask, Fence, Reply, Step, Stepped, Store, StoreError};

/// The time between two passes, before jitter.
pub const PASS: Duration = Duration::from_millis(500);

/// The most pages counted anew at a first look.
const REFRESH: usize = 16;

/// What the controllers of all events share.
pub struct Bench {
    /// The store.
    pub store: Store,
    /// This gateway's name.
    pub gateway: String,
    /// The signing keys that this gateway knows.
    pub keys: ArcSwap<Vec<String>>,
    /// The hash of the configuration in force: a reload changes it.
    pub config: ArcSwap<String>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether what the API changed has been read.
    pub catalog_read: AtomicBool,
    /// Whether this gateway is about to end: it gives its shares back.
    pub leaving: AtomicBool,
}

/// One event's loop.
pub struct Controller {
    bench: Arc<Bench>,
    ledger: Arc<Ledger>,
    history: History,
    gauges: Gauges,
    /// The recovery that this gateway has pushed its memory for: the state's
    /// birth, the server's process (empty while not known), and the recovery's
    /// number. A server that comes back with an older state twice gives that
    /// number twice.
    pushed: Option<(u64, String, u64)>,
    /// The recovery counted last: of which state, by which server's process.
    counted: Option<(u64, String, u64)>,
    /// Whether the settings are to be written to the store.
    configure: bool,
    refreshed: usize,
    beaten_ms: u64,
    failing: bool,
    files_differ: bool,
    alone: Alone,
}

impl Controller {
    /// A loop that has not looked yet.
    #[must_use]
    pub fn new(bench: Arc<Bench>, ledger: Arc<Ledger>) -> Self {
        Self {
            gauges: Gauges::new(&bench.metrics, ledger.id.as_str()),
            bench,
            ledger,
            history: History::default(),
            pushed: None,
            counted: None,
            configure: true,
            refreshed: 0,
            beaten_ms: 0,
            failing: false,
            files_differ: false,
            alone: Alone::default(),
        }
    }

    /// Passes until dropped.
    pub async fn run(mut self) {
        loop {
            self.pass().await;
            let jitter = 0.8 + 0.4 * rand::random::<f64>();
            let token = tokio::time::timeout(PASS.mul_f64(jitter), self.ledger.doubt.notified());
            if token.await.is_ok() {
                self.push(Why::Token).await;
            }
        }
    }

    /// One pass.
    pub async fn pass(&mut self) {
        let recovering = self.is_recovering();
        match self.look().await {
            Ok(Reply::Done(snapshot)) => {
                self.recovered();
                self.decide(snapshot).await;
            }
            Ok(Reply::Absent) => {
                self.recovered();
                self.heal("", 0).await;
            }
            // What is remembered is pushed after the next look: that tells how
            // old it is.
            Ok(Reply::Recovering) => self.recovered(),
            Err(fault) => self.failed(&fault),
        }
        self.tell(recovering || self.is_recovering()).await;
    }

    /// Reads the event; once more if the front of the line stands on other
    /// pages than were asked for, as at the first look and after a recovery:
    /// a position read off a page that is not there would be too good.
    async fn look(&mut self) -> Answer<Snapshot> {
        let asked_ms = self.ledger.monotonic_ms();
        let mut ask = self.ask();
        let mut answer = self.bench.store.snapshot(&self.ledger.id, &ask).await?;
        if let Reply::Done(snapshot) = &answer {
            let (front, behind) = pages_to_read(snapshot);
            if !front.iter().all(|page| ask.front.contains(page)) {
                ask.front = front;
                ask.refresh = behind.into_iter().take(REFRESH).collect();
                answer = self.bench.store.snapshot(&self.ledger.id, &ask).await?;
            }
        }
        if let (Reply::Done(snapshot), Some(said)) = (&answer, &ask.share) {
            self.ledger.granted(said, snapshot, asked_ms);
            self.alone = Alone::default();
            self.gauges.share(self.ledger.share_left());
        }
        Ok(answer)
    }

    fn recovered(&mut self) {
        if self.failing {
            info!(event = %self.ledger.id, "the store answers again");
        }
        self.failing = false;
        self.gauges.store_up.set(1.0);
    }

    fn failed(&mut self, fault: &StoreError) {
        if !self.failing {
            let what = match self.ledger.on_failure.get() {
                Some(OnFailure::Open) => "whoever wants in walks in, the limit is not enforced",
                Some(OnFailure::Local) => {
                    "this gateway admits within its share, all others keep their places"
                }
                _ => "visitors keep their places, nobody new is admitted",
            };
            error!(event = %self.ledger.id, %fault, "the store is away; {what}");
        }
        self.failing = true;
        self.gauges.store_up.set(0.0);
        if let Some(view) = self.ledger.view()
            && view.store_up
        {
            self.ledger.publish(view.stale());
        }
        self.judge_alone();
    }

    fn ask(&mut self) -> Ask {
        let settings = self.ledger.settings.load();
        let view = self.ledger.view();
        let (front, refresh, ended_since) = match view.as_deref() {
            None => (Vec::new(), Vec::new(), Timestamp(0)),
            Some(view) => {
                let snapshot = &view.snapshot;
                let (front, behind) = pages_to_read(snapshot);
                let refresh = next_of(&behind, &mut self.refreshed);
                let since = if self.ledger.is_recalled() {
                    Timestamp(0)
                } else {
                    snapshot.now().minus(Duration::from_secs(5))
                };
                (front, refresh, since)
            }
        };
        Ask {
            gateway: self.bench.gateway.clone(),
            report: Report {
                keys: Vec::clone(&self.bench.keys.load()),
                config: String::clone(&self.bench.config.load()),
                load: self
                    .ledger
                    .load
                    .report(self.ledger.monotonic_ms(), settings.queue_when.window),
            },
            above: self.ledger.highest_own(),
            share: self.ledger.say_share(self.share_wanted(view.as_deref())),
            front,
            refresh,
            ended_since,
        }
    }

    /// The store answered: heal it if it forgot, else make the next move.
    async fn decide(&mut self, snapshot: Snapshot) {
        self.count_recoveries(&snapshot);
        // Before anything is pushed: what is too old, or void, stays here.
        self.ledger.awake(&snapshot);
        self.follow_reset(&snapshot);
        if self.has_forgotten(&snapshot) && snapshot.meta.recovery.is_none() {
            // The next pass sees the recovery that this begins.
            return self
                .heal(&snapshot.meta.run, snapshot.meta.recoveries)
                .await;
        }
        if let Some(recovery) = &snapshot.meta.recovery {
            let (born, run) = (snapshot.meta.born, snapshot.meta.run.clone());
            if self.has_pushed(born, &run, recovery.id)
                || self.push(Why::Recovery(&snapshot)).await.is_some()
            {
                self.pushed = Some((born, run, recovery.id));
            }
        }
        self.compare_files(&snapshot);
        self.settle_rules(&snapshot).await;
        self.ledger.sessions.note_ended(&snapshot.ended);
        let floor = snapshot.meta.floor().page();
        let keeps = |page| page >= floor || snapshot.density.contains_key(&page);
        self.ledger.heard.turn(snapshot.meta.window, keeps);
        self.gauges.expired.increment(snapshot.expired);

        let settings = self.ledger.settings.load_full();
        let load = Load::sum(
            snapshot.present().map(|row| &row.report.load),
            settings.queue_when.min_requests,
        );
        let readings = gate::readings(&load, snapshot.sessions, &settings.queue_when);
        self.history
            .record(&snapshot, Census::of(&snapshot).waiting());
        let rates = self.history.rates();
        let next = gate::next(
            snapshot.meta.gate,
            snapshot.meta.calm_since,
            &readings,
            &settings.queue_when,
            snapshot.now(),
        );
        let measured = Measured {
            pressure: gate::pressure(&readings),
            release_ratio: settings.queue_when.release_ratio,
            sessions_threshold: settings.queue_when.sessions,
            arrivals_threshold: settings.queue_when.arrivals_per_second,
            begun_per_second: rates.begun,
            closed_per_second: rates.closed,
        };
        let plan = admission::plan(&snapshot, next.gate, &measured);
        let (mut snapshot, taken_ms) = (snapshot, self.ledger.monotonic_ms());
        // The first pass after a recovery only tells who was heard in its last
        // moment: a step would call past places that the store has not back yet.
        if snapshot.meta.recovery.is_none() && !self.is_recovering() {
            self.step(&mut snapshot, next, plan).await;
        }
        let view = View::new(snapshot, taken_ms, rates, readings);
        if view.waiting() > 0 && settings.sessions_per_address_ratio < 1.0 {
            self.ledger.sessions.count_networks(view.snapshot.now());
        }
        self.gauges.show(&view);
        self.ledger.publish(view);
    }

    /// Gateways that run different files are told of, once for each change.
    fn compare_files(&mut self, snapshot: &Snapshot) {
        // As it was reported with this look: a reload may have come since.
        let mut present = snapshot.present();
        let own = present.find(|row| row.gateway == self.bench.gateway);
        let Some(config) = own.map(|row| &row.report.config) else {
            return;
        };
        let others = snapshot.present().any(|row| row.report.config != *config);
        if others && !self.files_differ {
            warn!(event = %self.ledger.id, config, "other gateways run another configuration; the one started last sets limit and mode");
        }
        self.files_differ = others;
    }

    fn count_recoveries(&mut self, snapshot: &Snapshot) {
        let meta = &snapshot.meta;
        let Some(recovery) = &meta.recovery else {
            return;
        };
        // A server may fall back to the same state twice.
        let this = (meta.born, meta.run.clone(), recovery.id);
        if self.counted.as_ref() != Some(&this) {
            let cause = recovery.cause.word();
            warn!(event = %self.ledger.id, cause, "recovery: nobody is admitted and nothing expires until what gateways and visitors remember is back");
            self.bench
                .metrics
                .counter(&names::STORE_RECOVERIES, &[("cause", cause)])
                .increment(1);
            self.counted = Some(this);
        }
    }

    /// The gateway configured last is obeyed; all read the store.
    async fn settle_rules(&mut self, snapshot: &Snapshot) {
        let rules = self.ledger.rules();
        // A store that fell back to an older state has forgotten a change.
        let forgotten = self
            .ledger
            .view()
            .is_some_and(|view| view.snapshot.meta.cfgver > snapshot.meta.cfgver);
        if !self.configure {
            self.configure = self.ledger.rules_changed() || forgotten;
        }
        // The file alone must not overrule what the API changed: a gateway that
        // could not read that yet leaves the rules as they stand.
        if !self.configure || !self.bench.catalog_read.load(Ordering::Acquire) {
            return;
        }
        if snapshot.meta.rules == rules {
            self.configure = false;
            return;
        }
        let written = self
            .bench
            .store
            .configure(&self.ledger.id, snapshot.meta.cfgver, &rules);
        if let Ok(Reply::Done(_)) = written.await {
            info!(event = %self.ledger.id, limit = ?rules.limit, mode = rules.mode.word(), "settings are in force");
            self.configure = false;
        }
    }

    /// Makes the move, and notes it in the snapshot if it was made: the
    /// request path must not wait for the next look to see a gate that opened
    /// or a number that was called.
    async fn step(&mut self, snapshot: &mut Snapshot, next: Next, plan: Plan) {
        let meta = &snapshot.meta;
        let calls = plan.offers.len();
        let step = Step {
            fence: Fence {
                born: meta.born,
                run: meta.run.clone(),
                seq: meta.seq,
            },
            gate: next.gate,
            calm_since: next.calm_since,
            to: plan.to,
            offers: plan.offers,
            pace: plan.pace,
            show: plan.show,
            sweep: next_of(&snapshot.pages, &mut self.refreshed),
            waiting: Census::of(snapshot).waiting(),
        };
        match self.bench.store.step(&self.ledger.id, &step).await {
            Ok(Reply::Done(Stepped::Done { lapsed, expired })) => {
                self.history.called(calls);
                self.ledger.counts.abandoned.increment(lapsed);
                self.gauges.expired.increment(expired);
                if meta.gate != next.gate {
                    self.moved(next);
                }
                moved(snapshot, next, step);
            }
            Ok(Reply::Done(Stepped::LostRace)) => self.gauges.lost_races.increment(1),
            Ok(Reply::Recovering | Reply::Absent) => {}
            Err(fault) => self.failed(&fault),
        }
    }

    fn moved(&self, next: Next) {
        let signal = next.closed_by.map_or("calm", Signal::word);
        let to = next.gate.word();
        info!(event = %self.ledger.id, to, signal, "the gate moves");
        let labels = [
            ("event", self.ledger.id.as_str()),
            ("to", to),
            ("signal", signal),
        ];
        self.bench
            .metrics
            .counter(&names::GATE_TRANSITIONS, &labels)
            .increment(1);
    }

    /// Whether the last look published was in a recovery.
    fn is_recovering(&self) -> bool {
        let view = self.ledger.view();
        view.is_some_and(|view| view.snapshot.meta.recovery.is_some())
    }
}

/// What a step that was made changes of the look it was planned on.
fn moved(snapshot: &mut Snapshot, next: Next, step: Step) {
    let due = snapshot.now().plus(Duration::from_millis(OFFER_MS));
    let standing = |number: &Number| snapshot.offers.iter().any(|(known, _)| known == number);
    let offers: Vec<_> = step
        .offers
        .into_iter()
        .filter(|number| !standing(number))
        .map(|number| (number, due))
        .collect();
    snapshot.offers.extend(offers);
    let meta = &mut snapshot.meta;
    meta.called = meta.called.max(step.to.min(meta.issued));
    meta.gate = next.gate;
    meta.calm_since = next.calm_since;
    meta.pace = step.pace;
}
