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
pub struct Stop {
    asked: Arc<Asked>,
    /// One that ends this one too.
    outer: Option<Arc<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    times: AtomicU32,
    first: OnceLock<Instant>,
}

impl Stop {
    /// Asks once more.
    pub fn ask(&self) {
        self.asked.first.get_or_init(Instant::now);
        self.asked.times.fetch_add(1, Relaxed);
    }

    /// Ends the run at once.
    pub(crate) fn end(&self) {
        self.ask();
        self.ask();
    }

    /// Send nothing more.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.times() > 0
    }

    /// Wait for nothing more.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.times() > 1
    }

    /// One for a part of the run: it ends with this one, or by itself.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { asked: Arc::default(), outer: Some(Arc::clone(&self.asked)) }
    }

    fn times(&self) -> u32 {
        let outer = self.outer.as_ref().map_or(0, |outer| outer.times.load(Relaxed));
        outer.max(self.asked.times.load(Relaxed))
    }

    /// When the first one asked.
    #[must_use]
    pub fn asked_at(&self) -> Option<Instant> {
        let outer = self.outer.as_ref().and_then(|outer| outer.first.get().copied());
        let own = self.asked.first.get().copied();
        outer.into_iter().chain(own).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_with_the_whole_but_not_the_other_way() {
        let whole = Stop::default();
        let part = whole.part();
        part.ask();
        assert!(part.is_asked() && part.asked_at().is_some() && !whole.is_asked());
        let part = whole.part();
        whole.end();
        assert!(part.is_urgent());
    }
}
