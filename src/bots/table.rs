//! What this gateway remembers of addresses and of who asks from them, in bounded
//! memory: who is asked after goes last, who was seen once and never again goes
//! first, so that a flood of addresses pushes out itself.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use crate::room::bots::bucket::Bucket;
use crate::room::bots::{Signal, Signals};
use crate::room::event::EventId;

/// Most records. Each takes about 250 bytes with its place in the table: 25 MB.
pub const RECORDS_MAX: u64 = 100_000;

/// Places are drawn for so long before they could be missed, in milliseconds: the
/// first poll is told after three seconds, and a slow phone takes its time.
const SETTLE_MS: u64 = 30_000;

/// What is counted is halved each time so much has passed, in milliseconds.
const HALVED_MS: u64 = 600_000;

/// So many places drawn, and none of them ever brought back.
const DROPPED_MIN: u32 = 10;

/// So many places drawn, and less than a quarter of them brought back.
const FORGOTTEN_MIN: u32 = 30;

/// So many places are very many for one address: whole networks of phones stand
/// behind one.
const MANY: u32 = 300;

/// So many polls before their time.
const EARLY_MIN: u32 = 20;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// An address: one of IPv4, a /64 of IPv6.
    Address(IpAddr),
    /// A network: a /24 of IPv4, a /48 of IPv6.
    Network(IpAddr),
    /// An autonomous system.
    Asn(u32),
    /// A user who is logged in, by the hash.
    User(u64),
    /// Who asks from an address under one name: the hash of its User-Agent.
    Asker(IpAddr, u32),
}

/// A record's place in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) event: EventId,
    pub(super) whose: Whose,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.event.as_str().hash(to);
        match self.whose {
            Whose::Address(address) => (0_u8, address).hash(to),
            Whose::Network(address) => (1_u8, address).hash(to),
            Whose::Asn(number) => (2_u8, number).hash(to),
            Whose::User(hash) => (3_u8, hash).hash(to),
            Whose::Asker(address, agent) => (4_u8, address, agent).hash(to),
        }
    }
}

/// What is remembered of one. Times are of this gateway's own clock, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Newcomers.
    pub arrivals: Bucket,
    /// Places drawn that could have been brought back since.
    pub drawn: u32,
    /// Places drawn in the present half minute and in the one before.
    settling: [u32; 2],
    settle_ms: u64,
    /// Places brought back.
    pub returned: u32,
    /// Polls before their time.
    pub early: u32,
    halved_ms: u64,
    /// Until when a fetched decoy is remembered.
    decoy_ms: u64,
    /// Until when a pass in two networks is remembered.
    networks_ms: u64,
    /// Until when it is turned away.
    pub blocked_ms: u64,
    /// Until when it is not sent to the end of the line again.
    pub sent_back_ms: u64,
    /// What was last seen of it when it was named.
    pub seen: Signals,
}

impl Record {
    /// Lets time pass over what is counted.
    fn turn(&mut self, now_ms: u64) {
        let shift = now_ms.saturating_sub(self.settle_ms) / SETTLE_MS;
        if shift > 0 {
            let [fresh, before] = self.settling;
            let (older, before) = if shift == 1 {
                (before, fresh)
            } else {
                (before.saturating_add(fresh), 0)
            };
            self.drawn = self.drawn.saturating_add(older);
            self.settling = [0, before];
            self.settle_ms = now_ms - now_ms % SETTLE_MS;
        }
        let times = now_ms.saturating_sub(self.halved_ms) / HALVED_MS;
        if times > 0 {
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            let halve = |count: &mut u32| *count = count.checked_shr(times).unwrap_or(0);
            halve(&mut self.drawn);
            halve(&mut self.returned);
            halve(&mut self.early);
            self.halved_ms = now_ms - now_ms % HALVED_MS;
        }
    }

    /// One more place is drawn.
    pub fn draw(&mut self, now_ms: u64) {
        self.turn(now_ms);
        let [fresh, _] = &mut self.settling;
        *fresh = fresh.saturating_add(1);
    }

