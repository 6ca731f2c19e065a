//! The shared store on real servers: passwords, rights, TLS, restarts, damage
//! and absence.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::aio::MultiplexedConnection;
use sumun::room::snapshot::{Cause, Snapshot};
use sumun::room::ticket::Number;
use sumun::store::redis::RedisStore;
use sumun::store::{Answer, Entrant, Reply, StoreError};

use crate::door::Door;
use crate::ports::free_address;
use crate::server::{Server, connect};
use crate::world::{World, rules, session, settings};

/// The rights that a user needs: these commands, on keys below the prefix.
/// `config|get` is for the warning about eviction only, `client|setinfo` is a
/// courtesy of the client's; both may be missing.
const RIGHTS: &str = "~sumun:* -@all +evalsha +script|load +info +time +get +set +del +unlink +expire \
    +hget +hmget +hgetall +hset +hdel +hlen +sadd +srem +smembers +sismember +srandmember \
    +zadd +zrem +zscore +zcard +zcount +zrange +zrangebyscore +zremrangebyscore \
    +setbit +getbit +bitop +bitcount +strlen";

/// A command to the server behind the store's back.
async fn order(control: &mut MultiplexedConnection, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut order = redis::cmd(words.next().unwrap());
    order.arg(words.collect::<Vec<_>>());
    order.query_async(control).await.unwrap()
}

