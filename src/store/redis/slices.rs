//! Statistics: a hash for each sixty slices of an event, a field for each
//! gateway and slice. A hash goes by itself when its last slice is too old.

use super::reply::Fields;
use super::{RedisStore, keys::Keys};
use crate::room::event::EventId;
use crate::store::StoreError;
use crate::store::slices::{CHUNK, Found, Slice, Span};

fn chunk(step: u32, start: u64) -> u64 {
    start / (u64::from(step.max(1)) * CHUNK)
}

impl RedisStore {
    fn slices_key(&self, event: &EventId, step: u32, chunk: u64) -> String {
        let keys = Keys::new(&self.inner.prefix, event);
        keys.key(&format!("slices:{step}:{chunk}"))
    }

    pub(in crate::store) async fn keep_slices(
        &self,
        event: &EventId,
        slices: &[Slice],
        now: u64,
    ) -> Result<(), StoreError> {
        for slice in slices {
            let Slice { step, start, .. } = slice;
            let key = self.slices_key(event, *step, chunk(*step, *start));
            let mut write = redis::cmd("HSET");
            write
                .arg(&key)
                .arg(format!("{start}:{}", slice.writer))
                .arg(&slice.bytes);
            self.inner.connection.send(&write).await?;
            // Later slices of the same hash are kept longer: each renews it.
            let mut expire = redis::cmd("EXPIRE");
            let length = u64::from(*step) * CHUNK;
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
        let last = chunk(span.step, span.to.saturating_sub(1));
        for chunk in chunk(span.step, span.from)..=last {
            let key = self.slices_key(event, span.step, chunk);
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
