//! The line: who walks in, who waits and in what order, what ends a place or
//! a session, and what those who wait are shown.

mod ends;
mod order;
mod passing;
mod shown;
