//! What a gateway on a shared store keeps of an event on its disk, so that
//! also the loss of the store and of every process is an ordinary recovery.
//!
//! A process that reads it goes on as one that was cut off from the store for
//! as long as it was not there: with its last look, and a running time that
//! stands still. Others may have gone on meanwhile, so an old memory must do
//! no harm. Why each thing that is remembered cannot:
//!
//! - **issued, called, generation, time** only ever grow, and the store takes
//!   the larger. Numbers from the future are not believed (`Look::is_absurd`).
//! - **born and seq** tell whether the store has forgotten something. Of a
//!   store that lives on, `born` is the same and `seq` is larger: nothing is
//!   pushed. Of one that was lost and rebuilt without this gateway, everything
//!   is forgotten once it has gone on for longer than anything remembered may
//!   count (`Ledger::awake`).
//! - **sessions** count until the expiry that the store acknowledged, and the
//!   time that the store ran on without this gateway counts. One that was
//!   completed since is on the store's list of ended ones, and nobody on it comes
//!   back; when that list may have been shortened, no session is brought at all.
//! - **ended sessions and spent numbers** take away, and nothing of either ever
//!   becomes good again.
//! - **living tickets** are dropped when both their windows are over. Earlier, one
//!   that was since claimed or given back is spent in the store, which counts
//!   more than living; one that a reset made void lies below the floor, and is
//!   forgotten as soon as the reset is seen.
//! - **who was let in untold, and who ended untold** is told of only while the
//!   session counts by its own memory, above.
//! - **sessions last known** only makes ghosts, which hold slots: never too many
//!   inside, and no longer than a session may be idle.
//! - **totals** are shown only; of each the larger one counts.
//! - **marks, gate, rules** count only where the store has none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tracing::error;

use super::{COUNTER_BITS, Ledger, View};
use crate::room::pages::Bits;
use crate::room::snapshot::{FLOOR_MINUTES, GatewayRow, Meta, Report, Snapshot, Tally};
use crate::room::ticket::{NUMBER_HORIZON_SECONDS, Number, SessionKey};
use crate::room::time::{Timestamp, millis};
use crate::store::LetIn;

/// While nobody was there the running time stands still, as in any outage. An
/// outage longer than this is over for everybody, and counts whole.
const OUTAGE_MAX: Duration = Duration::from_secs(3600);

/// The store's clock and this machine's may differ by so many seconds.
const SKEW_MAX: i64 = 60;

/// A session: its key, when it began, until when it was acknowledged.
const SESSION_BYTES: usize = 16 + 2 * 6;

/// An ended session: its key, and when it ended.
const ENDED_BYTES: usize = 16 + 6;

/// What is remembered of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// What moves by itself, also while nothing happens.
    pub moment: Moment,
    /// All else.
    pub facts: Facts,
}

/// What moves by itself, also while nothing happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    time: Timestamp,
    seq: u64,
    /// The store's wall clock less this machine's, in seconds.
    ahead: i64,
}

/// What is worth a writing when it has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The last look at the store; none when it never answered.
    look: Option<Look>,
    /// The last number of this gateway's own, as `Ledger` counts them.
    numbered: u64,
    live: Vec<Page>,
    spent: Vec<Page>,
    sessions: ByteBuf,
    ended: ByteBuf,
    /// Let in while the store was away, and not told to it yet.
    #[serde(default)]
    let_in: Vec<Untold>,
    /// Ended while the store was away, and not told to it yet.
    #[serde(default)]
    end_later: ByteBuf,
}

