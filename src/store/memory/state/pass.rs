//! The controller's pass: what it reads, and its one move.

use super::{EventState, Offer};
use crate::room::share;
use crate::room::snapshot::{
    FLOOR_MINUTES, FRESH_WINDOW_MS, GATEWAY_GONE_MS, GatewayRow, OFFER_MS, STEP_MS, Snapshot,
};
use crate::room::ticket::Number;
use crate::room::time::Timestamp;
use crate::store::{Ask, Step, Stepped};

impl EventState {
    pub(crate) fn snapshot(&mut self, ask: &Ask, raw: u64) -> Snapshot {
        if let Some(above) = ask.above {
            self.rise(above, raw);
        }
        let expired = self.purge();
        if let Some(share) = &ask.share {
            let taken = (self.active.len() + self.offers.len()) as u64 + self.meta.ghosts;
            share::settle(&mut self.meta, share, taken);
        }
        let row = self.row(&ask.gateway);
        row.report = ask.report.clone();
        let slot = row.slot;
        for page in &ask.refresh {
            let density = self.living(*page).density();
            if density == [0; 8] {
                self.density.remove(page);
            } else {
                self.density.insert(*page, density);
            }
        }
        Snapshot {
            unix_seconds: self.meta.time.second_by(raw),
            sessions: self.active.len() as u64,
            offers: self
                .offers
                .iter()
                .map(|(number, offer)| (*number, offer.due))
                .collect(),
            pages: self.pages().into_iter().collect(),
            front: ask
                .front
                .iter()
                .map(|page| (*page, self.living(*page)))
                .collect(),
            density: self.density.clone(),
            ended: {
                let mut ended: Vec<_> = self
                    .ended
                    .iter()
                    .filter(|(_, at)| **at >= ask.ended_since)
                    .map(|(session, at)| (*session, *at))
                    .collect();
                ended.sort_by_key(|(session, at)| (*at, *session));
                ended
            },
            gateways: self
                .gateways
                .iter()
                .map(|(gateway, row)| GatewayRow {
                    gateway: gateway.clone(),
                    slot: row.slot,
                    seen: row.seen,
                    report: row.report.clone(),
                })
                .collect(),
            slot,
            expired,
            meta: self.meta.clone(),
            tally: self.tally,
        }
    }

    /// The controller's move, on the state it was planned on.
    pub(crate) fn step(&mut self, step: &Step) -> Stepped {
        let meta = &self.meta;
        let now = meta.time;
        let fenced = meta.born == step.fence.born
            && meta.run == step.fence.run
            && meta.seq == step.fence.seq;
        let calls = step.offers.len();
        // One call is always affordable: a weak origin is still probed.
        #[expect(clippy::cast_precision_loss, reason = "at most 10,000 calls a step")]
        let paid = calls <= 1 || meta.with_pace(step.pace).tokens(now) >= calls as f64;
        // Planned before a recovery began: who waits may not be back yet.
        let recovers = meta.recovery.is_some();
        if !fenced || recovers || now.0 < meta.stepped.0 + STEP_MS || !paid {
            return Stepped::LostRace;
        }
        let expired = self.purge();
        let lapsed = self.lapse();
        self.tally.abandoned += lapsed.len() as u64;
        self.tally.waiting.note(step.waiting, now);
        self.call(step);
        self.turn();
        let meta = &mut self.meta;
        meta.seq += 1;
        meta.stepped = now;
        if meta.gate != step.gate {
            meta.gate = step.gate;
            meta.since = now;
        }
        meta.calm_since = step.calm_since;
        meta.show = step.show;
        (meta.settled, meta.shown) = (
            lapsed.len() as u64,
            lapsed.iter().filter(|o| o.asked).count() as u64,
        );
        self.mark();
        self.sweep(&step.sweep);
        Stepped::Done {
            lapsed: lapsed.len() as u64,
            expired,
        }
    }

    /// Takes back the offers whose time is over.
    pub(super) fn lapse(&mut self) -> Vec<Offer> {
        let now = self.meta.time;
        let due: Vec<Number> = self
            .offers
            .iter()
            .filter(|(_, offer)| offer.due <= now)
            .map(|(number, _)| *number)
            .collect();
        due.iter()
            .filter_map(|number| self.offers.remove(number))
            .collect()
    }

    pub(super) fn call(&mut self, step: &Step) {
        let now = self.meta.time;
        let calls = step.offers.len();
        self.meta.pace = step.pace;
        self.meta.pay(calls);
        if calls > 0 {
            self.meta.called_at = now;
        }
        self.meta.called = self.meta.called.max(step.to.min(self.meta.issued));
        for number in &step.offers {
            if *number < self.meta.called && !self.is_spent(*number) {
                let due = Timestamp(now.0 + OFFER_MS);
                self.offers
                    .entry(*number)
                    .or_insert(Offer { due, asked: false });
            }
        }
    }

    /// Turns the windows whose time is over.
    pub(super) fn turn(&mut self) {
        let meta = &mut self.meta;
        if meta.time.0 >= meta.window_since.0 + meta.rules.window_ms {
            meta.window += 1;
            meta.window_since = meta.time;
        }
        if meta.time.0 >= meta.fresh_since.0 + FRESH_WINDOW_MS {
            meta.fresh_window += 1;
            meta.fresh_since = meta.time;
        }
    }

    /// Notes the watermark of this minute; a quarter of an hour is kept.
    pub(super) fn mark(&mut self) {
        let meta = &mut self.meta;
        let minute = meta.time.0 / 60_000;
        match meta.marks.last_mut() {
            Some((marked, called)) if *marked == minute => *called = meta.called,
            _ => meta.marks.push((minute, meta.called)),
        }
        if meta.marks.len() > 15 {
            meta.marks.remove(0);
        }
    }

    /// Drops what is dead: pages, ended sessions beyond their time, gateways gone.
    pub(super) fn sweep(&mut self, pages: &[u64]) {
        let (window, fresh) = (self.meta.window, self.meta.fresh_window);
        let floor = self.meta.floor();
        for page in pages {
            self.live.drop_dead(*page, window);
            self.fresh.drop_dead(*page, fresh);
            if self.live.page(*page).is_some() || self.fresh.page(*page).is_some() {
                // Which numbers were spent is kept as long as anybody lives among them.
                continue;
            }
            self.density.remove(page);
            if *page < floor.page() {
                self.spent.remove(page);
            }
        }
        let now = self.meta.time.0;
        let idle = self.meta.rules.session_idle_ms;
        self.ended.retain(|_, at| at.0 + idle > now);
        // What was called so long ago may not claim again.
        let claimable = (FLOOR_MINUTES + 1) * 60_000;
        self.unproven.retain(|_, at| at.0 + claimable > now);
        // Who is gone may be missed for as long as a session may be idle.
        let missed = idle.max(60 * GATEWAY_GONE_MS);
        self.gateways
            .retain(|_, row| row.seen.0.saturating_add(missed) > now);
    }
}
