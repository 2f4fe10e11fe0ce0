//! Where commands write. The reader of a pipe may have left (`| head`): that
//! is no reason to panic.

#![cfg_attr(test, allow(clippy::print_stdout, reason = "only the macro is captured"))]

use std::io::Write as _;

use crate::cli::failure::Failure;

/// Writes text and a line end to stdout.
pub(super) fn print(text: &str) {
    // The test harness captures what the macro prints, and nothing else.
    #[cfg(test)]
    print!("{text}");
    #[cfg(not(test))]
    write(text);
}

#[cfg(not(test))]
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    let _ = out.flush();
}

/// Writes a reply as JSON to stdout.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("the reply cannot be shown: {error}")))?;
    print(&text);
    Ok(())
}

/// Writes a line of progress to stderr.
pub(super) fn progress(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes what went wrong to stderr.
pub(super) fn complain(text: &str) {
    progress(&format!("foreshadow: {text}"));
}
