//! What was asked and answered, stored as Parquet files, and run again later, or
//! put together with what turned out to be true.
//!
//! ```text
//! request path → telemetry::Tap (by id; a bounded queue) → Writer (a thread of its own)
//!     → rows in memory → row groups of a hidden file → renamed when whole
//! files → replay → Session → routing::Judge → analysis::Mean → people
//! files, labels → dataset → one file to train on
//! ```
//!
//! A file is a table of one model: a row for each row that was scored, with everything
//! that a replay needs in its footer ([`Layout`]). Names and types of its columns never
//! change; what needs others begins a new file.
//!
//! Invariants: a request never waits for any of this; a file under its final name is
//! whole; what is not stored is counted with its reason; what is stored is what was asked
//! and answered, to the bit; a column that is to be dropped or hashed is never stored as it
//! came, not even where its name is wrong (then nothing is).

mod captured;
mod column;
pub mod dataset;
mod element;
mod file;
mod folder;
mod hash;
mod layout;
mod problems;
mod replay;
mod rows;
mod view;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::capture::view::Board;
use crate::capture::writer::Writer;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;
use crate::types::ModelName;
use crate::types::thread::{Class, enter};

pub use layout::{ColumnOf, Form, Layout, Stored, TensorOf};
pub use replay::{Example, Replay, ReplayValue, ReplayedVersion, Replaying, replay};
pub use view::{CaptureView, FilesView};

/// How often the queue is emptied while something is captured: so long may a request
/// wait in it, and nobody wakes anybody.
const TICK: Duration = Duration::from_millis(50);
/// The same while nothing is.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Requests that are taken before clocks are looked at again.
const AT_ONCE: usize = 1024;
/// How long the end waits for what is under way: a disk may hang.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often it looks whether that is done.
const STOP_LOOK: Duration = Duration::from_millis(2);
/// The last one of the year 9999, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// How files are written, and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A file is finished when it has so many rows,
    pub file_rows: usize,
    /// or about so many bytes,
    pub file_bytes: u64,
    /// or is this old.
    pub file_age: Duration,
    /// How long finished files are kept.
    pub keep_for: Duration,
    /// The most bytes of them, of all models.
    pub keep_bytes: u64,
    /// Requests that may wait.
    pub queue_count_max: usize,
    /// Bytes that may wait.
    pub queue_bytes_max: usize,
    /// Where they are: a folder for each model.
    pub folder: PathBuf,
    /// The file with the key of hashes: not in the folder, whose files are handed on.
    pub key: PathBuf,
}

/// Reads what is stored. Cheap to clone.
#[derive(Clone)]
pub struct Capture {
    metrics: Arc<Metrics>,
    board: Arc<ArcSwap<Board>>,
    folder: Arc<PathBuf>,
}

impl Capture {
    /// One that stores nothing.
    #[must_use]
    pub fn nowhere(metrics: Arc<Metrics>) -> Self {
        Self { metrics, board: Arc::default(), folder: Arc::default() }
    }

    /// What is stored of a model.
    #[must_use]
    pub fn view(&self, model: &ModelName) -> CaptureView {
        let taps = self.metrics.captures().taps();
        let tap = taps.iter().rfind(|tap| tap.model() == model);
        view::view(model, tap.map(|tap| &**tap), &self.board.load(), &self.folder)
    }
}

/// The thread that stores.
pub struct Capturing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Capturing {
    /// Ends it once everything that waits is in files that are whole. Blocks for that, but
    /// for no disk that hangs.
    pub fn stop(self) {
        self.stop_within(STOP_MAX);
    }

    fn stop_within(self, limit: Duration) {
        self.stop.store(true, SeqCst);
        self.thread.thread().unpark();
        let began = Instant::now();
        while !self.thread.is_finished() {
            if began.elapsed() >= limit {
                tracing::warn!(
                    "captured requests could not be written within {limit:?}: what is in no \
                     finished file is lost; is the disk slow?"
                );
                return;
            }
            thread::sleep(STOP_LOOK);
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread that stores requests had panicked");
        }
    }
}

/// Starts to store what the taps take. Before the first plan is made: a tap needs the
/// queue.
///
/// # Errors
/// The thread cannot be made.
pub fn spawn(settings: Settings, metrics: Arc<Metrics>) -> Result<(Capture, Capturing)> {
    let (count, bytes) = (settings.queue_count_max, settings.queue_bytes_max);
    let queue = metrics.captures().open(count, bytes);
    let queue = queue.ok_or_else(|| Error::internal("requests are stored by somebody already"))?;
    let board = Arc::<ArcSwap<Board>>::default();
    let folder = Arc::new(settings.folder.clone());
    let stop = Arc::<AtomicBool>::default();
    let capture = Capture { metrics: Arc::clone(&metrics), board: Arc::clone(&board), folder };
    let stopped = Arc::clone(&stop);
    let run = move || {
        enter(Class::Background);
        let mut writer = Writer::new(settings, Arc::clone(&metrics), board);
        loop {
            // Asked before the queue is looked at: what came before the end is stored.
            let last = stopped.load(SeqCst);
            let mut taken = 0;
            while taken < AT_ONCE
                && let Some(record) = queue.pop()
            {
                writer.take(&record);
                taken += 1;
            }
            writer.round();
            if taken == AT_ONCE {
                continue;
            }
            if last {
                break writer.close();
            }
            let busy = !metrics.captures().taps().is_empty();
            thread::park_timeout(if busy { TICK } else { IDLE_TICK });
        }
    };
    let thread = thread::Builder::new().name("capture".into()).spawn(run).map_err(|error| {
        Error::internal(format!("the thread that stores requests could not be started: {error}"))
    })?;
    Ok((capture, Capturing { stop, thread }))
}

/// A time as RFC 3339; one that it has no words for as the first or the last that it has.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time.clamp(SystemTime::UNIX_EPOCH, latest())).to_string()
}

/// The last time that RFC 3339 has words for.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND)
}

#[cfg(test)]
mod tests;
