//! The names and keys that a server starts with: from the configuration, or
//! made once and kept in `state_dir`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::RunError;
use crate::config::Config;
use crate::token::Key;

/// The generated signing key's file in `state_dir`.
const KEY_FILE: &str = "signing.key";

/// The gateway's name's file in `state_dir`.
const NAME_FILE: &str = "gateway-id";

/// The name of a generated key.
const KEY_ID: &str = "local";

/// The signing keys' names and secrets: the configured ones, or one made and kept.
pub(super) fn secrets(config: &Config) -> Result<Vec<(String, Vec<u8>)>, RunError> {
    let keys = &config.signing.keys;
    if !keys.is_empty() {
        let named = keys.iter().map(|key| (key.id.clone(), key.secret.clone()));
        return Ok(named.collect());
    }
    let secret = kept(config.state_dir.as_deref(), KEY_FILE, fresh_secret)?;
    Ok(vec![(KEY_ID.to_owned(), secret.into_bytes())])
}

/// The signing keys of these names and secrets.
pub(super) fn signing(secrets: &[(String, Vec<u8>)]) -> Result<Vec<Key>, RunError> {
    let keys = secrets.iter().map(|(id, secret)| Key::new(id, secret));
    Ok(keys.collect::<Result<_, _>>()?)
}

/// A fresh secret of 256 bits, as text.
#[must_use]
pub fn fresh_secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// This gateway's name, the same over restarts if there is a `state_dir`.
pub(super) fn gateway_name(state_dir: Option<&Path>) -> Result<String, RunError> {
    kept(state_dir, NAME_FILE, || {
        format!("{:016x}", rand::random::<u64>())
    })
}

/// A line kept in a file that only its owner reads; made at the first start.
fn kept(
    state_dir: Option<&Path>,
    file: &str,
    fresh: impl FnOnce() -> String,
) -> Result<String, RunError> {
    let Some(dir) = state_dir else {
        return Ok(fresh());
    };
    let path = dir.join(file);
    let failed = |fault| RunError::State(path.clone(), fault);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(fault) if fault.kind() == ErrorKind::NotFound => {}
        Err(fault) => return Err(failed(fault)),
    }
    let line = fresh();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    writeln!(file, "{line}").map_err(failed)?;
    Ok(line)
}
