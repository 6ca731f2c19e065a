//! A whole line: everybody joins, polls when the server says, and is let in.
//! Gateway, Redis and the crowd share the machine's cores.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::calls;
use crate::side::{
    Running, ask, cpu_seconds, nginx, own_cpu_seconds, redis, resident_mb, say, sumun,
};

/// Connections of the crowd; a visitor's requests go over any of them.
const CONNECTIONS: usize = 96;

/// Joins a second that are tried for.
const JOINS: u64 = 20_000;

/// Admissions a second that are ordered.
const ADMISSIONS: u64 = 5_000;

/// How long everybody waits before the first is called.
const STEADY: Duration = Duration::from_secs(60);

/// Latencies are counted in steps of so many microseconds...
const STEP_US: u64 = 20;

/// ...up to this many steps.
const STEPS: usize = 50_000;

/// Every core.
const CORES: &str = "0-1";

/// From the first join to the last admission.
pub(crate) fn run(crowd: usize) {
    let store = redis(CORES);
    let origin = nginx(CORES, "origin", |port| {
        format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}")
    });
    let (gateway, admin) = sumun(
        CORES,
        "gateway",
        &format!(
            "origin = \"http://127.0.0.1:{}\"\nstate_dir = \"\"\n[log]\naccess = false\n\
             [limits]\nconnections_per_address = 1000\n\
             [store]\nurl = \"redis://127.0.0.1:{}\"\n\
             [signing]\nkeys = [{{ id = \"a\", secret = \"a bench-mark secret that is long enough\" }}]\n\
             [[event]]\nid = \"main\"\nmode = \"pause\"\nlimit = 10000000\n\
             admit_per_second = {ADMISSIONS}\n\
             waiting_max = 10000000\njoins_per_address_per_minute = 100000000\nsessions_per_address_ratio = 1\n",
            origin.port, store.port
        ),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let parts = Parts {
        gateway: &gateway,
        store: &store,
    };
    say(&format!("a line of {crowd}"));
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let town = Rc::new(RefCell::new(Town::new(crowd)));
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await;
            let stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            tokio::task::spawn_local(serve(Rc::clone(&town), stream));
        }
        let most = Duration::from_secs(30 + 4 * crowd as u64 / JOINS);
        let joined = |town: &Town| town.joined == crowd;
        phase("joining", &parts, &town, most, joined).await;
        let began = Instant::now();
        phase("waiting", &parts, &town, STEADY * 2, |_| {
            began.elapsed() >= STEADY
        })
        .await;
        order(admin);
        let most = Duration::from_secs(60 + 3 * crowd as u64 / ADMISSIONS);
        let entered = |town: &Town| town.inside == crowd;
        phase("admitting", &parts, &town, most, entered).await;
        town.borrow().tell_admissions();
    });
}

