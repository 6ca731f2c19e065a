//! How many connections there may be, in all and from one address. An IPv6
//! visitor owns a whole /64, so that is what counts as one address. Behind a trusted
//! proxy stand many visitors; its connections count in all only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::visitor::address::TrustedProxies;

/// The connections of all data threads. Cloning gives another handle to the same count.
#[derive(Clone)]
pub struct Places {
    inner: Arc<Inner>,
}

struct Inner {
    limit: AtomicUsize,
    limit_per_address: AtomicUsize,
    proxies: ArcSwap<TrustedProxies>,
    taken: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; free again when dropped.
pub(crate) struct Place {
    places: Places,
    /// Whose it is, unless it is a proxy's.
    address: OnceLock<IpAddr>,
    /// Told when the place is free, so that a drain can end.
    freed: Arc<Notify>,
}

impl Places {
    /// Room for `limit` connections in all and `limit_per_address` from one address
    /// that is not one of `proxies`.
    #[must_use]
    pub fn new(limit: usize, limit_per_address: usize, proxies: TrustedProxies) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit: limit.into(),
                limit_per_address: limit_per_address.into(),
                proxies: ArcSwap::from_pointee(proxies),
                taken: AtomicUsize::new(0),
                by_address: Mutex::default(),
            }),
        }
    }

    /// Other limits for those who come from now on; nobody is sent away.
    pub fn change(&self, limit: usize, limit_per_address: usize, proxies: TrustedProxies) {
        let inner = &*self.inner;
        inner.limit.store(limit, Ordering::Relaxed);
        inner
            .limit_per_address
            .store(limit_per_address, Ordering::Relaxed);
        inner.proxies.store(Arc::new(proxies));
    }

    /// How many connections there are.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// A place for a connection from `address`; the reason if there is none.
    pub(crate) fn take(&self, address: IpAddr, freed: &Arc<Notify>) -> Result<Place, &'static str> {
        let place = self.room(freed)?;
        place.count_for(address)?;
        Ok(place)
    }

    /// A place that counts for no address yet.
    fn room(&self, freed: &Arc<Notify>) -> Result<Place, &'static str> {
        let inner = &*self.inner;
        if inner.taken.fetch_add(1, Ordering::Relaxed) >= inner.limit.load(Ordering::Relaxed) {
            inner.taken.fetch_sub(1, Ordering::Relaxed);
            return Err("connections");
        }
        // From here on it is given back by its drop.
        Ok(Place {
            places: self.clone(),
            address: OnceLock::new(),
            freed: Arc::clone(freed),
        })
    }
}

impl Place {
    /// One more for the same client; the reason if there is none.
    pub(crate) fn another(&self) -> Result<Self, &'static str> {
        let place = self.places.room(&self.freed)?;
        if let Some(address) = self.address.get() {
            place.count_for(*address)?;
        }
        Ok(place)
    }

    /// Whether it counts for no address yet: its connection is a proxy's.
    pub(crate) fn is_a_proxys(&self) -> bool {
        self.address.get().is_none()
    }

    /// Counts a proxy's connection for whom it was announced for, unless that is a
    /// proxy too; the reason if there is no room for that one.
    pub(crate) fn count_for(&self, address: IpAddr) -> Result<(), &'static str> {
        let inner = &*self.places.inner;
        if inner.proxies.load().contains(address) || !self.is_a_proxys() {
            return Ok(());
        }
        let address = one_subscriber(address);
        let mut all = inner.all();
        let own = all.entry(address).or_default();
        if *own >= inner.limit_per_address.load(Ordering::Relaxed) {
            return Err("connections_per_address");
        }
        if self.address.set(address).is_ok() {
            *own += 1;
        }
        Ok(())
    }
}

impl Inner {
    fn all(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Each holder leaves the map whole, so a panic elsewhere does not spoil it.
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &*self.places.inner;
        inner.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address.get() {
            let mut all = inner.all();
            if let Some(own) = all.get_mut(address) {
                *own -= 1;
                if *own == 0 {
                    all.remove(address);
                }
            }
        }
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
        let places = Places::new(3, 2, TrustedProxies::default());
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

    #[test]
    fn a_trusted_proxy_is_not_one_visitor() {
        let proxies = TrustedProxies::new(&["private"], "").unwrap();
        let places = Places::new(3, 1, proxies);
        let freed = Arc::new(Notify::new());
        let take = |address: &str| places.take(address.parse().unwrap(), &freed);
        let _held = [
            take("10.0.0.1").ok(),
            take("10.0.0.1").ok(),
            take("10.0.0.1").ok(),
        ];
        assert_eq!(take("10.0.0.1").err(), Some("connections"));
    }

    #[test]
    fn a_proxys_connection_counts_for_whom_it_is_announced() {
        let proxies = TrustedProxies::new(&["private"], "").unwrap();
        let places = Places::new(9, 1, proxies);
        let freed = Arc::new(Notify::new());
        let take = |address: &str| places.take(address.parse().unwrap(), &freed).ok().unwrap();
        let count = |place: &Place, address: &str| place.count_for(address.parse().unwrap());
        let (one, two) = (take("10.0.0.1"), take("10.0.0.1"));
        assert!(one.is_a_proxys());
        assert_eq!(count(&one, "10.9.9.9"), Ok(()), "another proxy");
        assert_eq!(count(&one, "192.0.2.7"), Ok(()));
        assert!(!one.is_a_proxys());
        assert_eq!(count(&two, "192.0.2.7"), Err("connections_per_address"));
        assert_eq!(
            places.take("192.0.2.7".parse().unwrap(), &freed).err(),
            Some("connections_per_address")
        );
        drop(two);
        drop(one);
        assert_eq!(places.taken(), 0);
        assert!(places.inner.all().is_empty());
        let _again = take("192.0.2.7");
    }
}
