//! What connections take that rest between two requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::peers::{Peer, Peers};
use crate::side::{resident_mb, say};
use crate::{CASES, Case};

const CONNECTIONS: usize = 10_000;
/// Those at rest may give back what they do not need.
const REST: Duration = Duration::from_secs(15);

/// Each peer in its turn holds 10,000 connections of which each has had an answer.
pub fn run() {
    rlimit::increase_nofile_limit(u64::MAX).expect("files enough");
    let case = Case { ..CASES[0] };
    let peers = Peers::start(&case);
    let mut nginx = None;
    say("memory at 10,000 connections at rest, in MB: before, with them, ratio to nginx");
    for peer in peers.all() {
        let before = resident_mb(&peer.running);
        let held: Vec<TcpStream> = (0..CONNECTIONS).map(|_| visit(peer)).collect();
        std::thread::sleep(REST);
        let with = resident_mb(&peer.running);
        let nginx = *nginx.get_or_insert(with);
        say(&format!(
            "{:14} {before:8.1} {with:8.1} {:6.2} x",
            peer.name,
            with / nginx
        ));
        drop(held);
    }
}

/// A connection that has been answered once.
fn visit(peer: &Peer) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", peer.running.port)).expect("a connection");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n\r\n",
        peer.header
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = [0; 4096];
    let mut held = 0;
    // The body alone is larger than a kilobyte.
    while held < 1024 + 100 {
        let more = stream.read(&mut answer).expect("an answer");
        assert!(more > 0, "{} closed a connection", peer.name);
        held += more;
    }
    stream
}
