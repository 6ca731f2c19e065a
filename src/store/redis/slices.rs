//! Statistics: a hash for each sixty slices of an event (of sketches: for each), a field for each
//! gateway and slice. A hash goes by itself when its last slice is too old.

use super::reply::Fields;
use super::{RedisStore, keys::Keys};
use crate::room::event::EventId;
use crate::store::StoreError;
use crate::store::slices::{Found, Slice, Span, What};

/// The seconds that one hash is for.
fn length(what: What, step: u32) -> u64 {
    u64::from(step.max(1)) * what.chunk()
}

impl RedisStore {
    fn slices_key(&self, event: &EventId, (what, step): (What, u32), chunk: u64) -> String {
        let keys = Keys::new(&self.inner.prefix, event);
        keys.key(&format!("{}:{step}:{chunk}", what.word()))
    }

    pub(in crate::store) async fn keep_slices(
        &self,
        event: &EventId,
        slices: &[Slice],
        now: u64,
    ) -> Result<(), StoreError> {
        for slice in slices {
            let start = slice.start;
            let of = (slice.what, slice.step);
            let length = length(slice.what, slice.step);
            let key = self.slices_key(event, of, start / length);
            let mut write = redis::cmd("HSET");
            write
                .arg(&key)
                .arg(format!("{start}:{}", slice.writer))
                .arg(&slice.bytes);
            self.inner.connection.send(&write).await?;
            // Later slices of the same hash are kept longer: each renews it.
            let mut expire = redis::cmd("EXPIRE");
            let left = slice.until.saturating_sub(now) + length;
            expire.arg(&key).arg(left);
            self.inner.connection.send(&expire).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn slices(
        &self,
        event: &EventId,
        span: &Span,
    ) -> Result<Found, StoreError> {
        let mut found = Found::new();
        let length = length(span.what, span.step);
        let last = span.to.saturating_sub(1) / length;
        for chunk in span.from / length..=last {
            let key = self.slices_key(event, (span.what, span.step), chunk);
            let mut read = redis::cmd("HGETALL");
            read.arg(&key);
            let reply = self.inner.connection.send(&read).await?;
            let rows = Fields::new(&key, reply)?.all(|fields| {
                let field = fields.text()?;
                let bytes = fields.bytes()?;
                let start = field
                    .split_once(':')
                    .and_then(|(start, _)| start.parse().ok());
                let start: u64 =
                    start.ok_or_else(|| fields.damaged(&format!("{field:?} is no slice")))?;
                Ok((start, bytes))
            })?;
            found.extend(rows.into_iter().filter(|(start, _)| span.holds(*start)));
        }
        found.sort_by_key(|(start, _)| *start);
        Ok(found)
    }
}
