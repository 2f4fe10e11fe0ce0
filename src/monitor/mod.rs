//! Is the model still right on today's data? Compares what answered requests look like
//! with what the version was made for, window by window.
//!
//! ```text
//! request path → telemetry::Watch (atomic counts) → Monitor (a thread of its own, each tick)
//!     → Windows (pure) → analysis::drift (pure) → board → admin, metrics, log
//! ```
//!
//! What a version is compared with: the `profile.json` in its folder; else one that
//! was kept in the state folder, by the digest of the artifact; else one that is learnt
//! from the first rows that it answers, and kept. Windows are in memory: after a
//! restart they begin anew.

mod files;
mod rounds;
mod view;
mod windows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::telemetry::Metrics;
use crate::types::thread::{Class, enter};
use crate::types::{ModelName, VersionId};

pub use view::{ColumnView, DriftView, LearntView, RatesView, ReferenceView, WindowView};

/// Settings of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the counts are looked at.
    pub tick: Duration,
    /// A window is at least this long,
    pub window: Duration,
    /// and has at least so many rows.
    pub window_rows: u64,
    /// Rows that are learnt from where there is no profile; 0 learns nothing.
    pub learn_rows: usize,
    /// Where profiles are kept.
    pub folder: PathBuf,
}

/// By model and version.
type Views = BTreeMap<(ModelName, VersionId), Arc<DriftView>>;

/// Reads what the monitor found. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    board: Arc<ArcSwap<Views>>,
    rounds: watch::Receiver<u64>,
}

impl Default for Monitor {
    /// One that never looks.
    fn default() -> Self {
        Self { board: Arc::default(), rounds: watch::channel(0).1 }
    }
}

impl Monitor {
    /// Drift of a model's loaded versions, the lowest number first.
    #[must_use]
    pub fn drift(&self, model: &ModelName) -> Vec<Arc<DriftView>> {
        let board = self.board.load();
        let own = board.iter().filter(|((name, _), _)| name == model);
        own.map(|(_, view)| Arc::clone(view)).collect()
    }

    /// Changes with each look at the counts.
    #[must_use]
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.clone()
    }
}

/// The monitor's thread.
pub struct Monitoring {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Monitoring {
    /// Ends it after its present round. Blocks for that.
    pub fn stop(self) {
        self.stop.store(true, SeqCst);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the monitor had panicked");
        }
    }
}

/// Starts the monitor.
///
/// # Errors
/// The folder for profiles or the thread cannot be made.
pub fn spawn(settings: Settings, metrics: Arc<Metrics>) -> Result<(Monitor, Monitoring)> {
    let board = Arc::<ArcSwap<Views>>::default();
    let (told, rounds) = watch::channel(0);
    let stop = Arc::<AtomicBool>::default();
    let tick = settings.tick;
    let mut own = rounds::Rounds::new(settings, metrics);
    let (shown, stopped) = (Arc::clone(&board), Arc::clone(&stop));
    let run = move || {
        enter(Class::Background);
        while !stopped.load(SeqCst) {
            shown.store(Arc::new(own.round()));
            told.send_modify(|round| *round += 1);
            thread::park_timeout(tick);
        }
    };
    let thread = thread::Builder::new()
        .name("monitor".into())
        .spawn(run)
        .map_err(|error| Error::internal(format!("the monitor could not be started: {error}")))?;
    Ok((Monitor { board, rounds }, Monitoring { stop, thread }))
}
