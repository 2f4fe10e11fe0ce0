//! Ending a run early: the first Ctrl-C (or SIGTERM) ends the schedule, the
//! second also stops waiting for what is in flight. Either way the report is
//! printed, and a scenario puts the plan back.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

/// How often, and since when, this run was asked to end; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    times: AtomicU32,
    first: OnceLock<Instant>,
}

impl Stop {
    /// Asks once more.
    pub fn ask(&self) {
        self.0.first.get_or_init(Instant::now);
        self.0.times.fetch_add(1, Relaxed);
    }

    /// Ends the run at once.
    pub(crate) fn end(&self) {
        self.ask();
        self.ask();
    }

    /// Send nothing more.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.times.load(Relaxed) > 0
    }

    /// Wait for nothing more.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.0.times.load(Relaxed) > 1
    }

    /// When the first one asked.
    #[must_use]
    pub fn asked_at(&self) -> Option<Instant> {
        self.0.first.get().copied()
    }

    /// Asks at every SIGINT and SIGTERM from now on, from a thread of its own.
    ///
    /// # Errors
    /// If the thread or its signal handlers cannot be set up.
    pub fn on_signals(&self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::new(format!("cannot listen for signals: {error}"));
        let stop = self.clone();
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
        // Here, so that a signal that comes right after this call is not lost.
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).map_err(failed);
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
        };
        let listen = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => stop.ask(),
                    _ = terminate.recv() => stop.ask(),
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listen))
            .map_err(failed)?;
        Ok(())
    }
}
