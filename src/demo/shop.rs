//! A frail shop: a few workers, a queue before them, and service that grows
//! slower the more is waiting, as real servers' does. Above its capacity its
//! pages visibly suffer; beyond a bound it fails.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use minijinja::{Environment, context};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::pages::Language;

/// What a page costs a worker when nothing else waits, on average.
pub(super) const SERVICE: Duration = Duration::from_millis(45);

/// Pages that may wait for each worker; the next one fails.
const QUEUE_PER_WORKER: u32 = 16;

/// With this many pages at the shop for each worker, service takes twice as
/// long: memory, locks and context switches are shared.
const STRAIN_PER_WORKER: u32 = 3;

/// In a weak spell service takes so many times as long.
const WEAKNESS: f64 = 2.2;

/// The longest head or pause of a client.
const PATIENCE: Duration = Duration::from_secs(30);

/// A form is a few bytes.
const FORM_MAX: usize = 16 << 10;

const CSS: &str = include_str!("assets/shop.css");

/// The goods: path, picture, name and words in English and Korean, price in won.
const GOODS: [Good; 3] = [
    Good {
        path: "moon-jar",
        picture: include_str!("assets/moon-jar.svg"),
        english: (
            "Moon jar",
            "White porcelain, thrown in two halves, never quite round.",
        ),
        korean: (
            "달항아리",
            "두 사발을 이어 빚은 백자. 조금 이지러져 더 달 같습니다.",
        ),
        won: 180_000,
    },
    Good {
        path: "tea-bowl",
        picture: include_str!("assets/tea-bowl.svg"),
        english: (
            "Tea bowl",
            "Celadon from Gangjin; the glaze deepens with every cup.",
        ),
        korean: ("찻사발", "강진 청자. 차를 마실수록 빛이 깊어집니다."),
        won: 64_000,
    },
    Good {
        path: "lantern",
        picture: include_str!("assets/lantern.svg"),
        english: ("Lantern", "Hanji over bamboo, for the hour before sunrise."),
        korean: (
            "한지등",
            "대나무 살에 한지를 발랐습니다. 해 뜨기 전을 위한 등.",
        ),
        won: 42_000,
    },
];

struct Good {
    path: &'static str,
    picture: &'static str,
    english: (&'static str, &'static str),
    korean: (&'static str, &'static str),
    won: u32,
}

/// A shop that is open until it is dropped.
pub(super) struct Shop {
    /// Where it listens.
    pub(super) address: SocketAddr,
    counter: Arc<Counter>,
    door: AbortHandle,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.door.abort();
    }
}

/// The back of the shop.
struct Counter {
    workers: Semaphore,
    count: u32,
    /// Pages being made or waiting to be.
    at_work: AtomicU32,
    weak: AtomicBool,
}

/// A page's time at the counter.
struct Made {
    took: Duration,
    ahead: u32,
}

/// What a request is for.
enum Wish {
    Home,
    Good(&'static Good),
    Checkout(&'static Good),
    Order,
    Asset(&'static str, &'static str),
    Nothing,
}

/// How many pages at the shop at once are as many as it should have.
pub(super) fn busy_at(workers: u32) -> u32 {
    workers * 4
}

impl Shop {
    /// Opens a shop on a free port of the loopback address, on the present
    /// runtime.
    pub(super) fn open(workers: u32) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let counter = Arc::new(Counter {
            workers: Semaphore::new(workers as usize),
            count: workers,
            at_work: AtomicU32::new(0),
            weak: AtomicBool::new(false),
        });
        let door = tokio::spawn(serve(listener, Arc::clone(&counter))).abort_handle();
        Ok(Self {
            address,
            counter,
            door,
        })
    }

    /// Makes the shop slower, as a report that runs beside it would, or well
    /// again.
    pub(super) fn weaken(&self, weak: bool) {
        self.counter.weak.store(weak, Ordering::Relaxed);
    }
}

async fn serve(listener: TcpListener, counter: Arc<Counter>) {
    let mut customers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    customers.spawn(attend(stream, Arc::clone(&counter)));
                }
                // Out of file descriptors, most likely: some come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = customers.join_next() => {}
        }
    }
}

async fn attend(stream: TcpStream, counter: Arc<Counter>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let counter = Arc::clone(&counter);
        async move { Ok::<_, Infallible>(counter.answer(request).await) }
    });
    // A customer who hangs up is no fault of the shop's.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Counts a page for as long as it is at the shop, given up ones too.
struct AtWork<'a>(&'a AtomicU32);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counter {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let wish = wish(request.method(), request.uri().path());
        let language = language(request.headers());
        if let Wish::Asset(kind, text) = wish {
            return asset(kind, text);
        }
        // A form is read to its end, so that the connection can be kept.
        let form = Limited::new(request.into_body(), FORM_MAX).collect().await;
        if form.is_err() {
            return page(StatusCode::PAYLOAD_TOO_LARGE, String::new());
        }
        let Some(made) = self.make().await else {
            let text = render(&Wish::Nothing, language, None);
            let mut answer = page(StatusCode::SERVICE_UNAVAILABLE, text);
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            return answer;
        };
        let status = match wish {
            Wish::Nothing => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        let mut answer = page(status, render(&wish, language, Some(&made)));
        if matches!(wish, Wish::Order) {
            // The visit is over: the slot is the next one's, at once.
            answer
                .headers_mut()
                .insert("sumun-session", HeaderValue::from_static("complete"));
        }
        answer
    }

