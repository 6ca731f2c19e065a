//! HTTP/2 to the origin (`origin_http2`): how requests share its connections, what
//! becomes of those that it does not look at, and trailers from end to end.

mod origin;
mod shared;
mod trailers;
mod ways;

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::support::{Plan, Server, bounded};
use origin::Two;

/// A gateway before an origin that speaks HTTP/2 alone.
async fn before(origin: &Two, tables: &str) -> Server {
    before_at(origin.address, tables).await
}

async fn before_at(origin: SocketAddr, tables: &str) -> Server {
    Plan::event("")
        .top("origin_http2 = true")
        .tables(tables)
        .start_before(origin)
        .await
}

/// A client of HTTP/2, frame by frame.
async fn client(door: SocketAddr) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(door).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A request for a page.
fn get(path: &str) -> Request<()> {
    let uri = format!("http://shop.example{path}");
    Request::get(uri).body(()).unwrap()
}

/// Asks for something that has no body.
async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> ResponseFuture {
    let mut ready = bounded("a stream", client.clone().ready()).await.unwrap();
    ready.send_request(request, true).unwrap().0
}

/// What came of an answer: its head, its body, its trailers.
async fn whole(answer: ResponseFuture) -> Result<(Response<Bytes>, HeaderMap), h2::Error> {
    let (head, mut body) = bounded("an answer", answer).await?.into_parts();
    let bytes = read(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((Response::from_parts(head, bytes), trailers))
}

async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = bounded("a piece", body.data()).await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}
