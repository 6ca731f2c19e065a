//! The PROXY protocol at the public door, byte by byte: who is announced, who is
//! believed, what is refused. The tests speak from 127.0.0.1, a trusted proxy; one
//! at 127.0.0.2 is none. A real sender is in `haproxy`.

mod haproxy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::encrypted::{Authority, ask, get, section, two};
use crate::support::process::{Doors, Process};
use crate::support::raw::Raw;
use crate::support::{Ask, Plan, Site, Visitor, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: shop.example\r\naccept: text/html\r\n\r\n";

const FOUR: &str = "PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n";

/// A gateway that takes the PROXY protocol from 127.0.0.1 and trusts 10/8 too.
fn plan(top: &str) -> Plan {
    Plan::event("")
        .top("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]")
        .top(top)
}

/// A header of version 2.
fn two_of(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length];
    [&fixed.concat(), block].concat()
}

/// A block of addresses: this one, another, and their ports.
fn block(source: &str) -> Vec<u8> {
    let address = match source.parse().unwrap() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    [&address[..], &vec![9; address.len()], &[18, 103, 1, 187]].concat()
}

/// Header and request at once; what the origin saw.
async fn through(site: &Site, header: &[u8], request: &str) -> crate::support::Seen {
    let mut raw = Raw::connect(site.door).await;
    raw.send([header, request.as_bytes()].concat()).await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 200, "{header:?}: {}", answer.head);
    site.origin.last()
}

