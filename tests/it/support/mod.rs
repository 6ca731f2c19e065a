//! What the cases speak with: a site (origin, server, settings), visitors at
//! its door, and a site whose clock is moved by hand.

mod hand;
mod origin;
mod process;
mod site;
mod visitor;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) use hand::{ByHand, some};
pub(crate) use origin::{Origin, Reply, Seen};
pub(crate) use process::{Process, nobody};
pub(crate) use site::{Plan, Site, ring};
pub(crate) use visitor::{Answer, Ask, Visitor};

/// Nothing here takes that long; it only turns a hang into a failure.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Sends these bytes on a connection of their own and reads to its end.
pub(crate) async fn exchange(door: std::net::SocketAddr, bytes: &str) -> Vec<u8> {
    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(door).await?;
        stream.write_all(bytes.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let talked = tokio::time::timeout(BOUND, talk).await;
    talked.expect("no answer in time").expect("cut off")
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, found)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in {BOUND:?}"))
}
