//! Visitors one by one, for tests in which each of them has a part.

use std::time::Duration;

use super::site::Site;
use super::visitor::{Seen, Visitor};

/// Nobody waits longer in line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Somebody comes and is let in at once.
pub(crate) async fn comes_in(name: &str, site: &Site) -> Visitor {
    let mut visitor = Visitor::new(name);
    let seen = visitor.come(site).await.unwrap();
    assert!(matches!(seen, Seen::Inside), "{name}: {seen:?}");
    visitor
}

/// Somebody comes and gets a place in line.
pub(crate) async fn waits(name: &str, site: &Site) -> Visitor {
    let mut visitor = Visitor::new(name);
    let seen = visitor.come(site).await.unwrap();
    assert!(matches!(seen, Seen::Waits { .. }), "{name}: {seen:?}");
    visitor
}

/// Who is in line asks, and still waits.
pub(crate) async fn still_waits(visitor: &mut Visitor, site: &Site) {
    let seen = visitor.poll(site).await.unwrap();
    assert!(
        matches!(seen, Seen::Waits { .. }),
        "{}: {seen:?}",
        visitor.name
    );
}

/// Everybody in line gets in, one after the other, and goes.
pub(crate) async fn each_in_turn(line: Vec<Visitor>, site: &Site) {
    for mut visitor in line {
        visitor.wait(site, PATIENCE).await.unwrap();
        visitor.browse(site).await.unwrap();
        visitor.complete(site).await.unwrap();
    }
}
