//! Opening what a configuration names: the state directory and the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, info, warn};

use super::RunError;
use super::memory::{Keeper, Kept, name_of_store, statistics_file};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::store::redis::{Address, RedisSettings};
use crate::store::{MemoryStore, RedisStore, Store, StoreError};

/// The embedded store's file in `state_dir`.
const STATE_FILE: &str = "store.json";

/// Open files besides those of connections.
const FILES_BESIDES: u64 = 1_000;

/// The store, and the embedded one's file.
pub(super) type Opened = (Store, Option<(MemoryStore, PathBuf)>);

/// Opens the store. One that is away does not keep the server from starting;
/// one that is too old does.
pub(super) async fn store(config: &Config, clock: &Clock) -> Result<Opened, RunError> {
    let url = match &config.store.url {
        StoreUrl::Memory => return embedded(config, clock),
        StoreUrl::Redis(url) => url,
    };
    let settings = RedisSettings {
        url: url.reveal().to_owned(),
        prefix: config.store.prefix.clone(),
        timeout: config.store.timeout,
        ca_file: config.store.ca_file.clone(),
    };
    let store = RedisStore::connect(&settings).map_err(RunError::Store)?;
    match store.check().await {
        Ok(checked) => {
            info!(version = checked.version, "the store answers");
            for warning in checked.warnings {
                warn!("{warning}");
            }
        }
        Err(fault @ (StoreError::Unavailable(_) | StoreError::Timeout)) => {
            warn!(%fault, "starting without the store");
        }
        Err(fault) => return Err(RunError::Store(fault)),
    }
    Ok((Store::Redis(store), None))
}

/// Raises the limit of open files as far as it may be, and tells when that is
/// too low for the connections that the configuration allows: one each for the
/// visitor and for the origin.
pub(super) fn files(connections: u64) {
    let wanted = connections.saturating_mul(2).saturating_add(FILES_BESIDES);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(files) if files < wanted => warn!(
            files,
            wanted,
            "limits.connections needs more open files than this process may have: raise the hard limit (ulimit -Hn, LimitNOFILE, --ulimit nofile), or lower limits.connections"
        ),
        Ok(_) => {}
        Err(fault) => warn!(%fault, "the limit of open files cannot be read"),
    }
}

/// What is kept in the state directory: the embedded store's state, or what
/// this gateway remembers of a shared one, which is read here.
pub(super) fn kept(
    config: &Config,
    embedded: Option<(MemoryStore, PathBuf)>,
    catalog: &Arc<Catalog>,
) -> Option<Kept> {
    if let Some((store, file)) = embedded {
        return Some(Kept::State(store, file));
    }
    let (StoreUrl::Redis(url), Some(dir)) = (&config.store.url, &config.state_dir) else {
        return None;
    };
    let address = Address::parse(url.reveal()).ok()?;
    let store = name_of_store(&address, &config.store.prefix);
    let keeper = Keeper::open(Arc::clone(catalog), dir, store);
    Some(Kept::Memory(keeper))
}

fn embedded(config: &Config, clock: &Clock) -> Result<Opened, RunError> {
    let run = format!("{:032x}", rand::random::<u128>());
    let Some(dir) = config.state_dir.as_deref() else {
        return Ok((Store::Memory(MemoryStore::new(clock.clone(), &run)), None));
    };
    let file = dir.join(STATE_FILE);
    let store = load(clock, &run, &file)?;
    read_statistics(&store, &statistics_file(&file));
    Ok((Store::Memory(store.clone()), Some((store, file))))
}

/// Statistics that cannot be read never keep the server from starting.
fn read_statistics(store: &MemoryStore, file: &Path) {
    let Err(fault) = store.statistics().load(file) else {
        return;
    };
    let aside = file.with_extension("damaged");
    let moved = std::fs::rename(file, &aside);
    error!(%fault, aside = %aside.display(), is_aside = moved.is_ok(), "the statistics cannot be read: the file is set aside, and they begin anew");
}

/// A damaged state file is set aside, not overwritten: places are still
/// rebuilt from what visitors hold.
fn load(clock: &Clock, run: &str, file: &Path) -> Result<MemoryStore, RunError> {
    match MemoryStore::load(clock.clone(), run, file) {
        Ok(store) => {
            store.resume();
            Ok(store)
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::InvalidData => {
            let aside = file.with_extension("damaged");
            error!(%fault, aside = %aside.display(), "the state file is set aside; places are rebuilt from what visitors hold");
            std::fs::rename(file, &aside)
                .map_err(|fault| RunError::State(file.to_owned(), fault))?;
            MemoryStore::load(clock.clone(), run, file)
                .map_err(|fault| RunError::State(file.to_owned(), fault))
        }
        Err(fault) => Err(RunError::State(file.to_owned(), fault)),
    }
}
