//! How an answer says where its body ends; what has more than one reading is
//! an error.

use http::header::{self, HeaderMap, HeaderValue};

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

/// The length that an answer names, if all that it says about it agrees.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, OriginError> {
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
    Ok(length)
}

/// Whether the length stands there once and plainly.
pub(super) fn is_one_plain_number(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let plain = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    lines.next().is_some_and(plain) && lines.next().is_none()
}
