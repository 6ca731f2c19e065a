//! Lists of origins: an event's own, and what a reload changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Gateway, LASTING, file, gone, list, named};
use crate::support::process::{Doors, Process, run};
use crate::support::{Ask, Origin, Visitor, until};

fn shop_and_sale(gateways: &Origin, sale: &Origin) -> sumun::config::Config {
    let own = list(&[sale.address]);
    file(
        &list(&[gateways.address]),
        &format!(
            "[[event]]\nid = \"main\"\n[[event]]\nid = \"sale\"\npaths = [\"/sale\"]\n{own}\n"
        ),
    )
}

#[tokio::test]
async fn an_event_may_have_origins_of_its_own() {
    let (gateways, sale) = (Origin::open().await, Origin::open().await);
    named(&gateways, "gateway's");
    named(&sale, "sale's");
    let gateway = Gateway::of(shop_and_sale(&gateways, &sale)).await;
    assert_eq!(gateway.get("/").await.1, "gateway's");
    assert_eq!(gateway.get("/sale/1").await.1, "sale's");
    let shown = gateway.shown(sale.address).await.unwrap();
    assert_eq!(shown["events"], serde_json::json!(["sale"]));
    assert_eq!(shown["gateway"], false);
    gateway.rewrite(shop_and_sale(&sale, &gateways)).await;
    until("they have changed places", async || {
        (gateway.get("/").await.1 == "sale's").then_some(())
    })
    .await;
    assert_eq!(gateway.get("/sale/1").await.1, "gateway's");
}

#[tokio::test]
async fn a_reload_changes_origins_under_load_and_fails_no_request() {
    let origins = [
        Origin::open().await,
        Origin::open().await,
        Origin::open().await,
    ];
    let [one, two, three] = origins.each_ref().map(|origin| origin.address);
    let gateway = Gateway::before(&[one, two], LASTING).await;
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let visitors: Vec<_> = (0..6)
        .map(|_| {
            let (stop, asked, door) = (Arc::clone(&stop), Arc::clone(&asked), gateway.door);
            tokio::spawn(async move {
                let mut visitor = Visitor::at(door);
                while !stop.load(Ordering::Relaxed) {
                    for ask in [Ask::page("/"), Ask::form("/order", "a=1")] {
                        assert_eq!(visitor.send(ask).await.status, 200);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let others = [
        (
            vec![three],
            "[origin_pool]\nconnections = 2\nconnection_wait = \"1m\"\n",
        ),
        (vec![one, two, three], ""),
        (vec![two], "[origin_health]\neject_after = 1\n"),
    ];
    for (addresses, tables) in others {
        let before = asked.load(Ordering::Relaxed);
        until("requests pass", async || {
            (asked.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
        gateway.rewrite(file(&list(&addresses), tables)).await;
        until("the list is in force", async || {
            for address in [one, two, three] {
                let is_there = gateway.shown(address).await.is_some();
                if is_there != addresses.contains(&address) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
    let seen = origins[1].seen().len();
    until("the last one gets them all", async || {
        (origins[1].seen().len() > seen + 20).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.unwrap();
    }
    // Who left the file has left the metrics too.
    let left = format!("sumun_origin_up{{origin=\"{three}\"}}");
    until("its series are gone", async || {
        gateway.metric(&left).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn health_outlives_a_reload_that_leaves_the_origin() {
    let (gone, here) = (gone().await, Origin::open().await);
    let gateway = Gateway::before(&[gone, here.address], LASTING).await;
    until("the gone one was tried", async || {
        gateway.get("/").await;
        let shown = gateway.shown(gone).await?;
        (shown["state"] == "EJECTED").then_some(())
    })
    .await;
    let third = Origin::open().await;
    let fresh = file(&list(&[gone, here.address, third.address]), LASTING);
    gateway.rewrite(fresh).await;
    until("the third one is there", async || {
        gateway.shown(third.address).await
    })
    .await;
    assert_eq!(gateway.shown(gone).await.unwrap()["state"], "EJECTED");
}

#[tokio::test]
async fn the_log_tells_of_an_ejection_and_of_the_return() {
    let (origin, gone) = (Origin::open().await, gone().await);
    let (doors, folder) = (Doors::free(), tempfile::tempdir().unwrap());
    let path = folder.path().join("gateway.toml");
    let text = doors.file(origin.address, "");
    let one = format!("origin = \"http://{}\"", origin.address);
    let text = text.replace(&one, &list(&[gone, origin.address]));
    std::fs::write(&path, format!("{text}{}", super::EAGER)).unwrap();
    let process = Process::run(&path, doors);
    until("the gateway", async || process.is_ready().then_some(())).await;
    until("the ejection in the log", async || {
        assert_eq!(process.open("/").await, 200);
        let told = process.said("an origin is ejected");
        let first = told.first()?;
        assert_eq!(first["fields"]["origin"], gone.to_string().as_str());
        assert_eq!(first["fields"]["reason"], "connect");
        Some(())
    })
    .await;
    until("the return in the log", async || {
        (!process.said("an origin is tried again").is_empty()).then_some(())
    })
    .await;
}

#[test]
fn a_check_of_the_file_warns_of_origins_that_nobody_looks_at() {
    let folder = tempfile::tempdir().unwrap();
    let text = "origin = \"https://10.0.0.1\"\n[origin_tls]\nverify = false\n";
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let (code, said) = run(folder.path(), &["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("origin_tls.verify is false"), "{said}");
}
