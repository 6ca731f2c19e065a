//! Shares: slots that a gateway may fill by itself while the store is away
//! (`store.on_failure = "local"`).
//!
//! The store counts every share as taken, so sessions, ghosts, offers and
//! shares together stay within the limit whoever is cut off. A gateway says
//! with each look how much of its share it still holds, and that binds it from
//! the moment of asking: a lost reply can only leave the store counting more
//! than there is. A share is taken back only when its holder has said so, or
//! when it is so old that neither the holder nor anybody whom it let in counts
//! any more.

use serde::{Deserialize, Serialize};

use super::event::Mode;
use super::gate::Gate;
use super::snapshot::{Meta, Snapshot};
use super::ticket::id_hash;
use super::time::Timestamp;

/// How long after its last look a gateway may fill its share, in milliseconds
/// of its own clock.
pub const SHARE_MS: u64 = 600_000;

/// How long the store counts it at least, in milliseconds of the running time,
/// which may be a tenth faster; the time that a session may be idle comes on
/// top: whoever was let in at the last moment is gone then.
pub const SHARE_COUNTED_MS: u64 = SHARE_MS + SHARE_MS / 10;

/// The most holders that an event knows: one more is given nothing.
pub const HOLDERS_MAX: usize = 512;

/// A share, as the store counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Whose: one life of a gateway's process.
    pub holder: Holder,
    /// How many slots.
    pub slots: u64,
    /// Which of the holder's looks said so.
    pub turn: u64,
    /// Until when it counts.
    pub until: Timestamp,
}

/// One life of a gateway's process: its name above, chance below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder(pub u64);

impl Holder {
    /// A new life of the gateway of this name. `chance` tells it from others.
    #[must_use]
    pub fn new(gateway: &str, chance: u32) -> Self {
        let [a, b, c, ..] = id_hash(gateway);
        // 21 bits, for Lua counts with 53.
        let name = u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]) >> 3;
        Self(name << 32 | u64::from(chance))
    }

    /// Whether both are lives of one gateway.
    #[must_use]
    pub fn is_kin(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

/// What a gateway says of its share with a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareAsk {
    /// Who.
    pub holder: Holder,
    /// Counts its looks: a late one changes nothing.
    pub turn: u64,
    /// What it still holds: slots that it may fill, and those that it has
    /// filled and not told of.
    pub held: u64,
    /// How many it would like to hold.
    pub wanted: u64,
}

/// Slots that are counted as taken by shares at `now`.
#[must_use]
pub fn reserved(shares: &[Share], now: Timestamp) -> u64 {
    let counted = shares.iter().filter(|share| share.until > now);
    counted.map(|share| share.slots).sum()
}

/// Settles what a gateway says of its share. `taken` are sessions, ghosts and
/// offers; in a recovery nothing is granted.
pub fn settle(meta: &mut Meta, ask: &ShareAsk, taken: u64) {
    let now = meta.time;
    meta.shares.retain(|share| share.until > now);
    let known = meta.shares.iter().find(|share| share.holder == ask.holder);
    if known.is_some_and(|share| share.turn >= ask.turn) {
        return;
    }
    meta.shares.retain(|share| share.holder != ask.holder);
    // Earlier lives of the same gateway may still have let somebody in.
    let kin = meta.shares.iter().filter(|s| s.holder.is_kin(ask.holder));
    let wanted = ask
        .wanted
        .saturating_sub(kin.map(|share| share.slots).sum());
    let free = match meta.rules.limit {
        Some(limit) if meta.recovery.is_none() => {
            limit.saturating_sub(taken + reserved(&meta.shares, now))
        }
        _ => 0,
    };
    let slots = ask.held.max(wanted.min(free));
    if slots > 0 && meta.shares.len() < HOLDERS_MAX {
        let idle = meta.rules.session_idle_ms;
        meta.shares.push(Share {
            holder: ask.holder,
            slots,
            turn: ask.turn,
            until: Timestamp(now.0 + SHARE_COUNTED_MS + idle),
        });
    }
}

/// Takes in what a gateway remembers of others' shares: of each holder what it
/// said last.
pub fn recall(meta: &mut Meta, remembered: &[Share]) {
    for share in remembered {
        let known = meta.shares.iter_mut().find(|s| s.holder == share.holder);
        if let Some(known) = known {
            if known.turn < share.turn {
                *known = *share;
            }
        } else if meta.shares.len() < HOLDERS_MAX {
            meta.shares.push(*share);
        }
    }
}

/// How many slots a gateway would hold for itself: an even part of half of
/// those free, so that a burst still finds slots free for everybody. Nothing
/// while anybody waits or is about to be called: those go first.
#[must_use]
pub fn wanted(snapshot: &Snapshot) -> u64 {
    let meta = &snapshot.meta;
    let Some(limit) = meta.rules.limit else {
        return 0;
    };
    let calm = meta.rules.mode == Mode::Auto
        && meta.gate == Gate::Open
        && meta.called == meta.issued
        && meta.recovery.is_none()
        && snapshot.offers.is_empty();
    if !calm {
        return 0;
    }
    let gateways = snapshot.present().count().max(1) as u64;
    limit.saturating_sub(snapshot.sessions + meta.ghosts) / (2 * gateways)
}
