//! The store suite: every scenario runs on each backend, random sequences of
//! operations must leave the backends in the same state, and the shared one is
//! tried on real servers with passwords, rights, TLS and damage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why"
)]

mod differential;
mod door;
mod generator;
#[path = "../parts/ports.rs"]
mod ports;
#[path = "../parts/redis.rs"]
mod redis_process;
mod replicas;
mod scenarios;
#[path = "../parts/sentinel.rs"]
mod sentinel;
mod server;
mod servers;
mod world;

use ports::free_address;