/// A visitor whom the store has not been told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Untold {
    session: ByteBuf,
    number: Option<Number>,
    proven: bool,
    id: Option<ByteBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page(u64, ByteBuf);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Look {
    meta: Meta,
    sessions: u64,
    offers: Vec<(Number, Timestamp)>,
    pages: Vec<u64>,
    front: Vec<Page>,
    density: Vec<(u64, [u16; 8])>,
    gateways: Vec<Peer>,
    slot: u8,
    #[serde(default)]
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Peer {
    gateway: String,
    slot: u8,
    keys: Vec<String>,
    config: String,
}

impl Ledger {
    /// What a later process of this gateway is to know.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let view = self.view();
        let moment = view.as_ref().map_or_else(Moment::default, |view| Moment {
            time: view.now(self.clock.monotonic_ms()),
            seq: view.snapshot.meta.seq,
            ahead: view
                .unix_seconds(self.clock.monotonic_ms())
                .cast_signed()
                .saturating_sub((self.clock.unix_ms() / 1000).cast_signed()),
        });
        let (live, spent) = self.heard.memory();
        let living = self.sessions.stays(self.now());
        let mut sessions = Vec::with_capacity(SESSION_BYTES * living.len());
        for stay in living {
            sessions.extend(stay.session.0);
            sessions.extend(short(stay.begun()));
            sessions.extend(short(stay.acknowledged()));
        }
        let mut ended = Vec::new();
        for (session, at) in self.sessions.ended() {
            ended.extend(session.0);
            ended.extend(short(at));
        }
        Remembered {
            moment,
            facts: Facts {
                look: view.map(|view| Look::of(&view.snapshot)),
                numbered: self.last_number_of_own(),
                live: Page::all(&live),
                spent: Page::all(&spent),
                sessions: ByteBuf::from(sessions),
                ended: ByteBuf::from(ended),
                let_in: self.sessions.let_in().iter().map(Untold::of).collect(),
                end_later: ByteBuf::from(self.sessions.end_later_all().concat()),
            },
        }
    }

    /// Takes in what an earlier process wrote `age` ago. Only before the first
    /// look at the store.
    pub fn recall(&self, remembered: Remembered, age: Duration) {
        let Remembered { moment, facts } = remembered;
        let asleep = if age > OUTAGE_MAX { millis(age) } else { 0 };
        let ahead = moment.ahead.clamp(-SKEW_MAX, SKEW_MAX);
        let unix_seconds = (self.clock.unix_ms() / 1000).saturating_add_signed(ahead);
        if let Some(look) = &facts.look
            && look.is_absurd(moment, unix_seconds)
        {
            return error!(event = %self.id, issued = %look.meta.issued, "what state_dir keeps of this event lies in the future and is not believed; is the clock right?");
        }
        let time = Timestamp(moment.time.0.saturating_add(asleep));
        let window = facts.look.as_ref().map_or(0, |look| look.meta.window);
        let mut live = Page::bits(&facts.live);
        live.retain(|(page, bits)| {
            let highest = bits.ones(0).last().map(|bit| Number::at(*page, bit));
            highest.is_some_and(|highest| highest.is_plausible(unix_seconds))
        });
        let issued = facts.look.as_ref().map(|look| look.meta.issued);
        let highest = live.last().map(|(page, _)| Number::at(*page, 0));
        self.number_behind(facts.numbered, issued, highest);
        // Some of these this gateway gave by itself, and the store may not have
        // heard of them: who comes now comes behind them all.
        let last = live.last().and_then(|(page, bits)| {
            let bit = bits.ones(0).last()?;
            Some(Number::at(*page, bit))
        });
        if let Some(last) = last {
            self.own.fetch_max(last.0, Ordering::AcqRel);
        }
        if asleep >= 2 * millis(self.window()) {
            live.clear();
        }
        self.heard.recall(window, live, Page::bits(&facts.spent));
        for (session, [begun, until]) in records::<SESSION_BYTES, 2>(&facts.sessions) {
            if until > time {
                let _known = self.sessions.stay(session, begun, until);
            }
        }
        let ended: Vec<_> = records::<ENDED_BYTES, 1>(&facts.ended)
            .map(|(session, [at])| (session, at))
            .collect();
        self.sessions.note_ended(&ended);
        for visitor in facts.let_in.iter().filter_map(Untold::read) {
            let _noted = self.sessions.note_let_in(visitor);
        }
        for (session, []) in records::<16, 0>(&facts.end_later) {
            self.sessions.end_later(session);
        }
        if let Some(look) = facts.look {
            let snapshot = look.snapshot(moment, unix_seconds);
            let view = View::recalled(snapshot, self.clock.monotonic_ms());
            self.publish(view.moved_on(time, self.clock.monotonic_ms()));
        }
    }

    /// The store is seen for the first time since `recall`: the time that it
    /// ran on without this gateway counts for what was remembered.
    ///
    /// A state of the same birth ran on from the moment remembered, and so did
    /// one that was born since and healed by others who remembered it. One
    /// that nobody has healed yet was begun at the wall clock's time, by a
    /// gateway that remembered nothing: only its own life is proven.
    pub fn awake(&self, snapshot: &Snapshot) {
        let Some((view, since)) = self.view().and_then(|v| v.remembered.map(|s| (v, s))) else {
            return;
        };
        let meta = &snapshot.meta;
        let began = if view.snapshot.meta.born == meta.born || meta.recoveries > 0 {
            since
        } else {
            since.max(meta.born_at)
        };
        let ran = snapshot.now().since(began);
        let (idle, window) = (self.settings.load().session_idle, self.window());
        if ran >= 2 * window {
            self.heard.forget_told();
        }
        if ran >= idle {
            self.sessions.forget();
        }
        let claimable = Duration::from_secs(60 * (FLOOR_MINUTES + 1));
        if ran >= idle.max(2 * window).max(claimable) {
            // Nothing that is remembered can count any more: as if just started.
            return self.view.store(None);
        }
        let awake = view.moved_on(since.plus(ran), self.clock.monotonic_ms());
        self.publish(awake.judged());
    }

    /// Whether what this gateway knows of the event is still what it read from
    /// its disk: the store has not answered since.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.view().is_some_and(|view| view.remembered.is_some())
    }

    /// Own numbers begin in a second that has not begun, behind everything
    /// remembered: the process before this one may have numbered in the one at
    /// hand. It is remembered itself before anybody is served.
    fn number_behind(&self, numbered: u64, issued: Option<Number>, highest: Option<Number>) {
        let second_of = |number: Option<Number>| number.map_or(0, Number::unix_second);
        // The store numbers on from what it had issued, also when its clock was
        // set back since.
        let present = (self.clock.unix_ms() / 1000).max(second_of(issued));
        let second = (numbered >> COUNTER_BITS)
            .max(second_of(highest))
            .max(present);
        let latest = present + NUMBER_HORIZON_SECONDS - 1;
        self.number_from_second((second + 1).min(latest));
    }
}

