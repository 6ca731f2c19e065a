//! Durations and sizes as operators write them: `"250ms"`, `"5m"`, `"32KB"`.
//!
//! One reader and one writer for the file, the environment and the API, so
//! that what is shown can be pasted back.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Milliseconds of each unit, longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Bytes of each unit, largest first; powers of 1024, as proxies
/// count them.
const SIZES: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

/// Reads a duration: a whole or decimal number and one of `ms`, `s`, `m`,
/// `h`, `d`. `None` for anything else, for a missing unit, and for what is
/// finer than a millisecond or longer than 2^63 ms.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &UNITS).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that holds it whole; parts of a
/// millisecond are dropped.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    written(millis, &UNITS)
}

/// Reads a size in bytes: a number and one of `B`, `KB`, `MB`, `GB` (powers
/// of 1024, either case). `None` for anything else.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    scaled(&text.to_ascii_uppercase(), &SIZES)
}

/// Writes a size in the largest unit that holds it whole.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    written(bytes, &SIZES)
}

/// For `#[serde(with = "units::as_text")]` on a `Duration`.
pub mod as_text {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer, duration, duration_text};

    /// Writes the duration as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration_text(*value))
    }

    /// Reads a duration from text.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        duration(&text).ok_or_else(|| D::Error::custom("write a duration like \"30s\""))
    }
}

/// For `#[serde(with = "units::as_optional_text")]` on an `Option<Duration>`.
pub mod as_optional_text {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer, duration, duration_text};

    /// Writes the duration as text, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&duration_text(*value)),
            None => to.serialize_none(),
        }
    }

    /// Reads a duration from text, or nothing.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        duration(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom("write a duration like \"30s\""))
    }
}

/// A decimal number times its unit; exact, or `None`.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > 9 {
        return None;
    }
    let divisor = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let rest = part.parse::<u64>().ok()?.checked_mul(*scale)?;
    if rest % divisor != 0 {
        return None;
    }
    let value = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(*scale)?
        .checked_add(rest / divisor)?;
    (value <= u64::MAX / 2).then_some(value)
}

/// The largest unit of which the value is a whole multiple.
fn written(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, scale)| value.is_multiple_of(*scale))
        .map_or_else(String::new, |(name, scale)| {
            format!("{}{name}", value / scale)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("90s", 90_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)));
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration(" 2 m "), Some(Duration::from_secs(120)));
        assert_eq!(size("32KB"), Some(32_768));
        assert_eq!(size("1mb"), Some(1 << 20));
        assert_eq!(size_text(32_768), "32KB");
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1 fortnight",
            "1s2",
            "1..5s",
            ".5s",
            "1.s",
            "0.0001s",
            "99999999999999999999s",
            "300000000000d",
            "1m30s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["32", "KB", "1TB", "-1B", "0.3B"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
