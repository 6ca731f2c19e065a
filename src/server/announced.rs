//! The PROXY protocol, versions 1 and 2 (haproxy's `doc/proxy-protocol.txt`, here
//! "the specification"): a header in front of all else in which a proxy that only
//! passes bytes on says whose they are. Who sends it is known before a byte is
//! read, by the address; from those it must come, and nothing is guessed (§2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a header of version 1 begins with (§2.1).
const WORD: &[u8] = b"PROXY ";

/// The longest header of version 1 with its CRLF, in bytes (§2.1).
const LINE_MAX: usize = 107;

/// What a header of version 2 begins with (§2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The part of version 2 that every header has, in bytes (§2.2).
const FIXED: usize = 16;

/// The longest header of version 2, in bytes, as in nginx. Addresses need 52, or
/// 232 of local sockets; the rest are extensions, which are passed over. The
/// specification wants a header to fit 536 bytes, its field could say 65,551.
const BLOCK_MAX: usize = 4096;

/// Why a connection has no header that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Who only looks whether the port is open does this.
    #[error("closed without a byte")]
    Gone,
    #[error("closed within a PROXY header")]
    Cut,
    #[error("no PROXY header in time")]
    Late,
    #[error("something else than a PROXY header")]
    Missing,
    #[error("a PROXY header that is not well formed")]
    Malformed,
    #[error("a PROXY header that is too long")]
    TooLong,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// In bytes; what follows is not ours.
    length: usize,
    /// Whose connection it is; none: the proxy's own, or somebody's whom it cannot
    /// name. Then it counts as the one it is (§2.1 on `UNKNOWN`, §2.2 on `LOCAL`).
    source: Option<SocketAddr>,
}

