//! What one address may have inside while others wait.

use serde_json::Value;

use crate::support::{Ask, Plan, Site, Visitor, until};

/// A line for ten, of whom five may be of one address.
const HALF: &str = "limit = 10\nmode = \"queue\"\nsessions_per_address_ratio = 0.5\n";

fn plan(settings: &str) -> Plan {
    Plan::event(&format!("{HALF}{settings}")).top("trusted_proxies = [\"loopback\"]\n")
}

fn at(site: &Site, address: &str) -> Visitor {
    site.visitor().always("x-forwarded-for", address)
}

/// Visitors who took places, in this order.
async fn in_line(site: &Site, addresses: impl Iterator<Item = String>) -> Vec<Visitor> {
    let mut all = Vec::new();
    for address in addresses {
        all.push(at(site, &address).in_line().await);
    }
    all
}

async fn poll(visitor: &mut Visitor) -> Value {
    let ask = Ask::fetch("/__sumun/v1/status?eventId=main");
    visitor.send(ask).await.json()
}

async fn complete(visitor: &mut Visitor) {
    let ask = Ask::fetch("/__sumun/v1/complete").method(http::Method::POST);
    let answer = visitor.send(ask.body("{}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn elsewhere(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|host| format!("198.51.100.{host}"))
}

/// Seven of one address, then so many others of an address each; five and five are inside.
async fn crowded(
    site: &Site,
    address: impl Fn(usize) -> String,
    others: usize,
) -> [Vec<Visitor>; 2] {
    let mut same = in_line(site, (1..=7).map(address)).await;
    let mut others = in_line(site, elsewhere(others)).await;
    for visitor in same.iter_mut().take(5).chain(others.iter_mut().take(5)) {
        visitor
            .open_until_inside("/")
            .await
            .must_come_from_the_origin();
    }
    [same, others]
}

#[tokio::test]
async fn one_address_has_its_share_while_others_wait_and_its_next_visitor_keeps_the_place() {
    let site = plan("").open().await;
    let [mut same, mut others] = crowded(&site, |_| "203.0.113.7".to_owned(), 8).await;
    let sixth = &mut same[5];
    let answer = until("the sixth is told why", async || {
        let answer = poll(&mut sixth.clone()).await;
        (answer["reason"] == "ADDRESS_SHARE").then_some(answer)
    })
    .await;
    assert_eq!(
        (&answer["status"], &answer["called"]),
        (&"WAIT".into(), &false.into())
    );
    let page = sixth
        .send(Ask::page("/").with("accept-language", "en"))
        .await;
    assert_eq!(page.header("sumun-status"), Some("wait"));
    assert!(
        page.text()
            .contains("Many visitors from your network are inside.")
    );
    let held = "sumun_address_share_holds_total{event=\"main\"}";
    assert!(
        !site
            .server
            .running
            .reception
            .metrics
            .render()
            .contains(&format!("{held} 0\n")),
        "{held}"
    );
    // A slot of another address goes to somebody of another address, who came later.
    complete(&mut others[0]).await;
    others[5]
        .open_until_inside("/")
        .await
        .must_come_from_the_origin();
    assert_eq!(poll(&mut same[5]).await["status"], "WAIT");
    // One of its own leaves: its turn, before all who came later.
    complete(&mut same[0]).await;
    same[5]
        .open_until_inside("/")
        .await
        .must_come_from_the_origin();
    assert_eq!(poll(&mut same[6]).await["status"], "WAIT");
    assert_eq!(poll(&mut others[6]).await["status"], "WAIT");
}

#[tokio::test]
async fn where_nobody_else_waits_one_address_may_have_all() {
    let site = plan("").open().await;
    let [mut same, mut others] = crowded(&site, |_| "203.0.113.7".to_owned(), 5).await;
    for visitor in others.iter_mut().take(2) {
        complete(visitor).await;
    }
    for visitor in &mut same[5..] {
        visitor
            .open_until_inside("/")
            .await
            .must_come_from_the_origin();
    }
}

#[tokio::test]
async fn a_network_of_ipv6_is_one_address_and_a_campus_that_is_named_is_many() {
    let site = plan("").open().await;
    let [mut same, _] = crowded(&site, |host| format!("2001:db8::{host}"), 8).await;
    until("the sixth is told why", async || {
        (poll(&mut same[5].clone()).await["reason"] == "ADDRESS_SHARE").then_some(())
    })
    .await;
    assert_eq!(poll(&mut same[6]).await["status"], "WAIT");

    let campus = "shared_addresses = [\"2001:db8::/32\"]\njoins_per_address_per_minute = 2";
    let site = plan(campus).open().await;
    let mut same = in_line(&site, (1..=12).map(|host| format!("2001:db8::{host:x}"))).await;
    let _others = in_line(&site, elsewhere(3)).await;
    for visitor in same.iter_mut().take(10) {
        visitor
            .open_until_inside("/")
            .await
            .must_come_from_the_origin();
    }
}
