//! An origin that speaks HTTP/2 alone, stream by stream, as a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

use crate::support::bounded;

/// A stream that a request opened.
pub(super) struct Stream {
    /// The connection that it belongs to, counted from 1.
    pub(super) connection: usize,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

/// What a connection is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// GOAWAY: what is under way may end.
    Leave,
    /// The socket is closed.
    Cut,
}

/// The origin: its streams come out one by one.
pub(super) struct Two {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    streams: Mutex<mpsc::UnboundedReceiver<Stream>>,
    orders: tokio::sync::broadcast::Sender<Order>,
}

impl Two {
    /// With settings that allow so many streams of a connection.
    pub(super) async fn open(streams: u32) -> Self {
        let mut builder = Builder::new();
        builder.max_concurrent_streams(streams);
        Self::with(builder, |tcp| async { Some(tcp) }).await
    }

    /// With these settings; `secure` makes a connection what is spoken over.
    pub(super) async fn with<F, S>(
        builder: Builder,
        secure: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Option<S>> + Send,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (tell, streams) = mpsc::unbounded_channel();
        let orders = tokio::sync::broadcast::Sender::new(8);
        let (count, hear) = (Arc::clone(&connections), orders.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Some(stream) = secure(tcp).await else {
                    continue;
                };
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (builder, tell, hear) = (builder.clone(), tell.clone(), hear.subscribe());
                tokio::spawn(async move {
                    if let Ok(connection) = builder.handshake(stream).await {
                        serve(connection, number, tell, hear).await;
                    }
                });
            }
        });
        Self {
            address,
            connections,
            streams: Mutex::new(streams),
            orders,
        }
    }

    /// The next stream.
    pub(super) async fn next(&self) -> Stream {
        let mut streams = self.streams.lock().await;
        bounded("a stream at the origin", streams.recv())
            .await
            .unwrap()
    }

    /// How many connections were opened.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Tells all connections.
    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S, Bytes>,
    number: usize,
    tell: mpsc::UnboundedSender<Stream>,
    mut hear: tokio::sync::broadcast::Receiver<Order>,
) {
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let _ = tell.send(Stream { connection: number, request, respond });
            }
            Ok(order) = hear.recv() => match order {
                Order::Leave => connection.graceful_shutdown(),
                Order::Cut => return,
            }
        }
    }
}

impl Stream {
    /// The path that was asked for.
    pub(super) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Answers with a text.
    pub(super) fn answer(mut self, text: &'static str) {
        let head = Response::new(());
        let mut body = self.respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(text.as_bytes()), true)
            .unwrap();
    }
}
