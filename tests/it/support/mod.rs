//! What the cases speak with: a site (origin, server, settings), visitors at
//! its door, a site whose clock is moved by hand, programs that call, and
//! processes.

mod answer;
mod call;
mod clockwork;
pub(crate) mod crowd;
mod hand;
#[path = "../../parts/mmdb.rs"]
pub(crate) mod mmdb;
mod origin;
#[path = "../../parts/ports.rs"]
mod ports;
pub(crate) mod process;
pub(crate) mod raw;
#[path = "../../parts/redis.rs"]
pub(crate) mod redis_process;
mod server;
mod site;
mod visitor;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use answer::Answer;
pub(crate) use call::Call;
pub(crate) use clockwork::{Clockwork, MORNING_MS, bench, data_thread};
pub(crate) use hand::{ByHand, some};
pub(crate) use origin::{Origin, Reply, Seen, completes_at_done};
pub(crate) use ports::free_address;
pub(crate) use server::Server;
pub(crate) use site::{Plan, Site, ring};
pub(crate) use visitor::{Ask, Visitor};

/// Nothing here takes that long; it only turns a hang into a failure.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

pub(crate) async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    bounded(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// The same for a test that is not asynchronous.
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(until(what, async || look()))
}

/// A connection for requests.
pub(crate) async fn connect<B>(to: SocketAddr) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(to).await.expect("no door");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends these bytes on a connection of their own and reads to its end.
pub(crate) async fn exchange(door: SocketAddr, bytes: &str) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(door).await?;
        stream.write_all(bytes.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    bounded("an answer", talk).await.expect("cut off")
}

/// Adds a header.
fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    headers.append(name, HeaderValue::from_str(value).unwrap());
}

/// What a token claims, whoever signed it.
#[track_caller]
pub(crate) fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("no token");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("no token");
    serde_json::from_slice(&claims).expect("no claims")
}

/// The number in a ticket.
#[track_caller]
pub(crate) fn number(ticket: &str) -> u64 {
    claims(ticket)["num"].as_u64().expect("no ticket")
}

/// Bytes in which a place cannot be mistaken for another.
pub(crate) fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length).collect::<Vec<u8>>().into()
}
