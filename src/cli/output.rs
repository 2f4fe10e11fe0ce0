//! Where commands write. The reader of a pipe may have left (`| head`): that
//! is no reason to panic.

#![cfg_attr(test, allow(clippy::print_stdout, reason = "only the macro is captured"))]

use std::io::Write as _;
use std::path::Path;

use crate::cli::failure::Failure;

/// Writes text for people and a line end to stdout.
pub(super) fn print(text: &str) {
    print_as_it_is(&harmless(text));
}

/// Writes what programs read, JSON or XML, and a line end to stdout.
pub(super) fn print_as_it_is(text: &str) {
    // The test harness captures what the macro prints, and nothing else.
    #[cfg(test)]
    print!("{text}");
    #[cfg(not(test))]
    write(text);
}

/// Without what a terminal would obey: what an artifact says of itself, and
/// its names, come from whoever made it.
fn harmless(text: &str) -> String {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(not(test))]
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    let _ = out.flush();
}

/// Clears the terminal, for a display that is written anew.
pub(super) fn clear() {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "\u{1b}[H\u{1b}[2J");
    let _ = out.flush();
}

/// Writes a reply as JSON to stdout.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("the reply cannot be shown: {error}")))?;
    print_as_it_is(&text);
    Ok(())
}

/// The folder that a file is to be in.
pub(super) fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Writes a line of progress to stderr.
pub(super) fn progress(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless(text));
}

/// Writes what went wrong to stderr.
pub(super) fn complain(text: &str) {
    progress(&format!("foreshadow: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_an_artifact() {
        let text = "a\tb\nmodel \u{1b}[2J\u{9b}1m\r\u{7} ü";
        assert_eq!(harmless(text), "a\tb\nmodel \u{fffd}[2J\u{fffd}1m\u{fffd}\u{fffd} ü");
    }
}
