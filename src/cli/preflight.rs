//! `foreshadow preflight`: the child's end of a candidate's trial.

use std::process::ExitCode;

pub(super) fn run() -> ExitCode {
    ExitCode::FAILURE
}
