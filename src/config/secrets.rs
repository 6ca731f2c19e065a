//! Secrets that stand in files of their own (Docker and Kubernetes secrets).
//!
//! Relative names are relative to the working directory, like `state_dir`.

use std::{fs::File, io::Read as _, path::Path};

use crate::room::{faults::Faults, secret::Secret};

/// Largest secret, in bytes.
const SECRET_MAX: u64 = 64 << 10;

/// A text file of at most `most` bytes.
///
/// # Errors
/// What is wrong, for the operator.
pub(super) fn read(file: &Path, most: u64) -> Result<String, String> {
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| format!("cannot be opened: {error}"))?;
    opened
        .take(most + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > most {
        return Err(format!("larger than {most} bytes"));
    }
    Ok(text)
}

/// The secret, written at `path` or standing in the file named at `path_file`.
pub(super) fn secret(
    path: &str,
    written: Option<Secret>,
    file: Option<&String>,
    faults: &mut Faults,
) -> Option<Secret> {
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        return written.filter(|secret| !secret.reveal().is_empty());
    };
    let at = format!("{path}_file");
    if written.is_some() {
        faults.text(&at, file, format!("{path} is given too: keep one of them"));
        return None;
    }
    match read(Path::new(file), SECRET_MAX) {
        Ok(text) if text.trim_end().is_empty() => faults.text(&at, file, "the file is empty"),
        Ok(text) => return Some(Secret::new(text.trim_end())),
        Err(error) => faults.text(&at, file, error),
    }
    None
}
