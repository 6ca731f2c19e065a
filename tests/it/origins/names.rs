//! Origins by name: whichever of its addresses answers.

use super::{Gateway, file, gone};
use crate::support::Origin;

/// `localhost` has both families on most machines, and the origin listens on one
/// of those that it has here.
#[tokio::test]
async fn localhost_is_found_whichever_family_the_origin_listens_on() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = tokio::net::TcpListener::bind(address).await else {
            assert!(address.starts_with('['), "a machine without IPv6");
            continue;
        };
        let here = listener.local_addr().unwrap();
        drop(listener);
        let mut known = tokio::net::lookup_host(("localhost", here.port()))
            .await
            .unwrap();
        if !known.any(|known| known == here) {
            continue;
        }
        let _origin = super::Here::at(here, "by name").await;
        let top = format!("origins = [\"http://localhost:{}\"]", here.port());
        let gateway = Gateway::of(file(&top, "")).await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/").await, (200, "by name".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_replaced_by_another_origin() {
    let origin = Origin::open().await;
    let (here, nobody) = (origin.address.port(), gone().await.port());
    let top = format!(
        "origins = [\"http://nobody.invalid:{here}\", \"http://localhost:{nobody}\", \"http://localhost:{here}\"]"
    );
    let gateway = Gateway::of(file(&top, "")).await;
    for _ in 0..6 {
        assert_eq!(gateway.get("/").await.0, 200);
    }
}
