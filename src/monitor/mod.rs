//! Is the model still right on today's data, and is there something that somebody should
//! look at? Compares what answered requests look like with what the version was made for,
//! window by window, and raises alerts.
//!
//! ```text
//! request path → telemetry::Watch (atomic counts) → Monitor (a thread of its own, each tick)
//!     → Windows (pure) → analysis::drift (pure) → board → admin, metrics, log
//!     → Against: a canary's windows with its champion's → board, metrics, log; no alert
//!     → alerts (pure) → board, metrics, log, and whoever is to be told
//! ```
//!
//! Alerts are looked at more often than windows: what changes all at once is to be told
//! within seconds.
//!
//! What a version is compared with: the `profile.json` in its folder; else the one that
//! it learnt, which is kept in the state folder by the digest of the artifact; else it
//! learns one from the first rows that it answers. A canary is compared with its champion,
//! too, in the champion's bins. Windows are in memory: after a restart they begin anew.

mod against;
mod alerts;
mod ask;
mod common;
mod files;
mod odd;
pub mod quality;
mod rounds;
mod view;
mod windows;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::error::{Error, ErrorCode, Result};
use crate::monitor::ask::{Asks, Key, Relearn};
use crate::telemetry::Metrics;
use crate::types::thread::{Class, enter};
use crate::types::{ModelName, VersionId};

pub use alerts::{
    AlertBoard, AlertKey, AlertSettings, AlertView, Look, ModelStanding, Notice, Rule, Tell, Timing,
};
pub use odd::{AnomalyView, OddRowView, OddTallyView};
pub use view::{
    AgainstView, BothWindowView, ColumnView, DriftView, LearntView, OtherColumnView, RatesView,
    ReferenceView, WindowView,
};

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

/// What is shown of a version.
struct Shown {
    view: Arc<DriftView>,
    odd: Arc<AnomalyView>,
    relearn: Relearn,
}

/// By model and version.
type Views = BTreeMap<Key, Shown>;

/// Reads what the monitor found. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    board: Arc<ArcSwap<Views>>,
    alerts: Arc<ArcSwap<AlertBoard>>,
    rounds: watch::Receiver<u64>,
    asks: Arc<Asks>,
}

impl Default for Monitor {
    /// One that never looks.
    fn default() -> Self {
        Self {
            board: Arc::default(),
            alerts: Arc::default(),
            rounds: watch::channel(0).1,
            asks: Arc::default(),
        }
    }
}

impl Monitor {
    /// Drift of a model's loaded versions, the lowest number first.
    #[must_use]
    pub fn drift(&self, model: &ModelName) -> Vec<Arc<DriftView>> {
        let board = self.board.load();
        let own = board.iter().filter(|((name, _), _)| name == model);
        own.map(|(_, shown)| Arc::clone(&shown.view)).collect()
    }

    /// Odd rows of a model's loaded versions, the lowest number first.
    #[must_use]
    pub fn anomalies(&self, model: &ModelName) -> Vec<Arc<AnomalyView>> {
        let board = self.board.load();
        let own = board.iter().filter(|((name, _), _)| name == model);
        own.map(|(_, shown)| Arc::clone(&shown.odd)).collect()
    }

    /// Whether a version may be asked to learn its profile anew.
    ///
    /// # Errors
    /// It is not loaded, has a `profile.json`, or learns nothing.
    pub fn may_relearn(&self, model: &ModelName, version: VersionId) -> Result<()> {
        let key = (model.clone(), version);
        Relearn::check(self.board.load().get(&key).map(|shown| shown.relearn), &key)
    }

    /// Has a version forget the profile that it learnt, and learn one from the rows that
    /// it answers from now on. Ends when that is so.
    ///
    /// # Errors
    /// See [`Self::may_relearn`]; and the monitor may have ended.
    pub async fn relearn(&self, model: &ModelName, version: VersionId) -> Result<()> {
        self.may_relearn(model, version)?;
        let mut rounds = self.rounds();
        rounds.mark_unchanged();
        self.asks.add(model.clone(), version);
        while self.asks.has(model, version) {
            let over = |_| Error::new(ErrorCode::Unavailable, "the monitor has ended");
            rounds.changed().await.map_err(over)?;
        }
        Ok(())
    }

    /// All alerts.
    #[must_use]
    pub fn alerts(&self) -> Arc<AlertBoard> {
        self.alerts.load_full()
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

/// What alerts are made from besides the counts, and where they go. How models stand says
/// who is compared with whom, too.
pub struct Alerting {
    /// When there are any.
    pub settings: AlertSettings,
    /// How all models stand.
    pub look: Look,
    /// Who is to be told.
    pub tell: Tell,
}

/// Starts the monitor.
///
/// # Errors
/// The folder for profiles or the thread cannot be made.
pub fn spawn(
    settings: Settings,
    alerting: Alerting,
    metrics: Arc<Metrics>,
) -> Result<(Monitor, Monitoring)> {
    let board = Arc::<ArcSwap<Views>>::default();
    let alerts = Arc::<ArcSwap<AlertBoard>>::default();
    let (told, rounds) = watch::channel(0);
    let stop = Arc::<AtomicBool>::default();
    let round_every = settings.tick;
    let asks = Arc::<Asks>::default();
    let Alerting { settings: of_alerts, look, tell } = alerting;
    let mut watchman = alerts::Watchman::new(of_alerts, Arc::clone(&metrics), tell);
    let mut own = rounds::Rounds::new(settings, metrics);
    let (shown, stopped, asked) = (Arc::clone(&board), Arc::clone(&stop), Arc::clone(&asks));
    let raised = Arc::clone(&alerts);
    let run = move || {
        enter(Class::Background);
        let (started, mut due) = (Instant::now(), Duration::ZERO);
        let tick = watchman.looks_every().map_or(round_every, |tick| tick.min(round_every));
        asked.wakes(thread::current());
        while !stopped.load(SeqCst) {
            let (relearn, now) = (asked.all(), started.elapsed());
            let models = survived(&look).unwrap_or_default();
            if now >= due || !relearn.is_empty() {
                due = now + round_every;
                if let Some(views) = survived(|| own.round(&relearn, &models)) {
                    shown.store(Arc::new(views));
                }
            }
            let now = started.elapsed();
            if let Some(board) = survived(|| watchman.round(now, &shown.load(), models)) {
                raised.store(Arc::new(board));
            }
            asked.done(&relearn);
            told.send_modify(|round| *round += 1);
            thread::park_timeout(tick);
        }
    };
    let thread = thread::Builder::new()
        .name("monitor".into())
        .spawn(run)
        .map_err(|error| Error::internal(format!("the monitor could not be started: {error}")))?;
    Ok((Monitor { board, alerts, rounds, asks }, Monitoring { stop, thread }))
}

/// What came of a round. A mistake in one is not the end of watching: versions that it
/// had not come to begin anew in the next.
fn survived<T>(round: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(round));
    if done.is_err() {
        tracing::error!("a round of the monitor has panicked; it goes on with the next");
    }
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_panics_is_not_the_last() {
        assert_eq!(survived(|| 1), Some(1));
        assert_eq!(survived(|| -> u8 { panic!("a mistake") }), None);
    }
}
