//! `sumun demo`: a frail shop, the gateway in front of it, and a crowd that
//! arrives in a wave, all in one process; the same crowd storms a twin of the
//! shop without a gateway. The first thing a newcomer runs: it shows what the
//! waiting room is for before anything is configured.

mod crowd;
mod picture;
mod shop;
mod summary;
mod tally;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use summary::{Side, Summary};

use crate::config::{Config, Faults};
use crate::ledger::View;
use crate::run::{self, Listeners, RunError, Running};
use picture::{Picture, Scene};
use shop::Shop;
use tally::Tally;

/// The fewest and the most visitors of a wave.
pub const VISITORS: std::ops::RangeInclusive<u32> = 10..=3_000;

/// The shortest and the longest wave, in seconds.
pub const SECONDS: std::ops::RangeInclusive<u64> = 5..=600;

/// The public port that is taken when it is free.
const PORT: u16 = 8080;

/// The admin port that is taken when it is free.
const ADMIN_PORT: u16 = 9090;

/// The time between two pictures on a terminal.
const FRAME: Duration = Duration::from_millis(250);

/// The time between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// In a wave long enough to see it, both shops have a weak spell: from and to
/// this share of it. The limit is right for a shop that is well; that it is
/// not, only the load shows.
const WEAK: (f64, f64) = (0.45, 0.53);
const WEAK_WAVE: Duration = Duration::from_secs(45);

/// The event's id in the demo.
const EVENT: &str = "main";

/// What the demo is to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many come, in [`VISITORS`].
    pub visitors: u32,
    /// How long they keep coming, in [`SECONDS`].
    pub wave: Duration,
    /// The public port; `None`: 8080 if it is free, else any.
    pub port: Option<u16>,
    /// How it is shown.
    pub show: Show,
}

/// How the demo is shown while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A live picture on the terminal.
    Picture,
    /// A line every few seconds.
    Lines,
    /// Nothing.
    Nothing,
}

impl Show {
    /// The picture if standard output is a terminal, else lines.
    #[must_use]
    pub fn here() -> Self {
        if io::stdout().is_terminal() {
            Self::Picture
        } else {
            Self::Lines
        }
    }
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// More or fewer visitors than can be shown.
    #[error("--visitors: {0} is not between {start} and {end}", start = VISITORS.start(), end = VISITORS.end())]
    Visitors(u32),
    /// A wave too short or too long.
    #[error("--seconds: {0:?} is not between {start} and {end} seconds", start = SECONDS.start(), end = SECONDS.end())]
    Wave(Duration),
    /// The port asked for is taken.
    #[error("--port: {0} cannot be listened on: {1}; name another, or leave it out")]
    Port(u16, io::Error),
    /// No socket on the loopback address.
    #[error("the demo's shop cannot listen on 127.0.0.1: {0}")]
    Shop(io::Error),
    /// The demo's own configuration has faults.
    #[error("the demo's configuration: {0}")]
    Config(Faults),
    /// The gateway did not start.
    #[error(transparent)]
    Gateway(#[from] RunError),
}

/// How big everything is, so that a wave of any size overwhelms the shop and
/// the line is through in about as long as the wave takes.
#[derive(Clone, Copy, Debug)]
struct Size {
    visitors: u32,
    wave: Duration,
    /// Sessions inside at once.
    limit: u32,
    /// The shop's workers.
    workers: u32,
    /// How long a visitor looks at a page, on average.
    think: Duration,
}

impl Size {
    fn of(options: &Options) -> Result<Self, DemoError> {
        if !VISITORS.contains(&options.visitors) {
            return Err(DemoError::Visitors(options.visitors));
        }
        let wave = options.wave;
        let seconds = Duration::from_secs(*SECONDS.start())..=Duration::from_secs(*SECONDS.end());
        if !seconds.contains(&wave) {
            return Err(DemoError::Wave(wave));
        }
        let think = wave.div_f64(70.0);
        let think = think.clamp(Duration::from_millis(100), Duration::from_millis(1_500));
        let limit = (options.visitors / 15).max(4);
        // Full to the limit, the shop is busy half of its time.
        let busy = shop::SERVICE.as_secs_f64() / (think + shop::SERVICE).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred at most"
        )]
        let workers = (f64::from(limit) * busy / 0.5).round().max(1.0) as u32;
        Ok(Self {
            visitors: options.visitors,
            wave,
            limit,
            workers,
            think,
        })
    }

    /// Whatever hangs, the demo ends.
    fn longest(&self) -> Duration {
        self.wave * 3 + Duration::from_secs(15)
    }
}

/// Runs the demo until the wave is through or `shutdown` resolves.
///
/// # Errors
/// When an option is out of range or a port cannot be listened on.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, DemoError> {
    let size = Size::of(&options)?;
    let shop = Shop::open(size.workers).map_err(DemoError::Shop)?;
    let twin = Shop::open(size.workers).map_err(DemoError::Shop)?;
    let port = match options.port {
        Some(port) => free(port).map_err(|fault| DemoError::Port(port, fault))?,
        None => free(PORT).unwrap_or(0),
    };
    let config = configuration(&size, shop.address, port)?;
    let mut listeners = Listeners::open(&config)?;
    if let Ok(usual) = admin() {
        listeners.admin = usual;
    }
    let unknown = |fault| DemoError::Gateway(RunError::Listen("listen", config.listen, fault));
    let stage = Stage {
        size,
        show: options.show,
        public: listeners.public_address().map_err(unknown)?,
        admin: listeners.admin_address().map_err(unknown)?,
        shop,
        twin,
        behind: Tally::new(),
        alone: Tally::new(),
    };
    let (end, ended) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let (_, never) = mpsc::channel(1);
    let gateway = Box::pin(run::run(
        config,
        listeners,
        never,
        async {
            let _ = ended.await;
        },
        |running| {
            let _ = tell.send(running);
        },
    ));
    let play = async {
        // Without an answer the gateway did not start and says why.
        let running: Running = told.await.ok()?;
        let summary = stage.play(&running, shutdown).await;
        let _ = end.send(());
        Some(summary)
    };
    let (ran, summary) = tokio::join!(gateway, Box::pin(play));
    ran?;
    summary.ok_or(DemoError::Shop(io::ErrorKind::Interrupted.into()))
}

