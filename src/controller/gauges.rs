//! What a controller shows: handles fetched once.

use metrics::{Counter, Gauge};

use crate::ledger::View;
use crate::metrics::{self as names, Metrics};
use crate::room::gate::{Gate, Reading, Signal};

/// The metrics that a controller sets.
pub(super) struct Gauges {
    gates: [(Gate, Gauge); 3],
    signals: Vec<(Signal, [Gauge; 3])>,
    sessions: Gauge,
    limit: Gauge,
    share: Gauge,
    waiting: Gauge,
    called: Gauge,
    pace: Gauge,
    estimate: Gauge,
    pub(super) store_up: Gauge,
    gateways: Gauge,
    success: Gauge,
    pub(super) expired: Counter,
    pub(super) lost_races: Counter,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics, event: &str) -> Self {
        let of = [("event", event)];
        let signal = |name, signal: Signal| {
            metrics.gauge(name, &[("event", event), ("signal", signal.word())])
        };
        Self {
            gates: Gate::ALL.map(|gate| {
                let labels = [("event", event), ("state", gate.word())];
                (gate, metrics.gauge(&names::EVENT_GATE_STATE, &labels))
            }),
            signals: Signal::ALL
                .into_iter()
                .map(|which| {
                    let gauges = [
                        signal(&names::EVENT_LOAD, which),
                        signal(&names::EVENT_THRESHOLD, which),
                        signal(&names::EVENT_PRESSURE, which),
                    ];
                    (which, gauges)
                })
                .collect(),
            sessions: metrics.gauge(&names::EVENT_SESSIONS, &of),
            limit: metrics.gauge(&names::EVENT_SESSIONS_LIMIT, &of),
            share: metrics.gauge(&names::SHARE, &of),
            waiting: metrics.gauge(&names::EVENT_WAITING_VISITORS, &of),
            called: metrics.gauge(&names::EVENT_CALLED_NUMBER, &of),
            pace: metrics.gauge(&names::EVENT_PACE, &of),
            estimate: metrics.gauge(&names::EVENT_ESTIMATE_SECONDS, &of),
            store_up: metrics.gauge(&names::STORE_UP, &[]),
            gateways: metrics.gauge(&names::GATEWAYS, &[]),
            success: metrics.gauge(&names::CONTROLLER_LAST_SUCCESS, &[]),
            expired: metrics.counter(
                &names::SESSIONS_ENDED,
                &[("event", event), ("reason", "expired")],
            ),
            lost_races: metrics.counter(&names::LOST_RACES, &of),
        }
    }

    /// So many slots are this gateway's to fill while the store is away.
    #[expect(clippy::cast_precision_loss, reason = "a limit is far below 2^52")]
    pub(super) fn share(&self, slots: u64) {
        self.share.set(slots as f64);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floating point; numbers have 53 bits"
    )]
    pub(super) fn show(&self, view: &View) {
        let meta = &view.snapshot.meta;
        for (gate, gauge) in &self.gates {
            gauge.set(f64::from(u8::from(*gate == meta.gate())));
        }
        for (signal, [load, threshold, pressure]) in &self.signals {
            let reading = view.readings.iter().find(|r| r.signal == *signal);
            load.set(reading.and_then(|r| r.value).unwrap_or(f64::NAN));
            threshold.set(reading.and_then(|r| r.threshold).unwrap_or(f64::NAN));
            pressure.set(reading.and_then(Reading::pressure).unwrap_or(0.0));
        }
        self.sessions.set(view.snapshot.sessions as f64);
        self.limit
            .set(meta.rules.limit.map_or(f64::INFINITY, |limit| limit as f64));
        self.waiting.set(view.waiting() as f64);
        self.called.set(meta.called.0 as f64);
        self.pace.set(meta.pace.unwrap_or(f64::INFINITY));
        let estimate = if view.is_busy() {
            view.wait(view.waiting() + 1)
                .map_or(f64::NAN, |wait| wait.seconds)
        } else {
            0.0
        };
        self.estimate.set(estimate);
        self.gateways.set(view.snapshot.present().count() as f64);
        self.success.set(view.snapshot.unix_seconds as f64);
    }
}
