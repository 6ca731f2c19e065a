//! A crowd against a small limit over two gateways on one Redis: everybody
//! gets in, in order, never too many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::site::{Site, displacement, overtaken, tau};
use crate::support::visitor::Visitor;
use crate::support::whole_machine;

const LIMIT: usize = 50;

/// How many come; `SUMUN_CROWD` says otherwise.
const CROWD: usize = 2_000;

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(300);

#[expect(clippy::cast_precision_loss, reason = "a few thousand visitors")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_get_in_through_fifty_slots_in_order_and_never_more_at_once() {
    let _machine = whole_machine().await;
    let crowd = crowd();
    let origin = Origin::start().await;
    let redis = Redis::start(&[]);
    let mut setup = Setup::new(origin.address, Some(redis.address), LIMIT);
    // Polls are at most 4.6 s apart, so that who is called is heard from
    // before the offer lapses.
    setup.ticket_idle = "20s";
    let (one, other) = (Gateway::start(&setup).await, Gateway::start(&setup).await);
    one.wait_for("sumun_gateways", 2.0).await;
    let site = Arc::new(Site::new(vec![one.public, other.public]));
    let stored = Arc::<AtomicU64>::default();
    let looks = Arc::<AtomicU64>::default();
    let control = redis.control().await;
    let watching = tokio::spawn(watch(control, Arc::clone(&stored), Arc::clone(&looks)));

    let began = Instant::now();
    let mut visits = JoinSet::new();
    for name in 0..crowd {
        visits.spawn(visit(format!("visitor {name}"), Arc::clone(&site)));
    }
    let mut waited = Vec::new();
    let mut faults = Vec::new();
    while let Some(visit) = visits.join_next().await {
        match visit.unwrap() {
            Ok(wait) => waited.push(wait),
            Err(fault) => faults.push(fault),
        }
    }
    let took = began.elapsed();
    watching.abort();
    assert!(watching.await.unwrap_err().is_cancelled());
    let most_stored = stored.load(Ordering::SeqCst);

    let admitted = site.admitted();
    let queued = admitted.iter().filter(|a| a.number.is_some()).count();
    waited.sort();
    eprintln!(
        "crowd: {} of {crowd} in, {queued} of them through the line, in {:.1} s ({:.1}/s); \
         errors {}; broken connections {}; most inside: {} by the visitors, {most_stored} in the \
         store at {} looks, limit {LIMIT}; tau {:.5}, largest displacement {}, at most {} \
         overtaken by one; \
         waits: median {:.1} s, longest {:.1} s",
        admitted.len(),
        took.as_secs_f64(),
        admitted.len() as f64 / took.as_secs_f64(),
        faults.len(),
        site.broken(),
        site.most_inside(),
        looks.load(Ordering::SeqCst),
        tau(&admitted),
        displacement(&admitted),
        overtaken(&admitted),
        waited
            .get(waited.len() / 2)
            .map_or(0.0, Duration::as_secs_f64),
        waited.last().map_or(0.0, Duration::as_secs_f64),
    );
    assert!(
        faults.is_empty(),
        "{} faults: {:#?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
    assert_eq!(admitted.len(), crowd);
    assert!(site.most_inside() <= i64::try_from(LIMIT).unwrap());
    assert!(most_stored <= LIMIT as u64);
    assert_eq!(site.broken(), 0);
    // A slot goes to the lowest number that asks or whose offer stands; each
    // of the slots that are free at once may be taken by another of those.
    assert!(overtaken(&admitted) <= 2 * LIMIT);
    assert!(tau(&admitted) > 1.0 - 4.0 * LIMIT as f64 / crowd as f64);
    assert!(origin.seen() >= 2 * crowd as u64);
}

#[expect(
    clippy::disallowed_methods,
    reason = "how big a crowd is the choice of whoever runs the tests"
)]
fn crowd() -> usize {
    std::env::var("SUMUN_CROWD").map_or(CROWD, |text| text.parse().unwrap())
}

/// Takes a place, waits as told, looks around, goes. Tells how long it waited.
async fn visit(name: String, site: Arc<Site>) -> Result<Duration, String> {
    let mut visitor = Visitor::new(name);
    let came = Instant::now();
    visitor.wait(&site, PATIENCE).await?;
    let waited = came.elapsed();
    visitor.browse(&site).await?;
    let stay = rand::rng().random_range(100..300);
    tokio::time::sleep(Duration::from_millis(stay)).await;
    visitor.browse(&site).await?;
    visitor.complete(&site).await?;
    Ok(waited)
}

/// Looks at the sessions in Redis, as often as it answers.
async fn watch(mut redis: MultiplexedConnection, most: Arc<AtomicU64>, looks: Arc<AtomicU64>) {
    loop {
        // On a busy machine an answer may come too late for this client.
        if let Ok(sessions) = redis.zcard("sumun:{main}:active").await {
            most.fetch_max(sessions, Ordering::SeqCst);
            looks.fetch_add(1, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