/// Connections refused for this reason.
async fn refused(site: &Site, reason: &str) -> u64 {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    let text = Visitor::at(site.admin).send(ask).await.text();
    let line = format!("sumun_refusals_total{{reason=\"{reason}\"}} ");
    let shown = text.lines().find_map(|shown| shown.strip_prefix(&line));
    shown.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_header_of_either_version_says_who_the_visitor_is() {
    let site = plan("").open().await;
    let with_more = [
        block("203.0.113.7"),
        vec![0x04, 0, 3, 1, 2, 3],
        vec![0xee; 500],
    ]
    .concat();
    for (header, visitor) in [
        (FOUR.into(), "203.0.113.7"),
        (
            "PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".into(),
            "2001:db8::7",
        ),
        (two_of(0x21, 0x11, &block("203.0.113.7")), "203.0.113.7"),
        (two_of(0x21, 0x12, &block("203.0.113.7")), "203.0.113.7"),
        (two_of(0x21, 0x21, &block("2001:db8::7")), "2001:db8::7"),
        (
            two_of(0x21, 0x21, &block("::ffff:203.0.113.7")),
            "203.0.113.7",
        ),
        (two_of(0x21, 0x11, &with_more), "203.0.113.7"),
    ] {
        let header: Vec<u8> = header;
        let seen = through(&site, &header, GET).await;
        assert_eq!(seen.header("x-forwarded-for"), Some(visitor));
        // What the visitor itself says of addresses counts for nothing.
        let spoofed = GET.replace("accept", "x-forwarded-for: 198.51.100.1\r\naccept");
        let seen = through(&site, &header, &spoofed).await;
        assert_eq!(seen.header("x-forwarded-for"), Some(visitor));
    }
    // It holds for all requests of the connection.
    let mut raw = Raw::connect(site.door).await;
    raw.send(FOUR).await;
    for _ in 0..3 {
        raw.send(GET).await;
        assert_eq!(raw.answer().await.status, 200);
        let seen = site.origin.last();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    }
    assert_eq!(refused(&site, "proxy_protocol").await, 0);
}

#[tokio::test]
async fn a_proxys_own_connection_and_one_it_cannot_name_keep_the_address_they_have() {
    let site = plan("").open().await;
    for header in [
        two_of(0x20, 0, b""),
        two_of(0x20, 0x11, &block("203.0.113.7")),
        two_of(0x20, 0x99, &[1; 30]),
        two_of(0x21, 0, &[1; 30]),
        two_of(0x21, 0x31, &[b'/'; 216]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
    ] {
        let seen = through(&site, &header, GET).await;
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        let mut raw = Raw::connect(site.door).await;
        let check = "GET /__sumun/readyz HTTP/1.1\r\nhost: a\r\n\r\n";
        raw.send([&header, check.as_bytes()].concat()).await;
        assert_eq!(raw.answer().await.status, 200, "{header:?}");
    }
}

#[tokio::test]
async fn an_announced_proxy_is_believed_as_any_trusted_one() {
    let site = plan("").open().await;
    let told = GET.replace("accept", "x-forwarded-for: 198.51.100.1\r\naccept");
    let header = two_of(0x21, 0x11, &block("10.1.2.3"));
    let seen = through(&site, &header, &told).await;
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("198.51.100.1, 10.1.2.3")
    );
}

#[tokio::test]
async fn headers_may_come_in_single_bytes() {
    let site = plan("").open().await;
    let six = two_of(
        0x21,
        0x21,
        &[block("2001:db8::7"), vec![4, 0, 1, 7]].concat(),
    );
    for (header, visitor) in [(FOUR.into(), "203.0.113.7"), (six, "2001:db8::7")] {
        let mut tcp = TcpStream::connect(site.door).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for byte in &header {
            tcp.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut raw = Raw::over(tcp);
        raw.send(GET).await;
        assert_eq!(raw.answer().await.status, 200);
        let seen = site.origin.last();
        assert_eq!(seen.header("x-forwarded-for"), Some(visitor));
    }
}

#[tokio::test]
async fn a_connection_without_a_good_header_is_closed_without_a_word() {
    let site = plan("").open().await;
    let mut short = two_of(0x21, 0x11, &block("203.0.113.7"));
    short[15] = 11;
    let bad: Vec<Vec<u8>> = vec![
        GET.into(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3].to_vec(),
        b"proxy TCP4 203.0.113.7 127.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 01 2\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\n\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        two_of(0x11, 0x11, &block("203.0.113.7")),
        two_of(0x22, 0x11, &block("203.0.113.7")),
        two_of(0x21, 0x41, &block("203.0.113.7")),
        two_of(0x21, 0x21, &block("203.0.113.7")),
        two_of(0x21, 0x11, &[0; 5000]),
        short,
    ];
    for header in &bad {
        let mut raw = Raw::connect(site.door).await;
        raw.send([header, GET.as_bytes()].concat()).await;
        let said = raw.rest().await;
        assert_eq!(said, b"", "{header:?}");
    }
    // A second header is no header, whoever sent it.
    let mut raw = Raw::connect(site.door).await;
    raw.send([FOUR, FOUR, GET].concat()).await;
    assert_eq!(raw.answer().await.status, 400);
    // Broken off within.
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.write_all(&FOUR.as_bytes()[..20]).await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    assert!(site.origin.seen().is_empty());
    assert_eq!(refused(&site, "proxy_protocol").await, bad.len() as u64 + 1);
    // Who only looks whether somebody is there is nobody's fault.
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(refused(&site, "proxy_protocol").await, bad.len() as u64 + 1);
}

#[tokio::test]
async fn the_operator_is_warned_once_in_a_while_and_each_one_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (doors, file) = (Doors::free(), folder.path().join("gateway.toml"));
    let text = doors.file(SocketAddr::from(([127, 0, 0, 1], 9)), "");
    std::fs::write(&file, format!("proxy_protocol = true\n{text}")).unwrap();
    let gateway = Process::run(&file, doors);
    until("the gateway", async || gateway.is_ready().then_some(())).await;
    for _ in 0..5 {
        let mut raw = Raw::connect(doors.public).await;
        raw.send(GET).await;
        assert_eq!(raw.rest().await, b"");
    }
    assert!(gateway.shows("sumun_refusals_total{reason=\"proxy_protocol\"} 5"));
    let said = gateway.said("PROXY header");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["level"], "WARN");
}