    /// Waits for a worker and is served; `None` when too many wait already.
    async fn make(&self) -> Option<Made> {
        let began = Instant::now();
        let ahead = self.at_work.fetch_add(1, Ordering::Relaxed);
        let _at_work = AtWork(&self.at_work);
        if ahead >= self.count * QUEUE_PER_WORKER {
            return None;
        }
        let _worker = self.workers.acquire().await.ok()?;
        let uneven = 0.67 + 0.66 * rand::random::<f64>();
        tokio::time::sleep(self.service(uneven)).await;
        Some(Made {
            took: began.elapsed(),
            ahead,
        })
    }
}

impl Counter {
    /// What a page costs its worker now; `uneven` is how heavy this one is.
    fn service(&self, uneven: f64) -> Duration {
        let waiting = self.at_work.load(Ordering::Relaxed);
        let strain = f64::from(waiting.saturating_sub(self.count))
            / f64::from(self.count * STRAIN_PER_WORKER);
        let weakness = if self.weak.load(Ordering::Relaxed) {
            WEAKNESS
        } else {
            1.0
        };
        SERVICE.mul_f64(uneven * weakness * (1.0 + strain))
    }
}

fn wish(method: &Method, path: &str) -> Wish {
    let good = |rest: &str| GOODS.iter().find(|good| good.path == rest);
    if *method == Method::POST {
        return if path == "/order" {
            Wish::Order
        } else {
            Wish::Nothing
        };
    }
    if path == "/" {
        return Wish::Home;
    }
    if path == "/assets/shop.css" {
        return Wish::Asset("text/css; charset=utf-8", CSS);
    }
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match parts {
        Some(("goods", rest)) => good(rest).map_or(Wish::Nothing, Wish::Good),
        Some(("checkout", rest)) => good(rest).map_or(Wish::Nothing, Wish::Checkout),
        Some(("assets", file)) => file
            .strip_suffix(".svg")
            .and_then(good)
            .map_or(Wish::Nothing, |good| {
                Wish::Asset("image/svg+xml", good.picture)
            }),
        _ => Wish::Nothing,
    }
}

fn language(headers: &HeaderMap) -> Language {
    let asked = headers.get(header::ACCEPT_LANGUAGE);
    Language::negotiate(asked.and_then(|value| value.to_str().ok()))
}

fn asset(kind: &'static str, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let cached = HeaderValue::from_static("public, max-age=300");
    headers.insert(header::CACHE_CONTROL, cached);
    answer
}

fn page(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
    answer
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    // The test below renders every page, so a fault here does not go unseen.
    let _ = templates.add_template("shop.html", include_str!("assets/shop.html"));
    templates
});

/// A page of the shop; without a time it is the one that says it failed.
fn render(wish: &Wish, language: Language, made: Option<&Made>) -> String {
    let korean = language == Language::Korean;
    let shown = |good: &Good| {
        let (name, words) = if korean { good.korean } else { good.english };
        context! { path => good.path, name, words, won => super::summary::grouped(good.won.into()) }
    };
    let good = match wish {
        Wish::Good(good) | Wish::Checkout(good) => Some(shown(good)),
        _ => None,
    };
    let kind = match (wish, made) {
        (_, None) => "failed",
        (Wish::Home, _) => "home",
        (Wish::Good(_), _) => "good",
        (Wish::Checkout(_), _) => "checkout",
        (Wish::Order, _) => "thanks",
        (Wish::Asset(..) | Wish::Nothing, _) => "missing",
    };
    let values = context! {
        ko => korean,
        lang => language.tag(),
        kind,
        good,
        goods => GOODS.iter().map(shown).collect::<Vec<_>>(),
        slow => made.is_none_or(|made| made.took > SERVICE * 6),
        took => super::summary::milliseconds(made.map(|made| made.took)),
        ahead => made.map_or(0, |made| made.ahead),
    };
    TEMPLATES
        .get_template("shop.html")
        .and_then(|template| template.render(values))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(workers: u32) -> Counter {
        Counter {
            workers: Semaphore::new(workers as usize),
            count: workers,
            at_work: AtomicU32::new(0),
            weak: AtomicBool::new(false),
        }
    }

    #[test]
    fn every_page_is_there_in_both_languages() {
        let made = Made {
            took: Duration::from_millis(1_234),
            ahead: 7,
        };
        let pages = [
            ("/", "Moon jar", "달항아리"),
            ("/goods/tea-bowl", "64,000", "찻사발"),
            ("/checkout/lantern", "/order", "/order"),
            ("/nowhere", "1,234 ms", "1,234 ms"),
        ];
        for (path, english, korean) in pages {
            let wish = wish(&Method::GET, path);
            assert!(render(&wish, Language::English, Some(&made)).contains(english));
            assert!(render(&wish, Language::Korean, Some(&made)).contains(korean));
        }
        let failed = render(&Wish::Home, Language::English, None);
        assert!(failed.contains("cannot keep up"), "{failed}");
    }

    #[test]
    fn service_grows_slower_with_what_waits_and_in_a_weak_spell() {
        let counter = counter(2);
        let calm = counter.service(1.0);
        counter.at_work.store(20, Ordering::Relaxed);
        let strained = counter.service(1.0);
        assert!(calm == SERVICE && strained > calm * 3);
        counter.weak.store(true, Ordering::Relaxed);
        assert!(counter.service(1.0) > strained);
    }

    #[tokio::test]
    async fn beyond_its_bound_the_shop_fails() {
        let counter = Arc::new(counter(1));
        let mut crowd = JoinSet::new();
        for _ in 0..=QUEUE_PER_WORKER {
            let counter = Arc::clone(&counter);
            crowd.spawn(async move { counter.make().await.is_none() });
        }
        let failed = crowd.join_all().await;
        assert_eq!(failed.into_iter().filter(|failed| *failed).count(), 1);
        assert_eq!(counter.at_work.load(Ordering::Relaxed), 0);
    }
}