impl Untold {
    fn of(visitor: &LetIn) -> Self {
        Self {
            session: ByteBuf::from(visitor.session.0),
            number: visitor.number,
            proven: visitor.proven,
            id: visitor.id.map(ByteBuf::from),
        }
    }

    fn read(&self) -> Option<LetIn> {
        let id = self.id.as_ref().map(|id| id.as_slice().try_into());
        Some(LetIn {
            session: SessionKey(self.session.as_slice().try_into().ok()?),
            number: self.number,
            proven: self.proven,
            until: Timestamp(0),
            id: id.transpose().ok()?,
        })
    }
}

impl View {
    /// This look, after it was compared with what the store says now.
    fn judged(mut self) -> Self {
        self.remembered = None;
        self
    }

    /// This look at a later moment that nobody looked at.
    fn moved_on(&self, time: Timestamp, taken_ms: u64) -> Self {
        let mut moved = self.clone();
        moved.taken_ms = taken_ms;
        let meta = &mut moved.snapshot.meta;
        let idle = Duration::from_millis(meta.rules.session_idle_ms);
        let asleep = self
            .remembered
            .map_or(Duration::ZERO, |since| time.since(since));
        meta.time = time;
        if asleep >= idle {
            meta.ghosts = 0;
            moved.snapshot.sessions = 0;
        }
        moved
    }
}

