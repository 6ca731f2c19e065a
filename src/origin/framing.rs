//! How an answer says where its body ends; what has more than one reading is
//! an error.

use http::header::{self, HeaderMap};

use super::OriginError;

/// Whether the answer is chunked; an error if its codings are anything but one `chunked`.
pub(super) fn sole_coding(headers: &HeaderMap) -> Result<bool, ()> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None)
            if value
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(true)
        }
        _ => Err(()),
    }
}

/// The length that an answer names, if all that it says about it agrees; and
/// whether it stands there once and plainly.
pub(super) fn length(headers: &HeaderMap) -> Result<(Option<u64>, bool), OriginError> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(line), None) = (lines.next(), lines.next())
        && let Some(length) = plain_number(line.as_bytes())
    {
        return Ok((Some(length), true));
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for one in value.to_str().unwrap_or("?").split(',') {
            let one = one.trim();
            let digits = !one.is_empty() && one.bytes().all(|byte| byte.is_ascii_digit());
            let Some(one) = digits.then(|| one.parse::<u64>().ok()).flatten() else {
                return Err(OriginError::Protocol("content-length is not a number"));
            };
            if length.is_some_and(|other| other != one) {
                return Err(OriginError::Protocol("content-lengths differ"));
            }
            length = Some(one);
        }
    }
    Ok((length, false))
}

/// Digits alone, as many as cannot be too large.
fn plain_number(digits: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 19;
    let next = |number: u64, digit: &u8| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    };
    (1..=DIGITS_MAX)
        .contains(&digits.len())
        .then(|| digits.iter().try_fold(0, next))
        .flatten()
}