#[tokio::test]
async fn a_header_that_does_not_come_or_drips_is_waited_for_as_long_as_a_head() {
    let site = plan("").tables("[timeouts]\nhead = \"300ms\"").open().await;
    let silent = Raw::connect(site.door).await;
    assert_eq!(silent.rest().await, b"");
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.write_all(b"PROXY UNKNOWN ").await.unwrap();
    let (mut from, mut to) = tcp.into_split();
    let drip = tokio::spawn(async move {
        while to.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut said = Vec::new();
    let _ended_or_reset = from.read_to_end(&mut said).await;
    assert_eq!(said, b"");
    drip.await.unwrap();
    assert_eq!(refused(&site, "proxy_protocol").await, 2);
    // The rest of its time is the head's.
    let mut raw = Raw::connect(site.door).await;
    raw.send([FOUR, "GET / HT"].concat()).await;
    let said = String::from_utf8(raw.rest().await).unwrap();
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
}

#[tokio::test]
async fn from_who_is_not_trusted_no_header_is_read() {
    let site = plan("").open().await;
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        Raw::over(socket.connect(site.door).await.unwrap())
    };
    let mut raw = connect().await;
    raw.send(GET).await;
    assert_eq!(raw.answer().await.status, 200);
    let seen = site.origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.2"));
    for header in [FOUR.into(), two_of(0x21, 0x11, &block("203.0.113.7"))] {
        let mut raw = connect().await;
        raw.send([&header, GET.as_bytes()].concat()).await;
        assert_eq!(raw.answer().await.status, 400);
    }
    assert_eq!(site.origin.seen().len(), 1);
    // Without the setting nobody's is read.
    let site = Plan::event("").open().await;
    let mut raw = Raw::connect(site.door).await;
    raw.send([FOUR, GET].concat()).await;
    assert_eq!(raw.answer().await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_comes_before_tls_and_before_http_2() {
    let authority = Authority::new();
    let files = authority.sign("site", &["shop.example"]);
    let site = plan("http2 = true").tables(&section(&files)).open().await;
    for (alpn, header) in [
        ("http/1.1", FOUR.into()),
        ("h2", two_of(0x21, 0x11, &block("203.0.113.7"))),
    ] {
        let client = Arc::new(authority.client(&[&TLS13, &TLS12], &[alpn]));
        let mut tcp = TcpStream::connect(site.door).await.unwrap();
        let header: Vec<u8> = header;
        tcp.write_all(&header).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let stream = TlsConnector::from(client).connect(name, tcp).await.unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(alpn.as_bytes()),
            "as asked for"
        );
        if alpn == "h2" {
            let answer = ask(&mut two(stream).await, get("https://shop.example/"), "").await;
            assert_eq!(answer.status(), 200);
        } else {
            let mut stream = stream;
            stream.write_all(GET.as_bytes()).await.unwrap();
            let mut said = [0; 12];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"HTTP/1.1 200");
        }
        let seen = site.origin.last();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    }
    // Plain words are told so after the header as well.
    let mut raw = Raw::connect(site.door).await;
    raw.send([FOUR, GET].concat()).await;
    assert_eq!(raw.answer().await.status, 400);
    assert_eq!(refused(&site, "proxy_protocol").await, 0);

    let site = plan("http2 = true").open().await;
    let mut tcp = TcpStream::connect(site.door).await.unwrap();
    tcp.write_all(FOUR.as_bytes()).await.unwrap();
    let answer = ask(&mut two(tcp).await, get("http://shop.example/"), "").await;
    assert_eq!(answer.status(), 200);
    let seen = site.origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
}

#[tokio::test]
async fn connections_count_for_whom_they_are_announced() {
    let site = plan("")
        .tables("[limits]\nconnections = 20\nconnections_per_address = 2")
        .open()
        .await;
    let mut held = Vec::new();
    let mut open = async |header: &str| {
        let mut raw = Raw::connect(site.door).await;
        raw.send([header, GET].concat()).await;
        let answer = raw.answer().await;
        held.push(raw);
        answer.status
    };
    for (status, seven) in [(200, FOUR), (200, FOUR), (503, FOUR), (503, FOUR)] {
        assert_eq!(open(seven).await, status);
    }
    assert_eq!(refused(&site, "connections_per_address").await, 2);
    let eight = FOUR.replace("113.7", "113.8");
    assert_eq!(open(&eight).await, 200);
    // The proxy's own, and those of a proxy behind it, count in all only.
    let behind = FOUR.replace("203.0.113.7", "10.0.0.9");
    for _ in 0..4 {
        assert_eq!(open("PROXY UNKNOWN\r\n").await, 200);
        assert_eq!(open(&behind).await, 200);
    }
    drop(held);
    until("a free place", async || {
        let mut raw = Raw::connect(site.door).await;
        raw.send([FOUR, GET].concat()).await;
        (raw.answer().await.status == 200).then_some(())
    })
    .await;
    // Those that have announced nobody yet count in all.
    let mut silent = Vec::new();
    until("the end of the room", async || {
        silent.push(TcpStream::connect(site.door).await.unwrap());
        (refused(&site, "connections").await > 0).then_some(())
    })
    .await;
    assert!(silent.len() <= 21, "{} connections", silent.len());
}

#[tokio::test]
async fn newcomers_count_for_the_address_that_is_announced() {
    let site = plan("")
        .settings("limit = 1\njoins_per_address_per_minute = 3")
        .open()
        .await;
    let open = async |last: u8| {
        let mut raw = Raw::connect(site.door).await;
        let header = FOUR.replace("113.7", &format!("113.{last}"));
        raw.send([&header, GET].concat()).await;
        raw.answer().await.status
    };
    assert_eq!(open(1).await, 200);
    site.until_busy().await;
    for _ in 0..3 {
        assert_eq!(open(7).await, 503, "a waiting page");
    }
    assert_eq!(open(7).await, 429);
    assert_eq!(open(8).await, 503, "a waiting page");
}
