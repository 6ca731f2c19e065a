//! The parts that the failure tests are played with.

pub(crate) mod chaos;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod origin;
pub(crate) mod redis;
pub(crate) mod site;
pub(crate) mod town;
pub(crate) mod visitor;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

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

/// An address that nobody listens on. Below the ports that the system gives
/// to outgoing connections, so that it stays free while a server restarts.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until something is so; fails with its name after `most`.
pub(crate) async fn until(what: &str, most: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + most;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
