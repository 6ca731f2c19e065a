//! How a cookie names an origin: by a keyed hash of its URL, the same at every
//! gateway that has the key, of which nobody else learns an address.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::room::event::EventId;

/// Bytes of the hash that are written: origins of a list must differ, no more.
const ID_BYTES: usize = 9;

/// What is hashed besides the URL, so that the key's other uses have nothing to do with it.
const PURPOSE: &[u8] = b"sumun: an origin's name in a cookie\n";

/// The cookie that keeps visitors at one origin.
#[derive(Clone)]
pub struct Affinity {
    cookie: String,
    /// The first names, all are understood: keys are exchanged one after the other.
    keys: Vec<hmac::Key>,
}

impl Affinity {
    /// A cookie of this name, with ids by these secrets.
    #[must_use]
    pub fn new<'a>(cookie: &str, secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        Self {
            cookie: cookie.to_owned(),
            keys: secrets
                .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret))
                .collect(),
        }
    }

    /// The cookie's name for a list: an event's own has the event's id behind it.
    pub(super) fn cookie(&self, event: Option<&EventId>) -> String {
        match event {
            None => self.cookie.clone(),
            Some(event) => format!("{}_{event}", self.cookie),
        }
    }

    /// The names of an origin, the one to write first.
    pub(super) fn ids(&self, url: &str) -> Vec<String> {
        let id = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(PURPOSE);
            context.update(url.as_bytes());
            let hash = context.sign();
            let kept = hash.as_ref().get(..ID_BYTES).unwrap_or_default();
            URL_SAFE_NO_PAD.encode(kept)
        };
        self.keys.iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_wherever_the_key_is_and_tells_no_address() {
        let secrets: [&[u8]; 2] = [b"one", b"two"];
        let one = Affinity::new("SUMUN_ORIGIN", secrets.into_iter());
        let other = Affinity::new("SUMUN_ORIGIN", secrets.into_iter().rev());
        let (ids, others) = (
            one.ids("http://10.0.0.1:80"),
            other.ids("http://10.0.0.1:80"),
        );
        assert_eq!(ids[0], others[1]);
        assert_ne!(ids[0], ids[1]);
        assert_ne!(ids[0], one.ids("http://10.0.0.2:80")[0]);
        assert_eq!(ids[0].len(), 12);
        assert!(!ids[0].contains("10"));
    }
}
