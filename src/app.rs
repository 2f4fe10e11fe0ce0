//! Wiring, in the order that a request meets it.

use std::process::ExitCode;

use crate::config::Config;

/// Runs the gateway until it is told to stop.
#[must_use]
pub fn serve(config: Config) -> ExitCode {
    drop(config);
    ExitCode::FAILURE
}
