//! Removing an event, in parts that one call may carry.

use std::sync::PoisonError;

use super::keys::BUCKETS;
use super::reply::Outcome;
use super::{RedisStore, StoreError};
use crate::room::event::EventId;
use crate::room::snapshot::FORGET_IDLE_MS;
use crate::store::Forgotten;

/// Buckets of ids in one call.
const BUCKETS_PER_CALL: usize = 64;

/// What one call of the script did.
enum Part {
    InUse,
    Gone {
        /// Whether there was a state.
        there: bool,
        /// Pages whose bitmaps are still there.
        left: Vec<u64>,
    },
}

impl RedisStore {
    /// The first call removes the state and makes the event absent; the rest
    /// is what nothing names any more. If that breaks off, the pages are found
    /// by the next who asks, and ids lapse within a day by themselves.
    pub(in crate::store) async fn forget(&self, event: &EventId) -> Result<Forgotten, StoreError> {
        let (mut pages, mut found) = (Vec::new(), false);
        loop {
            match self.forget_part(event, pages, &[]).await? {
                Part::InUse => return Ok(Forgotten::InUse),
                Part::Gone { there, left } => {
                    found |= there;
                    if left.is_empty() {
                        break;
                    }
                    pages = left;
                }
            }
        }
        self.expect_nothing(event);
        if found {
            let buckets: Vec<u16> = (0..BUCKETS).collect();
            for buckets in buckets.chunks(BUCKETS_PER_CALL) {
                if let Part::InUse = self.forget_part(event, Vec::new(), buckets).await? {
                    return Ok(Forgotten::InUse);
                }
            }
        }
        Ok(Forgotten::Gone)
    }

    fn expect_nothing(&self, event: &EventId) {
        let issued = self.inner.issued.lock();
        issued.unwrap_or_else(PoisonError::into_inner).remove(event);
    }

    async fn forget_part(
        &self,
        event: &EventId,
        pages: Vec<u64>,
        buckets: &[u16],
    ) -> Result<Part, StoreError> {
        let call = self
            .call(event)
            .pages(pages)
            .buckets(buckets.iter().copied())
            .arg(FORGET_IDLE_MS);
        let key = call.meta();
        let Outcome::Done(mut fields) = self.run(&self.scripts().forget, call).await? else {
            return Err(StoreError::Refused(format!(
                "no reply to a forgetting under key {key}"
            )));
        };
        match fields.text()?.as_str() {
            "in use" => Ok(Part::InUse),
            "gone" => Ok(Part::Gone {
                there: fields.whole()? != 0,
                left: fields.list()?.all(super::reply::Fields::whole)?,
            }),
            other => Err(fields.damaged(&format!("{other:?} is no outcome"))),
        }
    }
}
