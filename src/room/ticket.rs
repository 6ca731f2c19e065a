//! Places in line: what a number is, what keys a session, what lives how long.
//!
//! A number is a place and a moment at once (docs/architecture.md): at the
//! birth of an event and at each recovery numbering jumps to the present
//! second, so that no number is issued twice whatever the store has forgotten.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// 2025-01-01T00:00:00Z in Unix seconds: numbers count their seconds from here.
pub const EPOCH_SECONDS: u64 = 1_735_689_600;

/// A second of numbers holds this many: 2^20.
pub const NUMBERS_PER_SECOND_BITS: u32 = 20;

/// The lower half of a second's numbers is the store's, the upper half belongs
/// to gateways that number by themselves: neither knows how far the other is,
/// and no number may be issued twice.
const GATEWAY_HALF: u64 = 1 << 19;

/// How far ahead of the present second a number may lie and still be believed.
pub const NUMBER_HORIZON_SECONDS: u64 = 60;

/// Numbering after a birth or a recovery begins so many seconds ahead.
pub const RESTART_AHEAD_SECONDS: u64 = 2;

/// The widest number: 53 bits, exact in Lua and in JavaScript.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A ticket's number, 53 bits, never issued twice in the life of an event.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Number(pub u64);

impl Number {
    /// The first number of a second of the wall clock (Unix seconds).
    #[must_use]
    pub fn first_of_second(unix_seconds: u64) -> Self {
        let second = unix_seconds.saturating_sub(EPOCH_SECONDS);
        Self((second << NUMBERS_PER_SECOND_BITS).min(NUMBER_MAX))
    }

    /// Where numbering goes on after a birth or a recovery at `unix_ms`.
    ///
    /// Two seconds ahead: the second at hand belongs to gateways that number
    /// by themselves while the store is away, and their clocks may be a
    /// little fast. Within that second by the millisecond, 500 numbers each: a
    /// store that begins twice within a second gives no number twice.
    #[must_use]
    pub fn restart(unix_ms: u64) -> Self {
        let first = Self::first_of_second(unix_ms / 1000 + RESTART_AHEAD_SECONDS);
        Self((first.0 + unix_ms % 1000 * 500).min(NUMBER_MAX))
    }

    /// A number issued by a gateway without a store: the estimated store
    /// second, its upper half, the gateway's slot (0 to 255) and a counter (0
    /// to 2047).
    ///
    /// `None` when this second's counter is used up.
    #[must_use]
    pub fn by_gateway(unix_seconds: u64, slot: u8, counter: u64) -> Option<Self> {
        let second = Self::first_of_second(unix_seconds).0;
        (counter < 1 << 11).then(|| Self(second | GATEWAY_HALF | u64::from(slot) << 11 | counter))
    }

    /// The number that a store issues after this one: the next, or the first
    /// of the next second where the gateways' half begins.
    #[must_use]
    pub fn next_issued(self) -> Self {
        let next = self.next();
        if next.0 & GATEWAY_HALF == 0 {
            next
        } else {
            next.next_second()
        }
    }

    /// The first number of the second after this number's.
    #[must_use]
    pub fn next_second(self) -> Self {
        Self(((self.0 >> NUMBERS_PER_SECOND_BITS) + 1) << NUMBERS_PER_SECOND_BITS)
    }

    /// The Unix second that this number belongs to.
    #[must_use]
    pub fn unix_second(self) -> u64 {
        EPOCH_SECONDS + (self.0 >> NUMBERS_PER_SECOND_BITS)
    }

    /// Whether a number may have been issued by `unix_seconds`; what lies
    /// beyond the horizon is absurd and restores nothing.
    #[must_use]
    pub fn is_plausible(self, unix_seconds: u64) -> bool {
        self < Self::first_of_second(unix_seconds + NUMBER_HORIZON_SECONDS)
    }

    /// The page of 65,536 numbers it stands on.
    #[must_use]
    pub fn page(self) -> u64 {
        self.0 >> 16
    }