fn refusal(answer: &Answer<Snapshot>) -> String {
    match answer {
        Err(StoreError::Refused(why)) => why.clone(),
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn the_servers_own_clock_and_process_are_used() {
    let server = Server::start(&[]);
    let door = Door::at(&server);
    door.tour().await;
    let meta = door.look().await.unwrap().done().unwrap().meta;
    let mut control = server.control().await;
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query_async(&mut control)
        .await
        .unwrap();
    assert!(
        info.contains(&format!("run_id:{}", meta.run)),
        "{}",
        meta.run
    );
    let (second, _): (u64, u64) = redis::cmd("TIME").query_async(&mut control).await.unwrap();
    assert!((second - meta.raw / 1000) < 60);
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_is_refused() {
    let server = Server::start(&["--requirepass", "open-sesame"]);
    let with = |user: &str| Door::new(&settings(server.url(0, user), "sumun"));
    assert!(with(":open-sesame").open(1).await.is_ok());
    for wrong in [":guess", ""] {
        let fault = with(wrong).open(1).await.unwrap_err();
        assert!(matches!(fault, StoreError::Refused(_)), "{fault:?}");
        assert!(
            !fault.to_string().contains("guess"),
            "no secret in a message"
        );
    }
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough() {
    let server = Server::start(&[]);
    let mut control = server.control().await;
    order(&mut control, &format!("ACL SETUSER gate on >pw {RIGHTS}")).await;
    let settings = settings(server.url(0, "gate:pw"), "sumun");
    Door::new(&settings).tour().await;
    let store = RedisStore::connect(&settings).unwrap();
    let checked = store.check().await.unwrap();
    assert_eq!((checked.eviction, checked.warnings.len()), (None, 0));
}

#[tokio::test]
async fn a_user_without_a_right_is_refused_with_the_command_named() {
    let server = Server::start(&[]);
    let mut control = server.control().await;
    order(
        &mut control,
        &format!("ACL SETUSER gate on >pw {RIGHTS} -srandmember"),
    )
    .await;
    let door = Door::new(&settings(server.url(0, "gate:pw"), "sumun"));
    door.open(1).await.unwrap();
    let why = refusal(&door.look().await);
    assert!(why.contains("SRANDMEMBER"), "{why}");
    assert!(why.contains("sumun:{main}:trash"), "{why}");
    let elsewhere = Door::new(&settings(server.url(0, "gate:pw"), "other"));
    assert!(matches!(
        elsewhere.open(1).await,
        Err(StoreError::Refused(_))
    ));
}

#[tokio::test]
async fn the_database_and_the_prefix_keep_stores_apart() {
    let server = Server::start(&[]);
    let third = Door::new(&settings(server.url(3, ""), "shop.a"));
    third.open(1).await.unwrap();
    third.enter(1, &[1, 2]).await.unwrap();
    assert_eq!(
        Door::new(&settings(server.url(3, ""), "shop.b"))
            .look()
            .await,
        Ok(Reply::Absent)
    );
    assert_eq!(
        Door::new(&settings(server.url(0, ""), "shop.a"))
            .look()
            .await,
        Ok(Reply::Absent)
    );
    let mut control = connect(&server.url(3, "")).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut control)
        .await
        .unwrap();
    assert!(!keys.is_empty());
    assert!(
        keys.iter().all(|key| key.starts_with("shop.a:{main}:")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_prefix_or_an_address_that_cannot_be_is_refused_at_once() {
    for prefix in ["", "a b", "a{b}", "가"] {
        let fault = RedisStore::connect(&settings("redis://127.0.0.1".to_owned(), prefix));
        assert!(fault.err().unwrap().to_string().contains("store.prefix"));
    }
    let fault = RedisStore::connect(&settings("http://:pw@127.0.0.1".to_owned(), "sumun"));
    let fault = fault.err().unwrap().to_string();
    assert!(
        fault.contains("store.url") && !fault.contains("pw"),
        "{fault}"
    );
    let mut missing = settings("rediss://127.0.0.1".to_owned(), "sumun");
    missing.ca_file = Some("/nowhere/ca.pem".into());
    let fault = RedisStore::connect(&missing).err().unwrap().to_string();
    assert!(fault.contains("store.ca_file /nowhere/ca.pem"), "{fault}");
}

#[tokio::test]
async fn tls_is_spoken_and_an_unknown_certificate_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    std::fs::write(path("ca.pem"), authority_certificate.pem()).unwrap();
    std::fs::write(path("server.pem"), certificate.pem()).unwrap();
    std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
    let port = free_address().port().to_string();
    let file = |name: &str| path(name).display().to_string();
    let _server = Server::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let mut settings = settings(format!("rediss://127.0.0.1:{port}/2"), "sumun");
    settings.ca_file = Some(path("ca.pem"));
    Door::new(&settings).tour().await;
    settings.ca_file = None;
    let stranger = Door::new(&settings).open(1).await.unwrap_err();
    assert!(
        matches!(stranger, StoreError::Unavailable(_)),
        "{stranger:?}"
    );
}

#[tokio::test]
async fn a_restart_of_the_server_with_its_data_is_a_recovery() {
    let mut server = Server::start(&[]);
    let door = Door::at(&server);
    door.open(1).await.unwrap();
    door.enter(1, &[1, 2]).await.unwrap();
    let before = door.look().await.unwrap().done().unwrap();
    order(&mut server.control().await, "SAVE").await;
    server.restart();
    door.look_until(|answer| matches!(answer, Ok(Reply::Recovering)))
        .await;
    let after = door.look().await.unwrap().done().unwrap();
    assert_eq!(after.sessions, 1);
    assert_ne!(after.meta.run, before.meta.run);
    assert_eq!(after.meta.recovery.unwrap().cause, Cause::Run);
}

#[tokio::test]
async fn a_restart_without_data_and_a_flush_leave_nothing() {
    let mut server = Server::start(&[]);
    let door = Door::at(&server);
    door.open(1).await.unwrap();
    order(&mut server.control().await, "FLUSHALL").await;
    assert_eq!(door.look().await, Ok(Reply::Absent));
    door.open(1).await.unwrap();
    server.restart();
    door.look_until(|answer| matches!(answer, Ok(Reply::Absent)))
        .await;
}

#[tokio::test]
async fn scripts_are_given_again_after_a_flush_of_the_scripts() {
    let server = Server::start(&[]);
    let door = Door::at(&server);
    door.open(1).await.unwrap();
    order(&mut server.control().await, "SCRIPT FLUSH").await;
    assert!(matches!(door.look().await, Ok(Reply::Done(_))));
}

#[tokio::test]
async fn a_key_of_another_type_is_told_by_its_name() {
    for name in [
        "active",
        "offers_due",
        "pages",
        "ended",
        "gateways",
        "meta",
        "density",
    ] {
        let server = Server::start(&[]);
        let door = Door::at(&server);
        door.open(1).await.unwrap();
        door.look().await.unwrap();
        let key = format!("sumun:{{main}}:{name}");
        order(&mut server.control().await, &format!("SET {key} nonsense")).await;
        let why = refusal(&door.look().await);
        assert!(why.contains("WRONGTYPE") && why.contains(&key), "{why}");
    }
}

#[tokio::test]
async fn a_damaged_state_is_told_by_its_field_and_never_guessed_at() {
    let damages = [
        ("HSET sumun:{main}:meta issued soon", "issued"),
        ("HSET sumun:{main}:meta schema 2", "schema"),
        ("HDEL sumun:{main}:meta called", "called"),
        ("HSET sumun:{main}:meta gate ajar", "gate"),
        ("HSET sumun:{main}:meta mode wild", "mode"),
        ("HSET sumun:{main}:meta ghosts -1", "ghosts"),
        ("HSET sumun:{main}:meta marks 1:x,", "marks"),
        ("ZADD sumun:{main}:ended 5 nobody", "nobody"),
        ("ZADD sumun:{main}:offers_due 1.5 7", "1.5"),
        ("ZADD sumun:{main}:pages 0 first", "first"),
        ("HSET sumun:{main}:density 7 1,2", "1,2"),
        ("HSET sumun:{main}:gateways g9:slot 999", "slot"),
    ];
    for (damage, named) in damages {
        let server = Server::start(&[]);
        let door = Door::at(&server);
        door.open(1).await.unwrap();
        order(&mut server.control().await, damage).await;
        let why = refusal(&door.look().await);
        assert!(
            why.contains(named) && why.contains("sumun:{main}:meta"),
            "{damage}: {why}"
        );
    }
}

#[tokio::test]
async fn a_damaged_event_is_told_by_its_key() {
    let server = Server::start(&[]);
    let door = Door::at(&server);
    order(&mut server.control().await, "HSET sumun:events main {").await;
    let fault = door.store.events().await.unwrap_err();
    assert!(fault.to_string().contains("sumun:events"), "{fault}");
    let fault = door
        .store
        .put_event(&door.event, 0, None)
        .await
        .unwrap_err();
    assert!(fault.to_string().contains("sumun:events"), "{fault}");
}

#[tokio::test]
async fn a_full_server_and_a_replica_refuse_and_are_asked_again() {
    let server = Server::start(&[]);
    let door = Door::at(&server);
    door.open(1).await.unwrap();
    let mut control = server.control().await;
    order(&mut control, "CONFIG SET maxmemory 1").await;
    let why = door.enter(1, &[1]).await.unwrap_err().to_string();
    assert!(why.contains("OOM"), "{why}");
    let inside = door.look().await.unwrap().done().unwrap();
    assert_eq!(inside.sessions, 0, "what does not grow is still answered");
    order(&mut control, "CONFIG SET maxmemory 0").await;
    assert!(door.enter(1, &[1]).await.is_ok());
    order(&mut control, "REPLICAOF 127.0.0.1 1").await;
    let why = refusal(&door.look().await);
    assert!(why.contains("read only replica"), "{why}");
    order(&mut control, "REPLICAOF NO ONE").await;
    door.look_until(Result::is_ok).await;
}

#[tokio::test]
async fn a_policy_that_evicts_is_warned_of_with_the_remedy() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let store = RedisStore::connect(&settings(server.url(0, ""), "sumun")).unwrap();
    let checked = store.check().await.unwrap();
    assert_eq!(checked.eviction.as_deref(), Some("allkeys-lru"));
    assert!(checked.warnings[0].contains("maxmemory-policy noeviction"));
    order(
        &mut server.control().await,
        "CONFIG SET maxmemory-policy noeviction",
    )
    .await;
    assert!(store.check().await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn a_store_may_be_made_before_its_server_is_there() {
    let port = free_address().port().to_string();
    let mut settings = settings(format!("redis://127.0.0.1:{port}"), "sumun");
    settings.timeout = Duration::from_secs(5);
    let door = Door::new(&settings);
    assert!(matches!(door.look().await, Err(StoreError::Unavailable(_))));
    // Until the next attempt is due, calls fail without one.
    assert!(matches!(door.look().await, Err(StoreError::Unavailable(_))));
    let _server = Server::start(&["--port", &port]);
    door.look_until(|answer| matches!(answer, Ok(Reply::Absent)))
        .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut settings = settings(format!("redis://{address}"), "sumun");
    settings.timeout = Duration::from_millis(50);
    let door = Door::new(&settings);
    assert_eq!(door.look().await, Err(StoreError::Timeout));
}

#[tokio::test]
async fn a_paused_server_is_asked_again() {
    let server = Server::start(&[]);
    let mut settings = settings(server.url(0, ""), "sumun");
    settings.timeout = Duration::from_millis(200);
    let door = Door::new(&settings);
    door.look_until(|answer| matches!(answer, Ok(Reply::Absent)))
        .await;
    order(&mut server.control().await, "CLIENT PAUSE 1500 ALL").await;
    assert_eq!(door.look().await, Err(StoreError::Timeout));
    door.look_until(|answer| matches!(answer, Ok(Reply::Absent)))
        .await;
}

#[tokio::test]
async fn bitmaps_of_a_former_generation_are_deleted_by_the_next_snapshot() {
    let mut world = World::redis().await;
    world.open(&rules(0)).await;
    let numbers = world.tickets(&[1, 2]).await;
    world.beat(&numbers).await;
    world.store.reset(&world.event).await.unwrap();
    let next = world.tickets(&[3]).await;
    let mut control = world.server().unwrap().control().await;
    let bitmaps = async |control: &mut MultiplexedConnection| -> Vec<String> {
        let keys = redis::cmd("KEYS")
            .arg("*[hvn]:[0-9]*")
            .query_async(control)
            .await;
        keys.unwrap()
    };
    assert_ne!(numbers[0].page(), Number(0).page());
    world.snapshot().await;
    let left = bitmaps(&mut control).await;
    assert_eq!(world.living().await, next);
    let page = next[0].page();
    if page == numbers[0].page() {
        assert_eq!(left.len(), 1, "{left:?}");
    } else {
        assert!(
            left.iter().all(|key| key.contains(&page.to_string())),
            "{left:?}"
        );
    }
    let trash: u64 = redis::cmd("SCARD")
        .arg("sumun:{main}:trash")
        .query_async(&mut control)
        .await
        .unwrap();
    assert_eq!(trash, 0);
}

#[tokio::test]
async fn ids_that_stand_for_nothing_any_more_are_dropped() {
    let mut world = World::redis().await;
    world.open(&rules(1_000)).await;
    for of in 0..200_u8 {
        let mut id = [0; 16];
        id[15] = of;
        let entrant = Entrant {
            session: session(u64::from(of)),
            id: Some(id),
        };
        world.enter_all(vec![entrant]).await.done().unwrap();
        world.live(1_000).await;
    }
    let mut control = world.server().unwrap().control().await;
    let known: u64 = redis::cmd("HLEN")
        .arg("sumun:{main}:ids:0")
        .query_async(&mut control)
        .await
        .unwrap();
    assert!(known < 100, "{known} ids of thirty living sessions");
}
