//! Logs go to stderr; stdout is for what the command prints.
//!
//! Invariant: nobody who logs waits for whoever reads. Lines go through a
//! bounded queue to a thread of their own; what does not fit is dropped and
//! counted. A panic's message takes the same way: a shadow's thread, which
//! may be preempted at any moment, must not hold the lock of stderr.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;

/// Logging that has started; dropping it writes what still waits.
pub(super) struct Logging {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logging {
    /// Counts the lines that were dropped.
    pub(super) fn dropped(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let counter = self.dropped.clone();
        move || counter.dropped_lines()
    }
}

/// Starts logging.
pub(super) fn init(log: &Log) -> Logging {
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (writer, guard) = writer.thread_name("log").finish(std::io::stderr());
    let dropped = writer.error_counter();
    // Other crates speak up from warnings on.
    let filter = EnvFilter::new(format!("warn,foreshadow={}", log.level.as_str()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    Logging { dropped, _writer: guard }
}
