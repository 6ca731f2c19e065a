//! The API as programs use it: the public door, where places are asked for,
//! and the admin door of the operator.

mod admin;
mod public;
