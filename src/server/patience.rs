//! How long a connection may take for what it does, counted in the sweeps that look at it.

use std::time::Duration;

use super::Settings;

/// The limits of a connection, in sweeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) head: u32,
    pub(crate) idle: u32,
    pub(crate) body: u32,
    pub(crate) half_close: u32,
    pub(crate) linger: u32,
}

impl Patience {
    /// The limits of these settings, looked at once in each `sweep`.
    pub(crate) fn of(settings: &Settings, sweep: Duration) -> Self {
        let sweeps = |wait| Self::sweeps(wait, sweep);
        Self {
            head: sweeps(settings.head),
            idle: sweeps(settings.keep_alive),
            body: sweeps(settings.body_idle),
            half_close: sweeps(settings.half_close),
            linger: sweeps(settings.linger),
        }
    }

    /// The limit `wait` in sweeps of `sweep`, rounded up.
    pub(crate) fn sweeps(wait: Duration, sweep: Duration) -> u32 {
        u32::try_from(wait.as_nanos().div_ceil(sweep.as_nanos().max(1))).unwrap_or(u32::MAX)
    }
}
