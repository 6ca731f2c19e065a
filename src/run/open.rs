//! Opening the store that a configuration names.

use std::path::{Path, PathBuf};

use tracing::error;

use super::RunError;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::store::{MemoryStore, Store, StoreError};

/// The embedded store's file in `state_dir`.
const STATE_FILE: &str = "store.json";

/// The store, and the embedded one's file.
pub(super) type Opened = (Store, Option<(MemoryStore, PathBuf)>);

pub(super) fn store(config: &Config, clock: &Clock) -> Result<Opened, RunError> {
    match &config.store.url {
        StoreUrl::Memory => {
            let run = format!("{:032x}", rand::random::<u128>());
            let Some(dir) = config.state_dir.as_deref() else {
                return Ok((Store::Memory(MemoryStore::new(clock.clone(), &run)), None));
            };
            let file = dir.join(STATE_FILE);
            let store = load(clock, &run, &file)?;
            Ok((Store::Memory(store.clone()), Some((store, file))))
        }
        StoreUrl::Redis(_) => Err(RunError::Store(StoreError::Unavailable(
            "not built".to_owned(),
        ))),
    }
}

/// A damaged state file is set aside, not overwritten: places are still
/// rebuilt from what visitors hold.
fn load(clock: &Clock, run: &str, file: &Path) -> Result<MemoryStore, RunError> {
    match MemoryStore::load(clock.clone(), run, file) {
        Ok(store) => Ok(store),
        Err(fault) if fault.kind() == std::io::ErrorKind::InvalidData => {
            let aside = file.with_extension("damaged");
            error!(%fault, aside = %aside.display(), "the state file is set aside; places are rebuilt from what visitors hold");
            std::fs::rename(file, &aside)
                .map_err(|fault| RunError::State(file.to_owned(), fault))?;
            Ok(MemoryStore::new(clock.clone(), run))
        }
        Err(fault) => Err(RunError::State(file.to_owned(), fault)),
    }
}
