//! What a new connection begins with: what a trusted proxy announces, a TLS
//! handshake where the door speaks TLS, and whether HTTP/1.1 or HTTP/2 follows.

use std::future::{Future, ready};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::announced::{self, Fault};
use super::connection::{ConnectionInfo, Terms, serve_one};
use super::streams::serve_two;
use super::watch::Order;
use super::watched::Watched;
use super::wire::Wire;
use super::{House, turn_away};
use crate::incoming::ClientBody;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4); no request of HTTP/1.1
/// begins so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A client that began a preface has so long for the rest of its first line.
const SOON: Duration = Duration::from_millis(20);

const PLAIN_TO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    cache-control: no-store\r\nconnection: close\r\ncontent-length: 40\r\n\r\n\
    This port speaks HTTPS: use https://...\n";

enum Protocol {
    One,
    Two,
}

/// Greets a connection and serves it until it ends. `announced_in` says that a
/// header of the PROXY protocol comes first, and who turns away.
///
/// The greeting is boxed, and what comes after takes its place: a task is as large for
/// all of its life as it ever has to be, and most connections rest for most of theirs.
pub(super) fn welcome<S, F, B>(
    tcp: TcpStream,
    terms: Terms<S>,
    announced_in: Option<Rc<House>>,
) -> impl Future<Output = ()>
where
    S: Fn(Request<ClientBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let greeted = Box::pin(greet(tcp, terms, announced_in));
    greeted.then(|greeted| match greeted {
        Some((socket, Protocol::One, terms)) => {
            Either::Left(Either::Left(serve_one(socket, terms.desk())))
        }
        Some((socket, Protocol::Two, terms)) => {
            Either::Left(Either::Right(Box::pin(serve_two(socket, terms))))
        }
        None => Either::Right(ready(())),
    })
}

/// Learns whose connection it is and which protocol it speaks; `None` if it is none.
async fn greet<S>(
    mut tcp: TcpStream,
    mut terms: Terms<S>,
    announced_in: Option<Rc<House>>,
) -> Option<(Watched, Protocol, Terms<S>)> {
    if let Some(house) = announced_in {
        tcp = announce(tcp, &mut terms, &house).await?;
    }
    let settings = &terms.settings;
    let greeting = async {
        match &settings.tls {
            None if !settings.http2 => Ok((Wire::Plain(tcp), Protocol::One)),
            None => plain(tcp).await,
            Some(tls) => handshake(tcp, Arc::clone(tls)).await,
        }
    };
    let greeted = tokio::select! {
        biased;
        greeted = greeting => greeted,
        // Too slow, or the server drains and nothing was asked for a while.
        () = terms.watch.ordered() => return None,
    };
    match greeted {
        Ok((wire, protocol)) => {
            let watch = Arc::clone(&terms.watch);
            let socket = Watched::new(wire, watch, settings.linger_bytes);
            Some((socket, protocol, terms))
        }
        Err(fault) => {
            if settings.tls.is_some() {
                settings.refused("tls");
            }
            tracing::debug!(%fault, "no connection came to be");
            None
        }
    }
}

/// Learns whose connection it is and counts it for that one; `None` if it is refused.
async fn announce<S>(
    mut tcp: TcpStream,
    terms: &mut Terms<S>,
    house: &Rc<House>,
) -> Option<TcpStream> {
    let (watch, settings) = (&terms.watch, &terms.settings);
    let read = tokio::select! {
        biased;
        read = announced::read(&mut tcp) => read,
        () = watch.ordered() => match watch.order() {
            Order::TimedOut => Err(Fault::Late),
            Order::Go | Order::Close => return None,
        },
    };
    let source = match read {
        Ok(Some(source)) => source,
        Ok(None) => return Some(tcp),
        Err(fault) => {
            if fault != Fault::Gone {
                settings.refused("proxy_protocol");
            }
            tracing::debug!(%fault, "a trusted proxy announced nobody");
            return None;
        }
    };
    if let Err(reason) = watch.place().count_for(source.ip()) {
        settings.refused(reason);
        // Under TLS there is nobody to say it to.
        if settings.tls.is_none() {
            turn_away(house, tcp);
        }
        return None;
    }
    terms.info.peer = source;
    Some(tcp)
}

/// Without TLS: HTTP/2 for who begins with its preface (prior knowledge).
async fn plain(tcp: TcpStream) -> io::Result<(Wire, Protocol)> {
    let mut begun = [0; PREFACE.len()];
    let mut came = tcp.peek(&mut begun).await?;
    let so_far = |begun: &[u8], came: usize| {
        let said = begun.get(..came).unwrap_or_default();
        !said.is_empty() && PREFACE.starts_with(said)
    };
    // A preface that comes in pieces is waited for; requests do not begin so.
    for _ in 0..50 {
        if !so_far(&begun, came) || came == PREFACE.len() {
            break;
        }
        tokio::time::sleep(SOON).await;
        came = tcp.peek(&mut begun).await?;
    }
    let protocol = if came == PREFACE.len() && so_far(&begun, came) {
        Protocol::Two
    } else {
        Protocol::One
    };
    Ok((Wire::Plain(tcp), protocol))
}

async fn handshake(tcp: TcpStream, tls: Arc<rustls::ServerConfig>) -> io::Result<(Wire, Protocol)> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first.first() != Some(&HANDSHAKE) {
        farewell(tcp, PLAIN_TO_TLS).await;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no TLS, but plain words",
        ));
    }
    let stream = TlsAcceptor::from(tls).accept(tcp).await?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Two,
        _ => Protocol::One,
    };
    Ok((Wire::Tls(Box::new(stream)), protocol))
}

/// Says a last word and throws away what the client still sends, a little of it and
/// for a moment: closing a socket with unread bytes resets it, and the word is lost.
pub(super) async fn farewell(mut tcp: TcpStream, words: &[u8]) {
    let talk = async {
        tcp.write_all(words).await?;
        tcp.shutdown().await?;
        let mut scrap = [0; 1024];
        for _ in 0..16 {
            if tcp.read(&mut scrap).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _gone_or_slow = tokio::time::timeout(Duration::from_secs(1), talk).await;
}