    /// A place is brought back.
    pub fn bring_back(&mut self, now_ms: u64) {
        self.turn(now_ms);
        self.returned = self.returned.saturating_add(1);
    }

    /// It asks before its time.
    pub fn ask_early(&mut self, now_ms: u64) {
        self.turn(now_ms);
        self.early = self.early.saturating_add(1);
    }

    /// It fetched the decoy, which is remembered for a while.
    pub fn fetch_decoy(&mut self, until_ms: u64) {
        self.decoy_ms = until_ms;
    }

    /// Its pass is used in two networks in turn, which is remembered for a while.
    pub fn use_two_networks(&mut self, until_ms: u64) {
        self.networks_ms = until_ms;
    }

    /// What it tells.
    pub fn signals(&mut self, now_ms: u64) -> Signals {
        self.turn(now_ms);
        let mut signals = Signals::default();
        let drawn = self.drawn;
        let none = self.returned == 0 && drawn >= DROPPED_MIN;
        let few = drawn >= FORGOTTEN_MIN && self.returned < drawn / 4;
        let [fresh, before] = self.settling;
        let all = drawn.saturating_add(fresh).saturating_add(before);
        signals.add(Signal::CookiesDropped, none);
        signals.add(Signal::TicketsForgotten, few);
        signals.add(Signal::ManyTickets, all >= MANY);
        signals.add(Signal::EarlyPolls, self.early >= EARLY_MIN);
        signals.add(Signal::Decoy, self.decoy_ms > now_ms);
        signals.add(Signal::TwoNetworks, self.networks_ms > now_ms);
        signals
    }
}

/// A record that others may hold too.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Record>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All records.
pub(super) struct Table(Cache<Key, Shared, UnitWeighter, RandomState>);

impl Default for Table {
    fn default() -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(4_096)
            .weight_capacity(RECORDS_MAX)
            .build();
        let hash = RandomState::new();
        Self(match options {
            Ok(options) => {
                Cache::with_options(options, UnitWeighter, hash, DefaultLifecycle::default())
            }
            // Both numbers are given: it cannot fail.
            Err(_) => Cache::with(
                4_096,
                RECORDS_MAX,
                UnitWeighter,
                hash,
                DefaultLifecycle::default(),
            ),
        })
    }
}

impl Table {
    /// The record of one, if there is one.
    pub(super) fn get(&self, event: &EventId, whose: Whose) -> Option<Shared> {
        self.0.get(&Key {
            event: event.clone(),
            whose,
        })
    }

    /// The record of one, begun now if need be.
    pub(super) fn open(&self, event: &EventId, whose: Whose) -> Shared {
        let key = Key {
            event: event.clone(),
            whose,
        };
        let found =
            self.0.get_or_insert_with(
                &key,
                || Ok::<_, std::convert::Infallible>(Shared::default()),
            );
        let Ok(found) = found;
        found
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those of an address: of itself, and of who asks from there.
    pub(super) fn of_address(&self, event: &EventId, address: IpAddr) -> Vec<(Key, Shared)> {
        let records = self.0.iter();
        let own = records.filter(|(key, _)| key.is_of(event, address));
        own.collect()
    }

    /// Forgets those of an address; tells whether there were any.
    pub(super) fn forget(&self, event: &EventId, address: IpAddr) -> bool {
        let before = self.0.len();
        self.0.retain(|key, _| !key.is_of(event, address));
        self.0.len() < before
    }
}

impl Key {
    fn is_of(&self, event: &EventId, address: IpAddr) -> bool {
        let own = match self.whose {
            Whose::Address(of) | Whose::Asker(of, _) => of == address,
            Whose::Network(_) | Whose::Asn(_) | Whose::User(_) => false,
        };
        own && self.event == *event
    }
}

/// What counts as one address: of IPv6 its /64.
#[must_use]
pub fn address_of(address: IpAddr) -> IpAddr {
    within(address, 32, 4)
}

/// The network of an address: its /24, of IPv6 its /48.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    within(address, 24, 3)
}

