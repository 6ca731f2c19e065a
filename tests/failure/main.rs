//! What breaks, breaks here: real gateways, a real redis-server, a network
//! that stalls and is cut, processes that are killed, and a crowd of visitors
//! who must neither lose their places nor be let in too many at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why"
)]

mod burst;
mod clocks;
mod crowd;
mod damaged;
mod failover;
mod ill;
mod joins;
mod local;
mod loss;
mod memory;
mod moving;
mod no_memory;
mod old_memory;
mod open;
mod origin;
mod partition;
mod rotation;
mod support;
