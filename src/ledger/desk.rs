//! Where the store is asked on behalf of visitors: `enter` and `claim` in
//! batches, one in flight per event, without a timer.
//!
//! A batch is sent when none is under way, else visitors collect up to 64. An
//! `enter` whose reply was lost is sent again under the same number, and the
//! store gives the same reply.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Stay;
use crate::room::event::EventId;
use crate::room::ticket::{Generation, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{
    Answer, BATCH_MAX, Batch, Claim, Claimed, Entered, Entrant, Found, IdHash, Leave, Reply, Store,
    StoreError, Touch,
};

/// Visitors that may stand at one event's desk at once; more are answered as
/// if the store were away.
const CROWD_MAX: usize = 65_536;

/// How often a batch is sent before its visitors are told that the store is away.
const TRIES: usize = 3;

/// How long a visitor stands at the desk before the store counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// The store gave no usable answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is away")]
pub struct Away;

type Asked<I, O> = (I, oneshot::Sender<Result<O, Away>>);

/// One event's desk.
pub struct Desk {
    store: Store,
    event: EventId,
    enter: mpsc::Sender<Asked<Entrant, Entered>>,
    claim: mpsc::Sender<Asked<Claim, Claimed>>,
    touch: mpsc::Sender<Asked<Touch, Option<Timestamp>>>,
    inside: mpsc::Sender<Asked<SessionKey, Option<Timestamp>>>,
}

impl Desk {
    /// Opens a desk; its tasks run on the present runtime until it is dropped.
    #[must_use]
    pub fn open(store: Store, event: EventId, gateway: String, own: Arc<AtomicU64>) -> Self {
        let (enter, entering) = mpsc::channel(CROWD_MAX);
        let (claim, claiming) = mpsc::channel(CROWD_MAX);
        let (touch, touching) = mpsc::channel(CROWD_MAX);
        let (inside, looking) = mpsc::channel(CROWD_MAX);
        let at = (store.clone(), event.clone());
        tokio::spawn(enter_loop(at, gateway, own, entering));
        let at = (store.clone(), event.clone());
        tokio::spawn(batches(claiming, move |claims: Vec<Claim>| {
            let (store, event) = at.clone();
            async move { store.claim(&event, &claims).await }
        }));
        let at = (store.clone(), event.clone());
        tokio::spawn(batches(touching, move |touches: Vec<Touch>| {
            let (store, event) = at.clone();
            async move { store.touch(&event, &touches).await }
        }));
        let at = (store.clone(), event.clone());
        tokio::spawn(batches(looking, move |sessions: Vec<SessionKey>| {
            let (store, event) = at.clone();
            async move { store.inside(&event, &sessions).await }
        }));
        Self {
            store,
            event,
            enter,
            claim,
            touch,
            inside,
        }
    }

    /// A visitor at the door.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn enter(&self, entrant: Entrant) -> Result<Entered, Away> {
        ask(&self.enter, entrant).await
    }

    /// A called ticket.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, Away> {
        ask(&self.claim, claim).await
    }

    /// Whether a session lives, extending it if so.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn touch(&self, touch: Touch) -> Result<Option<Timestamp>, Away> {
        ask(&self.touch, touch).await
    }

    /// Until when a session lives, without extending it.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn inside(&self, session: SessionKey) -> Result<Option<Timestamp>, Away> {
        ask(&self.inside, session).await
    }

    /// Keeps a session until `keep`, for an origin that asks for it.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn extend(&self, stay: &Stay, keep: Timestamp) -> Result<Option<Timestamp>, Away> {
        self.touch(Touch {
            keep,
            ..stay.touch()
        })
        .await
    }

    /// Ends a session; tells whether it was there.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn end(&self, session: SessionKey) -> Result<bool, Away> {
        let sessions = [session];
        let ended = patiently(|| self.store.end(&self.event, &sessions)).await?;
        Ok(ended.contains(&true))
    }

    /// Gives a ticket back.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn leave(&self, ticket: Leave) -> Result<(), Away> {
        let tickets = [ticket];
        patiently(|| self.store.leave(&self.event, &tickets)).await
    }

    /// What an id stands for.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn find(&self, id: IdHash) -> Result<Found, Away> {
        patiently(|| self.store.find(&self.event, id)).await
    }

    /// Begins a new generation: every place in line is void, sessions stay.
    ///
    /// # Errors
    /// [`Away`] when the store gives no answer.
    pub async fn reset(&self) -> Result<Generation, Away> {
        patiently(|| self.store.reset(&self.event)).await
    }
}

async fn ask<I, O>(to: &mpsc::Sender<Asked<I, O>>, what: I) -> Result<O, Away> {
    let (reply, answer) = oneshot::channel();
    to.try_send((what, reply)).map_err(|_| Away)?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        _ => Err(Away),
    }
}

/// Repeats a call that met a recovery's beginning or a passing fault.
async fn patiently<T, F>(call: impl Fn() -> F) -> Result<T, Away>
where
    F: Future<Output = Answer<T>>,
{
    for round in 0..TRIES {
        match call().await {
            Ok(Reply::Done(value)) => return Ok(value),
            // The first call after a silence finds it out; the next one is answered.
            Ok(Reply::Recovering) | Err(StoreError::Timeout) => {}
            // The controller is about to bring the event back.
            Ok(Reply::Absent) if round + 1 < TRIES => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(Reply::Absent) | Err(StoreError::Unavailable(_) | StoreError::Refused(_)) => break,
        }
    }
    Err(Away)
}

/// Waits for the first, then takes whoever stands there, up to a batch.
async fn collect<I, O>(
    from: &mut mpsc::Receiver<Asked<I, O>>,
) -> Option<(Vec<I>, Vec<oneshot::Sender<Result<O, Away>>>)> {
    let mut asked = Vec::with_capacity(BATCH_MAX);
    if from.recv_many(&mut asked, BATCH_MAX).await == 0 {
        return None;
    }
    Some(
        asked
            .into_iter()
            .filter(|(_, reply)| !reply.is_closed())
            .unzip(),
    )
}

fn answer<O>(replies: Vec<oneshot::Sender<Result<O, Away>>>, answers: Result<Vec<O>, Away>) {
    match answers {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answer));
            }
        }
        Err(Away) => {
            for reply in replies {
                let _ = reply.send(Err(Away));
            }
        }
    }
}

async fn batches<I: Clone, O, F>(mut from: mpsc::Receiver<Asked<I, O>>, call: impl Fn(Vec<I>) -> F)
where
    F: Future<Output = Answer<Vec<O>>>,
{
    while let Some((batch, replies)) = collect(&mut from).await {
        if batch.is_empty() {
            continue;
        }
        let answers = patiently(|| call(batch.clone())).await;
        answer(replies, answers);
    }
}

async fn enter_loop(
    (store, event): (Store, EventId),
    gateway: String,
    own: Arc<AtomicU64>,
    mut from: mpsc::Receiver<Asked<Entrant, Entered>>,
) {
    // A gateway that keeps its name over a restart must not be given the
    // replies of its earlier life.
    let mut batch = rand::random::<u32>().into();
    while let Some((entrants, replies)) = collect(&mut from).await {
        if entrants.is_empty() {
            continue;
        }
        batch += 1;
        let call = Batch {
            gateway: gateway.clone(),
            batch,
            above: super::highest(&own),
            entrants,
        };
        let answers = patiently(|| store.enter(&event, &call)).await;
        answer(replies, answers);
    }
}
