//! A gateway is killed in the middle of ten thousand joins: whoever was told a
//! place has it, in the order in which they were told, and the others join at
//! the gateway that is left.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::people::still_waits;
use crate::support::site::Site;
use crate::support::town::Town;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{until, whole_machine};

const JOINS: usize = 10_000;

/// Who come at the same time.
const AT_ONCE: usize = 64;

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(120);

/// Numbers of a page.
const PAGE: u64 = 65_536;

/// Somebody who was told a place, and when.
struct Joined {
    visitor: Visitor,
    came: Instant,
    told: Instant,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_killed_in_the_middle_of_ten_thousand_joins() {
    let _machine = whole_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    let told = Arc::<AtomicUsize>::default();
    let joining = tokio::spawn(join(Arc::clone(&town.site), Arc::clone(&told)));

    let moment = rand::rng().random_range(JOINS / 4..JOINS / 2);
    until("that many have joined", SOON, async || {
        told.load(Ordering::SeqCst) >= moment
    })
    .await;
    town.gateways[1].kill();
    let at_the_kill = told.load(Ordering::SeqCst);
    let setup = town.setup.clone();
    town.gateways[1].start_again(&setup).await;
    let at_the_start = told.load(Ordering::SeqCst);
    let mut joined = joining.await.unwrap();
    eprintln!(
        "joins: killed at {at_the_kill}, back at {at_the_start} of {JOINS}; {} connections broken",
        town.site.broken()
    );
    assert!(town.site.broken() > 0, "the kill met nobody");
    assert!(at_the_start < JOINS, "the gateway came back to nothing");

    let mut control = town.redis.as_ref().unwrap().control().await;
    in_order_of_arrival(&mut joined);
    all_are_in_the_store(&joined, &mut control).await;
    let visitors = joined.into_iter().map(|one| one.visitor).collect();
    let visitors = all_still_wait(visitors, &town.site).await;
    // Those who look twice see that the position has not grown.
    let some = visitors.into_iter().step_by(10).collect();
    let mut some = all_still_wait(some, &town.site).await;
    some.truncate(8);
    town.wait_in_line(some);
    town.everybody_gets_in().await;
}

/// All come, so many at a time. Whoever meets the gateway that dies comes
/// again, to the other one.
async fn join(site: Arc<Site>, told: Arc<AtomicUsize>) -> Vec<Joined> {
    let mut joining = JoinSet::new();
    for lane in 0..AT_ONCE {
        let (site, told) = (Arc::clone(&site), Arc::clone(&told));
        joining.spawn(async move {
            let mut joined = Vec::new();
            for name in (lane..JOINS).step_by(AT_ONCE) {
                let mut visitor = Visitor::new(format!("visitor {name}"));
                let mut came = Instant::now();
                let mut seen = visitor.open(&site).await;
                while let Ok(Seen::Unreachable) = seen {
                    came = Instant::now();
                    seen = visitor.open(&site).await;
                }
                assert!(matches!(seen, Ok(Seen::Waits { .. })), "{seen:?}");
                joined.push(Joined {
                    visitor,
                    came,
                    told: Instant::now(),
                });
                told.fetch_add(1, Ordering::SeqCst);
            }
            joined
        });
    }
    joining.join_all().await.into_iter().flatten().collect()
}

/// No number was given twice, and nobody has a lower one than somebody who had
/// been told before. Leaves them in the order of the line.
fn in_order_of_arrival(joined: &mut [Joined]) {
    joined.sort_by_key(|one| one.visitor.number);
    let mut latest: Option<&Joined> = None;
    let mut before = None;
    for one in &*joined {
        assert!(one.visitor.number > before, "a number was given twice");
        before = one.visitor.number;
        if let Some(latest) = latest {
            let (first, then) = (&one.visitor.name, &latest.visitor.name);
            assert!(latest.came <= one.told, "{then} stands before {first}");
        }
        if latest.is_none_or(|latest| one.came > latest.came) {
            latest = Some(one);
        }
    }
}

/// Nobody has asked again yet: it is the store itself that has kept them.
async fn all_are_in_the_store(joined: &[Joined], redis: &mut MultiplexedConnection) {
    let mut pages = HashMap::new();
    let numbers = joined.iter().map(|one| one.visitor.number.unwrap());
    for page in numbers
        .map(|number| number / PAGE)
        .collect::<BTreeSet<u64>>()
    {
        pages.insert(page, bitmaps(redis, page).await);
    }
    for one in joined {
        let number = one.visitor.number.unwrap();
        let (page, bit) = (number / PAGE, number % PAGE);
        let (byte, mask) = (usize::try_from(bit / 8).unwrap(), 0x80 >> (bit % 8));
        let lives = |bitmap: &Vec<u8>| bitmap.get(byte).is_some_and(|bits| bits & mask != 0);
        let kept = pages[&page].iter().any(lives);
        assert!(kept, "{} is not in the store", one.visitor.name);
    }
}

/// What the store knows of a page: who was numbered, who was heard from.
async fn bitmaps(redis: &mut MultiplexedConnection, page: u64) -> Vec<Vec<u8>> {
    let mut bitmaps = Vec::new();
    for kind in ["fresh", "live"] {
        for parity in 0..2 {
            let key = format!("sumun:{{main}}:{kind}:{page}:{parity}");
            bitmaps.push(redis.get(key).await.unwrap());
        }
    }
    bitmaps
}

/// All ask, in the order of the line, and hold the same places.
async fn all_still_wait(visitors: Vec<Visitor>, site: &Arc<Site>) -> Vec<Visitor> {
    let mut asking = JoinSet::new();
    let share = visitors.len().div_ceil(AT_ONCE);
    let mut visitors = visitors.into_iter();
    for lane in 0..AT_ONCE {
        let mut some: Vec<Visitor> = visitors.by_ref().take(share).collect();
        let site = Arc::clone(site);
        asking.spawn(async move {
            for visitor in &mut some {
                still_waits(visitor, &site).await;
            }
            (lane, some)
        });
    }
    let mut lanes = asking.join_all().await;
    lanes.sort_by_key(|(lane, _)| *lane);
    lanes.into_iter().flat_map(|(_, some)| some).collect()
}
