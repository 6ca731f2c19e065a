//! A network that can break: a TCP proxy in front of Redis or of the origin that
//! passes bytes on, late or at once, holds them back, or cuts every connection and refuses new
//! ones.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything passes.
    Fair,
    /// Everything passes, so much later.
    Slow(Duration),
    /// Connections stay, and are made; nothing passes.
    Stalled,
    /// Connections break, and are refused.
    Cut,
}

/// The proxy; gone when dropped.
pub(crate) struct Chaos {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Chaos {
    pub(crate) async fn in_front_of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, watched) = watch::channel(Weather::Fair);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *watched.borrow() != Weather::Cut {
                    tokio::spawn(carry(client, server, watched.clone()));
                }
            }
        });
        Self {
            address,
            weather,
            task,
        }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, until either end or the weather ends it.
async fn carry(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let both = async {
        fair(weather.clone()).await;
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pump(from_client, to_server, weather.clone()) => {}
            () = late(from_server, to_client, weather.clone()) => {}
        }
    };
    let mut cut = weather.clone();
    tokio::select! {
        () = both => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
    weather.mark_unchanged();
}

async fn fair(mut weather: watch::Receiver<Weather>) {
    let passes = |weather: &Weather| matches!(weather, Weather::Fair | Weather::Slow(_));
    let _ = weather.wait_for(passes).await;
}

/// As `pump`; in slow weather each piece waits its time, all of them at once.
async fn late(
    mut from: impl AsyncReadExt + Unpin,
    to: impl AsyncWriteExt + Unpin,
    weather: watch::Receiver<Weather>,
) {
    let (pieces, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let collect = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            let wait = match *weather.borrow() {
                Weather::Slow(wait) => wait,
                _ => Duration::ZERO,
            };
            if pieces
                .send((Instant::now() + wait, bytes[..count].to_vec()))
                .is_err()
            {
                return;
            }
        }
    };
    let mut to = to;
    let deliver = async {
        while let Some((when, piece)) = due.recv().await {
            tokio::time::sleep_until(when).await;
            fair(weather.clone()).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = collect => {}
        () = deliver => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    weather: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        fair(weather.clone()).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
