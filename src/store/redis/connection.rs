//! The connection to the store: one, multiplexed, made when it is first
//! needed and made anew when it breaks or falls silent. Behind sentinels each
//! attempt asks them who the primary is, so that a failover is followed.
//!
//! While the server is away, calls fail at once instead of waiting for it; the
//! pause between attempts grows to one second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::StoreError;

/// The longest wait for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(1);

/// The longest that finding the primary, or the nodes of a cluster, may take.
const FIND: Duration = Duration::from_secs(5);

/// The first pause after a failed attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection that leaves this many calls in a row unanswered is given up:
/// a path that swallows packets reports no error for a quarter of an hour.
const UNANSWERED_MAX: u32 = 3;

type Attempt = watch::Receiver<Option<Result<Link, StoreError>>>;

/// How connections are opened.
#[derive(Clone)]
pub(super) enum Way {
    /// To the one server.
    Single(Box<Client>),
    /// To the server that the sentinels name as the primary, asked anew each time.
    Sentinel(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// To the nodes of a cluster, which it finds and follows by itself.
    Cluster(Box<ClusterClient>),
}

/// A connection, whatever leads there. Clones share it.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The connection and its fate.
pub(super) struct Connection {
    way: Way,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts attempts, so that a late failure does not end a newer one.
    number: u64,
    attempt: Option<Attempt>,
    /// After a failure: not before this moment, and why.
    away: Option<(Instant, StoreError)>,
    pause: Duration,
    unanswered: u32,
}

impl Connection {
    pub(super) fn new(way: Way, timeout: Duration) -> Self {
        Self {
            way,
            timeout,
            state: Mutex::default(),
        }
    }

    /// Runs a script, which the server is given when it does not know it.
    pub(super) async fn run(&self, script: &ScriptInvocation<'_>) -> Result<Value, StoreError> {
        self.exchange(async |mut connection| script.invoke_async(&mut connection).await)
            .await
    }

    /// Sends one command.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.exchange(async |mut connection| command.query_async(&mut connection).await)
            .await
    }

    async fn exchange(
        &self,
        ask: impl AsyncFnOnce(Link) -> Result<Value, RedisError>,
    ) -> Result<Value, StoreError> {
        let (number, attempt) = self.attempt()?;
        let exchange = async {
            let connection = connected(attempt)
                .await
                .inspect_err(|why| self.not_made(number, why))?;
            let answer = ask(connection).await;
            answer.map_err(|error| self.failed(number, &error))
        };
        let answer = tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(StoreError::Timeout));
        match &answer {
            Err(StoreError::Timeout) => self.unanswered(number),
            Err(StoreError::Unavailable(_)) => {}
            Ok(_) | Err(StoreError::Refused(_)) => self.answered(),
        }
        answer
    }

    /// The attempt under way, which may have succeeded long ago, or a new one.
    fn attempt(&self) -> Result<(u64, Attempt), StoreError> {
        let mut state = self.lock();
        if let Some(attempt) = &state.attempt {
            let failed = matches!(&*attempt.borrow(), Some(Err(_)));
            if !failed {
                return Ok((state.number, attempt.clone()));
            }
        }
        if let Some((until, why)) = &state.away
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        let (told, attempt) = watch::channel(None);
        let way = self.way.clone();
        let answer = CONNECT.max(self.timeout);
        // On its own, so that it goes on when the call that began it gives up.
        tokio::spawn(async move {
            let link = tokio::time::timeout(FIND, way.open(answer)).await;
            let link = link.unwrap_or_else(|_| Err((ErrorKind::Io, "nobody answers").into()));
            let _ = told.send(Some(link.map_err(|error| store_error(&error))));
        });
        state.number += 1;
        state.attempt = Some(attempt.clone());
        state.unanswered = 0;
        Ok((state.number, attempt))
    }

    /// An attempt that failed is followed by a pause.
    fn not_made(&self, number: u64, why: &StoreError) {
        let mut state = self.lock();
        if state.number == number && state.attempt.take().is_some() {
            state.rest(why.clone());
        }
    }

    /// Ends a connection that broke.
    fn failed(&self, number: u64, error: &RedisError) -> StoreError {
        let told = store_error(error);
        let broken = error.is_unrecoverable_error() || (error.is_io_error() && !error.is_timeout());
        // A replica where the primary was: the name may lead elsewhere now.
        let demoted = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if broken || demoted {
            let mut state = self.lock();
            if state.number == number {
                state.attempt = None;
                if demoted {
                    state.rest(told.clone());
                }
            }
        }
        told
    }

    fn answered(&self) {
        let mut state = self.lock();
        state.unanswered = 0;
        if state.attempt.is_some() {
            state.pause = Duration::ZERO;
            state.away = None;
        }
    }

    fn unanswered(&self, number: u64) {
        let mut state = self.lock();
        if state.number != number {
            return;
        }
        let connecting = state
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.borrow().is_none());
        state.unanswered += 1;
        if state.unanswered >= UNANSWERED_MAX && !connecting {
            state.attempt = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// No attempt for a while.
    fn rest(&mut self, why: StoreError) {
        self.pause = (self.pause * 2).clamp(PAUSE, PAUSE_MAX);
        self.away = Some((Instant::now() + self.pause, why));
    }
}

impl Way {
    /// Opens a connection on which no answer takes longer than `answer`.
    async fn open(&self, answer: Duration) -> RedisResult<Link> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        match self {
            Self::Single(client) => {
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Link::One)
            }
            Self::Sentinel(sentinels) => {
                let mut sentinels = sentinels.lock().await;
                let connection = sentinels.get_async_connection_with_config(&config);
                connection.await.map(Link::One)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

async fn connected(mut attempt: Attempt) -> Result<Link, StoreError> {
    let gone = || StoreError::Unavailable("the attempt to connect was abandoned".to_owned());
    let connection = attempt
        .wait_for(Option::is_some)
        .await
        .map_err(|_| gone())?;
    connection.clone().ok_or_else(gone)?
}

/// What a failure of the client or the server means for the caller.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::Timeout;
    }
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => {
            StoreError::Unavailable(error.to_string())
        }
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}
