//! The calls of the controller and the API: what stands, the next step, settings.

use super::reply::Fields;
use super::scripts::Call;
use super::{RedisStore, keys};
use crate::room::event::EventId;
use crate::room::pages::{Bits, PAGES_PER_CALL};
use crate::room::snapshot::{GatewayRow, Report, Rules, Snapshot};
use crate::room::ticket::Generation;
use crate::store::{Answer, Ask, Put, Reply, Step, Stepped, StoreError, StoredEvent};

impl RedisStore {
    pub(in crate::store) async fn snapshot(&self, event: &EventId, ask: &Ask) -> Answer<Snapshot> {
        let pages = ask.front.iter().chain(&ask.refresh).copied();
        let report = serde_json::to_string(&ask.report)
            .map_err(|error| StoreError::Refused(format!("the report cannot be spelt: {error}")))?;
        let call = self
            .call(event)
            .pages(pages)
            .arg(&ask.gateway)
            .arg(report)
            .option(ask.above)
            .share(ask.share.as_ref())
            .arg(ask.ended_since.0)
            .each(ask.front.iter(), Call::arg)
            .each(ask.refresh.iter(), Call::arg);
        let read = |fields| read_snapshot(fields, ask);
        let reply = self.ask(&self.scripts().snapshot, call, read).await?;
        Ok(match reply {
            Reply::Done((snapshot, dropped)) => {
                self.expect(event, snapshot.meta.issued.page());
                if !dropped.is_empty() {
                    let call = self.call(event).pages(dropped);
                    // Only a tidying up: the next snapshot asks for it again.
                    let _ = self.run(&self.scripts().discard, call).await;
                }
                Reply::Done(snapshot)
            }
            Reply::Recovering => Reply::Recovering,
            Reply::Absent => Reply::Absent,
        })
    }

    pub(in crate::store) async fn step(&self, event: &EventId, step: &Step) -> Answer<Stepped> {
        let mut pages: Vec<u64> = step.offers.iter().map(|number| number.page()).collect();
        pages.dedup();
        let rest = PAGES_PER_CALL.saturating_sub(pages.len());
        let sweep = step.sweep.get(..rest).unwrap_or(&step.sweep);
        let call = self
            .call(event)
            .pages(pages)
            .pages(sweep.iter().copied())
            .arg(step.fence.born)
            .arg(&step.fence.run)
            .arg(step.fence.seq)
            .arg(step.gate.word())
            .option(step.calm_since.map(|since| since.0))
            .arg(step.to)
            .option(step.pace)
            .arg(step.show)
            .arg(step.waiting)
            .each(step.offers.iter(), Call::arg)
            .each(sweep.iter(), Call::arg);
        self.ask(&self.scripts().step, call, |mut fields| {
            let first = fields.text()?;
            if first == "lost" {
                return Ok(Stepped::LostRace);
            }
            Ok(Stepped::Done {
                lapsed: fields.parse_whole(&first)?,
                expired: fields.whole()?,
            })
        })
        .await
    }

    pub(in crate::store) async fn reset(&self, event: &EventId) -> Answer<Generation> {
        let read = |mut fields: Fields| fields.whole().map(Generation);
        self.ask(&self.scripts().reset, self.call(event), read)
            .await
    }

    pub(in crate::store) async fn configure(
        &self,
        event: &EventId,
        seen: u64,
        rules: &Rules,
    ) -> Answer<u64> {
        let call = self.call(event).arg(seen).rules(rules);
        let script = &self.scripts().configure;
        self.ask(script, call, |mut fields| fields.whole()).await
    }

    pub(in crate::store) async fn events(&self) -> Result<Vec<(EventId, StoredEvent)>, StoreError> {
        let key = keys::events(&self.inner.prefix);
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let reply = self.inner.connection.send(&command).await?;
        let mut events = Fields::new(&key, reply)?.all(|fields| {
            let id = fields.text()?;
            let stored = fields.text()?;
            let event =
                EventId::new(&id).map_err(|_| fields.damaged(&format!("{id:?} is no event id")))?;
            Ok((event, stored_event(fields, &stored)?))
        })?;
        events.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(events)
    }

