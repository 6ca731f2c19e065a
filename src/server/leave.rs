//! The last moments of a listener. What its queue holds when it closes is reset by the
//! kernel, and so are handshakes that are not over, though another process listens at
//! the same address and could have had them: Linux hands them over only where
//! `net.ipv4.tcp_migrate_req` says so. So newcomers are kept away first, and the queue
//! is emptied before the close.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};

/// Where the kernel says that it hands connections over (Linux 5.14 and later).
const MIGRATES: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// How many faults are waited out before who is still in the queue is given up.
const FAULTS_MAX: u32 = 20;

/// Packets that ask for a connection are dropped, others pass (`tcp(7)` on SYN, and
/// `Documentation/networking/filter.rst` on the words; the packet begins with the TCP
/// header). Who is dropped asks again a second later, and gets to whoever listens then.
const NO_NEWCOMERS: [SockFilter; 5] = [
    // The byte of the flags.
    SockFilter::new(0x30, 0, 0, 13),
    // Of these SYN and ACK.
    SockFilter::new(0x54, 0, 0, 0x12),
    // SYN alone?
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Closes a listener without resetting anybody: handshakes that have begun may end
/// within `handshakes`, and whoever is in the queue is let in.
pub(super) async fn close(
    listener: TcpListener,
    handshakes: Duration,
    mut let_in: impl FnMut(TcpStream, SocketAddr),
) {
    if !migrates() {
        match SockRef::from(&listener).attach_filter(&NO_NEWCOMERS) {
            Ok(()) => {
                let accepting = async {
                    loop {
                        match listener.accept().await {
                            Ok((tcp, peer)) => let_in(tcp, peer),
                            Err(fault) => super::rest_after(&fault).await,
                        }
                    }
                };
                let _over = tokio::time::timeout(handshakes, accepting).await;
            }
            Err(fault) => tracing::debug!(%fault, "newcomers come to the very end"),
        }
    }
    // The runtime may not have heard yet of who came last; the system knows.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    empty(
        || listener.accept(),
        |(tcp, peer)| {
            if let Ok(tcp) = stream(tcp) {
                let_in(tcp, peer);
            }
        },
    )
    .await;
}

/// Takes all that there is. A fault says nothing of what comes behind it, and without
/// free descriptors a moment helps: others are ending.
async fn empty<T>(mut accept: impl FnMut() -> io::Result<T>, mut let_in: impl FnMut(T)) {
    let mut faults = 0;
    while faults < FAULTS_MAX {
        match accept() {
            Ok(one) => let_in(one),
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return,
            Err(fault) => {
                faults += u32::from(!super::is_of_one(&fault));
                super::rest_after(&fault).await;
            }
        }
    }
    tracing::warn!("the queue could not be emptied; who is in it is reset");
}

fn migrates() -> bool {
    std::fs::read_to_string(MIGRATES).is_ok_and(|said| said.trim() == "1")
}

fn stream(tcp: std::net::TcpStream) -> io::Result<TcpStream> {
    tcp.set_nonblocking(true)?;
    TcpStream::from_std(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What accept says when the process has no descriptor left, and when a network
    /// fault was waiting on the connection (`accept(2)`).
    const FAULTS: [i32; 6] = [
        24,  // EMFILE
        23,  // ENFILE
        71,  // EPROTO
        100, // ENETDOWN
        113, // EHOSTUNREACH
        103, // ECONNABORTED
    ];

    async fn emptied(said: Vec<io::Result<u32>>) -> Vec<u32> {
        let (mut said, mut came) = (said.into_iter(), Vec::new());
        let nothing = || Err(io::ErrorKind::WouldBlock.into());
        empty(|| said.next().unwrap_or_else(nothing), |one| came.push(one)).await;
        came
    }

    #[tokio::test]
    async fn a_fault_hides_nobody_behind_it_and_only_an_empty_queue_is_the_end() {
        let faults = FAULTS.map(|code| Err(io::Error::from_raw_os_error(code)));
        let mut said: Vec<io::Result<u32>> = vec![Ok(1)];
        said.extend(faults);
        said.extend([Ok(2), Err(io::ErrorKind::WouldBlock.into()), Ok(3)]);
        assert_eq!(emptied(said).await, [1, 2]);
        // One that stays is not waited for without end.
        let full = || Err(io::Error::from_raw_os_error(FAULTS[0]));
        let mut said: Vec<_> = std::iter::repeat_with(full).take(999).collect();
        said.push(Ok(1));
        assert_eq!(emptied(said).await, [0; 0]);
    }
}
