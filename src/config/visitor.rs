//! What is told of visitors: from what the file says to what is used.

use serde::Serialize;

use super::raw::RawVisitor;

/// `[visitor]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Visitor {
    /// Whether those who arrive are counted by what they are.
    pub statistics: bool,
}

/// `[visitor]`.
pub(super) fn resolve(raw: &RawVisitor) -> Visitor {
    Visitor {
        statistics: raw.statistics.unwrap_or(true),
    }
}
