//! SIGTERM and Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a process that a second signal ended: 128 + SIGINT.
const ENDED_BY_SIGNAL: i32 = 130;

/// Waits for SIGTERM or SIGINT; its name.
pub(super) async fn first() -> &'static str {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be watched; stop it with SIGKILL");
                return std::future::pending().await;
            }
        };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Ends the process at the next signal.
pub(super) async fn second_ends_at_once() {
    let name = first().await;
    tracing::warn!(signal = name, "ended at once");
    std::process::exit(ENDED_BY_SIGNAL);
}