/// The operator lets people in.
fn order(admin: u16) {
    let body = "{\"mode\":\"queue\"}";
    let answer = ask(
        admin,
        &format!(
            "PATCH /v1/events/main HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

struct Parts<'a> {
    gateway: &'a Running,
    store: &'a Running,
}

/// What was used up to a moment.
struct Used {
    at: Instant,
    gateway: f64,
    store: f64,
    crowd: f64,
    calls: f64,
}

impl Used {
    fn now(parts: &Parts<'_>) -> Self {
        Self {
            at: Instant::now(),
            gateway: cpu_seconds(parts.gateway),
            store: cpu_seconds(parts.store),
            crowd: own_cpu_seconds(),
            calls: calls(parts.store),
        }
    }
}

/// Lets the crowd live until something is so, and tells what that took.
async fn phase(
    name: &str,
    parts: &Parts<'_>,
    town: &Rc<RefCell<Town>>,
    most: Duration,
    over: impl Fn(&Town) -> bool,
) {
    let before = Used::now(parts);
    town.borrow_mut().figures = Figures::default();
    while !over(&town.borrow()) {
        let town = town.borrow();
        assert!(
            before.at.elapsed() < most,
            "{name} takes too long: {} joined, {} inside, {} errors",
            town.joined,
            town.inside,
            town.figures.errors
        );
        drop(town);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = Used::now(parts);
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let town = town.borrow();
    let figures = &town.figures;
    let waiting = (town.joined - town.inside).max(1) as f64;
    say(&format!(
        "{name}: {seconds:.1} s; joins {:.0}/s, polls {:.0}/s, admissions {:.0}/s, errors {}",
        figures.joins as f64 / seconds,
        figures.polls as f64 / seconds,
        figures.admissions as f64 / seconds,
        figures.errors,
    ));
    say(&format!(
        "  answered within {:.1} ms (median), {:.1} ms (99 of 100); asked {:.1} ms late (99 of 100)",
        figures.answered.share(0.5),
        figures.answered.share(0.99),
        figures.late.share(0.99),
    ));
    let share = |after: f64, before: f64| 100.0 * (after - before) / seconds;
    say(&format!(
        "  CPU: gateway {:.0} %, Redis {:.0} %, the crowd itself {:.0} % of a core; \
         memory: gateway {:.0} MB, Redis {:.0} MB",
        share(after.gateway, before.gateway),
        share(after.store, before.store),
        share(after.crowd, before.crowd),
        resident_mb(parts.gateway),
        resident_mb(parts.store),
    ));
    let scripts = after.calls - before.calls;
    say(&format!(
        "  store: {:.0} scripts a second, {:.6} per waiting visitor and second",
        scripts / seconds,
        scripts / seconds / waiting
    ));
}

/// One visitor.
#[derive(Default)]
struct Visitor {
    ticket: Option<Box<str>>,
}

/// The crowd.
struct Town {
    began: Instant,
    visitors: Vec<Visitor>,
    /// Who is to do something, and when, in microseconds.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    next_to_join: usize,
    joined: usize,
    inside: usize,
    figures: Figures,
    /// Admissions in each second.
    admissions: Vec<u64>,
}

#[derive(Default)]
struct Figures {
    joins: u64,
    polls: u64,
    admissions: u64,
    errors: u64,
    answered: Times,
    late: Times,
}

/// How long things took.
#[derive(Default)]
struct Times {
    counts: Vec<u32>,
    total: u64,
}

impl Times {
    fn add(&mut self, us: u64) {
        self.counts.resize(STEPS, 0);
        let step = usize::try_from(us / STEP_US).map_or(STEPS - 1, |step| step.min(STEPS - 1));
        self.counts[step] += 1;
        self.total += 1;
    }

    /// Within so many milliseconds a share of them.
    fn share(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share) as u64;
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        step.map_or(f64::NAN, |step| {
            (step as u64 + 1) as f64 * STEP_US as f64 / 1_000.0
        })
    }
}

impl Town {
    fn new(crowd: usize) -> Self {
        Self {
            began: Instant::now(),
            visitors: (0..crowd).map(|_| Visitor::default()).collect(),
            due: BinaryHeap::with_capacity(crowd),
            next_to_join: 0,
            joined: 0,
            inside: 0,
            figures: Figures::default(),
            admissions: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Who does something now: a poll that is due, or a newcomer at the rate.
    fn next(&mut self) -> Option<u32> {
        let now = self.now();
        if let Some(Reverse((due, visitor))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            self.figures.late.add(now - due);
            return Some(visitor);
        }
        let by_now = (now * JOINS / 1_000_000) as usize;
        if self.next_to_join < self.visitors.len() && self.next_to_join < by_now {
            let visitor = self.next_to_join;
            self.next_to_join += 1;
            return u32::try_from(visitor).ok();
        }
        None
    }

    /// Takes note of an answer.
    fn hear(&mut self, visitor: u32, status: u16, body: &[u8], took: Duration) {
        let now = self.now();
        self.figures
            .answered
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let joins = self.visitors[visitor as usize].ticket.is_none();
        let said = serde_json::from_slice::<Said<'_>>(body);
        let Some(said) = said.ok().filter(|_| status == 200) else {
            self.figures.errors += 1;
            self.due.push(Reverse((now + 1_000_000, visitor)));
            return;
        };
        if joins {
            self.joined += 1;
            self.figures.joins += 1;
        } else {
            self.figures.polls += 1;
        }
        if said.status == "ENTER" {
            self.inside += 1;
            self.figures.admissions += 1;
            let second = (now / 1_000_000) as usize;
            self.admissions
                .resize(second.max(self.admissions.len().saturating_sub(1)) + 1, 0);
            self.admissions[second] += 1;
            return;
        }
        self.visitors[visitor as usize].ticket = said.ticket.map(Into::into);
        let after = said.poll_after_ms.unwrap_or(1_000) * 1_000;
        self.due.push(Reverse((now + after, visitor)));
    }

    /// How well the ordered rate was kept, but for the first and last seconds.
    fn tell_admissions(&self) {
        let busy = self.admissions.iter().skip_while(|count| **count == 0);
        let busy: Vec<f64> = busy.map(|count| *count as f64).collect();
        let edge = 10.min(busy.len() / 4);
        let middle = &busy[edge..busy.len() - edge];
        let seconds = middle.len() as f64;
        let mean = middle.iter().sum::<f64>() / seconds;
        let most = middle.iter().copied().fold(0.0, f64::max);
        say(&format!(
            "admitted a second, of {ADMISSIONS} ordered: {mean:.0} on average over {seconds:.0} s \
             ({:+.1} %), at most {most:.0}",
            100.0 * (mean / ADMISSIONS as f64 - 1.0)
        ));
    }
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Said<'a> {
    status: &'a str,
    #[serde(borrow)]
    ticket: Option<&'a str>,
    #[serde(rename = "pollAfterMs")]
    poll_after_ms: Option<u64>,
}

/// One connection: takes whoever is due.
async fn serve(town: Rc<RefCell<Town>>, mut stream: TcpStream) {
    let mut request = Vec::with_capacity(2_048);
    let mut answer = Vec::with_capacity(4_096);
    loop {
        let next = town.borrow_mut().next();
        let Some(visitor) = next else {
            tokio::time::sleep(Duration::from_millis(4)).await;
            continue;
        };
        spell(&town.borrow(), visitor, &mut request);
        let began = Instant::now();
        let asked = exchange(&mut stream, &request, &mut answer).await;
        let took = began.elapsed();
        match asked {
            Ok((status, body)) => {
                town.borrow_mut()
                    .hear(visitor, status, &answer[body..], took);
            }
            Err(fault) => panic!("the connection broke: {fault}"),
        }
    }
}

fn spell(town: &Town, visitor: u32, request: &mut Vec<u8>) {
    request.clear();
    let ticket = town.visitors[visitor as usize].ticket.as_deref();
    let (call, body) = match ticket {
        None => ("enter", "{\"eventId\":\"main\"}".to_owned()),
        Some(ticket) => (
            "status",
            format!("{{\"eventId\":\"main\",\"ticket\":\"{ticket}\"}}"),
        ),
    };
    request.extend(
        format!(
            "POST /__sumun/v1/{call} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .bytes(),
    );
}

/// Sends a request and reads the whole answer: its status, and where its body begins.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> std::io::Result<(u16, usize)> {
    stream.write_all(request).await?;
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let body = end + 4;
        if answer.len() >= body + length.unwrap_or(0) {
            let status = head.get(9..12).and_then(|code| code.parse().ok());
            return Ok((status.unwrap_or(0), body));
        }
    }
}
