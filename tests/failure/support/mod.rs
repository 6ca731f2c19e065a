//! The parts that the failure tests are played with.

pub(crate) mod browsing;
pub(crate) mod chaos;
pub(crate) mod clock;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod origin;
pub(crate) mod pair;
pub(crate) mod people;
pub(crate) mod redis;
pub(crate) mod site;
pub(crate) mod town;
pub(crate) mod visitor;
pub(crate) mod watched;

#[path = "../../parts/ports.rs"]
mod ports;
#[path = "../../parts/redis.rs"]
mod redis_process;
#[path = "../../parts/sentinel.rs"]
pub(crate) mod sentinel;

use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

pub(crate) use ports::free_address;

/// A crowd wants the machine for itself: its polls have deadlines.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// The machine, shared with tests that mostly wait.
pub(crate) async fn shared_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// The machine, for one test alone.
pub(crate) async fn whole_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Waits until something is so; fails with its name after `most`.
pub(crate) async fn until(what: &str, most: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + most;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
