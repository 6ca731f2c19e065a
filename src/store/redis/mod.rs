//! The shared store: Redis 7.0 and newer, or Valkey; one script per operation.
//!
//! The scripts (`lua/`) do what the embedded store does, in the same order;
//! here their keys are declared, their arguments spelt and their replies read.
//! One server, sentinels or a cluster: everything of an event stands under one
//! hash tag, so that only the connection (`address`, `connection`) differs.

mod address;
mod check;
mod connection;
mod control;
mod dump;
mod forget;
mod keys;
mod push;
mod reply;
mod scripts;
mod slices;
mod visitors;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Script, TlsCertificates};

use super::{Answer, Reply, StoreError};
use crate::room::event::EventId;
use connection::{Connection, Way};
use reply::{Fields, Outcome};
use scripts::{Call, Scripts};

pub use address::Address;
pub use check::Checked;
#[doc(hidden)]
pub use scripts::TimeSource;

/// Where the shared store is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// One server, sentinels or a cluster, as [`Address::parse`] reads it.
    pub url: String,
    /// What every key begins with: 1 to 64 of letters, digits and `_.:-`.
    pub prefix: String,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// A file of PEM certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

/// Sessions in one call: no page is touched for them.
const SESSIONS_PER_CALL: usize = 1024;

/// How often a script may ask for other pages in a row: between two attempts
/// numbering must have moved on by a page or an id must have changed hands.
const MOVES: usize = 4;

/// The shared store. Clones share one connection.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: String,
    connection: Connection,
    scripts: Scripts,
    /// The page of the next number, as last heard, by event.
    issued: Mutex<HashMap<EventId, u64>>,
}

impl RedisStore {
    /// A store that connects when it is first asked: the server need not be
    /// there yet. `check` asks at once.
    ///
    /// # Errors
    /// When the settings cannot be right: the address, the prefix, the
    /// certificates.
    pub fn connect(settings: &RedisSettings) -> Result<Self, StoreError> {
        Self::with_time(settings, TimeSource::Server)
    }

    /// As `connect`, with the clock read from where a test writes it.
    ///
    /// # Errors
    /// As `connect`.
    #[doc(hidden)]
    pub fn with_time(settings: &RedisSettings, time: TimeSource) -> Result<Self, StoreError> {
        let prefix = &settings.prefix;
        let spelt = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(spelt) {
            return Err(StoreError::Refused(format!(
                "store.prefix {prefix:?} must be 1 to 64 letters, digits or _ . : -"
            )));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                prefix: prefix.clone(),
                connection: Connection::new(way(settings)?, settings.timeout),
                scripts: Scripts::new(prefix, time),
                issued: Mutex::default(),
            }),
        })
    }

    fn call(&self, event: &EventId) -> Call {
        Call::new(&self.inner.prefix, event)
    }

    fn scripts(&self) -> &Scripts {
        &self.inner.scripts
    }

    /// Runs a script; declares what it asks for and runs it again.
    async fn run(&self, script: &Script, mut call: Call) -> Result<Outcome, StoreError> {
        for _ in 0..MOVES {
            let reply = self.inner.connection.run(&call.of(script)).await?;
            match Fields::new(&call.meta(), reply)?.outcome()? {
                Outcome::Moved(pages) => call.declare(pages),
                outcome => return Ok(outcome),
            }
        }
        Err(StoreError::Refused(format!(
            "the script of key {} asked for other pages again and again",
            call.meta()
        )))
    }

    async fn ask<T>(
        &self,
        script: &Script,
        call: Call,
        read: impl FnOnce(Fields) -> Result<T, StoreError>,
    ) -> Answer<T> {
        match self.run(script, call).await? {
            Outcome::Done(fields) => read(fields).map(Reply::Done),
            Outcome::Recovering => Ok(Reply::Recovering),
            Outcome::Absent => Ok(Reply::Absent),
            Outcome::Moved(_) => Err(StoreError::Refused("a page was not declared".to_owned())),
        }
    }
}

/// How connections to the store are opened.
fn way(settings: &RedisSettings) -> Result<Way, StoreError> {
    let wrong = |what: &dyn std::fmt::Display| StoreError::Refused(format!("store.url: {what}"));
    let address = Address::parse(&settings.url).map_err(|remedy| wrong(&remedy))?;
    let Some(file) = &settings.ca_file else {
        return address.way(None).map_err(|error| wrong(&error));
    };
    let bad = |error: &dyn std::fmt::Display| {
        StoreError::Refused(format!("store.ca_file {}: {error}", file.display()))
    };
    let certificates = std::fs::read(file).map_err(|error| bad(&error))?;
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(certificates),
    };
    address.way(Some(certificates)).map_err(|error| bad(&error))
}