fn within(address: IpAddr, bits: u32, segments: usize) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX << (32 - bits);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mut parts = v6.segments();
            for part in parts.iter_mut().skip(segments) {
                *part = 0;
            }
            IpAddr::V6(Ipv6Addr::from(parts))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(record: &mut Record, now_ms: u64) -> Vec<Signal> {
        record.signals(now_ms).iter().collect()
    }

    #[test]
    fn a_crowd_behind_one_address_has_time_to_bring_its_places_back() {
        let mut crowd = Record::default();
        let now = 6_000_000;
        for _ in 0..200 {
            crowd.draw(now);
        }
        assert_eq!(told(&mut crowd, now), []);
        for _ in 0..120 {
            crowd.bring_back(now + 5_000);
        }
        assert_eq!(told(&mut crowd, now + 120_000), []);
    }

    #[test]
    fn who_never_brings_one_back_is_told_from_who_seldom_does() {
        let now = 6_000_000;
        let mut dropper = Record::default();
        for _ in 0..DROPPED_MIN {
            dropper.draw(now);
        }
        assert_eq!(told(&mut dropper, now + 29_999), [], "too soon to say");
        assert_eq!(told(&mut dropper, now + 90_000), [Signal::CookiesDropped]);
        let mut forgetful = Record::default();
        for _ in 0..FORGOTTEN_MIN {
            forgetful.draw(now);
        }
        forgetful.bring_back(now);
        assert_eq!(
            told(&mut forgetful, now + 90_000),
            [Signal::TicketsForgotten]
        );
    }

    #[test]
    fn what_was_counted_fades() {
        let now = 6_000_000;
        let mut record = Record::default();
        for _ in 0..MANY {
            record.draw(now);
            record.ask_early(now);
            record.bring_back(now);
        }
        assert_eq!(
            told(&mut record, now),
            [Signal::ManyTickets, Signal::EarlyPolls]
        );
        assert_eq!(told(&mut record, now + 20 * HALVED_MS), []);
        record.fetch_decoy(now + 60_000);
        record.use_two_networks(now + 60_000);
        assert_eq!(told(&mut record, now), [Signal::Decoy, Signal::TwoNetworks]);
        assert_eq!(told(&mut record, now + 60_000), []);
    }

    #[test]
    fn a_million_addresses_take_no_more_room_than_a_hundred_thousand() {
        let table = Table::default();
        let event = EventId::new("main").unwrap();
        let kept = IpAddr::from([192, 0, 2, 1]);
        for at in 0..1_000_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + at).into());
            table.open(&event, Whose::Address(address)).lock().early = 1;
            if at % 1_000 == 0 {
                table.open(&event, Whose::Address(kept)).lock().early += 1;
            }
        }
        assert!(table.len() <= 100_000, "{}", table.len());
        assert!(table.len() > 50_000, "{}", table.len());
        let memory = table.0.memory_used().total();
        assert!(memory < 16 << 20, "{memory} beside the records");
        // Who comes again and again is remembered through the flood.
        assert_eq!(table.open(&event, Whose::Address(kept)).lock().early, 1_000);
    }

    #[test]
    fn an_address_is_forgotten_alone() {
        let table = Table::default();
        let event = EventId::new("main").unwrap();
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        table.open(&event, Whose::Address(one));
        table.open(&event, Whose::Asker(one, 7));
        table.open(&event, Whose::Address(two));
        table.open(&event, Whose::Network(network_of(one)));
        assert_eq!(table.of_address(&event, one).len(), 2);
        assert!(table.forget(&event, one));
        assert!(!table.forget(&event, one));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn addresses_count_by_their_networks() {
        let of = |text: &str| {
            let address = text.parse().unwrap();
            (
                address_of(address).to_string(),
                network_of(address).to_string(),
            )
        };
        assert_eq!(
            of("203.0.113.9"),
            ("203.0.113.9".into(), "203.0.113.0".into())
        );
        assert_eq!(
            of("::ffff:203.0.113.9"),
            ("203.0.113.9".into(), "203.0.113.0".into())
        );
        assert_eq!(
            of("2001:db8:1:2:3::9"),
            ("2001:db8:1:2::".into(), "2001:db8:1::".into())
        );
    }
}
