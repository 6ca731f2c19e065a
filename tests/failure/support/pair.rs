//! Two gateways on one Redis, one of which can be cut off from it.

use super::chaos::{Chaos, Weather};
use super::gateway::{Gateway, Setup};
use super::origin::Origin;
use super::redis::Redis;
use super::site::Site;

/// The pair, and the doors of each.
pub(crate) struct Pair {
    pub(crate) cut_off: Gateway,
    /// The one that can be cut off, as visitors see it.
    pub(crate) here: Site,
    /// The other one.
    pub(crate) there: Site,
    pub(crate) redis: Redis,
    chaos: Chaos,
    setup: Setup,
    pub(crate) other: Gateway,
    _origin: Origin,
}

impl Pair {
    /// A pair with one slot, set up otherwise where a test says so.
    pub(crate) async fn start(otherwise: impl Fn(&mut Setup)) -> Self {
        let origin = Origin::start().await;
        let redis = Redis::start(&[]);
        let chaos = Chaos::in_front_of(redis.address).await;
        let by = |redis| {
            let mut setup = Setup::new(origin.address, Some(redis), 1);
            otherwise(&mut setup);
            setup
        };
        let setup = by(chaos.address);
        let cut_off = Gateway::start(&setup).await;
        let other = Gateway::start(&by(redis.address)).await;
        cut_off.wait_for("sumun_gateways", 2.0).await;
        Self {
            here: Site::new(vec![cut_off.public]),
            there: Site::new(vec![other.public]),
            cut_off,
            redis,
            chaos,
            setup,
            other,
            _origin: origin,
        }
    }

    /// Cuts the one off, and waits until it has seen that.
    pub(crate) async fn part(&self) {
        self.chaos.set(Weather::Cut);
        self.cut_off.wait_for("sumun_store_up", 0.0).await;
    }

    /// Joins them again, and waits until the one has seen that.
    pub(crate) async fn reunite(&self) {
        self.chaos.set(Weather::Fair);
        self.cut_off.wait_for("sumun_store_up", 1.0).await;
    }

    /// Joins them again, with the one stopped and started in between.
    pub(crate) async fn reunite_restarted(&mut self) {
        self.cut_off.stop().await;
        self.chaos.set(Weather::Fair);
        self.cut_off.start_again(&self.setup).await;
        self.reunite().await;
    }
}
