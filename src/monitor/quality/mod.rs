//! How good are the answers, now that their labels come?
//!
//! ```text
//! request path → telemetry::Keeper → queue → Worker (a thread) → store::Predictions
//! POST /v1/feedback → types::Feedback → Worker → join → sums by answerer, group and day
//!     → analysis::quality (pure) → admin, metrics
//! ```
//!
//! A label is joined with the version, role and share that answered, never with the
//! present ones. Sums are stored in the transaction of the labels they are of, so that
//! nothing that was acknowledged is lost or counted twice, whenever the process ends.

mod answers;
mod book;
mod join;
mod show;
mod trials;
mod view;
mod who;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::error::{Error, ErrorCode, Result};
use crate::telemetry::Metrics;
use crate::types::thread::{Class, enter};
use crate::types::{Feedback, Label, ModelName, Receipt, Reporting};

pub use answers::{AnswerValue, AnswerView, AnswersOf, AnswersView};
pub use view::{GroupView, GroupingView, QualityView, VersionQuality};

/// Reports that may wait.
const JOBS_MAX: usize = 64;
/// Labels in them.
const LABELS_WAITING_MAX: usize = 400_000;

/// How answers and labels are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualitySettings {
    /// Where.
    pub folder: PathBuf,
    /// A label is joined with an answer that is at most this old.
    pub join_within: Duration,
    /// The most bytes that the file may have in use.
    pub bytes_max: u64,
    /// How long sums are kept, by the day of their answers.
    pub keep_figures: Duration,
    /// The most labels that wait for their answer.
    pub waiting_max: usize,
    /// How long they wait.
    pub waiting_for: Duration,
}

/// What the worker is asked for.
enum Job {
    Report(Vec<Label>, oneshot::Sender<Result<Receipt>>),
    Show(ModelName, u32, oneshot::Sender<QualityView>),
    /// With its turn, which is over when it is done.
    Answers(AnswersOf, OwnedSemaphorePermit, oneshot::Sender<Result<AnswersView>>),
}

/// Reports labels, and reads what came of them. Cheap to clone.
#[derive(Clone)]
pub struct Quality {
    jobs: mpsc::Sender<Job>,
    /// Labels that are on their way.
    labels: Arc<AtomicUsize>,
    /// Pages of answers are read one at a time, so that labels never wait for two.
    pages: Arc<Semaphore>,
}

impl Quality {
    fn new(jobs: mpsc::Sender<Job>) -> Self {
        Self { jobs, labels: Arc::default(), pages: Arc::new(Semaphore::new(1)) }
    }

    /// A model's quality over the answers of the last `days` days, today among them.
    ///
    /// # Errors
    /// The worker is busy or gone.
    pub async fn show(&self, model: &ModelName, days: u32) -> Result<QualityView> {
        let (reply, shown) = oneshot::channel();
        let job = Job::Show(model.clone(), days, reply);
        self.jobs.send(job).await.map_err(|_| stopped())?;
        shown.await.map_err(|_| stopped())
    }

    /// A page of a model's kept answers with their labels, the oldest first.
    ///
    /// # Errors
    /// `Conflict` where no model keeps answers; they cannot be read; the worker is gone.
    pub async fn answers(&self, asked: AnswersOf) -> Result<AnswersView> {
        let turn = Arc::clone(&self.pages).acquire_owned().await.map_err(|_| stopped())?;
        let (reply, read) = oneshot::channel();
        self.jobs.send(Job::Answers(asked, turn, reply)).await.map_err(|_| stopped())?;
        read.await.map_err(|_| stopped())?
    }

    async fn take(&self, labels: Vec<Label>) -> Result<Receipt> {
        let _counted = Counted::new(&self.labels, labels.len())?;
        let (reply, done) = oneshot::channel();
        self.jobs.try_send(Job::Report(labels, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorCode::Unavailable,
                format!("{JOBS_MAX} reports of labels wait already; send it again later"),
            ),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        done.await.map_err(|_| stopped())?
    }
}

/// Labels that are on their way, for as long as somebody waits for their receipt.
struct Counted<'a>(&'a AtomicUsize, usize);

impl<'a> Counted<'a> {
    fn new(all: &'a AtomicUsize, own: usize) -> Result<Self> {
        let counted = Self(all, own);
        // Reserved first, so that many at once cannot overshoot together.
        let before = all.fetch_add(own, SeqCst);
        if before > 0 && before.saturating_add(own) > LABELS_WAITING_MAX {
            return Err(Error::new(
                ErrorCode::Unavailable,
                format!("{before} labels are on their way already; send these again later"),
            ));
        }
        Ok(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, SeqCst);
    }
}

fn stopped() -> Error {
    Error::new(ErrorCode::Unavailable, "the gateway is shutting down")
}

impl Feedback for Quality {
    fn report(&self, labels: Vec<Label>) -> Reporting<'_> {
        Box::pin(self.take(labels))
    }
}

#[cfg(test)]
impl Quality {
    /// One that answers nobody.
    pub(crate) fn idle() -> Self {
        Self::new(mpsc::channel(1).0)
    }
}

/// The worker, on a thread of its own: it gives way to requests, and so do the threads of the
/// store that it opens.
pub struct Joining {
    stop: watch::Sender<bool>,
    /// Closed when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Joining {
    /// Stores what is kept still, and ends.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.ended.await.is_err() {
            tracing::error!("the thread that joins labels had panicked");
        }
    }
}

/// Starts the worker.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(settings: QualitySettings, metrics: Arc<Metrics>) -> Result<(Quality, Joining)> {
    let cannot = |error: std::io::Error| {
        Error::internal(format!("the thread that joins labels could not be started: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot)?;
    let (jobs, waiting) = mpsc::channel(JOBS_MAX);
    let (stop, stopped) = watch::channel(false);
    let (done, ended) = oneshot::channel();
    let worker = worker::Worker::new(settings, metrics);
    let run = move || {
        enter(Class::Background);
        runtime.block_on(worker.run(waiting, stopped));
        // Who started it may be gone.
        let _ = done.send(());
    };
    thread::Builder::new().name("labels".into()).spawn(run).map_err(cannot)?;
    Ok((Quality::new(jobs), Joining { stop, ended }))
}
