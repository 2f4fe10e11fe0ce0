//! SIGTERM and Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that a second signal ended: 128 + SIGINT.
const ENDED_BY_SIGNAL: i32 = 130;

/// Both signals, watched from the start on: none is lost between the first
/// and the second.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to watch. Needs a runtime.
    pub(super) fn watch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one; its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Ends the process at the next one.
    pub(super) async fn end_at_next(mut self) {
        let name = self.next().await;
        tracing::warn!(signal = name, "ended at once");
        std::process::exit(ENDED_BY_SIGNAL);
    }
}
