//! The store: where an event's state is moved, under a guard, atomically.
//!
//! Each operation exists once in every backend and means the same
//! there: one test suite runs on all of them and random sequences
//! must leave them in the same state. Policy is not here: how many and which
//! may enter is decided in `room`, the store only refuses what would break a
//! promise.

#[doc(hidden)]
pub mod dump;
mod measured;
pub mod memory;
pub mod redis;
pub mod slices;
mod words;

use std::sync::Arc;

use crate::room::event::{EventId, Mode};
use crate::room::pages::Bits;
use crate::room::snapshot::{Rules, Snapshot};
use crate::room::ticket::{Generation, SessionKey};
use crate::room::time::Timestamp;

use slices::{Slice, Span};

pub use measured::Measured;
pub use memory::MemoryStore;
pub use redis::RedisStore;
pub use words::{
    Ask, BATCH_MAX, Batch, Claim, Claimed, Entered, Entrant, Fence, Forgotten, Found, IdHash,
    Leave, LetIn, Put, Restored, Shadow, Step, Stepped, StoredEvent, Touch,
};

/// The backends. A closed set needs no trait object.
#[derive(Clone)]
pub enum Store {
    /// In this process.
    Memory(MemoryStore),
    /// Redis or Valkey.
    Redis(RedisStore),
    /// Either, with its calls measured.
    Measured(Arc<Measured>),
}

/// What a store call comes back with when the store could be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<T> {
    /// The operation was done.
    Done(T),
    /// The store met a silence or a loss and changed nothing but the state of
    /// recovery: ask again after the next snapshot.
    Recovering,
    /// The store does not know this event: `restore` it first.
    Absent,
}

impl<T> Reply<T> {
    /// What was done, if it was.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Recovering | Self::Absent => None,
        }
    }
}

/// The store could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// No answer within `store.timeout`.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store refused: read-only, out of memory, no permission, wrong type.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// What every operation returns.
pub type Answer<T> = Result<Reply<T>, StoreError>;

/// Rules of an event that nobody configured: tickets for all, nobody called.
pub(crate) const UNKNOWN: Rules = Rules {
    mode: Mode::Pause,
    limit: None,
    admit_per_second: None,
    session_idle_ms: 600_000,
    session_max_ms: 3_600_000,
    window_ms: 90_000,
};

impl Store {
    /// An event's whole state, for tests that compare backends.
    ///
    /// # Errors
    /// When the store cannot be asked.
    #[doc(hidden)]
    pub async fn dump(&self, event: &EventId) -> Result<Option<dump::Dump>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.dump(event)),
            Self::Redis(store) => store.dump(event).await,
            Self::Measured(store) => Box::pin(store.inner.dump(event)).await,
        }
    }
}

/// Sends one operation to whichever backend there is.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl Store {
            $($(#[$doc])*
            pub async fn $name(&self, $($arg: $kind),*) -> $answer {
                match self {
                    Self::Memory(store) => Ok(store.$name($($arg),*)),
                    Self::Redis(store) => store.$name($($arg),*).await,
                    Self::Measured(store) => {
                        let call = Box::pin(store.inner.$name($($arg),*));
                        store.measure(stringify!($name), call).await
                    }
                }
            })*
        }
    };
}

operations! {
    /// Lets visitors walk in where the gate is open, nobody waits and a slot
    /// and the rate allow; the others get numbers.
    ///
    /// # Errors
    /// When the store cannot be asked.
    enter(event: &EventId, batch: &Batch) -> Answer<Vec<Entered>>;
    /// Lets called tickets in, the lowest first.
    ///
    /// # Errors
    /// When the store cannot be asked.
    claim(event: &EventId, claims: &[Claim]) -> Answer<Vec<Claimed>>;
    /// Adds living tickets, by page.
    ///
    /// # Errors
    /// When the store cannot be asked.
    beat(event: &EventId, pages: &[(u64, Bits)]) -> Answer<()>;
    /// Takes in whom a gateway let in by order while the store was away, over
    /// the limit if need be; `None` for sessions that have ended since.
    ///
    /// # Errors
    /// When the store cannot be asked.
    let_in(event: &EventId, visitors: &[LetIn]) -> Answer<Vec<Option<Timestamp>>>;
    /// Extends living sessions; `None` for those that are gone.
    ///
    /// # Errors
    /// When the store cannot be asked.
    touch(event: &EventId, touches: &[Touch]) -> Answer<Vec<Option<Timestamp>>>;
    /// Tells until when sessions live, without extending them; `None` for
    /// those that are gone.
    ///
    /// # Errors
    /// When the store cannot be asked.
    inside(event: &EventId, sessions: &[SessionKey]) -> Answer<Vec<Option<Timestamp>>>;
    /// Ends sessions; tells which of them were there.
    ///
    /// # Errors
    /// When the store cannot be asked.
    end(event: &EventId, sessions: &[SessionKey]) -> Answer<Vec<bool>>;
    /// Gives tickets back.
    ///
    /// # Errors
    /// When the store cannot be asked.
    leave(event: &EventId, tickets: &[Leave]) -> Answer<()>;
    /// Tells what an id stands for.
    ///
    /// # Errors
    /// When the store cannot be asked.
    find(event: &EventId, id: IdHash) -> Answer<Found>;
    /// Reports what this gateway saw and reads the event.
    ///
    /// # Errors
    /// When the store cannot be asked.
    snapshot(event: &EventId, ask: &Ask) -> Answer<Snapshot>;
    /// Makes the controller's move.
    ///
    /// # Errors
    /// When the store cannot be asked.
    step(event: &EventId, step: &Step) -> Answer<Stepped>;
    /// Pushes what this gateway remembers; creates the event if need be.
    ///
    /// # Errors
    /// When the store cannot be asked.
    restore(event: &EventId, shadow: &Shadow) -> Result<Restored, StoreError>;
    /// Begins a new generation: places are void, sessions stay, numbers go on.
    ///
    /// # Errors
    /// When the store cannot be asked.
    reset(event: &EventId) -> Answer<Generation>;
    /// Writes what the store guards, if nobody else did since `seen`; returns
    /// the version that stands.
    ///
    /// # Errors
    /// When the store cannot be asked.
    configure(event: &EventId, seen: u64, rules: &Rules) -> Answer<u64>;
    /// Removes everything of an event that nobody works on any more. It may be
    /// asked again and again, by any gateway.
    ///
    /// # Errors
    /// When the store cannot be asked; some of it may be gone then.
    forget(event: &EventId) -> Result<Forgotten, StoreError>;
    /// Reads the events made or overridden through the API.
    ///
    /// # Errors
    /// When the store cannot be asked.
    events() -> Result<Vec<(EventId, StoredEvent)>, StoreError>;
    /// Keeps slices of statistics; `now` in Unix seconds.
    ///
    /// # Errors
    /// When the store cannot be asked; some of them may be kept then.
    keep_slices(event: &EventId, slices: &[Slice], now: u64) -> Result<(), StoreError>;
    /// Reads the slices of statistics that all gateways kept in a span of time.
    ///
    /// # Errors
    /// When the store cannot be asked.
    slices(event: &EventId, span: &Span) -> Result<slices::Found, StoreError>;
    /// Writes or removes such an event, if its version is still `seen` (0: none).
    ///
    /// # Errors
    /// When the store cannot be asked.
    put_event(event: &EventId, seen: u64, stored: Option<&StoredEvent>) -> Result<Put, StoreError>;
}
