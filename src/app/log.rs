//! Logs go to stderr; stdout is for what the command prints.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. A second call (another app in the same process) changes
/// nothing.
pub(super) fn init(log: &Log) {
    // Other crates speak up from warnings on.
    let filter = EnvFilter::new(format!("warn,foreshadow={}", log.level.as_str()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging had been started already");
    }
}