    pub(in crate::store) async fn put_event(
        &self,
        event: &EventId,
        seen: u64,
        stored: Option<&StoredEvent>,
    ) -> Result<Put, StoreError> {
        let key = keys::events(&self.inner.prefix);
        let json = stored.map(serde_json::to_string).transpose();
        let json = json
            .map_err(|error| StoreError::Refused(format!("the event cannot be spelt: {error}")))?;
        let mut run = self.scripts().put_event.prepare_invoke();
        run.key(&key)
            .arg(event.as_str())
            .arg(seen)
            .arg(json.unwrap_or_default());
        let reply = self.inner.connection.run(&run).await?;
        let mut fields = Fields::new(&key, reply)?;
        match fields.text()?.as_str() {
            "done" => Ok(Put::Done),
            "conflict" => {
                let present = fields.text()?;
                let present = (!present.is_empty()).then(|| stored_event(&fields, &present));
                present.transpose().map(Put::Conflict)
            }
            other => Err(fields.damaged(&format!("{other:?} is no outcome"))),
        }
    }
}

/// Reads a snapshot, and the pages that a reset dropped.
fn read_snapshot(mut fields: Fields, ask: &Ask) -> Result<(Snapshot, Vec<u64>), StoreError> {
    let meta = fields.list()?.meta()?;
    let clock = fields.whole()?;
    let sessions = fields.whole()?;
    let expired = fields.whole()?;
    let slot = fields.text()?;
    let slot = slot
        .parse()
        .map_err(|_| fields.damaged("a slot above 255"))?;
    let mut offers = fields
        .list()?
        .all(|fields| Ok((fields.number()?, fields.time()?)))?;
    offers.sort_unstable();
    let mut pages = fields.list()?.all(Fields::whole)?;
    pages.extend(fields.list()?.all(Fields::whole)?);
    pages.sort_unstable();
    pages.dedup();
    let bitmaps = fields.list()?.all(Fields::bytes)?;
    if bitmaps.len() != ask.front.len() {
        return Err(fields.damaged("not the pages that were asked for"));
    }
    let front = ask.front.iter().zip(&bitmaps);
    let front = front.map(|(page, bytes)| (*page, Bits::from_bytes(bytes)));
    let front = front.collect();
    let density = fields
        .list()?
        .all(|fields| Ok((fields.whole()?, fields.density()?)))?;
    let ended = fields
        .list()?
        .all(|fields| Ok((fields.session()?, fields.time()?)))?;
    let mut gateways = fields.list()?.all(gateway_row)?;
    gateways.sort_by(|a, b| a.gateway.cmp(&b.gateway));
    let dropped = fields.list()?.all(Fields::whole)?;
    let tally = fields.list()?.tally()?;
    let snapshot = Snapshot {
        meta,
        unix_seconds: clock / 1000,
        sessions,
        offers,
        pages,
        front,
        density: density.into_iter().collect(),
        ended,
        gateways,
        slot,
        expired,
        tally,
    };
    Ok((snapshot, dropped))
}

fn gateway_row(fields: &mut Fields) -> Result<GatewayRow, StoreError> {
    let gateway = fields.text()?;
    let slot = fields.text()?;
    let slot = slot
        .parse()
        .map_err(|_| fields.damaged("a slot above 255"))?;
    let seen = fields.time()?;
    let report = fields.text()?;
    Ok(GatewayRow {
        gateway,
        slot,
        seen,
        // A gateway of another version may report in other words: it is there
        // all the same, only its load is not known.
        report: serde_json::from_str::<Report>(&report).unwrap_or_default(),
    })
}

fn stored_event(fields: &Fields, json: &str) -> Result<StoredEvent, StoreError> {
    serde_json::from_str(json).map_err(|error| fields.damaged(&error.to_string()))
}
