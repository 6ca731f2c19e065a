//! The visitor's address, scheme and host behind proxies that the operator
//! trusts. Whoever is not trusted may write what it likes into its headers; only
//! the word of a trusted hop about the hop before it counts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const CLOUDFRONT: &str = "cloudfront-viewer-address";

/// More hops than any real chain has; what lies beyond is not looked at.
const MAX_HOPS: usize = 64;

/// The proxies whose word about their clients is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: Option<HeaderName>,
}

/// An entry of `trusted_proxies`, or a header name, that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidProxies {
    /// Neither a name nor an address nor a network.
    #[error(
        "{0:?} is no proxy: write \"loopback\", \"private\", an address, or a network such as \"10.0.0.0/8\""
    )]
    Entry(String),
    /// Not the name of a header.
    #[error("{0:?} is not the name of a header")]
    Header(String),
}

/// Who came, how, and to which host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The visitor's own address, as far as trusted hops vouch for it.
    pub address: IpAddr,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Whether the other end is a trusted proxy.
    pub behind_trusted_proxy: bool,
    /// Whether the visitor came by https.
    pub https: bool,
    /// The host and, if it was named, port that the visitor asked for, as it was written.
    /// Absent for an HTTP/1.0 client that named none.
    pub host: Option<HeaderValue>,
    /// The port that the visitor came to.
    pub port: u16,
}