/// Takes the header off a connection, and not a byte more. Waits for as long as it
/// takes to come.
pub(super) async fn read(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, Fault> {
    let mut bytes = vec![0; BLOCK_MAX];
    let mut taken = 0;
    loop {
        let rest = bytes.get_mut(taken..).unwrap_or_default();
        let came = tcp.peek(rest).await.unwrap_or(0);
        if came == 0 {
            return Err(if taken == 0 { Fault::Gone } else { Fault::Cut });
        }
        let seen = taken + came;
        let header = header(bytes.get(..seen).unwrap_or_default())?;
        let end = header.map_or(seen, |header| header.length);
        let part = bytes.get_mut(taken..end).unwrap_or_default();
        if tcp.read_exact(part).await.is_err() {
            return Err(Fault::Cut);
        }
        taken = end;
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// Reads a header off what came; `None` where more has to come.
fn header(came: &[u8]) -> Result<Option<Header>, Fault> {
    if agree(came, SIGNATURE) {
        block(came)
    } else if agree(came, WORD) {
        line(came)
    } else {
        Err(Fault::Missing)
    }
}

/// Whether one begins with the other.
fn agree(came: &[u8], mark: &[u8]) -> bool {
    came.iter().zip(mark).all(|(one, other)| one == other)
}

/// Version 1 (§2.1).
fn line(came: &[u8]) -> Result<Option<Header>, Fault> {
    let line = came.get(..LINE_MAX).unwrap_or(came);
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return match line.len() {
            LINE_MAX => Err(Fault::TooLong),
            _ => Ok(None),
        };
    };
    let words = line.get(WORD.len()..end).unwrap_or_default();
    let source = match words.strip_prefix(b"UNKNOWN") {
        Some([] | [b' ', ..]) => None,
        Some(_) => return Err(Fault::Malformed),
        None => Some(words_of(words).ok_or(Fault::Malformed)?),
    };
    let length = end + 2;
    Ok(Some(Header { length, source }))
}

/// `TCP4 source destination port port`, or with `TCP6`, exactly one space between.
/// Gives the source; all else has to be well formed.
fn words_of(words: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = std::str::from_utf8(words).ok()?.split(' ').collect();
    let &[family, source, destination, from, to] = words.as_slice() else {
        return None;
    };
    let (source, _destination) = match family {
        "TCP4" => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        "TCP6" => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return None,
    };
    let (from, _to) = (port(from)?, port(to)?);
    Some(SocketAddr::new(source, from))
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(T::into)
}

/// Digits only, no zero before others.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || text.len() > 1 && text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

/// Version 2 (§2.2).
fn block(came: &[u8]) -> Result<Option<Header>, Fault> {
    let Some((&[command, family, high, low], _)) = came
        .get(SIGNATURE.len()..)
        .and_then(|rest| rest.split_first_chunk())
    else {
        return Ok(None);
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::Malformed),
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > BLOCK_MAX {
        return Err(Fault::TooLong);
    }
    let Some(block) = came.get(FIXED..length) else {
        return Ok(None);
    };
    let source = if is_local {
        None
    } else {
        source(family, block)?
    };
    Ok(Some(Header { length, source }))
}

/// The source's address and port in a block of this family. Datagrams are those of
/// HTTP/3 that a proxy has taken in; local sockets have no address that counts.
fn source(family: u8, block: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    let source = match (family >> 4, family & 0xf) {
        (4.., _) | (_, 3..) => return Err(Fault::Malformed),
        (1, 1 | 2) => addresses(block)
            .map(|(source, port): ([u8; 4], _)| (Ipv4Addr::from(source), port).into()),
        (2, 1 | 2) => addresses(block)
            .map(|(source, port): ([u8; 16], _)| (Ipv6Addr::from(source), port).into()),
        _ => return Ok(None),
    };
    source.ok_or(Fault::Malformed).map(Some)
}

/// Source, destination, and their ports: the source's of them, if all are there.
fn addresses<const N: usize>(block: &[u8]) -> Option<([u8; N], u16)> {
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (_destination, ports) = rest.split_first_chunk::<N>()?;
    let [high, low, _, _] = *ports.first_chunk()?;
    Some((*source, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    fn block_of(source: SocketAddr) -> Vec<u8> {
        let address = match source {
            SocketAddr::V4(source) => source.ip().octets().to_vec(),
            SocketAddr::V6(source) => source.ip().octets().to_vec(),
        };
        let port = source.port().to_be_bytes();
        [&address[..], &vec![7; address.len()], &port, &[1, 187]].concat()
    }

    fn source_of(bytes: &[u8]) -> Result<Option<SocketAddr>, Fault> {
        header(bytes).map(|header| header.expect("a whole header").source)
    }

    #[test]
    fn lines_have_one_reading() {
        for (words, source) in [
            ("TCP4 192.0.2.7 10.0.0.1 56324 443", Some("192.0.2.7:56324")),
            ("TCP4 192.0.2.7 10.0.0.1 0 65535", Some("192.0.2.7:0")),
            ("TCP6 2001:db8::7 ::1 4711 443", Some("[2001:db8::7]:4711")),
            (
                "TCP6 ::ffff:192.0.2.7 ::1 4711 443",
                Some("[::ffff:192.0.2.7]:4711"),
            ),
            ("UNKNOWN", None),
            ("UNKNOWN \u{1}\r ffff::1 what\never 01", None),
        ] {
            let bytes = format!("PROXY {words}\r\n");
            let expected = source.map(|source| source.parse().unwrap());
            assert_eq!(source_of(bytes.as_bytes()), Ok(expected), "{words}");
        }
        for words in [
            "",
            " ",
            "UNKNOWNS",
            "unknown",
            "TCP4",
            "TCP5 192.0.2.7 10.0.0.1 1 2",
            "tcp4 192.0.2.7 10.0.0.1 1 2",
            "UDP4 192.0.2.7 10.0.0.1 1 2",
            "TCP4  192.0.2.7 10.0.0.1 1 2",
            "TCP4 192.0.2.7 10.0.0.1 1 2 ",
            "TCP4 192.0.2.7 10.0.0.1 1 2 3",
            "TCP4 192.0.2.7 10.0.0.1 1",
            "TCP4\t192.0.2.7 10.0.0.1 1 2",
            "TCP4 192.0.2.7 10.0.0.1 1 2\r",
            "TCP4 192.0.2.7 10.0.0.1 1 2\n",
            "TCP4 192.0.2.07 10.0.0.1 1 2",
            "TCP4 192.0.2.256 10.0.0.1 1 2",
            "TCP4 192.0.2 10.0.0.1 1 2",
            "TCP4 192.0.2.7 10.0.0 1 2",
            "TCP4 192.0.2.7 10.0.0.1 +1 2",
            "TCP4 192.0.2.7 10.0.0.1 01 2",
            "TCP4 192.0.2.7 10.0.0.1 1 02",
            "TCP4 192.0.2.7 10.0.0.1 65536 2",
            "TCP4 192.0.2.7 10.0.0.1 -1 2",
            "TCP4 192.0.2.7 10.0.0.1 1 ",
            "TCP4 2001:db8::7 ::1 1 2",
            "TCP6 192.0.2.7 10.0.0.1 1 2",
            "TCP6 fe80::1%eth0 ::1 1 2",
            "TCP6 2001:db8:::7 ::1 1 2",
            "TCP6 [2001:db8::7] ::1 1 2",
        ] {
            let bytes = format!("PROXY {words}\r\n");
            let read = header(bytes.as_bytes());
            assert_eq!(read, Err(Fault::Malformed), "{words}");
        }
    }

    #[test]
    fn a_line_is_waited_for_to_its_longest_and_no_further() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
        assert_eq!(longest.len(), LINE_MAX);
        assert_eq!(source_of(longest.as_bytes()), Ok(None));
        let longer = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        assert_eq!(header(longer.as_bytes()), Err(Fault::TooLong));
        assert_eq!(header(&longer.as_bytes()[..106]), Ok(None));
        // A line feed alone ends nothing (§2.1).
        assert_eq!(header(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n"), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_known_by_its_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXIED",
            b"PROXY\tTCP4",
            b"proxy ",
            b" ",
            b"\r\nGET /",
            b"\r\n\r\n\0\r\nQUIT\r",
            &[22, 3, 1],
        ] {
            assert_eq!(header(bytes), Err(Fault::Missing), "{bytes:?}");
        }
    }

    #[test]
    fn blocks_say_who_and_the_proxys_own_say_nothing() {
        let four: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let six: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
        let local = vec![b'/'; 216];
        for (command, family, block, source) in [
            (0x21, 0x11, block_of(four), Some(four)),
            (0x21, 0x12, block_of(four), Some(four)),
            (0x21, 0x21, block_of(six), Some(six)),
            (0x21, 0x22, block_of(six), Some(six)),
            (0x21, 0x00, vec![], None),
            (0x21, 0x00, vec![9; 300], None),
            (0x21, 0x01, vec![], None),
            (0x21, 0x10, block_of(four), None),
            (0x21, 0x31, local.clone(), None),
            (0x21, 0x32, local, None),
            (0x20, 0x00, vec![], None),
            (0x20, 0x11, block_of(four), None),
            // The family of the proxy's own is ignored (§2.2).
            (0x20, 0x11, vec![1, 2, 3], None),
            (0x20, 0x99, vec![], None),
        ] {
            let bytes = two(command, family, &block);
            assert_eq!(source_of(&bytes), Ok(source), "{command:x} {family:x}");
        }
        for (command, family, block) in [
            (0x11, 0x11, block_of(four)),
            (0x31, 0x11, block_of(four)),
            (0x22, 0x11, block_of(four)),
            (0x2f, 0x11, block_of(four)),
            (0x21, 0x41, block_of(four)),
            (0x21, 0xf0, vec![]),
            (0x21, 0x13, block_of(four)),
            (0x21, 0x03, vec![]),
            (0x21, 0x11, block_of(four)[..11].to_vec()),
            (0x21, 0x21, block_of(four)),
            (0x21, 0x21, block_of(six)[..35].to_vec()),
            (0x21, 0x11, vec![]),
        ] {
            let bytes = two(command, family, &block);
            let read = header(&bytes);
            assert_eq!(read, Err(Fault::Malformed), "{command:x} {family:x}");
        }
    }

    #[test]
    fn what_lies_behind_the_addresses_is_passed_over_up_to_a_limit() {
        let source: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let mut block = block_of(source);
        block.resize(BLOCK_MAX - FIXED, 0xee);
        let bytes = two(0x21, 0x11, &block);
        let whole = Header {
            length: BLOCK_MAX,
            source: Some(source),
        };
        assert_eq!(header(&bytes), Ok(Some(whole)));
        block.push(0xee);
        let bytes = two(0x21, 0x11, &block);
        // Its length is enough to refuse it.
        assert_eq!(header(&bytes[..FIXED]), Err(Fault::TooLong));
    }

    proptest! {
        #[test]
        fn every_address_comes_through_in_whatever_pieces(
            source in any::<SocketAddr>(),
            behind in any::<Vec<u8>>(),
            text in any::<bool>(),
        ) {
            let (family, name) = match source {
                SocketAddr::V4(_) => (0x11, "TCP4"),
                SocketAddr::V6(_) => (0x21, "TCP6"),
            };
            let (ip, port) = (source.ip(), source.port());
            let sent = if text {
                format!("PROXY {name} {ip} {ip} {port} 443\r\n").into_bytes()
            } else {
                two(0x21, family, &block_of(source))
            };
            let whole = Header { length: sent.len(), source: Some(SocketAddr::new(ip, port)) };
            for cut in 0..sent.len() {
                prop_assert_eq!(header(&sent[..cut]), Ok(None));
            }
            prop_assert_eq!(header(&[sent, behind].concat()), Ok(Some(whole)));
        }

        #[test]
        fn no_bytes_whatever_are_read_beyond_themselves(
            version in 0..3,
            bytes in any::<Vec<u8>>(),
        ) {
            let sent = match version {
                0 => bytes,
                1 => [WORD, &bytes].concat(),
                _ => [SIGNATURE, &bytes].concat(),
            };
            if let Ok(Some(header)) = header(&sent) {
                prop_assert!(header.length <= sent.len());
            }
        }
    }
}
