//! What one request is called, in every log that it leaves a line in.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Longer ones are not taken over, in bytes.
const LENGTH_MAX: usize = 128;

/// The header that carries it.
#[derive(Clone, Debug)]
pub struct RequestIds {
    header: HeaderName,
}

impl RequestIds {
    /// Ids in this header.
    #[must_use]
    pub fn new(header: HeaderName) -> Self {
        Self { header }
    }

    /// The request's id.
    #[must_use]
    pub fn of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        headers.get(&self.header)
    }

    /// Gives a request its one id: what a trusted proxy named it, if that is at most
    /// 128 letters, digits and `-_.~+/=:`; else 128 bits drawn by lot, in 32 hex
    /// digits.
    pub fn assign(&self, headers: &mut HeaderMap, trusted: bool) -> HeaderValue {
        let mut sent = headers.get_all(&self.header).iter();
        let named = match (sent.next(), sent.next()) {
            (Some(id), None) if trusted && is_plain(id) => Some(id.clone()),
            _ => None,
        };
        let id = named.unwrap_or_else(drawn);
        headers.insert(self.header.clone(), id.clone());
        id
    }

    /// Tells the visitor, unless the origin has told one already.
    pub fn tell(&self, headers: &mut HeaderMap, id: HeaderValue) {
        headers.entry(self.header.clone()).or_insert(id);
    }
}

fn is_plain(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:".contains(byte);
    (1..=LENGTH_MAX).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

fn drawn() -> HeaderValue {
    let mut text = String::with_capacity(32);
    let _always = write!(text, "{:032x}", rand::random::<u128>());
    // Hex digits alone.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(sent: &[&str], trusted: bool) -> (HeaderValue, HeaderMap) {
        let name = HeaderName::from_static("x-request-id");
        let mut headers = HeaderMap::new();
        for id in sent {
            headers.append(name.clone(), HeaderValue::from_str(id).unwrap());
        }
        let id = RequestIds::new(name).assign(&mut headers, trusted);
        (id, headers)
    }

    #[test]
    fn a_trusted_proxys_id_is_taken_over_and_nobody_elses() {
        let (id, headers) = assigned(&["abc-1.2_3"], true);
        assert_eq!(id, "abc-1.2_3");
        assert_eq!(headers["x-request-id"], "abc-1.2_3");
        let long = "a".repeat(LENGTH_MAX + 1);
        for (sent, trusted) in [
            (vec!["abc"], false),
            (vec!["a", "b"], true),
            (vec![""], true),
            (vec!["a b"], true),
            (vec!["a\"b"], true),
            (vec![long.as_str()], true),
            (vec![], true),
        ] {
            let (id, headers) = assigned(&sent, trusted);
            assert_eq!(id.len(), 32, "{sent:?}");
            let all: Vec<_> = headers.get_all("x-request-id").iter().collect();
            assert_eq!(all, [&id], "{sent:?}");
        }
        assert_ne!(assigned(&[], true).0, assigned(&[], true).0);
    }
}
