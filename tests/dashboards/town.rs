//! A town in which everything happens that a dashboard can show: a shop with one
//! good door and one that nobody opens, two gateways that share a Redis, one of them
//! under TLS, and visitors who come, wait, look around and leave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::door::Door;
use super::gateway::Gateway;
use super::ports::free_address;
use super::redis_process::RedisProcess;
use super::{shop, until};

/// Visitors at once: more than may be inside.
const VISITORS: usize = 8;

/// The town; all of it ends when it is dropped.
pub(crate) struct Town {
    gateways: [Gateway; 2],
    redis: RedisProcess,
    redis_address: SocketAddr,
    dir: TempDir,
    is_over: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<()>>,
}

impl Town {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redis_address = free_address();
        let redis = redis(&dir, redis_address);
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let origins = [shop::open(), free_address()];
        let pems = (made.cert.pem(), made.signing_key.serialize_pem());
        let gateways = [
            Gateway::start(&origins, redis_address, None),
            Gateway::start(&origins, redis_address, Some(pems)),
        ];
        let doors = [
            Door::plain(gateways[0].public),
            Door::under_tls(gateways[1].public, made.cert.der().clone()),
        ];
        gateways[0].lose_access_log();
        let is_over = Arc::<AtomicBool>::default();
        let visitors = (0..VISITORS).map(|place| {
            let (door, is_over) = (doors[place % 2].clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    visit(&door, &is_over);
                }
            })
        });
        Self {
            visitors: visitors.collect(),
            gateways,
            redis,
            redis_address,
            dir,
            is_over,
        }
    }

    pub(crate) fn admin_doors(&self) -> [SocketAddr; 2] {
        [self.gateways[0].admin, self.gateways[1].admin]
    }

    /// What both gateways show.
    pub(crate) fn metrics(&self) -> [String; 2] {
        [self.gateways[0].metrics(), self.gateways[1].metrics()]
    }

    /// Gives the gateways another, empty Redis, once somebody has come in and
    /// somebody waits: what they remember is brought back.
    pub(crate) fn lose_what_the_store_knew(&mut self) {
        until(Duration::from_secs(30), || {
            let text = self.gateways[0].metrics();
            let is_above_0 = |name: &str| {
                let value = text.lines().find_map(|line| line.strip_prefix(name));
                value.is_some_and(|value| value.trim() != "0")
            };
            let is_so = is_above_0("sumun_event_sessions{event=\"main\"}")
                && is_above_0("sumun_event_waiting_visitors{event=\"main\"}");
            is_so
                .then_some(())
                .ok_or_else(|| format!("a line:\n{text}"))
        });
        self.redis.kill();
        self.redis = redis(&self.dir, self.redis_address);
    }

    /// Kills Redis and one gateway: the names of that one and of the one that is left.
    pub(crate) fn lose_the_store_and_a_gateway(&mut self) -> (String, String) {
        self.redis.kill();
        self.gateways[1].kill();
        let [left, lost] = self.admin_doors();
        (lost.to_string(), left.to_string())
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for visitor in self.visitors.drain(..) {
            let _ = visitor.join();
        }
    }
}

fn redis(dir: &TempDir, address: SocketAddr) -> RedisProcess {
    let args = ["--bind", "127.0.0.1", "--port", &address.port().to_string()];
    let args = args.map(str::to_owned);
    RedisProcess::start(dir.path(), &args, &[], "Ready to accept connections")
}

/// Comes, waits for a place inside, looks around and leaves.
fn visit(door: &Door, is_over: &AtomicBool) {
    let page = [("accept", "text/html"), ("sec-fetch-dest", "document")];
    let Some(mut answer) = door.get("/", &page) else {
        return rest();
    };
    let mut cookie = String::new();
    let mut is_inside = answer.status == 200;
    loop {
        if let Some(fresh) = answer.cookies().into_iter().next() {
            cookie = fresh;
        }
        if is_inside || is_over.load(Ordering::Relaxed) {
            break;
        }
        rest();
        let headers = [
            ("content-type", "application/json"),
            ("sec-fetch-site", "same-origin"),
            ("cookie", &cookie),
        ];
        let body = "{\"eventId\":\"main\"}";
        match door.ask("POST", "/__sumun/v1/status", &headers, body) {
            Some(said) if said.status == 200 => answer = said,
            // Nothing to wait with: comes anew.
            _ => return rest(),
        }
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        is_inside = said["status"] == "ENTER";
    }
    let headers = [page[0], page[1], ("cookie", &cookie)];
    // Two at once want a connection to the shop, of which there is one.
    std::thread::scope(|scope| {
        for path in ["/slow", "/slow", "/broken"] {
            scope.spawn(move || door.get(path, &headers));
        }
    });
    door.get("/done", &headers);
    let _refused = door.exchange("not a request\r\n\r\n");
}

/// What a visitor does between two looks at the page.
fn rest() {
    std::thread::sleep(Duration::from_millis(500));
}
