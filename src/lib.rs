//! Sumun (수문, a sluice gate): a virtual waiting room in front of an existing site.
//!
//! The map of the house. A module uses only rings inside its own; neighbours
//! do not know each other (`tests/tidy.rs` enforces it).
//!
//! - rules and names: [`room`], [`metrics`]; then [`clock`], [`alarm`], [`incoming`]
//! - one trade each: [`tls`], [`token`], [`store`], [`visitor`], [`origin`], [`load`],
//!   [`pages`], [`tracking`], [`bots`]
//! - what a gateway holds: [`server`], [`config`], [`ledger`], [`origins`]
//! - what a visitor gets: [`reception`]; what the queue does: [`controller`]
//! - doors: [`gateway`], [`api`]; [`catalog`] of the events behind them
//! - the whole: [`run`]; to see it: [`demo`]; to order it about from a terminal: [`operator`]

pub mod alarm;
pub mod api;
pub mod bots;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod controller;
pub mod demo;
pub mod gateway;
pub mod incoming;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod operator;
pub mod origin;
pub mod origins;
pub mod pages;
pub mod reception;
pub mod room;
pub mod run;
pub mod server;
pub mod store;
pub mod tls;
pub mod token;
pub mod tracking;
pub mod visitor;
