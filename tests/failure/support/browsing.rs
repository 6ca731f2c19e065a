//! Somebody inside who goes on from page to page while a test breaks things.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::site::Site;
use super::visitor::Visitor;

/// No visit is shorter.
const REQUESTS_MIN: usize = 20;

/// Asks ten times a second; one request that is not served fails the test.
pub(crate) struct Browsing {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<usize, String>>,
}

impl Browsing {
    /// This visitor at these doors, one of them drawn by lot each time.
    pub(crate) fn start(visitor: &Visitor, doors: &[SocketAddr]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (mut visitor, site) = (visitor.clone(), Site::new(doors.to_vec()));
        let task = tokio::spawn(async move {
            let mut served = 0;
            while served < REQUESTS_MIN || !*stopped.borrow() {
                visitor.browse(&site).await?;
                served += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(served)
        });
        Self { stop, task }
    }

    /// Goes on for a while, and no further; all of it was served.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        let served = self.task.await.unwrap().unwrap();
        eprintln!("{served} requests of one inside, none refused");
    }
}
