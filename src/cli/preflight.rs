//! `foreshadow preflight`: the child's end of a candidate's trial.

use std::process::ExitCode;

pub(super) fn run() -> ExitCode {
    let code = crate::registry::preflight::child_main();
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
