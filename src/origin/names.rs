//! The addresses of an origin's name. They are kept for a while, asked for anew
//! after it, and kept on when nobody tells: a resolver that is away takes no
//! origin with it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::room::time::millis;

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// After a failure without any known address, nobody is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Who tells the addresses of a name.
#[derive(Clone)]
pub enum Resolver {
    /// The machine (`getaddrinfo`): files, DNS, whatever it is set up for.
    System,
    /// A test.
    Scripted(Arc<Script>),
}

/// The addresses of a name, as a test tells them.
pub type Script = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// An origin's addresses, as all threads know them.
pub struct Names {
    host: Host,
    port: u16,
    kept: Duration,
    resolver: Resolver,
    clock: Clock,
    known: ArcSwapOption<Known>,
    asking: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(u64, String)>>,
}

enum Host {
    Address(Arc<Known>),
    Name(String),
}

/// What was told last.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) addresses: Vec<SocketAddr>,
    /// The one that a connection was opened to last: it is tried first.
    pub(crate) preferred: AtomicUsize,
    asked_ms: u64,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Scripted(_) => "Scripted",
        })
    }
}

impl Resolver {
    async fn ask(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let told: Vec<SocketAddr> = match self {
            Self::System => tokio::net::lookup_host((host, port)).await?.collect(),
            Self::Scripted(script) => {
                let told = script(host)?.into_iter();
                told.map(|address| SocketAddr::new(address, port)).collect()
            }
        };
        let mut once = Vec::with_capacity(told.len().min(ADDRESSES_MAX));
        for address in told {
            if once.len() < ADDRESSES_MAX && !once.contains(&address) {
                once.push(address);
            }
        }
        if once.is_empty() {
            let fault = format!("{host} has no address");
            return Err(io::Error::new(io::ErrorKind::NotFound, fault));
        }
        Ok(once)
    }
}

impl Known {
    fn asked(asked_ms: u64, addresses: Vec<SocketAddr>, preferred: usize) -> Arc<Self> {
        Arc::new(Self {
            addresses,
            preferred: AtomicUsize::new(preferred),
            asked_ms,
        })
    }
}

