//! The whole server over real sockets, in one binary: a configuration, an
//! origin that records what reached it, and visitors with cookie jars of their
//! own. What is asserted is what a visitor, an operator or the origin sees.
//!
//! - the line: `waiting`, `gate`, `clients`, `carried`, `download`, `shutdown`
//! - several gateways: `replicas`, `elsewhere`, `deleted`; one after the other: `handover`
//! - several origins: `origins`; HTTP/2 to the origin: `second`
//! - the proxy alone: `proxy`, `encrypted`, `multiplexed`, `sockets`, `stalled`; before a real nginx:
//!   `unchanged`; behind a real haproxy: `announced`
//! - programs: `api`; a real Chromium: `browser`
//! - the operator: `operator`, `command`, `config`, `counted`, `routes`, `reload`, `reloaded`, `process`,
//!   `request_id`, `accessed`, `statistics`; at a terminal: `orders`, `top`
//! - who comes: `arrivals`, `regions`, `visitors`; who is no visitor: `bots`
//!
//! What breaks stands in `tests/failure`, the store's contract in
//! `tests/store`, the promises by seeds in `tests/simulation`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

mod accessed;
mod announced;
mod api;
mod arrivals;
mod bots;
mod browser;
mod carried;
mod clients;
mod command;
mod config;
mod counted;
mod deleted;
mod download;
mod elsewhere;
mod encrypted;
mod gate;
mod handover;
mod multiplexed;
mod operator;
mod orders;
mod origins;
mod process;
mod proxy;
mod regions;
mod reload;
mod reloaded;
mod replicas;
mod request_id;
mod routes;
mod second;
mod shutdown;
mod sockets;
mod stalled;
mod statistics;
mod top;
mod unchanged;
mod visitors;
mod waiting;
