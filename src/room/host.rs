//! Hosts in one spelling, so that they can be compared.
//!
//! Lower case, no port, no trailing dot, A-labels (RFC 5890): a visitor
//! cannot leave an event by writing its host in another way.

use std::{borrow::Cow, net::Ipv6Addr};

/// The normal form of the host part of an authority (`Example.COM.:8080` →
/// `example.com`). `None` for what no DNS name or address is written like.
/// Copies nothing when the host is in that form already.
#[must_use]
pub fn normal(authority: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port(port).then(|| Cow::Owned(format!("[{address}]")));
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return None,
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 253 {
        return None;
    }
    let plain = host
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'));
    if plain && !host.starts_with("xn--") && !host.contains(".xn--") {
        return are_labels(host).then_some(Cow::Borrowed(host));
    }
    let ascii = idna::domain_to_ascii(host).ok()?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii).to_owned();
    let known = ascii
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    (known && are_labels(&ascii)).then_some(Cow::Owned(ascii))
}

/// A host as an operator may write it, in normal form.
///
/// # Errors
/// The remedy, when it is none.
pub fn configured(host: &str) -> Result<String, &'static str> {
    if host.contains('*') {
        return Err("wildcards are not known: name each host, or leave the list empty for any");
    }
    if host.contains("://") || host.contains('/') {
        return Err("write the host alone, like \"www.example.com\"");
    }
    if host.contains(':') && !host.starts_with('[') || host.contains("]:") {
        return Err("write the host without a port: ports are of no account");
    }
    normal(host)
        .map(Cow::into_owned)
        .ok_or("write a host name like \"www.example.com\"")
}

/// Whether what follows an IPv6 literal is nothing or a port.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether every label has 1 to 63 bytes.
fn are_labels(host: &str) -> bool {
    host.len() <= 253 && host.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (written, normal_form) in [
            ("example.com", "example.com"),
            ("Example.COM:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("한국.kr", "xn--3e0b707e.kr"),
            ("XN--3E0B707E.kr", "xn--3e0b707e.kr"),
            ("my_app.local", "my_app.local"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[0:0::1]", "[::1]"),
        ] {
            assert_eq!(normal(written).as_deref(), Some(normal_form), "{written}");
        }
        assert!(matches!(normal("example.com:80"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn what_is_no_host_has_no_form() {
        let long = format!("{}.kr", "a".repeat(64));
        for bad in [
            "", ".", ":80", "a..b", "a b", "a/b", "u@h", "h:x", "[::1", "[::1]x", "[x]", "a%2eb",
            &long,
        ] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_operator_writes_hosts_alone() {
        assert_eq!(
            configured("Shop.Example.com").as_deref(),
            Ok("shop.example.com")
        );
        for bad in ["*.example.com", "https://example.com", "example.com:80", ""] {
            assert!(configured(bad).is_err(), "{bad}");
        }
    }
}
