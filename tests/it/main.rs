//! The whole server over real sockets: a configuration, an origin that
//! records what reached it, and visitors with cookie jars of their own. What
//! is asserted is what a visitor or the origin sees.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

mod api;
mod browser;
mod carried;
mod clients;
mod command;
mod config;
mod counted;
mod deleted;
mod download;
mod elsewhere;
mod gate;
mod operator;
mod process;
mod proxy;
mod reload;
mod replicas;
mod shutdown;
mod unchanged;
mod waiting;