    /// Its place on that page, 0 to 65,535.
    #[must_use]
    pub fn bit(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number at a place (0 to 65,535) of a page.
    #[must_use]
    pub fn at(page: u64, bit: usize) -> Self {
        Self((page << 16) + bit as u64)
    }
}

/// The slot that a gateway's name asks for: the same in every life of the
/// store, so that one which numbers by itself meets no other there.
#[must_use]
pub fn slot_of(gateway: &str) -> u8 {
    gateway
        .bytes()
        .fold(0_u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte))
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One continuous life of an event's waiting queue: the Unix second of the
/// operator's last reset, 0 without.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// Names a session in the store and in the pass (`sid`): 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub [u8; 16]);

impl SessionKey {
    /// The session of a ticket: the same ticket always claims the same
    /// session, so a repeated or lost claim cannot take two slots.
    #[must_use]
    pub fn of_ticket(generation: Generation, number: Number, visitor: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(generation.0.to_be_bytes());
        hash.update(number.0.to_be_bytes());
        hash.update(visitor.as_bytes());
        Self::truncate(&hash.finalize())
    }

    fn truncate(digest: &[u8]) -> Self {
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(digest) {
            *to = *from;
        }
        Self(key)
    }

    /// Reads the 32 hexadecimal digits that `Display` writes; `None` for
    /// anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok())??;
        Some(Self(digits.to_be_bytes()))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SessionKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a session key is 32 hexadecimal digits"))
    }
}

/// The key under which an id given through the API is remembered: a hash, so
/// that the store holds no customer's id.
#[must_use]
pub fn id_hash(id: &str) -> [u8; 16] {
    SessionKey::truncate(&Sha256::digest(id.as_bytes())).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_own_number_in_the_second_of_the_last_issued_stands_behind_it() {
        let now = EPOCH_SECONDS + 1_000;
        let issued = Number::restart(now * 1000).next_issued();
        assert_eq!(issued.unix_second(), now + 2);
        let own = Number::by_gateway(issued.unix_second(), 0, 0).unwrap();
        assert!(own > issued && own < Number::restart(now * 1000 + 1000));
    }

    #[test]
    fn numbers_of_a_later_second_are_higher_whatever_was_counted() {
        let second = 1_800_000_000;
        let last = Number(Number::first_of_second(second).0 + (1 << 20) - 1);
        assert!(Number::first_of_second(second + 1) > last);
        assert!(Number::restart(second * 1000) > Number::by_gateway(second, 255, 2047).unwrap());
    }

    #[test]
    fn a_gateway_numbers_2048_visitors_a_second_and_no_more() {
        assert!(Number::by_gateway(1_800_000_000, 3, 2047).is_some());
        assert!(Number::by_gateway(1_800_000_000, 3, 2048).is_none());
    }

    #[test]
    fn the_store_never_issues_a_number_that_a_gateway_may_have_issued() {
        let second = 1_800_000_000;
        let last = Number(Number::by_gateway(second, 0, 0).unwrap().0 - 1);
        assert_eq!(last.next_issued(), Number::first_of_second(second + 1));
        let first = Number::first_of_second(second);
        assert_eq!(first.next_issued(), first.next());
        let alone = Number::by_gateway(second, 255, 2047).unwrap();
        assert_eq!(alone.next_issued(), Number::first_of_second(second + 1));
        assert_eq!(alone.next_second(), Number::first_of_second(second + 1));
    }

    #[test]
    fn an_absurd_number_is_not_plausible() {
        let now = 1_800_000_000;
        assert!(Number::restart(now * 1000).is_plausible(now));
        assert!(!Number::first_of_second(now + 61).is_plausible(now));
        assert!(!Number(NUMBER_MAX).is_plausible(now));
    }

    #[test]
    fn numbers_stay_within_53_bits_until_the_year_2290() {
        assert!(Number::first_of_second(10_098_345_600).0 < NUMBER_MAX);
    }

    #[test]
    fn a_session_key_survives_its_text() {
        let key = SessionKey::of_ticket(Generation(7), Number(9), "visitor");
        assert_eq!(SessionKey::parse(&key.to_string()), Some(key));
        assert_eq!(SessionKey::parse("+0000000000000000000000000000000"), None);
        assert_ne!(
            key,
            SessionKey::of_ticket(Generation(8), Number(9), "visitor")
        );
    }

    #[test]
    fn page_and_bit_name_one_number() {
        let number = Number(5 * 65_536 + 77);
        assert_eq!(Number::at(number.page(), number.bit()), number);
    }
}
