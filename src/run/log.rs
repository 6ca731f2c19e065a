//! The program's own log: where its lines go and what is worth one. There is one log
//! per process, whatever runs in it.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// What a reload turns; without a log of ours nothing.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log to standard output. `asked` (`human` or `json`) goes before what the
/// file says of its form. Once per process.
pub fn start(log: &Log, asked: Option<&str>) {
    let json = match (asked, log.format) {
        (Some(asked), _) => asked == "json",
        (None, LogFormat::Json) => true,
        (None, LogFormat::Human) => false,
        (None, LogFormat::Auto) => !std::io::stdout().is_terminal(),
    };
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_ansi(std::io::stdout().is_terminal());
    let registry = tracing_subscriber::registry().with(level);
    if json {
        registry.with(lines.json()).init();
    } else {
        registry.with(lines).init();
    }
    let _once = LEVEL.set(handle);
}

/// Makes other lines worth writing.
pub(super) fn change(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        let _gone = handle.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