/// The network that counts as one visitor's, as a number that is never 0 for a
/// visitor: an IPv4 address, or an IPv6 address's /64 (what one household or one
/// server gets).
#[must_use]
pub fn network(address: IpAddr) -> u64 {
    /// Apart from any /64 that is routed.
    const V4: u64 = 1 << 40;
    match address.to_canonical() {
        IpAddr::V4(v4) => V4 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

/// A host with an optional port, as in `Host` (RFC 9110 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a str,
    /// The port, if one is named.
    pub port: Option<u16>,
}

impl TrustedProxies {
    /// Reads `trusted_proxies` and `client_address_header` (empty: none). With a
    /// header named, only that one is believed about the address.
    ///
    /// # Errors
    /// Names the first entry that is neither `loopback`, `private`, an address nor a network.
    pub fn new<S: AsRef<str>>(entries: &[S], header: &str) -> Result<Self, InvalidProxies> {
        let mut networks = Vec::new();
        for entry in entries {
            let entry = entry.as_ref().trim();
            let named: &[&str] = match entry {
                "loopback" => &["127.0.0.0/8", "::1/128"],
                "private" => &[
                    "10.0.0.0/8",
                    "172.16.0.0/12",
                    "192.168.0.0/16",
                    "169.254.0.0/16",
                    "fc00::/7",
                    "fe80::/10",
                ],
                other => &[other],
            };
            for text in named {
                let network = text
                    .parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| InvalidProxies::Entry(entry.to_owned()))?;
                networks.push(network);
            }
        }
        let header = match header.trim() {
            "" => None,
            name => Some(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| InvalidProxies::Header(name.to_owned()))?,
            ),
        };
        Ok(Self { networks, header })
    }

    /// Whether `address` is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Who stands behind a connection from `peer`, which came by TLS or not, with these headers.
    #[must_use]
    pub fn visitor(&self, peer: SocketAddr, tls: bool, headers: &HeaderMap) -> Visitor {
        let peer = peer.ip().to_canonical();
        let behind_trusted_proxy = self.contains(peer);
        let own_host = headers.get(header::HOST).cloned();
        if !behind_trusted_proxy || !self.is_told(headers) {
            let port = named_port(own_host.as_ref()).unwrap_or(default_port(tls));
            return Visitor {
                address: peer,
                peer,
                behind_trusted_proxy,
                https: tls,
                host: own_host,
                port,
            };
        }
        let element = nearest_forwarded(headers);
        let https = last(headers, &FORWARDED_PROTO)
            .or_else(|| element.and_then(|element| parameter(element, "proto")))
            .map_or(tls, |scheme| scheme.eq_ignore_ascii_case("https"));
        let host = last(headers, &FORWARDED_HOST)
            .or_else(|| element.and_then(|element| parameter(element, "host")))
            .filter(|host| Authority::parse(host).is_some())
            .and_then(|host| HeaderValue::from_str(host).ok())
            .or(own_host);
        let port = last(headers, &FORWARDED_PORT)
            .and_then(parse_port)
            .or_else(|| named_port(host.as_ref()))
            .unwrap_or(default_port(https));
        Visitor {
            address: self.address(peer, headers),
            peer,
            behind_trusted_proxy,
            https,
            host,
            port,
        }
    }

    /// Whether a proxy said anything: most that it could say is looked for in vain.
    fn is_told(&self, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| {
            *name == header::FORWARDED
                || name.as_str().starts_with("x-forwarded-")
                || self.header.as_ref() == Some(name)
        })
    }

    /// The right-most address that is not a trusted proxy's. An entry that cannot
    /// be read ends the walk: nothing to its left is vouched for.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match &self.header {
            Some(name) if *name == FORWARDED_FOR => self.walk(peer, chain(headers)),
            Some(name) if *name == header::FORWARDED => self.walk(peer, elements(headers)),
            Some(name) => sole_address(headers, name).unwrap_or(peer),
            // Proxies that write one of the two pass the other on unread, and most write this one.
            None if headers.contains_key(FORWARDED_FOR) => self.walk(peer, chain(headers)),
            None => self.walk(peer, elements(headers)),
        }
    }

    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut nearest = peer;
        for hop in hops.take(MAX_HOPS) {
            let Some(address) = hop else {
                return nearest;
            };
            nearest = address;
            if !self.contains(address) {
                return nearest;
            }
        }
        nearest
    }
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`. Nothing but letters, digits, `-`, `.`, `_` or an IPv6
    /// address in brackets is a host: no user, no path, no escapes, no zone.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']')?;
            let (host, rest) = text.split_at(end + 1);
            host.get(1..end)?.parse::<Ipv6Addr>().ok()?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return None,
            }
        } else {
            // Byte by byte: this is read with every request, twice.
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            let end = text.bytes().position(|byte| !plain(byte));
            let (host, port) = match end.and_then(|end| text.split_at_checked(end)) {
                Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
                None => (text, None),
            };
            if host.is_empty() || host.len() > 253 {
                return None;
            }
            (host, port)
        };
        let port = match port {
            Some(port) => Some(parse_port(port)?),
            None => None,
        };
        Some(Self { host, port })
    }
}

/// The entries of all `X-Forwarded-For` lines, nearest hop first.
fn chain(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    entries(headers, &FORWARDED_FOR).map(parse_address)
}

/// The `for` of all elements of `Forwarded` (RFC 7239), nearest hop first.
fn elements(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    entries(headers, &header::FORWARDED)
        .map(|element| parameter(element, "for").and_then(parse_address))
}

/// The comma-separated entries of all lines of a header, last first. One that is
/// not text becomes one that nothing can read.
fn entries<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(|entry| std::str::from_utf8(entry).unwrap_or("?").trim())
}

fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    entries(headers, name)
        .next()
        .filter(|entry| !entry.is_empty())
}

fn nearest_forwarded(headers: &HeaderMap) -> Option<&str> {
    last(headers, &header::FORWARDED)
}

/// One parameter of an element of `Forwarded`, quotes taken off.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The address in a header of which the proxy writes exactly one.
fn sole_address(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let text = line.to_str().ok()?.trim();
    // CloudFront writes `address:port`, an IPv6 address without brackets.
    if name.as_str() == CLOUDFRONT && !text.starts_with('[') {
        let (address, port) = text.rsplit_once(':')?;
        parse_port(port)?;
        return parse_address(address);
    }
    parse_address(text)
}

/// An address, perhaps with a port, brackets or an IPv6 zone, which are taken off.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        match after.strip_prefix(':') {
            Some(port) => {
                parse_port(port)?;
            }
            None if after.is_empty() => {}
            None => return None,
        }
        inside
    } else if text.matches(':').count() == 1 {
        let (address, port) = text.split_once(':')?;
        parse_port(port)?;
        address
    } else {
        text
    };
    let bare = match bare.split_once('%') {
        Some((address, _zone)) if address.contains(':') => address,
        Some(_) => return None,
        None => bare,
    };
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Digits only: no sign, no space.
fn parse_port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The port of a host that was found well-formed before: what follows its last
/// colon, unless that stands within an IPv6 address.
fn named_port(host: Option<&HeaderValue>) -> Option<u16> {
    let host = host?.as_bytes();
    let colon = host.iter().rposition(|byte| *byte == b':')?;
    parse_port(std::str::from_utf8(host.get(colon + 1..)?).ok()?)
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    fn from(peer: &str, lines: &[(&'static str, &str)]) -> Visitor {
        let proxies = TrustedProxies::new(&["loopback", "private", "203.0.113.0/24"], "").unwrap();
        proxies.visitor(
            SocketAddr::new(peer.parse().unwrap(), 5000),
            false,
            &headers(lines),
        )
    }

    fn address(peer: &str, lines: &[(&'static str, &str)]) -> String {
        from(peer, lines).address.to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_visitor_whatever_it_says() {
        let spoofed = [
            ("host", "shop.example:8080"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4;proto=https;host=evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
        ];
        let visitor = from("198.51.100.7", &spoofed);
        assert_eq!(visitor.address.to_string(), "198.51.100.7");
        assert!(!visitor.https && !visitor.behind_trusted_proxy);
        assert_eq!(visitor.host.unwrap(), "shop.example:8080");
        assert_eq!(visitor.port, 8080);
    }

    #[test]
    fn the_right_most_untrusted_entry_is_the_visitor() {
        let cases: &[(&str, &str)] = &[
            ("1.2.3.4", "1.2.3.4"),
            ("9.9.9.9, 1.2.3.4", "1.2.3.4"),
            ("9.9.9.9, 1.2.3.4, 10.1.1.1, 203.0.113.5", "1.2.3.4"),
            ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
            ("1.2.3.4:5678", "1.2.3.4"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8::1%eth0", "2001:db8::1"),
            ("[fe80::1%25eth0], 10.0.0.1", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ];
        for (line, expected) in cases {
            assert_eq!(
                address("127.0.0.1", &[("x-forwarded-for", line)]),
                *expected,
                "{line}"
            );
        }
    }

    #[test]
    fn lines_count_in_their_order() {
        let lines = [
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "1.2.3.4, 10.0.0.1"),
        ];
        assert_eq!(address("127.0.0.1", &lines), "1.2.3.4");
    }

    #[test]
    fn an_unreadable_entry_ends_the_walk_at_the_last_hop_that_is_known() {
        for hostile in [
            "",
            ",",
            "unknown",
            "_hidden",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:99999",
            "1.2.3.4%eth0",
            "[1.2.3.4",
            "[::1]x",
            "::1::",
            "localhost",
            "1.2.3.4; DROP",
            "0x7f.1",
            "\"1.2.3.4\"",
            "é",
        ] {
            assert_eq!(
                address("127.0.0.1", &[("x-forwarded-for", hostile)]),
                "127.0.0.1",
                "{hostile}"
            );
            let line = format!("8.8.8.8, {hostile}, 10.0.0.9");
            assert_eq!(
                address("127.0.0.1", &[("x-forwarded-for", &line)]),
                "10.0.0.9",
                "{line}"
            );
        }
    }

    #[test]
    fn a_chain_of_a_thousand_hops_is_cut() {
        let line = vec!["10.0.0.1"; 1000].join(",");
        let line = format!("8.8.8.8,{line}");
        assert_eq!(
            address("127.0.0.1", &[("x-forwarded-for", &line)]),
            "10.0.0.1"
        );
    }

    #[test]
    fn forwarded_is_read_when_there_is_no_x_forwarded_for() {
        let line = "for=9.9.9.9, For=\"[2001:db8::7]:4711\";proto=https;host=shop.example";
        let visitor = from("127.0.0.1", &[("forwarded", line)]);
        assert_eq!(visitor.address.to_string(), "2001:db8::7");
        assert!(visitor.https);
        assert_eq!(visitor.host.unwrap(), "shop.example");
        assert_eq!(visitor.port, 443);
        let both = [("forwarded", "for=9.9.9.9"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(address("127.0.0.1", &both), "1.2.3.4");
    }

    #[test]
    fn the_named_header_is_the_only_one_believed() {
        let proxies = TrustedProxies::new(&["loopback"], "CloudFront-Viewer-Address").unwrap();
        let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (value, expected) in [
            ("198.51.100.10:46532", "198.51.100.10"),
            ("2001:db8::1:46532", "2001:db8::1"),
            ("[2001:db8::1]:46532", "2001:db8::1"),
            ("nonsense", "127.0.0.1"),
        ] {
            let map = headers(&[
                ("cloudfront-viewer-address", value),
                ("x-forwarded-for", "6.6.6.6"),
            ]);
            assert_eq!(
                proxies.visitor(peer, false, &map).address.to_string(),
                expected,
                "{value}"
            );
        }
        let twice = headers(&[
            ("cloudfront-viewer-address", "1.1.1.1:1"),
            ("cloudfront-viewer-address", "2.2.2.2:2"),
        ]);
        assert_eq!(
            proxies.visitor(peer, false, &twice).address.to_string(),
            "127.0.0.1"
        );
    }

    #[test]
    fn a_trusted_proxy_tells_scheme_host_and_port() {
        let lines = [
            ("host", "internal:3000"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
        ];
        let visitor = from("127.0.0.1", &lines);
        assert!(visitor.https);
        assert_eq!(visitor.host.unwrap(), "shop.example");
        assert_eq!(visitor.port, 443);
        let visitor = from(
            "127.0.0.1",
            &[("host", "a.example"), ("x-forwarded-host", "evil/@x")],
        );
        assert_eq!(visitor.host.unwrap(), "a.example");
        let visitor = from(
            "127.0.0.1",
            &[("host", "a.example"), ("x-forwarded-port", "8443")],
        );
        assert_eq!(visitor.port, 8443);
    }

    #[test]
    fn authorities_have_one_reading() {
        for good in [
            "a",
            "shop.example",
            "shop.example:80",
            "1.2.3.4:1",
            "[::1]",
            "[::1]:8080",
            "a_b-c.d",
            "a.",
        ] {
            assert!(Authority::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:99999",
            "a:-1",
            "a:+1",
            "user@a",
            "a/b",
            "a b",
            "a,b",
            "a?b",
            "a#b",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[a]",
            "::1",
            "a%2e",
            "ä",
            "a:80:80",
            "a\\b",
        ] {
            assert!(Authority::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn entries_that_are_no_networks_are_named() {
        let fault = TrustedProxies::new(&["10.0.0.0/33"], "").unwrap_err();
        assert!(fault.to_string().contains("10.0.0.0/33"));
        assert!(TrustedProxies::new(&["10.1.2.3", "fd00::/8"], "X-Real-IP").is_ok());
        assert!(TrustedProxies::new::<&str>(&[], "bad header").is_err());
    }

    #[test]
    fn a_mapped_peer_is_its_ipv4_self() {
        assert_eq!(
            address("::ffff:127.0.0.1", &[("x-forwarded-for", "1.2.3.4")]),
            "1.2.3.4"
        );
    }
}
