//! Signing keys and settings are changed while people wait and buy: gateway
//! after gateway is restarted with another key in front and another file, and
//! nobody notices.

use std::time::Duration;

use crate::support::gateway::{NEW, OLD, Setup};
use crate::support::town::Town;
use crate::support::{shared_machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_by_rolling_restarts_and_nobody_notices() {
    let _machine = shared_machine().await;
    let mut town = Town::shared(&[]).await;
    town.fill().await;
    town.queue("before", 6).await;

    let both = Setup {
        keys: vec![NEW, OLD],
        ticket_idle: "12s",
        session_idle: "45s",
        ..town.setup.clone()
    };
    restart(&mut town, 0, &both).await;
    // The other gateway cannot read what the new key signs.
    town.queue("between", 4).await;
    assert!(town.site.all_signed_by("old"));
    restart(&mut town, 1, &both).await;
    for gateway in &town.gateways {
        let event = gateway.event("main").await;
        assert_eq!(event["ticketIdle"], "12s", "{event}");
        assert_eq!(event["sessionIdle"], "45s", "{event}");
    }
    town.queue("after", 4).await;
    until(
        "everything is signed anew",
        Duration::from_secs(60),
        async || town.site.all_signed_by("new"),
    )
    .await;

    let alone = Setup {
        keys: vec![NEW],
        ..both
    };
    restart(&mut town, 0, &alone).await;
    restart(&mut town, 1, &alone).await;
    town.queue("at last", 2).await;
    town.everybody_gets_in().await;
}

async fn restart(town: &mut Town, gateway: usize, setup: &Setup) {
    town.gateways[gateway].stop().await;
    town.gateways[gateway].start_again(setup).await;
    for gateway in &town.gateways {
        gateway.wait_for("sumun_gateways", 2.0).await;
    }
}
