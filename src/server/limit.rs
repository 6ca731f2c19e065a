//! How many connections there may be, in all and from one address. An IPv6
//! visitor owns a whole /64, so that is what counts as one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The connections of all data threads. Cloning gives another handle to the same count.
#[derive(Clone)]
pub struct Places {
    inner: Arc<Inner>,
}

struct Inner {
    limit: usize,
    limit_per_address: usize,
    taken: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; free again when dropped.
pub(crate) struct Place {
    places: Places,
    address: IpAddr,
    /// Told when the place is free, so that a drain can end.
    freed: Arc<Notify>,
}

impl Places {
    /// Room for `limit` connections in all and `limit_per_address` from one address.
    #[must_use]
    pub fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit,
                limit_per_address,
                taken: AtomicUsize::new(0),
                by_address: Mutex::default(),
            }),
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// A place for a connection from `address`; the reason if there is none.
    pub(crate) fn take(&self, address: IpAddr, freed: &Arc<Notify>) -> Result<Place, &'static str> {
        let address = one_subscriber(address);
        if self.inner.taken.fetch_add(1, Ordering::Relaxed) >= self.inner.limit {
            self.inner.taken.fetch_sub(1, Ordering::Relaxed);
            return Err("connections");
        }
        {
            let mut all = self
                .inner
                .by_address
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let own = all.entry(address).or_default();
            if *own >= self.inner.limit_per_address {
                self.inner.taken.fetch_sub(1, Ordering::Relaxed);
                return Err("connections_per_address");
            }
            *own += 1;
        }
        Ok(Place {
            places: self.clone(),
            address,
            freed: Arc::clone(freed),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.places.inner;
        inner.taken.fetch_sub(1, Ordering::Relaxed);
        let mut all = inner
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.address);
            }
        }
        drop(all);
        self.freed.notify_one();
    }
}

fn one_subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_and_come_back() {
        let places = Places::new(3, 2);
        let freed = Arc::new(Notify::new());
        let take = |address: &str| places.take(address.parse().unwrap(), &freed);
        let one = take("2001:db8::1").ok().unwrap();
        let _two = take("2001:db8::2").ok().unwrap();
        assert_eq!(take("2001:db8::3").err(), Some("connections_per_address"));
        let _three = take("2001:db8:0:1::1").ok().unwrap();
        assert_eq!(take("192.0.2.1").err(), Some("connections"));
        drop(one);
        assert!(take("2001:db8::3").is_ok());
        assert_eq!(places.taken(), 2);
    }
}
