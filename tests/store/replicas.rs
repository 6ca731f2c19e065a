//! The shared store behind sentinels and on a cluster: real servers, real
//! failovers, real resharding. What the store's callers see is a recovery.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use sumun::room::event::EventId;
use sumun::store::redis::RedisStore;
use sumun::store::{Reply, Store};

use crate::door::Door;
use crate::ports::free_address;
use crate::sentinel::Sentinel;
use crate::server::{Server, connect};
use crate::world::{is_inside, settings, ticket};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(60);

/// Looks until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(SOON, looking).await;
    assert!(found.is_ok(), "not within {SOON:?}: {what}");
}

/// A server that listens on a port, too.
fn server(port: u16, args: &[&str]) -> Server {
    let port = port.to_string();
    Server::start(&[&["--port", &port, "--bind", "127.0.0.1"], args].concat())
}

const OF_SERVERS: [&str; 4] = ["--requirepass", "of-servers", "--masterauth", "of-servers"];

/// A primary with a replica that has caught up.
async fn pair() -> [(Server, u16); 2] {
    let ports = [free_address().port(), free_address().port()];
    let primary = server(ports[0], &OF_SERVERS);
    let of = ["--replicaof", &format!("127.0.0.1 {}", ports[0])];
    let replica = server(ports[1], &[&OF_SERVERS[..], &of[..]].concat());
    let mut control = connect(&replica.url(0, ":of-servers")).await;
    until("the replica has caught up", async || {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut control)
            .await
            .unwrap();
        info.contains("master_link_status:up")
    })
    .await;
    [(primary, ports[0]), (replica, ports[1])]
}