impl Look {
    fn of(snapshot: &Snapshot) -> Self {
        let meta = Meta {
            // What moves by itself, or is only the store's, is left out.
            time: Timestamp(0),
            raw: 0,
            seq: 0,
            stepped: Timestamp(0),
            fresh_window: 0,
            fresh_since: Timestamp(0),
            tokens: 0.0,
            tokens_at: Timestamp(0),
            recovery: None,
            shares: Vec::new(),
            ..snapshot.meta.clone()
        };
        Self {
            meta,
            sessions: snapshot.sessions,
            offers: snapshot.offers.clone(),
            pages: snapshot.pages.clone(),
            front: Page::all(&snapshot.front),
            density: snapshot.density.iter().map(|(p, row)| (*p, *row)).collect(),
            gateways: snapshot.present().map(Peer::of).collect(),
            slot: snapshot.slot,
            tally: snapshot.tally,
        }
    }

    /// Whether it can only have been made by a clock that was wrong.
    fn is_absurd(&self, moment: Moment, unix_seconds: u64) -> bool {
        let latest = Timestamp((unix_seconds * 1000).saturating_add(millis(OUTAGE_MAX)));
        !self.meta.issued.is_plausible(unix_seconds) || moment.time > latest
    }

    fn snapshot(self, moment: Moment, unix_seconds: u64) -> Snapshot {
        Snapshot {
            meta: Meta {
                time: moment.time,
                seq: moment.seq,
                ..self.meta
            },
            unix_seconds,
            sessions: self.sessions,
            offers: self.offers,
            pages: self.pages,
            front: Page::bits(&self.front),
            density: self.density.into_iter().collect(),
            ended: Vec::new(),
            gateways: self
                .gateways
                .into_iter()
                .map(|peer| peer.row(moment.time))
                .collect(),
            slot: self.slot,
            expired: 0,
            tally: self.tally,
        }
    }
}

impl Peer {
    fn of(row: &GatewayRow) -> Self {
        Self {
            gateway: row.gateway.clone(),
            slot: row.slot,
            keys: row.report.keys.clone(),
            config: row.report.config.clone(),
        }
    }

    fn row(self, seen: Timestamp) -> GatewayRow {
        GatewayRow {
            gateway: self.gateway,
            slot: self.slot,
            seen,
            report: Report {
                keys: self.keys,
                config: self.config,
                ..Report::default()
            },
        }
    }
}

impl Page {
    fn all(pages: &[(u64, Bits)]) -> Vec<Self> {
        let full = pages.iter().filter(|(_, bits)| !bits.is_empty());
        full.map(|(page, bits)| Self(*page, ByteBuf::from(bits.to_bytes())))
            .collect()
    }

    fn bits(pages: &[Self]) -> Vec<(u64, Bits)> {
        let read = |Self(page, bytes): &Self| (*page, Bits::from_bytes(bytes));
        pages.iter().map(read).collect()
    }
}

/// A moment in six bytes: there may be a hundred thousand of them.
fn short(at: Timestamp) -> [u8; 6] {
    let [_, _, rest @ ..] = at.0.to_be_bytes();
    rest
}

/// Sessions, each with so many moments, from records of `SIZE` bytes.
fn records<const SIZE: usize, const MOMENTS: usize>(
    bytes: &[u8],
) -> impl Iterator<Item = (SessionKey, [Timestamp; MOMENTS])> + '_ {
    let (records, _) = bytes.as_chunks::<SIZE>();
    records.iter().filter_map(|record| {
        let (session, moments) = record.split_first_chunk::<16>()?;
        let (moments, _) = moments.as_chunks::<6>();
        let read = |[a, b, c, d, e, f]: &[u8; 6]| {
            Timestamp(u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]))
        };
        let moments: Vec<_> = moments.iter().map(read).collect();
        Some((SessionKey(*session), moments.try_into().ok()?))
    })
}
