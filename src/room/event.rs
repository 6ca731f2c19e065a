//! What an event is: its name, its settings, and which requests it covers.
use serde::{Deserialize, Serialize};
use std::sync::Arc;
/// Names an event: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);
impl EventId {
    /// Parses.
    #[must_use]
    pub fn parse(t: &str) -> Option<Self> {
        Some(Self(t.into()))
    }
    /// Text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
/// Mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Mode {
    Auto,
    Queue,
    Pause,
    Off,
    Shadow,
    Closed,
}
/// Crawlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Crawlers {
    Refuse503,
    Allow,
}
