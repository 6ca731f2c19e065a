//! The whole server in this process, as `main` runs it.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use sumun::config::Config;
use sumun::run::{Listeners, Reload, RunError, Running, run};
use tokio::sync::{mpsc, oneshot};

use super::BOUND;

/// A running server; dropping it stops it and waits.
pub(crate) struct Server {
    /// The public door.
    pub(crate) door: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) running: Running,
    pub(crate) reload: mpsc::Sender<Reload>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Server {
    pub(crate) fn start(config: Config) -> Self {
        let listeners = Listeners::open(&config).unwrap();
        let door = listeners.public_address().unwrap();
        let admin = listeners.admin_address().unwrap();
        let metrics = listeners.metrics.as_ref().map(|l| l.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let (reload, reloads) = mpsc::channel(1);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let control = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let stopped = async {
                let _told_or_gone = stopped.await;
            };
            control.block_on(run(config, listeners, reloads, stopped, move |running| {
                let _gone = tell.send(running);
            }))
        });
        let running = told.recv_timeout(BOUND).expect("the server did not start");
        Self {
            door,
            admin,
            metrics,
            running,
            reload,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn begin_stop(&mut self) {
        self.stop = None;
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(&mut self) {
        let thread = self.thread.take().expect("ended already");
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.unwrap().expect("the server broke off").unwrap();
    }

    /// Stops the server and waits until it has ended; once is enough.
    fn stop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server broke off").unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
