//! Damaged or hostile data under an event's keys in Redis: it is told with the
//! key's name, that event holds as if the store were away, the other goes on,
//! the gateway lives. When the key is gone the event heals by itself.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::support::browsing::Browsing;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::people::{comes_in, each_in_turn, still_waits, waits};
use crate::support::redis::{Redis, sessions};
use crate::support::site::{Site, overtaken};
use crate::support::visitor::{Seen, Visitor};
use crate::support::{shared_machine, until};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(30);

/// Two events of one slot each, of which one is damaged.
struct World {
    gateway: Gateway,
    site: Site,
    redis: Redis,
    control: MultiplexedConnection,
    _origin: Origin,
}

impl World {
    async fn start() -> Self {
        let origin = Origin::start().await;
        let redis = Redis::start(&[]);
        let setup = Setup::new(origin.address, Some(redis.address), 1);
        let gateway = Gateway::start(&setup).await;
        let sale = json!({ "eventId": "sale", "limitCnt": 1, "paths": ["/sale"] });
        assert_eq!(gateway.admin("POST", "/v1/events", &sale).await.0, 201);
        gateway
            .wait_for("sumun_event_sessions_limit{event=\"sale\"}", 1.0)
            .await;
        Self {
            site: Site::new(vec![gateway.public]),
            gateway,
            control: redis.control().await,
            redis,
            _origin: origin,
        }
    }

    async fn order(&mut self, command: &str) -> redis::Value {
        let mut words = command.split(' ');
        let mut order = redis::cmd(words.next().unwrap());
        order.arg(words.collect::<Vec<_>>());
        order.query_async(&mut self.control).await.unwrap()
    }

    /// The bitmap of those who were numbered just now.
    async fn bitmap(&mut self) -> String {
        let keys = self.order("KEYS sumun:{main}:fresh:*").await;
        let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        keys.into_iter().next().unwrap()
    }

    /// The log names the key, and says what becomes of visitors.
    async fn tells(&self, key: &str) {
        until(&format!("{key} is told"), SOON, async || {
            let log = self.gateway.log();
            let told =
                |line: &str| line.contains("visitors keep their places") && line.contains(key);
            log.lines().any(told)
        })
        .await;
    }
}

/// What is done to the damaged event, and the key that it is done to.
enum Harm {
    WrongType,
    Garbage,
    ListForBitmap,
    AbsurdBitmap,
}

impl Harm {
    async fn to(self, world: &mut World) -> String {
        let key = match self {
            Self::WrongType => "sumun:{main}:active".to_owned(),
            Self::Garbage => "sumun:{main}:meta".to_owned(),
            Self::ListForBitmap | Self::AbsurdBitmap => world.bitmap().await,
        };
        match self {
            Self::WrongType => world.order(&format!("SET {key} nonsense")).await,
            Self::Garbage => world.order(&format!("HSET {key} issued soon")).await,
            Self::ListForBitmap => {
                world.order(&format!("DEL {key}")).await;
                world.order(&format!("LPUSH {key} nonsense")).await
            }
            // A quarter of a gigabyte, for 65,536 numbers.
            Self::AbsurdBitmap => world.order(&format!("SETBIT {key} 2147483647 1")).await,
        };
        key
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_wrong_type_stops_its_event_alone() {
    stops_its_event_alone(Harm::WrongType).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_a_hash_stops_its_event_alone() {
    stops_its_event_alone(Harm::Garbage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bitmap_that_is_none_stops_its_event_alone() {
    stops_its_event_alone(Harm::ListForBitmap).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bitmap_of_absurd_size_stops_its_event_alone() {
    stops_its_event_alone(Harm::AbsurdBitmap).await;
}

async fn stops_its_event_alone(harm: Harm) {
    let _machine = shared_machine().await;
    let mut world = World::start().await;
    let mut inside = comes_in("inside", &world.site).await;
    let mut before = waits("before", &world.site).await;
    let browsing = Browsing::start(&inside, &[world.gateway.public]);
    let key = harm.to(&mut world).await;
    world.tells(&key).await;

    inside.browse(&world.site).await.unwrap();
    still_waits(&mut before, &world.site).await;
    let meanwhile = waits("meanwhile", &world.site).await;
    assert!(meanwhile.degraded > 0, "the event goes on");
    assert!(meanwhile.number > before.number);
    the_sale_goes_on(&world.gateway).await;
    inside.browse(&world.site).await.unwrap();

    world.order(&format!("DEL {key}")).await;
    until("the event goes on", SOON, async || {
        world
            .gateway
            .log()
            .contains("the store answers again event=main")
    })
    .await;
    let after = waits("after", &world.site).await;
    assert!(after.number > meanwhile.number);
    browsing.end().await;
    inside.browse(&world.site).await.unwrap();
    assert_eq!(world.site.admitted().len(), 1, "somebody got in early");
    inside.complete(&world.site).await.unwrap();
    each_in_turn(vec![before, meanwhile, after], &world.site).await;
    assert_eq!(overtaken(&world.site.admitted()), 0);
    assert_eq!(world.site.most_inside(), 1);
    assert!(sessions(world.redis.address).await <= Some(1));
}

/// Two come to the sale: one gets in and leaves, and then the other one.
async fn the_sale_goes_on(gateway: &Gateway) {
    let site = Site::new(vec![gateway.public]);
    let [mut first, mut second] =
        ["first", "second"].map(|name| Visitor::of(name, "sale", "/sale"));
    first.wait(&site, SOON).await.unwrap();
    let seen = second.come(&site).await;
    assert!(matches!(seen, Ok(Seen::Waits { .. })), "{seen:?}");
    // The damage may have held up Redis for a moment, and so this event's last look.
    until("the store answers for the sale", SOON, async || {
        let seen = second.poll(&site).await;
        matches!(
            seen,
            Ok(Seen::Waits {
                degraded: false,
                ..
            })
        )
    })
    .await;
    first.complete(&site).await.unwrap();
    second.wait(&site, SOON).await.unwrap();
    second.complete(&site).await.unwrap();
}
