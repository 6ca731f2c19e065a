//! Tickets, passes and success tokens: signed, so that visitors carry the
//! queue's memory and no forged place or pass is worth anything.
//!
//! JWT (RFC 7519). Tickets and passes are HS256, only gateways need them;
//! success tokens are ES256, so that other servers can check them with a
//! public key (DESIGN §10).

mod claims;
pub mod cookie;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::EncodePrivateKey;
use sha2::Sha256;

use claims::{Claims, ISSUER};
pub use claims::{Pass, Success, Ticket, Token};

use crate::room::time::Timestamp;

/// A secret must have at least this many bytes (RFC 7518 §3.2: no less than
/// the hash's output).
pub const SECRET_BYTES_MIN: usize = 32;

/// How long a success token is good, in seconds.
pub const SUCCESS_SECONDS: u64 = 300;

/// How long a ticket is good, in seconds: a place outlives a night's sleep.
pub const TICKET_SECONDS: u64 = 86_400;

/// Longer texts are no token of ours, in bytes.
pub const TOKEN_BYTES_MAX: usize = 2_048;

/// One signing key: a name and a secret.
pub struct Key {
    id: String,
    success_id: String,
    sign: EncodingKey,
    verify: DecodingKey,
    sign_success: EncodingKey,
    verify_success: DecodingKey,
    public: (String, String),
}

/// A key could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is too short.
    #[error("the secret of signing key {0:?} has fewer than 32 bytes; make one with `sumun key`")]
    Short(String),
    /// No curve point could be derived. Practically impossible.
    #[error("no ES256 key can be derived from signing key {0:?}; make another with `sumun key`")]
    Underivable(String),
}

impl Key {
    /// Makes a key; the ES256 key is derived from the secret by HKDF
    /// (RFC 5869), so that every gateway has the same.
    ///
    /// # Errors
    /// When the secret has fewer than 32 bytes.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::Short(id.to_owned()));
        }
        let underivable = || KeyError::Underivable(id.to_owned());
        let private = derive(id, secret).ok_or_else(underivable)?;
        let der = private.to_pkcs8_der().map_err(|_| underivable())?;
        let point = private.public_key().to_encoded_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            return Err(underivable());
        };
        let public = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let verify_success =
            DecodingKey::from_ec_components(&public.0, &public.1).map_err(|_| underivable())?;
        Ok(Self {
            id: id.to_owned(),
            success_id: format!("{id}.s"),
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            sign_success: EncodingKey::from_ec_der(der.as_bytes()),
            verify_success,
            public,
        })
    }
}

/// The first scalar in 1..n that HKDF gives: the first try but for one in 2^32.
fn derive(id: &str, secret: &[u8]) -> Option<p256::SecretKey> {
    let hkdf = Hkdf::<Sha256>::new(None, secret);
    (0..=u8::MAX).find_map(|counter| {
        let mut scalar = [0; 32];
        let info = [b"sumun success ES256 ", id.as_bytes(), &[0, counter]].concat();
        hkdf.expand(&info, &mut scalar).ok()?;
        p256::SecretKey::from_slice(&scalar).ok()
    })
}

/// What a text turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Well signed, ours, and of a known form. Its time was not looked at.
    Good(Token),
    /// Signed by a key that this gateway does not know; another one may.
    UnknownKey,
    /// No token of ours.
    Nothing,
}

/// The keys: the first one signs, all verify.
pub struct Keyring {
    keys: Vec<Key>,
    hmac: Validation,
    ecdsa: Validation,
}

impl Keyring {
    /// A ring of at least one key.
    ///
    /// # Panics
    /// Never; an empty ring signs nothing and knows no token.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            hmac: validation(Algorithm::HS256, &["ticket", "pass"]),
            ecdsa: validation(Algorithm::ES256, &["success"]),
        }
    }

    /// The names of the keys, the signing one first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// The key that signs: the first one that all gateways know, so that a
    /// rotation under way loses nobody's place.
    fn signer(&self, shared: &[String]) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| shared.contains(&key.id))
            .or(self.keys.first())
    }

    /// Signs a ticket, a pass or a success token. `shared` are the key names
    /// that all gateways know; empty: no other gateway is known.
    ///
    /// `None` only if the ring is empty or signing fails.
    #[must_use]
    pub fn sign(&self, token: &Token, shared: &[String]) -> Option<String> {
        let key = self.signer(shared)?;
        let (algorithm, id, with) = match token {
            Token::Success(_) => (Algorithm::ES256, &key.success_id, &key.sign_success),
            Token::Ticket(_) | Token::Pass(_) => (Algorithm::HS256, &key.id, &key.sign),
        };
        let mut header = Header::new(algorithm);
        header.kid = Some(id.clone());
        encode(&header, &Claims::of(token), with).ok()
    }

    /// Reads a token. Its time is for the caller to judge, in store time.
    #[must_use]
    pub fn verify(&self, text: &str) -> Verdict {
        if text.len() > TOKEN_BYTES_MAX {
            return Verdict::Nothing;
        }
        let Ok(header) = jsonwebtoken::decode_header(text) else {
            return Verdict::Nothing;
        };
        let Some(kid) = header.kid.filter(|kid| kid.len() <= 64) else {
            return Verdict::Nothing;
        };
        let success = header.alg == Algorithm::ES256;
        let known = self
            .keys
            .iter()
            .find(|key| kid == *(if success { &key.success_id } else { &key.id }));
        let Some(key) = known else {
            return if matches!(header.alg, Algorithm::HS256 | Algorithm::ES256) {
                Verdict::UnknownKey
            } else {
                Verdict::Nothing
            };
        };
        let (with, rules) = if success {
            (&key.verify_success, &self.ecdsa)
        } else {
            (&key.verify, &self.hmac)
        };
        decode::<Claims>(text, with, rules)
            .ok()
            .and_then(|decoded| decoded.claims.token())
            .map_or(Verdict::Nothing, Verdict::Good)
    }

    /// The public keys as a JWK Set (RFC 7517), to check success tokens with.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                    "kid": key.success_id, "x": key.public.0, "y": key.public.1,
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// Time is judged by the caller: the library would read the machine's clock,
/// with a minute of leeway.
fn validation(algorithm: Algorithm, audiences: &[&str]) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(audiences);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["aud", "iss", "exp"]);
    validation.validate_exp = false;
    validation
}

