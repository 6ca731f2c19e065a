//! The site as visitors see it: any of its gateways, as a load balancer
//! without memory would choose; and how many are inside at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rand::seq::SliceRandom;

use super::http::{Answer, Client};

/// What a visitor asks for.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// The doors of one site.
pub(crate) struct Site {
    doors: Vec<SocketAddr>,
    client: Client,
    inside: AtomicI64,
    most_inside: AtomicI64,
    broken: AtomicU64,
    down: AtomicBool,
    admitted: Mutex<Vec<Admitted>>,
    signers: Mutex<BTreeMap<String, String>>,
}

/// Who was let in, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    #[expect(dead_code, reason = "read in what a failing test prints")]
    pub(crate) name: String,
    /// The number in line; `None`: walked in.
    pub(crate) number: Option<u64>,
}

impl Site {
    pub(crate) fn new(doors: Vec<SocketAddr>) -> Self {
        Self {
            doors,
            client: Client::default(),
            inside: AtomicI64::new(0),
            most_inside: AtomicI64::new(0),
            broken: AtomicU64::new(0),
            down: AtomicBool::new(false),
            admitted: Mutex::default(),
            signers: Mutex::default(),
        }
    }

    /// Asks a door drawn by lot; when that connection breaks, the others, as
    /// a load balancer does with what may be repeated.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, String> {
        let mut doors = self.doors.clone();
        doors.shuffle(&mut rand::rng());
        let mut faults = Vec::new();
        for door in doors {
            let mut request = Request::builder()
                .method(ask.method)
                .uri(ask.path)
                .header("host", door.to_string());
            for (name, value) in &ask.headers {
                request = request.header(*name, value);
            }
            let body = Full::new(Bytes::from(ask.body.clone()));
            match self.client.send(door, request.body(body).unwrap()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => faults.push(fault),
            }
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
        Err(faults.join("; "))
    }

    /// A visitor is let in.
    pub(crate) fn entered(&self, name: &str, number: Option<u64>) {
        let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_inside.fetch_max(now, Ordering::SeqCst);
        let name = name.to_owned();
        self.admitted
            .lock()
            .unwrap()
            .push(Admitted { name, number });
    }

    /// A visitor is about to say that the visit is over: not inside for
    /// certain any more.
    pub(crate) fn leaving(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// The most who were inside at once, for certain.
    pub(crate) fn most_inside(&self) -> i64 {
        self.most_inside.load(Ordering::SeqCst)
    }

    /// A visitor's token is signed by this key.
    pub(crate) fn signed(&self, name: &str, key: String) {
        self.signers.lock().unwrap().insert(name.to_owned(), key);
    }

    /// Whether this key has signed what everybody holds.
    pub(crate) fn all_signed_by(&self, key: &str) -> bool {
        self.signers.lock().unwrap().values().all(|by| by == key)
    }

    /// Whether no door can answer, because the test ended the only gateway.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Whether no door can answer now.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }

    /// Connections that broke.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Everybody let in so far, in order.
    pub(crate) fn admitted(&self) -> Vec<Admitted> {
        self.admitted.lock().unwrap().clone()
    }
}

/// For each let in, how many with a lower number were let in later: the most.
pub(crate) fn overtaken(admitted: &[Admitted]) -> usize {
    let numbers: Vec<u64> = admitted.iter().filter_map(|a| a.number).collect();
    let later = |at: usize| numbers[at..].iter().filter(|n| **n < numbers[at]).count();
    (0..numbers.len()).map(later).max().unwrap_or(0)
}

/// How far anybody's place among those let in is from the place in line.
pub(crate) fn displacement(admitted: &[Admitted]) -> usize {
    let numbers: Vec<u64> = admitted.iter().filter_map(|a| a.number).collect();
    let mut in_line = numbers.clone();
    in_line.sort_unstable();
    let place = |number| in_line.partition_point(|n| n < number);
    let far = |(at, number)| place(number).abs_diff(at);
    numbers.iter().enumerate().map(far).max().unwrap_or(0)
}

/// Kendall's tau of number against admission: 1 in order, -1 in reverse.
#[expect(clippy::cast_precision_loss, reason = "a few million pairs")]
pub(crate) fn tau(admitted: &[Admitted]) -> f64 {
    let numbers: Vec<u64> = admitted.iter().filter_map(|a| a.number).collect();
    let pairs = numbers.len() * numbers.len().saturating_sub(1) / 2;
    let swapped: usize = (0..numbers.len())
        .map(|at| numbers[at..].iter().filter(|n| **n < numbers[at]).count())
        .sum();
    1.0 - 2.0 * swapped as f64 / pairs.max(1) as f64
}
