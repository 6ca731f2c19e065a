//! How many newcomers one address may bring: a bound on the numbers that a
//! single machine can draw. Per gateway.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::room::event::EventId;
use crate::visitor::address::network;

/// Addresses remembered before those that have been quiet are forgotten.
const ADDRESSES_MAX: usize = 100_000;

type Limiter = DefaultKeyedRateLimiter<u64>;

/// One limiter per event and limit in force.
#[derive(Default)]
pub struct Joins {
    limiters: Mutex<Vec<(EventId, NonZeroU32, std::sync::Arc<Limiter>)>>,
}

impl Joins {
    /// Whether one more newcomer from `address` is within `per_minute`
    /// (IPv6: from its /64).
    pub fn allow(&self, event: &EventId, per_minute: u64, address: IpAddr) -> bool {
        let per_minute = u32::try_from(per_minute).unwrap_or(u32::MAX);
        let Some(per_minute) = NonZeroU32::new(per_minute) else {
            return false;
        };
        let limiter = {
            let mut limiters = self
                .limiters
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let found = limiters
                .iter()
                .find(|(id, limit, _)| id == event && *limit == per_minute)
                .map(|(_, _, limiter)| limiter.clone());
            found.unwrap_or_else(|| {
                let limiter =
                    std::sync::Arc::new(RateLimiter::keyed(Quota::per_minute(per_minute)));
                limiters.retain(|(id, _, _)| id != event);
                limiters.push((event.clone(), per_minute, limiter.clone()));
                limiter
            })
        };
        if limiter.len() > ADDRESSES_MAX {
            limiter.retain_recent();
        }
        limiter.check_key(&network(address)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_brings_so_many_a_minute_and_a_neighbour_is_not_to_blame() {
        let joins = Joins::default();
        let event = EventId::new("main").unwrap();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let allowed = (0..10).filter(|_| joins.allow(&event, 5, one)).count();
        assert_eq!(allowed, 5);
        assert!(joins.allow(&event, 5, other));
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let joins = Joins::default();
        let event = EventId::new("main").unwrap();
        let hosts = (0..10).map(|host| format!("2001:db8:0:1::{host}").parse().unwrap());
        let allowed = hosts.filter(|host| joins.allow(&event, 3, *host)).count();
        assert_eq!(allowed, 3);
    }
}
