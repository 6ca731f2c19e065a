//! Who is logged in, as far as the owner names where that is written: of the name
//! nothing is kept but what a sketch takes of its keyed hash.

use std::fmt;

use hkdf::Hkdf;
use http::HeaderName;
use sha2::Sha256;

/// The longest name of a cookie, in bytes.
const COOKIE_MAX: usize = 64;

/// Longer names of users are nobody's, in bytes.
const NAME_MAX: usize = 256;

const DAY_SECONDS: u64 = 86_400;

/// Where the login is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserFrom {
    /// In a cookie of the site's.
    Cookie(String),
    /// In a header that a trusted proxy sets.
    Header(HeaderName),
}

impl UserFrom {
    /// Reads `cookie:NAME` or `header:NAME`.
    ///
    /// # Errors
    /// The remedy.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let remedy = "write \"cookie:NAME\" or \"header:NAME\"";
        match text.split_once(':').ok_or(remedy)? {
            ("cookie", name) => {
                // RFC 6265 §4.1.1: a cookie's name is a token.
                let is_token =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                let is_name = (1..=COOKIE_MAX).contains(&name.len()) && name.bytes().all(is_token);
                if is_name {
                    Ok(Self::Cookie(name.to_owned()))
                } else {
                    Err("write the name of a cookie, of at most 64 letters, digits and - . _")
                }
            }
            ("header", name) => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| "write the name of a header, like \"header:X-User\""),
            _ => Err(remedy),
        }
    }
}

impl fmt::Display for UserFrom {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(name) => write!(to, "cookie:{name}"),
            Self::Header(name) => write!(to, "header:{name}"),
        }
    }
}

/// Makes the hashes of users: of one day, and of gateways with the same signing key.
pub struct UserHash(Hkdf<Sha256>);

impl UserHash {
    /// By the secret of the key that signs.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Hkdf::new(None, secret))
    }

    /// The hash of a user at a moment in Unix seconds: a keyed one, whose key is
    /// another one each day (UTC). `None` for what is no name.
    #[must_use]
    pub fn of(&self, user: &[u8], seconds: u64) -> Option<u64> {
        if !(1..=NAME_MAX).contains(&user.len()) {
            return None;
        }
        let day = (seconds / DAY_SECONDS).to_be_bytes();
        let mut key = [0; 32];
        self.0
            .expand_multi_info(&[b"sumun users of ", &day], &mut key)
            .ok()?;
        let mut hash = [0; 8];
        let of_day = Hkdf::<Sha256>::from_prk(&key).ok()?;
        of_day.expand(user, &mut hash).ok()?;
        Some(u64::from_be_bytes(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_shown_as_it_was_written() {
        for text in ["cookie:uid", "cookie:__Secure-login.2", "header:x-user"] {
            assert_eq!(UserFrom::parse(text).unwrap().to_string(), text);
        }
        let long = format!("cookie:{}", "x".repeat(65));
        for text in [
            "",
            "uid",
            "cookie:",
            "cookie:a b",
            "cookie:a=b",
            "header:",
            "header:a b",
            "query:u",
            &long,
        ] {
            assert!(UserFrom::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_users_hash_is_one_of_a_day_and_of_a_key() {
        let (one, same, other) = (
            UserHash::new(b"one"),
            UserHash::new(b"one"),
            UserHash::new(b"other"),
        );
        let day = 20_000 * DAY_SECONDS;
        let hash = one.of(b"kim", day);
        assert!(hash.is_some());
        assert_eq!(same.of(b"kim", day + DAY_SECONDS - 1), hash);
        assert_ne!(one.of(b"kim", day + DAY_SECONDS), hash);
        assert_ne!(other.of(b"kim", day), hash);
        assert_ne!(one.of(b"lee", day), hash);
        assert_eq!(one.of(b"", day), None);
        assert_eq!(one.of(&[b'x'; 257], day), None);
    }
}
