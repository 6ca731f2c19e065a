//! The crowd: everybody a client of their own with a cookie jar, over real
//! sockets. They arrive when the sale opens, look at a few pages, order, and
//! when a page fails they do what people do: load it again, and give up at
//! last. In line they do what a browser without script does: load the page
//! again when it says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cookie::Cookie;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Size;
use super::tally::{End, Tally};

/// The longest that anybody waits for a page.
const PATIENCE: Duration = Duration::from_secs(8);

/// A page that fails is loaded so many times before its visitor gives up.
const TRIES: u32 = 4;

/// The largest page that is read, in bytes.
const PAGE_MAX: usize = 1 << 20;

/// When a page does not say when to come back.
const COME_BACK: Duration = Duration::from_secs(3);

/// The share of the wave before the sale opens, and of the visitors who come
/// in it: the shop is seen well before it is seen under load.
const BEFORE: f64 = 0.1;
const EARLY: f64 = 0.04;

/// After the opening fewer come, by a factor of e in so much of the wave.
const DECAY: f64 = 1.0 / 6.0;

/// Every so many visitors one leaves without a word, and the slot is free
/// only when the session is idle. Only in waves long enough to wait for that.
const SILENT: usize = 25;
const SILENT_WAVE: Duration = Duration::from_secs(45);

/// One visitor's intentions; the same for both crowds.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// When they come.
    at: Duration,
    /// What they want to see, and how long they look at each.
    pages: Vec<(&'static str, Duration)>,
    /// Whether they go without ordering.
    silent: bool,
    korean: bool,
}

/// Who comes when, and what for.
pub(super) fn plan(size: &Size) -> Vec<Visitor> {
    let mut random = StdRng::seed_from_u64(1);
    let goods = [
        ("/goods/moon-jar", "/checkout/moon-jar"),
        ("/goods/tea-bowl", "/checkout/tea-bowl"),
        ("/goods/lantern", "/checkout/lantern"),
    ];
    let count = size.visitors as usize;
    (0..count)
        .map(|index| {
            let mut paths = vec!["/"];
            if let Some((good, checkout)) = goods.choose(&mut random) {
                if random.random_bool(0.7) {
                    paths.push(good);
                }
                paths.push(checkout);
            }
            Visitor {
                at: size.wave.mul_f64(arrival(index, count)),
                pages: paths
                    .into_iter()
                    .map(|path| (path, size.think.mul_f64(random.random_range(0.5..1.5))))
                    .collect(),
                silent: size.wave >= SILENT_WAVE && index % SILENT == SILENT - 1,
                korean: random.random_bool(0.5),
            }
        })
        .collect()
}

/// When the visitor of this index comes, as a share of the wave: a trickle,
/// then a rush that decays.
#[expect(clippy::cast_precision_loss, reason = "a few thousand visitors")]
fn arrival(index: usize, count: usize) -> f64 {
    let place = (index as f64 + 0.5) / count as f64;
    if place < EARLY {
        return BEFORE * place / EARLY;
    }
    let place = (place - EARLY) / (1.0 - EARLY);
    let rest = 1.0 - BEFORE;
    let whole = 1.0 - (-rest / DECAY).exp();
    BEFORE - DECAY * (1.0 - place * whole).ln()
}

/// Sends the crowd to a door.
pub(super) fn send(
    crowd: &mut JoinSet<()>,
    plan: &[Visitor],
    door: SocketAddr,
    tally: &Arc<Tally>,
) {
    let began = Instant::now();
    for visitor in plan {
        let (visitor, tally) = (visitor.clone(), Arc::clone(tally));
        crowd.spawn(async move {
            tokio::time::sleep_until(began + visitor.at).await;
            visit(&visitor, door, &tally).await;
        });
    }
}

