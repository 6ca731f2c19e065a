//! hyper with nothing around it: a request comes, goes to the origin by a kept
//! connection, and its answer goes back. No header is added, nothing is refused,
//! counted, limited or ended. What Sumun takes beyond it is for its duties.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The first argument of a process that is to be it.
pub const WORD: &str = "bare";

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// An answer's body, which gives its connection back at its end.
struct Back {
    incoming: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Body for Back {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        if (matches!(polled, Poll::Ready(None)) || self.incoming.is_end_stream())
            && let Some(sender) = self.sender.take()
        {
            self.pool.borrow_mut().push(sender);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Serves until it is ended.
pub fn run(port: &str, origin: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, serve(port, origin));
}

async fn serve(port: &str, origin: &str) {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await;
    let listener = listener.expect("a free port");
    let origin: Rc<str> = Rc::from(format!("127.0.0.1:{origin}"));
    let pool = Pool::default();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let (pool, origin) = (Rc::clone(&pool), Rc::clone(&origin));
        tokio::task::spawn_local(async move {
            let respond = service_fn(move |request| {
                let (pool, origin) = (Rc::clone(&pool), Rc::clone(&origin));
                async move { Ok::<_, Infallible>(forward(request, pool, &origin).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.header_read_timeout(None);
            let _gone = http.serve_connection(TokioIo::new(stream), respond).await;
        });
    }
}

async fn forward(request: Request<Incoming>, pool: Pool, origin: &str) -> Response<Back> {
    let kept = loop {
        let newest = pool.borrow_mut().pop();
        match newest {
            Some(sender) if !sender.is_ready() => {}
            newest => break newest,
        }
    };
    let mut sender = if let Some(sender) = kept {
        sender
    } else {
        let stream = TcpStream::connect(origin).await.expect("the origin");
        stream.set_nodelay(true).expect("an option");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::task::spawn_local(connection);
        sender
    };
    let answer = sender.send_request(request).await.expect("an answer");
    answer.map(|incoming| Back {
        incoming,
        sender: Some(sender),
        pool,
    })
}