/// Lets visitors come, as a gateway's desk does: the first call after a
/// silence finds it out, the next one is answered. The numbers of those who wait.
async fn come(door: &Door, batch: u64, visitors: &[u64]) -> Vec<u64> {
    let mut answer = door.enter(batch, visitors).await.unwrap();
    if answer == Reply::Recovering {
        answer = door.enter(batch, visitors).await.unwrap();
    }
    let entered = answer.done().unwrap();
    let waiting = entered.iter().filter(|one| !is_inside(one));
    waiting.map(|one| ticket(one).0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_and_numbers_go_on_above_those_before() {
    let [(mut primary, first), (_replica, second)] = pair().await;
    let sentinels = [
        Sentinel::start(first),
        Sentinel::start(first),
        Sentinel::start(first),
    ];
    until(
        "the sentinels know each other and the replica",
        async || Sentinel::are_ready(&sentinels).await,
    )
    .await;
    let [a, b, c] = sentinels.each_ref().map(|sentinel| sentinel.port);
    let gone = free_address().port();
    let url = format!(
        "redis-sentinel://:of-servers@127.0.0.1:{gone},127.0.0.1:{a},127.0.0.1:{b},127.0.0.1:{c}\
         /shop?sentinel_password=of-sentinels"
    );
    let door = Door::new(&settings(url, "sumun"));
    door.open(1).await.unwrap();
    let before = come(&door, 1, &[1, 2, 3]).await;
    let life = door.look().await.unwrap().done().unwrap().meta.run;

    primary.stop();
    until("the replica is the primary", async || {
        sentinels[0].primary().await == Some(second)
    })
    .await;
    // The other process tells that something may be lost: a recovery begins.
    until("the new primary answers", async || {
        matches!(door.look().await, Ok(Reply::Recovering))
    })
    .await;
    let meta = door.look().await.unwrap().done().unwrap().meta;
    assert_ne!(meta.run, life);
    assert!(meta.recovery.is_some());
    let after = come(&door, 2, &[4, 5]).await;
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(before.iter().max() < after.iter().min());

    // The old primary comes back as a replica; nobody is sent there.
    primary.restart();
    until("the old primary is a replica", async || {
        // A sentinel that gives it another role ends its connections.
        let mut control = connect(&primary.url(0, ":of-servers")).await;
        let mut order = redis::cmd("INFO");
        let info = order.arg("replication").query_async(&mut control).await;
        let info: String = info.unwrap_or_default();
        info.contains("role:slave") && info.contains("master_link_status:up")
    })
    .await;
    let last = come(&door, 3, &[6]).await;
    assert!(after.iter().max() < last.iter().min());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_of_the_sentinels_or_the_servers_is_refused_without_being_shown() {
    let [(_primary, first), _replica] = pair().await;
    let sentinel = Sentinel::start(first);
    until("the sentinel answers", async || {
        sentinel.primary().await == Some(first)
    })
    .await;
    for (servers, sentinels) in [("guess", "of-sentinels"), ("of-servers", "guess")] {
        let url = format!(
            "redis-sentinel://:{servers}@127.0.0.1:{}/shop?sentinel_password={sentinels}",
            sentinel.port
        );
        let fault = Door::new(&settings(url, "sumun"))
            .open(1)
            .await
            .unwrap_err();
        assert!(!fault.to_string().contains("guess"), "{fault}");
    }
}

/// An order to the servers' own tool.
fn tell(order: &[&str]) {
    let done = Command::new("redis-cli").args(order).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{order:?}: {said}");
}

/// A cluster of three primaries.
struct Cluster {
    servers: Vec<(Server, u16)>,
}

impl Cluster {
    async fn start() -> Self {
        let servers: Vec<(Server, u16)> = (0..3)
            .map(|_| {
                // The nodes talk to each other ten thousand ports above.
                let (port, bus) = (free_address().port(), free_address().port().to_string());
                let args = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "2000",
                    "--cluster-port",
                    &bus,
                ];
                (server(port, &args), port)
            })
            .collect();
        let cluster = Self { servers };
        let nodes: Vec<String> = cluster.nodes().collect();
        let mut order = vec!["--cluster", "create"];
        order.extend(nodes.iter().map(String::as_str));
        order.push("--cluster-yes");
        tell(&order);
        until("every node knows every slot", async || {
            let mut known = 0;
            for (server, _) in &cluster.servers {
                let mut control = connect(&server.url(0, "")).await;
                let info: String = redis::cmd("CLUSTER")
                    .arg("INFO")
                    .query_async(&mut control)
                    .await
                    .unwrap();
                let whole = ["cluster_state:ok", "cluster_known_nodes:3"];
                known += usize::from(whole.iter().all(|line| info.contains(line)));
            }
            known == 3
        })
        .await;
        cluster
    }

    fn nodes(&self) -> impl Iterator<Item = String> {
        self.servers
            .iter()
            .map(|(_, port)| format!("127.0.0.1:{port}"))
    }

    fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes().collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    async fn id(&self, at: usize) -> String {
        let mut control = connect(&self.servers[at].0.url(0, "")).await;
        let mut order = redis::cmd("CLUSTER");
        order.arg("MYID").query_async(&mut control).await.unwrap()
    }

    /// Our keys on each node.
    async fn keys(&self) -> Vec<BTreeSet<String>> {
        let mut all = Vec::new();
        for (server, _) in &self.servers {
            let mut control = connect(&server.url(0, "")).await;
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg("sumun:*")
                .query_async(&mut control)
                .await
                .unwrap();
            all.push(keys.into_iter().collect());
        }
        all
    }
}

fn doors(url: &str) -> Vec<Door> {
    let store = Store::Redis(RedisStore::connect(&settings(url.to_owned(), "sumun")).unwrap());
    let events = ["main", "spring", "autumn", "winter", "a-fair"];
    let door = |id: &&str| Door {
        store: store.clone(),
        event: EventId::new(id).unwrap(),
    };
    events.iter().map(door).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_spread_over_a_cluster_and_each_stands_on_one_node() {
    let cluster = Cluster::start().await;
    let store = RedisStore::connect(&settings(cluster.url(), "sumun")).unwrap();
    let checked = store.check().await.unwrap();
    assert_eq!(checked.eviction.as_deref(), Some("noeviction"));
    for door in doors(&cluster.url()) {
        door.tour().await;
        door.open(1).await.unwrap();
    }
    let keys = cluster.keys().await;
    let homes = |id: &str| {
        let tag = format!("{{{id}}}");
        let here = |keys: &&BTreeSet<String>| keys.iter().any(|key| key.contains(&tag));
        keys.iter().filter(here).count()
    };
    for id in ["main", "spring", "autumn", "winter", "a-fair"] {
        assert_eq!(homes(id), 1, "{id}: {keys:?}");
    }
    let used = keys.iter().filter(|keys| !keys.is_empty()).count();
    assert!(used > 1, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_while_visitors_come_lose_nobody() {
    let cluster = Cluster::start().await;
    let doors = doors(&cluster.url());
    for door in &doors {
        door.open(1).await.unwrap();
        come(door, 1, &[1, 2]).await;
    }
    let (from, to) = (cluster.id(0).await, cluster.id(1).await);
    let node = cluster.nodes().next().unwrap();
    let moving = tokio::task::spawn_blocking(move || {
        Command::new("redis-cli")
            .args(["--cluster", "reshard", &node, "--cluster-yes"])
            .args(["--cluster-from", &from, "--cluster-to", &to])
            .args(["--cluster-slots", "16384"])
            .output()
            .unwrap()
    });
    let mut last = vec![0; doors.len()];
    let mut round = 1;
    while !moving.is_finished() || round < 20 {
        round += 1;
        for (door, last) in doors.iter().zip(&mut last) {
            // A slot on its way answers TRYAGAIN; the gateway asks again.
            let Ok(Reply::Done(entered)) = door.enter(round, &[round * 10]).await else {
                continue;
            };
            let number = ticket(&entered[0]).0;
            assert!(number > *last, "no number twice, none below another");
            *last = number;
        }
    }
    assert!(moving.await.unwrap().status.success());
    let keys = cluster.keys().await;
    assert!(keys[0].iter().all(|key| !key.contains('{')), "{keys:?}");
    for (door, last) in doors.iter().zip(last) {
        assert!(last > 0);
        let issued = door.look().await.unwrap().done().unwrap().meta.issued;
        assert!(issued.0 > last);
    }
}
