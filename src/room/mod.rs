//! The rules of the queue. Nothing here does IO, awaits, reads a clock or
//! draws randomness: time and state are arguments, decisions are values.

pub mod admission;
pub mod bots;
pub mod census;
pub mod choice;
pub mod decision;
pub mod estimate;
pub mod event;
pub mod faults;
pub mod gate;
pub mod health;
pub mod host;
pub mod pages;
pub mod paths;
pub mod resolve;
pub mod routes;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod share;
pub mod snapshot;
pub mod ticket;
pub mod time;
pub mod units;
