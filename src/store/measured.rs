//! A store whose calls are measured: how long each takes, and which fail.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Store, StoreError};
use crate::metrics::{self as names, Metrics};

/// A store and where its calls are counted.
pub struct Measured {
    pub(super) inner: Store,
    metrics: Arc<Metrics>,
}

impl Store {
    /// This store, with its calls measured.
    #[must_use]
    pub fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self::Measured(Arc::new(Measured {
            inner: self,
            metrics,
        }))
    }
}

impl Measured {
    /// Awaits a call and counts it.
    pub(super) async fn measure<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        let labels = [("operation", operation)];
        self.metrics
            .histogram(&names::STORE_OPERATION_SECONDS, &labels)
            .record(began.elapsed().as_secs_f64());
        if answer.is_err() {
            self.metrics
                .counter(&names::STORE_FAILURES, &labels)
                .increment(1);
        }
        answer
    }
}
