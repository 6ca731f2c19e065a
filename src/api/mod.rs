//! The HTTP API.
pub mod admin;
pub mod queue;
