//! One gateway is cut off from the store while the other goes on: those inside
//! are served at both, and whoever comes after the reunion comes behind all.

use std::time::Duration;

use crate::support::browsing::Browsing;
use crate::support::pair::Pair;
use crate::support::people::{PATIENCE, comes_in, still_waits, waits};
use crate::support::redis::sessions;
use crate::support::site::Site;
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cut_off_gives_places_that_stand_before_all_who_come_after_the_reunion() {
    reunion(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_they_do_when_it_was_restarted_before_the_reunion() {
    reunion(true).await;
}

async fn reunion(restarted: bool) {
    let _machine = shared_machine().await;
    let mut pair = Pair::start(|_| {}).await;
    let mut inside = comes_in("inside", &pair.there).await;
    inside.browse(&pair.here).await.unwrap();
    let doors = [pair.other.public, pair.cut_off.public];
    // One of two doors is closed for a moment where it is restarted.
    let browsing = Browsing::start(&inside, &doors);
    let mut held = vec![place(&pair.here).await, place(&pair.there).await];

    pair.part().await;
    for _ in 0..3 {
        held.push(place(&pair.here).await);
        inside.browse(&pair.here).await.unwrap();
        inside.browse(&pair.there).await.unwrap();
    }
    let last = held.iter().copied().max().unwrap();
    assert_eq!(held.last(), Some(&last), "in order of arrival");
    if restarted {
        pair.reunite_restarted().await;
    } else {
        pair.reunite().await;
    }
    // Nobody polls here: the gateway itself says how far it has numbered.
    let mut control = pair.redis.control().await;
    until("the store numbers on above them", SOON, async || {
        let mut issued = redis::cmd("HGET");
        issued.arg("sumun:{main}:meta").arg("issued");
        let issued: u64 = issued.query_async(&mut control).await.unwrap();
        issued > last
    })
    .await;
    assert!(place(&pair.there).await > last);
    assert!(place(&pair.here).await > last);
    browsing.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_for_longer_than_a_session_may_be_idle_it_serves_those_inside_and_lets_nobody_in() {
    let _machine = shared_machine().await;
    let pair = Pair::start(|_| {}).await;
    let (here, there) = (&pair.here, &pair.there);
    let mut inside = comes_in("inside", here).await;
    inside.browse(here).await.unwrap();
    let mut first = waits("first", there).await;
    let mut second = waits("second", here).await;

    pair.part().await;
    let browsing = Browsing::start(&inside, &[pair.cut_off.public]);
    // The store hears nothing of him: his slot is another's, and nobody enters
    // by the gateway that is cut off.
    first.wait(there, PATIENCE).await.unwrap();
    let first_goes_on = Browsing::start(&first, &[pair.other.public]);
    still_waits(&mut second, here).await;
    inside.browse(here).await.unwrap();
    assert_eq!(sessions(pair.redis.address).await, Some(1));
    browsing.end().await;

    pair.reunite().await;
    // His session is over: he takes a place behind all who have one.
    let mut again = None;
    until("his place is at the end of the line", SOON, async || {
        let mut visitor = inside.clone();
        visitor.number = None;
        if let Seen::Waits { .. } = visitor.open(here).await.unwrap() {
            again = Some(visitor);
        }
        again.is_some()
    })
    .await;
    let mut again = again.unwrap();
    assert!(again.number > second.number, "{:?}", again.number);
    still_waits(&mut second, there).await;
    assert_eq!(sessions(pair.redis.address).await, Some(1));
    first_goes_on.end().await;
    first.complete(there).await.unwrap();
    second.wait(here, SOON).await.unwrap();
    second.complete(here).await.unwrap();
    again.wait(there, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_one_address_still_gets_so_many_places_and_no_more() {
    let _machine = shared_machine().await;
    let pair = Pair::start(|setup| setup.joins_per_minute = 6).await;
    let inside = comes_in("inside", &pair.there).await;
    pair.part().await;
    let browsing = Browsing::start(&inside, &[pair.other.public, pair.cut_off.public]);
    let mut places = Vec::new();
    let refused = loop {
        let mut visitor = Visitor::new("crowd");
        match visitor.open(&pair.here).await {
            Ok(Seen::Waits { .. }) => places.push(visitor),
            refused => break refused,
        }
    };
    // A tenth of a minute gives another one.
    assert!((6..=8).contains(&places.len()), "{} places", places.len());
    let fault = refused.unwrap_err();
    assert!(fault.contains("429"), "{fault}");
    for visitor in &mut places {
        still_waits(visitor, &pair.here).await;
    }
    browsing.end().await;
}

/// Somebody comes and waits: the number of the place.
async fn place(site: &Site) -> u64 {
    waits("waits", site).await.number.unwrap()
}
