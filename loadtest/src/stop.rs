//! Ending a run early: the first Ctrl-C ends the schedule, the second also
//! stops waiting for what is in flight. Either way the report is printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::error::Error;

/// How often this run was asked to end; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Asks once more.
    pub fn ask(&self) {
        let asked = self.0.load(Relaxed);
        self.0.store(asked.saturating_add(1), Relaxed);
    }

    /// Send nothing more.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Wait for nothing more.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.0.load(Relaxed) > 1
    }

    /// Asks at every Ctrl-C from now on, from a thread of its own.
    ///
    /// # Errors
    /// If the thread or its signal handler cannot be set up.
    pub fn on_ctrl_c(&self) -> Result<(), Error> {
        let stop = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Error::new(format!("cannot listen for Ctrl-C: {error}")))?;
        let listen = async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                stop.ask();
            }
        };
        std::thread::Builder::new()
            .name("ctrl-c".to_owned())
            .spawn(move || runtime.block_on(listen))
            .map_err(|error| Error::new(format!("cannot start a thread: {error}")))?;
        Ok(())
    }
}
