//! What is logged, where, and how it looks: from what the file says to what is used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::raw::RawLog;
use crate::room::faults::Faults;

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// What is worth a line.
    pub level: LogLevel,
    /// Whether requests have a line.
    pub access: bool,
    /// Where their lines go; `None`: standard output.
    pub access_file: Option<PathBuf>,
    /// How they look.
    pub access_format: AccessFormat,
    /// The share of requests that have one, above 0, at most 1.
    pub access_sample: f64,
}

/// How lines of the access log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// JSON in a file, else as the log.
    #[default]
    Auto,
    /// JSON, one object a line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// JSON, one object a line.
    Json,
}

/// What is worth a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody at once.
    Error,
    /// What needs somebody soon.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// All.
    Trace,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: LogLevel::default(),
            access: true,
            access_file: None,
            access_format: AccessFormat::default(),
            access_sample: 1.0,
        }
    }
}

/// `[log]`. A file that cannot be written to now may be later, so that only a path
/// that is no file's is a fault.
pub(super) fn resolve(raw: RawLog, faults: &mut Faults) -> Log {
    let file = raw.access_file.filter(|file| !file.as_os_str().is_empty());
    if let Some(file) = &file {
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let remedy = if file.is_dir() {
            Some("this is a folder: name a file in it")
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            Some("there is no such folder: make it, or name a file elsewhere")
        } else {
            None
        };
        if let Some(remedy) = remedy {
            faults.text("log.access_file", &file.display().to_string(), remedy);
        }
    }
    let default = Log::default();
    Log {
        format: raw.format.unwrap_or(default.format),
        level: raw.level.unwrap_or(default.level),
        access: raw.access.unwrap_or(default.access),
        access_file: file,
        access_format: raw.access_format.unwrap_or(default.access_format),
        access_sample: raw.access_sample.unwrap_or(default.access_sample),
    }
}