/// This port of the loopback address, if nobody listens there. The gateway's
/// own listeners would share it with another process.
fn free(port: u16) -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port)
}

/// The admin door at its usual port, if that is free.
fn admin() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ADMIN_PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The gateway's configuration, as a newcomer would write it.
fn configuration(size: &Size, shop: SocketAddr, port: u16) -> Result<Config, DemoError> {
    let (limit, busy) = (size.limit, shop::busy_at(size.workers));
    let text = format!(
        r#"
listen = "127.0.0.1:{port}"
origin = "http://{shop}"
state_dir = ""
drain_delay = "0s"
drain_timeout = "1s"

[limits]
connections_per_address = 20000

[log]
access = false

[admin]
listen = "127.0.0.1:0"

[[event]]
id = "{EVENT}"
name = "Dawn Goods"
limit = {limit}
session_idle = "30s"
session_max = "10m"
joins_per_address_per_minute = 100000
sessions_per_address_ratio = 1

[event.queue_when]
in_flight = {busy}
latency_p95 = "500ms"
failure_ratio = 0.05
window = "5s"
release_after = "5s"
"#
    );
    Config::parse(&text, std::iter::empty()).map_err(DemoError::Config)
}

/// Everybody who takes part.
struct Stage {
    size: Size,
    show: Show,
    public: SocketAddr,
    admin: SocketAddr,
    shop: Shop,
    twin: Shop,
    /// The crowd that meets the gateway.
    behind: Arc<Tally>,
    /// The crowd that meets the shop's twin alone.
    alone: Arc<Tally>,
}

impl Stage {
    fn is_weak(&self, elapsed: Duration) -> bool {
        let wave = self.size.wave;
        let (from, to) = (wave.mul_f64(WEAK.0), wave.mul_f64(WEAK.1));
        wave >= WEAK_WAVE && (from..to).contains(&elapsed)
    }

    async fn play(&self, running: &Running, shutdown: impl Future<Output = ()>) -> Summary {
        let began = Instant::now();
        let plan = crowd::plan(&self.size);
        let mut crowds = JoinSet::new();
        crowd::send(&mut crowds, &plan, self.public, &self.behind);
        crowd::send(&mut crowds, &plan, self.twin.address, &self.alone);
        let through = async { while crowds.join_next().await.is_some() {} };
        let mut watcher = Watcher::new(self, running, began);
        let interrupted = tokio::select! {
            () = through => false,
            () = tokio::time::sleep(self.size.longest()) => true,
            () = shutdown => true,
            () = watcher.watch() => true,
        };
        crowds.abort_all();
        watcher.look();
        let inside_most = watcher.inside_most;
        drop(watcher);
        Summary {
            visitors: self.size.visitors,
            limit: self.size.limit,
            workers: self.size.workers,
            took: began.elapsed(),
            interrupted,
            inside_most: inside_most.max(self.behind.glance().inside_most),
            behind: self.behind.side(),
            alone: self.alone.side(),
        }
    }
}

/// Looks at everything several times a second and shows it.
struct Watcher<'a> {
    stage: &'a Stage,
    running: &'a Running,
    began: Instant,
    picture: Picture,
    inside_most: u64,
}

impl<'a> Watcher<'a> {
    fn new(stage: &'a Stage, running: &'a Running, began: Instant) -> Self {
        Self {
            stage,
            running,
            began,
            picture: Picture::open(stage.show),
            inside_most: 0,
        }
    }

    async fn watch(&mut self) {
        let mut ticks = tokio::time::interval(FRAME);
        let mut told = None;
        loop {
            ticks.tick().await;
            let view = self.look();
            let weak = self.stage.is_weak(self.began.elapsed());
            self.stage.shop.weaken(weak);
            self.stage.twin.weaken(weak);
            let due = told.is_none_or(|told: Instant| told.elapsed() >= LINE);
            if self.stage.show == Show::Nothing || (self.stage.show == Show::Lines && !due) {
                continue;
            }
            told = Some(Instant::now());
            self.picture.draw(&Scene {
                elapsed: self.began.elapsed(),
                size: self.stage.size,
                weak,
                public: self.stage.public,
                admin: self.stage.admin,
                view: view.as_deref(),
                behind: self.stage.behind.glance(),
                alone: self.stage.alone.glance(),
            });
        }
    }

    /// The gateway's own count of who is inside.
    fn look(&mut self) -> Option<Arc<View>> {
        let site = self.running.reception.site.load();
        let view = site.ledgers.get(EVENT)?.view()?;
        self.inside_most = self.inside_most.max(view.snapshot.sessions);
        Some(view)
    }
}

/// Writes to standard output; a reader who has gone away ends nothing.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
