//! Tickets, passes and success tokens: signed, so that visitors carry the
//! queue's memory and no forged place or pass is worth anything.
//!
//! JWT (RFC 7519). Tickets and passes are HS256, only gateways need them;
//! success tokens are ES256, so that other servers can check them with a
//! public key (docs/api.md). Every poll reads a ticket and signs another, so
//! the compact form (RFC 7515 §7.1) is put together here: a key's header is
//! encoded once and known again by its text, and claims are parsed once.

mod claims;
pub mod cookie;

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::EncodePrivateKey;
use sha2::Sha256;

use claims::Claims;
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

/// A longer name is no key's, in bytes.
const KEY_ID_BYTES_MAX: usize = 64;

/// One signing key: a name and a secret.
pub struct Key {
    id: String,
    gateways: Half,
    others: Half,
    public: (String, String),
}

/// Who is to read a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Gateways alone: tickets and passes, HS256.
    Gateways,
    /// Other servers too: success tokens, ES256.
    Others,
}

/// What a key signs and reads in one form.
struct Half {
    id: String,
    /// The encoded header and its dot: how every token of this half begins.
    head: String,
    means: Means,
}

/// How a half signs.
enum Means {
    /// HS256, its key made ready once.
    Hmac(Box<hmac::Key>),
    /// ES256.
    Ecdsa(EncodingKey, DecodingKey),
}

/// The claims of a token take this many bytes, seldom more.
const CLAIMS_BYTES: usize = 320;

impl Half {
    fn new(id: String, means: Means) -> Self {
        let header = Header {
            kid: Some(id.clone()),
            ..Header::new(means.algorithm())
        };
        // A header of plain texts has no form that JSON lacks.
        let json = serde_json::to_vec(&header).unwrap_or_default();
        Self {
            head: URL_SAFE_NO_PAD.encode(json) + ".",
            id,
            means,
        }
    }

    fn sign(&self, token: &Token) -> Option<String> {
        let mut claims = Vec::with_capacity(CLAIMS_BYTES);
        serde_json::to_writer(&mut claims, &Claims::of(token)).ok()?;
        let mut text = String::with_capacity(self.head.len() + claims.len() * 4 / 3 + 128);
        text.push_str(&self.head);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut text);
        match &self.means {
            Means::Hmac(key) => {
                let signature = hmac::sign(key, text.as_bytes());
                text.push('.');
                URL_SAFE_NO_PAD.encode_string(signature, &mut text);
            }
            Means::Ecdsa(key, _) => {
                let signature = crypto::sign(text.as_bytes(), key, Algorithm::ES256).ok()?;
                text.push('.');
                text.push_str(&signature);
            }
        }
        Some(text)
    }

    /// Checks the signature before anything else of the text is read.
    fn read(&self, text: &str, form: Form) -> Option<Token> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        if !self.means.signed(signed.as_bytes(), signature) {
            return None;
        }
        let mut plain = Vec::with_capacity(CLAIMS_BYTES);
        URL_SAFE_NO_PAD.decode_vec(claims, &mut plain).ok()?;
        let claims: Claims<'_> = serde_json::from_slice(&plain).ok()?;
        claims.token(form)
    }
}

impl Means {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hmac(_) => Algorithm::HS256,
            Self::Ecdsa(..) => Algorithm::ES256,
        }
    }

    /// Whether a text was signed with this key; compared in constant time.
    fn signed(&self, text: &[u8], signature: &str) -> bool {
        match self {
            Self::Hmac(key) => {
                let mut bytes = [0; 48];
                let decoded = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes);
                let bytes = decoded.ok().and_then(|length| bytes.get(..length));
                bytes.is_some_and(|bytes| hmac::verify(key, text, bytes).is_ok())
            }
            Self::Ecdsa(_, key) => {
                matches!(
                    crypto::verify(signature, text, key, Algorithm::ES256),
                    Ok(true)
                )
            }
        }
    }
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
            gateways: Half::new(
                id.to_owned(),
                Means::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            ),
            others: Half::new(
                format!("{id}.s"),
                Means::Ecdsa(EncodingKey::from_ec_der(der.as_bytes()), verify_success),
            ),
            id: id.to_owned(),
            public,
        })
    }

    fn half(&self, form: Form) -> &Half {
        match form {
            Form::Gateways => &self.gateways,
            Form::Others => &self.others,
        }
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

/// Whose signature a text claims to bear.
enum Signer<'a> {
    /// A key's of this ring.
    Known((&'a Half, Form)),
    /// A key's that another gateway may know.
    Unknown,
    /// Nobody's.
    Nobody,
}

/// The keys: the first one signs, all verify. They may be exchanged while others use them.
pub struct Keyring(ArcSwap<Ring>);

struct Ring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of at least one key.
    ///
    /// # Panics
    /// Never; an empty ring signs nothing and knows no token.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(ArcSwap::from_pointee(Ring { keys }))
    }

    /// Puts other keys in the place of these. Who remembers what was verified by the
    /// old ones has to forget it.
    pub fn exchange(&self, keys: Vec<Key>) {
        self.0.store(Arc::new(Ring { keys }));
    }

    /// The names of the keys, the signing one first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let ring = self.0.load();
        ring.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// Signs a ticket, a pass or a success token. `shared` are the key names
    /// that all gateways know; empty: no other gateway is known.
    ///
    /// `None` only if the ring is empty or signing fails.
    #[must_use]
    pub fn sign(&self, token: &Token, shared: &[String]) -> Option<String> {
        self.0.load().sign(token, shared)
    }

    /// Reads a token. Its time is for the caller to judge, in store time.
    #[must_use]
    pub fn verify(&self, text: &str) -> Verdict {
        self.0.load().verify(text)
    }

    /// The public keys as a JWK Set (RFC 7517), to check success tokens with.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.0.load().jwks()
    }
}

