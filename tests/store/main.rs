//! The store suite: every scenario runs on each backend, random sequences of
//! operations must leave the backends in the same state, and the shared one is
//! tried on real servers with passwords, rights, TLS and damage.

mod differential;
mod scenarios;
mod server;
mod servers;
mod world;