/// Whether a token that ends at `exp` (Unix seconds) is over: no leeway.
#[must_use]
pub fn is_over(exp: u64, now: Timestamp) -> bool {
    now.0 >= exp.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::event::EventId;
    use crate::room::ticket::{Generation, Number, SessionKey};

    fn ring(ids: &[&str]) -> Keyring {
        let key = |id: &&str| {
            Key::new(
                id,
                format!("{id}-secret-secret-secret-secret-secret").as_bytes(),
            )
        };
        Keyring::new(ids.iter().map(|id| key(id).unwrap()).collect())
    }

    fn ticket() -> Token {
        Token::Ticket(Ticket {
            event: EventId::new("main").unwrap(),
            scope: Some("shop.example".into()),
            visitor: "visitor".into(),
            issued_at: 1_000,
            expires: 2_000,
            number: Number(77),
            generation: Generation(3),
            position: Some(12),
            called: false,
            next_poll: 1_003,
            since: 1_000,
            estimate: Some(60),
        })
    }

    fn success() -> Token {
        Token::Success(Success {
            event: EventId::new("main").unwrap(),
            visitor: "visitor".into(),
            issued_at: 1_000,
            expires: 1_300,
            session: SessionKey([7; 16]),
            begun: 900,
        })
    }

    #[test]
    fn what_was_signed_is_read_back() {
        let ring = ring(&["a"]);
        for token in [ticket(), success()] {
            let text = ring.sign(&token, &[]).unwrap();
            assert_eq!(ring.verify(&text), Verdict::Good(token));
        }
    }

    #[test]
    fn a_changed_token_is_nothing() {
        let ring = ring(&["a"]);
        let text = ring.sign(&ticket(), &[]).unwrap();
        for at in [text.find('.').unwrap() + 3, text.len() - 5] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ring.verify(&changed), Verdict::Nothing);
        }
    }

    #[test]
    fn a_key_that_only_another_gateway_knows_is_told_apart_from_a_forgery() {
        let text = ring(&["b"]).sign(&ticket(), &[]).unwrap();
        assert_eq!(ring(&["a"]).verify(&text), Verdict::UnknownKey);
        assert!(matches!(ring(&["a", "b"]).verify(&text), Verdict::Good(_)));
    }

    #[test]
    fn a_new_key_signs_only_once_every_gateway_knows_it() {
        let ring = ring(&["new", "old"]);
        let kid = |text: &str| jsonwebtoken::decode_header(text).unwrap().kid.unwrap();
        let before = ring.sign(&ticket(), &["old".into()]).unwrap();
        let after = ring.sign(&ticket(), &["old".into(), "new".into()]).unwrap();
        assert_eq!(
            (kid(&before).as_str(), kid(&after).as_str()),
            ("old", "new")
        );
    }

    #[test]
    fn no_algorithm_but_the_keys_own_is_believed() {
        let ring = ring(&["a"]);
        let secret = EncodingKey::from_secret(b"a-secret-secret-secret-secret-secret");
        let mut header = Header::new(Algorithm::HS512);
        header.kid = Some("a".into());
        let text = encode(&header, &Claims::of(&ticket()), &secret).unwrap();
        assert_eq!(ring.verify(&text), Verdict::Nothing);
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"a"}"#),
            "e30"
        );
        assert_eq!(ring.verify(&none), Verdict::Nothing);
    }

    #[test]
    fn hostile_texts_are_nothing() {
        let ring = ring(&["a"]);
        let long = "x".repeat(10_000);
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            "\u{0}",
            long.as_str(),
            "eyJhbGciOiJIUzI1NiJ9.e30.",
        ] {
            assert_eq!(ring.verify(text), Verdict::Nothing, "{text:.20}");
        }
    }

    #[test]
    fn a_success_token_is_checked_with_the_published_key_alone() {
        let ring = ring(&["a"]);
        let text = ring.sign(&success(), &[]).unwrap();
        let jwks = ring.jwks();
        let key = &jwks["keys"][0];
        let decoding =
            DecodingKey::from_ec_components(key["x"].as_str().unwrap(), key["y"].as_str().unwrap())
                .unwrap();
        let rules = validation(Algorithm::ES256, &["success"]);
        assert!(decode::<Claims>(&text, &decoding, &rules).is_ok());
    }

    #[test]
    fn the_same_secret_gives_the_same_public_key_everywhere() {
        assert_eq!(ring(&["a"]).jwks(), ring(&["a"]).jwks());
        assert_ne!(ring(&["a"]).jwks(), ring(&["b"]).jwks());
    }

    #[test]
    fn a_short_secret_is_refused_with_the_remedy() {
        let error = Key::new("a", b"short").err().unwrap();
        assert!(error.to_string().contains("sumun key"));
    }
}
