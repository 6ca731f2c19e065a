//! Clients of every kind, with and without a session.

mod kinds;
mod limits;
mod sessions;
mod shares;

use crate::support::Ask;

/// One request of each kind.
fn every_kind() -> [(&'static str, Ask); 8] {
    [
        ("preflight", Ask::preflight("/x")),
        ("prefetch", Ask::prefetch("/x")),
        ("upgrade", Ask::upgrade("/x")),
        ("crawler", Ask::crawler("/x")),
        ("navigation", Ask::page("/x")),
        ("form", Ask::form("/x", "a=1")),
        ("api", Ask::fetch("/x")),
        ("subresource", Ask::image("/x")),
    ]
}
