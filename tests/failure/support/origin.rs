//! The customer's site: it answers every request, and counts them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running site; gone when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let counted = Arc::clone(&counted);
                let answer = service_fn(move |_| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let answer = Response::builder()
                        .header("content-type", "text/html")
                        .header("x-origin", "here")
                        .body(Full::new(Bytes::from_static(b"<p>the shop")));
                    std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// Requests that came so far.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}