impl Ring {
    /// The key that signs: the first one that all gateways know, so that a
    /// rotation under way loses nobody's place.
    fn signer(&self, shared: &[String]) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| shared.contains(&key.id))
            .or(self.keys.first())
    }

    fn sign(&self, token: &Token, shared: &[String]) -> Option<String> {
        let form = match token {
            Token::Success(_) => Form::Others,
            Token::Ticket(_) | Token::Pass(_) => Form::Gateways,
        };
        self.signer(shared)?.half(form).sign(token)
    }

    fn verify(&self, text: &str) -> Verdict {
        if text.len() > TOKEN_BYTES_MAX {
            return Verdict::Nothing;
        }
        let ours = self.halves().find(|(half, _)| text.starts_with(&half.head));
        let signer = ours.map_or_else(|| self.spelt_otherwise(text), Signer::Known);
        match signer {
            Signer::Known((half, form)) => half
                .read(text, form)
                .map_or(Verdict::Nothing, Verdict::Good),
            Signer::Unknown => Verdict::UnknownKey,
            Signer::Nobody => Verdict::Nothing,
        }
    }

    fn halves(&self) -> impl Iterator<Item = (&Half, Form)> {
        let forms = [Form::Gateways, Form::Others];
        (self.keys.iter()).flat_map(move |key| forms.map(|form| (key.half(form), form)))
    }

    /// Who signed a text whose header is not spelt as we spell it: a gateway
    /// of another release may, or one with a key that is unknown here.
    fn spelt_otherwise(&self, text: &str) -> Signer<'_> {
        let Ok(header) = jsonwebtoken::decode_header(text) else {
            return Signer::Nobody;
        };
        let Some(kid) = header.kid.filter(|kid| kid.len() <= KEY_ID_BYTES_MAX) else {
            return Signer::Nobody;
        };
        if !matches!(header.alg, Algorithm::HS256 | Algorithm::ES256) {
            return Signer::Nobody;
        }
        self.halves()
            .find(|(half, _)| half.id == kid && half.means.algorithm() == header.alg)
            .map_or(Signer::Unknown, Signer::Known)
    }

    fn jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                    "kid": key.others.id, "x": key.public.0, "y": key.public.1,
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// Whether a token that ends at `exp` (Unix seconds) is over: no leeway.
#[must_use]
pub fn is_over(exp: u64, now: Timestamp) -> bool {
    now.0 >= exp.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Validation, decode, encode};

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
    fn the_compact_form_is_the_librarys() {
        let secret = EncodingKey::from_secret(b"a-secret-secret-secret-secret-secret");
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("a".into());
        let text = encode(&header, &Claims::of(&ticket()), &secret).unwrap();
        assert_eq!(ring(&["a"]).sign(&ticket(), &[]).unwrap(), text);
    }

    #[test]
    fn a_header_that_another_release_spelt_is_read_too() {
        let secret = EncodingKey::from_secret(b"a-secret-secret-secret-secret-secret");
        let claims = serde_json::to_vec(&Claims::of(&ticket())).unwrap();
        let spelt = |header: &str| {
            let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
            let signed = format!("{}.{}", encode(header.as_bytes()), encode(&claims));
            let signature = crypto::sign(signed.as_bytes(), &secret, Algorithm::HS256);
            format!("{signed}.{}", signature.unwrap())
        };
        let ring = ring(&["a"]);
        let other = spelt(r#"{"kid":"a", "alg":"HS256"}"#);
        assert_eq!(ring.verify(&other), Verdict::Good(ticket()));
        // The same bytes under the name of the other half, or of no key.
        for (header, verdict) in [
            (r#"{"alg":"HS256","kid":"a.s"}"#, Verdict::UnknownKey),
            (r#"{"alg":"ES256","kid":"a.s"}"#, Verdict::Nothing),
            (r#"{"alg":"HS256"}"#, Verdict::Nothing),
            (r#"{"alg":"HS256","kid":"b"}"#, Verdict::UnknownKey),
        ] {
            assert_eq!(ring.verify(&spelt(header)), verdict, "{header}");
        }
    }

    #[test]
    fn a_success_token_is_no_pass_and_a_pass_no_success_token() {
        let ring = ring(&["a"]);
        let inner = ring.0.load();
        let key = &inner.keys[0];
        let pass = Token::Pass(Pass {
            event: EventId::new("main").unwrap(),
            scope: None,
            visitor: "visitor".into(),
            issued_at: 1_000,
            expires: 1_300,
            session: SessionKey([7; 16]),
            begun: 900,
        });
        for (half, token) in [(&key.gateways, success()), (&key.others, pass)] {
            let text = half.sign(&token).unwrap();
            assert_eq!(ring.verify(&text), Verdict::Nothing);
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
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&["success"]);
        rules.set_issuer(&["sumun"]);
        rules.validate_exp = false;
        let read = decode::<serde_json::Value>(&text, &decoding, &rules).unwrap();
        assert_eq!(read.header.kid.as_deref(), Some("a.s"));
        assert_eq!(read.claims["sid"], "07070707070707070707070707070707");
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
