//! What an operator wrote and nobody is to see.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A text that is shown nowhere: neither by `Debug` nor when serialised.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// What stands wherever a secret would.
pub const MASK: &str = "********";

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same text; takes equally long wherever they differ.
    #[must_use]
    pub fn is(&self, other: &[u8]) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::event::{EventId, EventSettings};

    #[test]
    fn a_secret_is_neither_printed_nor_serialised() {
        let mut settings = EventSettings::new(EventId::new("main").unwrap());
        settings.bypass.secret = Some(Secret::new("open sesame"));
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(shown.contains(MASK));
    }
}