async fn visit(visitor: &Visitor, door: SocketAddr, tally: &Tally) {
    let mut visit = Visit {
        browser: Browser::new(door, visitor.korean),
        tally,
        since: Instant::now(),
        waited: false,
        entered: false,
        inside: false,
    };
    tally.arrived();
    let end = visit.walk(visitor).await;
    visit.go();
    tally.ended(end);
}

struct Visit<'a> {
    browser: Browser,
    tally: &'a Tally,
    since: Instant,
    waited: bool,
    entered: bool,
    inside: bool,
}

impl Visit<'_> {
    async fn walk(&mut self, visitor: &Visitor) -> End {
        for (path, look) in &visitor.pages {
            if !self.see(&Method::GET, path, *look).await {
                return End::Lost;
            }
            tokio::time::sleep(*look).await;
        }
        if visitor.silent {
            return End::Left;
        }
        // The slot is free as soon as the shop has taken the order, which
        // may be before this visitor knows.
        self.go();
        let last = visitor.pages.last().map_or(COME_BACK, |(_, look)| *look);
        if self.see(&Method::POST, "/order", last).await {
            End::Ordered
        } else {
            End::Lost
        }
    }

    /// Loads a page until it is there, in line if need be.
    async fn see(&mut self, method: &Method, path: &str, pause: Duration) -> bool {
        let mut tries = 0;
        while tries < TRIES {
            let asked = Instant::now();
            let loaded = tokio::time::timeout(PATIENCE, self.browser.load(method, path)).await;
            match loaded {
                Ok(Some(Loaded::Line(after))) => {
                    self.stand();
                    tokio::time::sleep(after).await;
                }
                Ok(Some(Loaded::Page)) => {
                    self.tally.page(asked.elapsed(), false);
                    self.enter();
                    return true;
                }
                failed => {
                    match failed {
                        Err(_) => self.tally.page(asked.elapsed(), true),
                        Ok(_) => self.tally.error(),
                    }
                    tries += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
        false
    }

    fn stand(&mut self) {
        if !self.waited && !self.entered {
            self.waited = true;
            self.tally.waits();
        }
    }

    /// Inside from the first page on, once.
    fn enter(&mut self) {
        if !self.entered {
            self.entered = true;
            self.inside = true;
            self.tally.entered(self.since, self.waited);
        }
    }

    fn go(&mut self) {
        if self.waited && !self.entered {
            self.tally.leaves_line();
            self.waited = false;
        }
        if std::mem::take(&mut self.inside) {
            self.tally.going();
        }
    }
}

/// What came of asking for a page.
enum Loaded {
    /// The shop's page.
    Page,
    /// A place in line, and when to load it again.
    Line(Duration),
    /// An error.
    Fault,
}

/// As much of a browser as a visit needs.
struct Browser {
    door: SocketAddr,
    korean: bool,
    jar: Vec<(String, String)>,
    /// Whether the style sheet and the picture are in its cache.
    cached: bool,
}

impl Browser {
    fn new(door: SocketAddr, korean: bool) -> Self {
        Self {
            door,
            korean,
            jar: Vec::new(),
            cached: false,
        }
    }

    /// Loads a page with its parts; `None` when the connection breaks.
    async fn load(&mut self, method: &Method, path: &str) -> Option<Loaded> {
        let stream = TcpStream::connect(self.door).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let loaded = self.talk(&mut sender, method, path).await;
        drop(sender);
        connection.abort();
        loaded
    }

    async fn talk(
        &mut self,
        sender: &mut SendRequest<Full<Bytes>>,
        method: &Method,
        path: &str,
    ) -> Option<Loaded> {
        let answer = sender
            .send_request(self.ask(method, path, true)?)
            .await
            .ok()?;
        self.keep(answer.headers());
        let (head, body) = answer.into_parts();
        let text = read(body).await?;
        let standing = head.headers.get("sumun-status");
        if standing.is_some_and(|standing| standing == "wait" || standing == "block") {
            return Some(Loaded::Line(come_back(&head.headers, &text)));
        }
        if head.status != StatusCode::OK {
            return Some(Loaded::Fault);
        }
        if !std::mem::replace(&mut self.cached, true) {
            for part in ["/assets/shop.css", "/assets/moon-jar.svg"] {
                let part = self.ask(&Method::GET, part, false)?;
                read(sender.send_request(part).await.ok()?.into_body()).await?;
            }
        }
        Some(Loaded::Page)
    }

    fn ask(&self, method: &Method, path: &str, page: bool) -> Option<Request<Full<Bytes>>> {
        let (dest, accept) = if page {
            ("document", "text/html,*/*;q=0.8")
        } else {
            ("style", "*/*")
        };
        let language = if self.korean { "ko,en;q=0.5" } else { "en" };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.door.to_string())
            .header(header::USER_AGENT, "Mozilla/5.0 (sumun demo)")
            .header(header::ACCEPT, accept)
            .header(header::ACCEPT_LANGUAGE, language)
            .header("sec-fetch-dest", dest);
        if !self.jar.is_empty() {
            let cookies: Vec<String> = self
                .jar
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        let body = if method == Method::POST {
            "agreed=yes"
        } else {
            ""
        };
        request
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .ok()
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) = line.to_str().ok().and_then(|line| Cookie::parse(line).ok()) else {
                continue;
            };
            self.jar.retain(|(name, _)| name != cookie.name());
            let age = cookie.max_age();
            if age.is_none_or(time::Duration::is_positive) {
                self.jar
                    .push((cookie.name().to_owned(), cookie.value().to_owned()));
            }
        }
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    let read = Limited::new(body, PAGE_MAX).collect().await.ok()?;
    Some(read.to_bytes())
}

/// When a waiting page wants to be loaded again: as its script is told, else
/// by `Retry-After`.
fn come_back(headers: &HeaderMap, page: &[u8]) -> Duration {
    let told = std::str::from_utf8(page).ok().and_then(|page| {
        let (_, rest) = page.split_once("\"pollAfterMs\":")?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        rest.get(..end)?.parse().ok().map(Duration::from_millis)
    });
    let retry_after = || {
        let seconds = headers
            .get(header::RETRY_AFTER)?
            .to_str()
            .ok()?
            .parse()
            .ok()?;
        Some(Duration::from_secs(seconds))
    };
    told.or_else(retry_after)
        .unwrap_or(COME_BACK)
        .clamp(Duration::from_millis(500), Duration::from_secs(120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_within_the_wave_and_most_of_them_early() {
        let when: Vec<f64> = (0..600).map(|index| arrival(index, 600)).collect();
        assert!(when.is_sorted());
        assert!(when.iter().all(|at| (0.0..=1.0).contains(at)));
        let rush = when.iter().filter(|at| (0.1..0.27).contains(*at)).count();
        assert!(rush > 300, "{rush}");
    }

    #[test]
    fn a_waiting_page_is_loaded_again_when_it_says_so() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        let page = br#"{"pollAfterMs":2345,"x":1}"#;
        assert_eq!(come_back(&headers, page), Duration::from_millis(2_345));
        assert_eq!(come_back(&headers, b""), Duration::from_secs(7));
        assert_eq!(come_back(&HeaderMap::new(), b"\xff"), COME_BACK);
    }

    #[test]
    fn a_cookie_that_is_taken_back_is_forgotten() {
        let mut browser = Browser::new("127.0.0.1:1".parse().unwrap(), false);
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, "a=1; Path=/".parse().unwrap());
        headers.append(header::SET_COOKIE, "b=2".parse().unwrap());
        browser.keep(&headers);
        headers.clear();
        headers.append(header::SET_COOKIE, "a=; Max-Age=0".parse().unwrap());
        browser.keep(&headers);
        assert_eq!(browser.jar, [("b".to_owned(), "2".to_owned())]);
    }
}