impl Names {
    /// The addresses of `host`, a name or an address, each kept for so long.
    #[must_use]
    pub fn new(
        (host, port): (&str, u16),
        kept: Duration,
        resolver: Resolver,
        clock: Clock,
    ) -> Self {
        let host = match host.parse::<IpAddr>() {
            Ok(address) => {
                let addresses = vec![SocketAddr::new(address, port)];
                Host::Address(Known::asked(0, addresses, 0))
            }
            Err(_) => Host::Name(host.to_owned()),
        };
        Self {
            host,
            port,
            kept,
            resolver,
            clock,
            known: ArcSwapOption::empty(),
            asking: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// The addresses as known, asked for first when they are too old. While
    /// somebody asks, the others go on with the old ones.
    ///
    /// # Errors
    /// When none was ever told.
    pub(crate) async fn addresses(&self) -> io::Result<Arc<Known>> {
        let name = match &self.host {
            Host::Address(known) => return Ok(Arc::clone(known)),
            Host::Name(name) => name,
        };
        let old = match self.known.load_full() {
            Some(known) if self.age_ms(&known) < millis(self.kept) => return Ok(known),
            old => old,
        };
        let _asking = match (self.asking.try_lock(), &old) {
            (Ok(asking), _) => asking,
            (Err(_), Some(old)) => return Ok(Arc::clone(old)),
            (Err(_), None) => self.asking.lock().await,
        };
        match self.known.load_full() {
            Some(known) if self.age_ms(&known) < millis(self.kept) => return Ok(known),
            Some(_) => {}
            None => self.paused()?,
        }
        self.ask(name).await
    }

    /// Whether half of the time is over that the addresses are kept for.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let known = self.known.load();
        let half = millis(self.kept / 2);
        known
            .as_ref()
            .is_some_and(|known| self.age_ms(known) >= half)
    }

    /// Asks again when it is due, so that no request need wait for it.
    pub async fn refresh(&self) {
        let Host::Name(name) = &self.host else {
            return;
        };
        let Ok(_asking) = self.asking.try_lock() else {
            return;
        };
        if self.is_due() {
            let _told = self.ask(name).await;
        }
    }

    fn age_ms(&self, known: &Known) -> u64 {
        self.clock.monotonic_ms().saturating_sub(known.asked_ms)
    }

    /// Whether a connection to this address still leads to the origin.
    pub(crate) fn leads_to(&self, address: SocketAddr) -> bool {
        let Host::Name(_) = &self.host else {
            return true;
        };
        let known = self.known.load();
        known
            .as_ref()
            .is_none_or(|known| known.addresses.contains(&address))
    }

    /// The addresses as last told, for those who look at the origin.
    #[must_use]
    pub fn known(&self) -> Vec<SocketAddr> {
        match (&self.host, &*self.known.load()) {
            (Host::Address(known), _) | (_, Some(known)) => known.addresses.clone(),
            (Host::Name(_), None) => Vec::new(),
        }
    }

    async fn ask(&self, name: &str) -> io::Result<Arc<Known>> {
        match self.resolver.ask(name, self.port).await {
            Ok(addresses) => {
                if self.failing().take().is_some() {
                    info!(name, "the name of the origin is resolved again");
                }
                let old = self.known.load_full();
                let preferred = old.and_then(|old| {
                    let last = old.addresses.get(old.preferred.load(Ordering::Relaxed))?;
                    addresses.iter().position(|address| address == last)
                });
                let now = self.clock.monotonic_ms();
                let known = Known::asked(now, addresses, preferred.unwrap_or(0));
                self.known.store(Some(Arc::clone(&known)));
                Ok(known)
            }
            Err(fault) => {
                let now = self.clock.monotonic_ms();
                let before = self.failing().replace((now, fault.to_string()));
                let Some(old) = self.known.load_full() else {
                    return Err(fault);
                };
                if before.is_none() {
                    warn!(name, %fault, "the name of the origin cannot be resolved; its last known addresses are used on");
                }
                let preferred = old.preferred.load(Ordering::Relaxed);
                let known = Known::asked(now, old.addresses.clone(), preferred);
                self.known.store(Some(Arc::clone(&known)));
                Ok(known)
            }
        }
    }

    /// Nobody told a moment ago: the next ones need not ask.
    fn paused(&self) -> io::Result<()> {
        let now = self.clock.monotonic_ms();
        match &*self.failing() {
            Some((at, fault)) if now.saturating_sub(*at) < millis(PAUSE) => {
                Err(io::Error::new(io::ErrorKind::NotFound, fault.clone()))
            }
            _ => Ok(()),
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, Option<(u64, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Arc<Mutex<Result<Vec<IpAddr>, io::ErrorKind>>>;

    /// Names that are kept for ten seconds of this clock.
    fn names(clock: &Clock) -> (Names, Told, Arc<AtomicUsize>) {
        let script: Told = Arc::new(Mutex::new(Ok(vec![[10, 0, 0, 1].into()])));
        let asked = Arc::new(AtomicUsize::new(0));
        let (told, count) = (Arc::clone(&script), Arc::clone(&asked));
        let resolver = Resolver::Scripted(Arc::new(move |host| {
            assert_eq!(host, "shop.internal");
            count.fetch_add(1, Ordering::Relaxed);
            told.lock().unwrap().clone().map_err(io::Error::from)
        }));
        let kept = Duration::from_secs(10);
        let names = Names::new(("shop.internal", 80), kept, resolver, clock.clone());
        (names, script, asked)
    }

    async fn told(names: &Names) -> Vec<String> {
        let known = names.addresses().await.unwrap();
        known.addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_and_asked_for_anew_after_it() {
        let clock = Clock::manual(1_000);
        let (names, script, asked) = names(&clock);
        assert_eq!(told(&names).await, ["10.0.0.1:80"]);
        *script.lock().unwrap() = Ok(vec![[10, 0, 0, 2].into(), [10, 0, 0, 3].into()]);
        clock.advance(9_000);
        assert_eq!(told(&names).await, ["10.0.0.1:80"]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(2_000);
        assert_eq!(told(&names).await, ["10.0.0.2:80", "10.0.0.3:80"]);
        assert!(!names.leads_to("10.0.0.1:80".parse().unwrap()));
        assert!(names.leads_to("10.0.0.3:80".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_resolver_that_fails_takes_nothing_away() {
        let clock = Clock::manual(1_000);
        let (names, script, asked) = names(&clock);
        told(&names).await;
        *script.lock().unwrap() = Err(io::ErrorKind::TimedOut);
        clock.advance(11_000);
        assert_eq!(told(&names).await, ["10.0.0.1:80"]);
        assert_eq!(told(&names).await, ["10.0.0.1:80"]);
        assert_eq!(
            asked.load(Ordering::Relaxed),
            2,
            "one asks, not each request"
        );
        assert!(names.leads_to("10.0.0.1:80".parse().unwrap()));
    }

    #[tokio::test]
    async fn without_any_address_the_next_ones_fail_for_a_moment_unasked() {
        let clock = Clock::manual(1_000);
        let (names, script, asked) = names(&clock);
        *script.lock().unwrap() = Ok(Vec::new());
        for _ in 0..3 {
            assert!(names.addresses().await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        *script.lock().unwrap() = Ok(vec![[10, 0, 0, 9].into()]);
        clock.advance(millis(PAUSE));
        assert_eq!(told(&names).await, ["10.0.0.9:80"]);
    }

    #[tokio::test]
    async fn who_refreshes_asks_before_a_request_has_to() {
        let clock = Clock::manual(1_000);
        let (names, script, _) = names(&clock);
        names.refresh().await;
        assert!(names.known().is_empty(), "nobody has asked for it yet");
        told(&names).await;
        *script.lock().unwrap() = Ok(vec![[10, 0, 0, 2].into()]);
        names.refresh().await;
        assert_eq!(told(&names).await, ["10.0.0.1:80"]);
        clock.advance(6_000);
        names.refresh().await;
        assert_eq!(told(&names).await, ["10.0.0.2:80"]);
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let resolver = Resolver::Scripted(Arc::new(|_| Err(io::ErrorKind::NotFound.into())));
        let names = Names::new(("::1", 8080), Duration::ZERO, resolver, Clock::system());
        assert_eq!(told(&names).await, ["[::1]:8080"]);
    }
}
