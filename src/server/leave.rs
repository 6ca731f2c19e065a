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
    loop {
        match listener.accept() {
            Ok((tcp, peer)) => {
                if let Ok(tcp) = stream(tcp) {
                    let_in(tcp, peer);
                }
            }
            Err(fault) if is_over(&fault) => return,
            Err(_) => {}
        }
    }
}

fn migrates() -> bool {
    std::fs::read_to_string(MIGRATES).is_ok_and(|said| said.trim() == "1")
}

fn stream(tcp: std::net::TcpStream) -> io::Result<TcpStream> {
    tcp.set_nonblocking(true)?;
    TcpStream::from_std(tcp)
}

/// Whether nothing more will come: only a connection that is gone says nothing of the next.
fn is_over(fault: &io::Error) -> bool {
    !matches!(
        fault.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
