//! Chooses how a request runs: inline for what is cheap, together with those
//! that came at the same time if there are any; on an engine thread for what is
//! not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Result;
use crate::serving::LoadedVersion;
use crate::serving::admission::QueueLimits;
use crate::serving::batch::Limits;
use crate::serving::combine;
use crate::serving::crowd::Way;
use crate::serving::job::{Job, Ran, Said, measured};
use crate::serving::queue::Queue;
use crate::telemetry::Metrics;
use crate::types::{Batching, Tensor};

/// Settings of an [`Executor`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorSettings {
    /// Number of engine threads.
    pub threads: usize,
    /// Runs that should take at most this long stay on the caller's thread:
    /// handing over to another thread costs some tens of microseconds. Those
    /// whose time is not known from warm-up never do.
    pub inline_limit: Duration,
    /// Rows that may wait for an engine thread.
    pub queue_rows_max: usize,
    /// How long a request may have to wait for an engine thread, by what is
    /// known when it comes.
    pub queue_time_max: Duration,
    /// Rows of a batch, where a model says nothing else; 1 means no batches.
    pub batch_rows_max: usize,
    /// How long a request may wait for others although a thread is free, where
    /// a model says nothing else.
    pub batch_delay_max: Duration,
}

impl Default for ExecutorSettings {
    /// One thread; limits as the gateway's settings have them.
    fn default() -> Self {
        Self {
            threads: 1,
            inline_limit: Duration::from_micros(200),
            queue_rows_max: 4096,
            queue_time_max: Duration::from_secs(2),
            batch_rows_max: 64,
            batch_delay_max: Duration::ZERO,
        }
    }
}

/// What is to be run.
pub struct Request {
    /// In the signature's order, and checked.
    pub inputs: Vec<Tensor>,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Whether the CPU time is wanted as well, which costs two system calls.
    pub measure_cpu: bool,
    /// What the model's owner says of batches.
    pub batching: Batching,
}

/// A finished run. The inputs come back, for the shadows.
#[derive(Debug)]
pub struct Completed {
    /// What was sent.
    pub inputs: Vec<Tensor>,
    /// What came out.
    pub outputs: Vec<Tensor>,
    /// Time spent waiting for a thread, or for the others of its batch.
    pub queue: Duration,
    /// Time in the engine: of the whole batch.
    pub inference: Duration,
    /// CPU time in the engine, if it was asked for: its rows' part of the batch.
    pub cpu: Option<Duration>,
}

/// Cheaper runs than this are not put together: meeting costs about a
/// microsecond each.
const COMBINE_FROM: Duration = Duration::from_micros(10);

/// Runs versions. Dropping it ends the engine threads once the queue is empty.
pub struct Executor {
    queue: Queue,
    settings: ExecutorSettings,
    metrics: Arc<Metrics>,
}

impl Executor {
    /// Starts the engine threads.
    pub fn spawn(settings: &ExecutorSettings, metrics: &Arc<Metrics>) -> std::io::Result<Self> {
        let limits =
            QueueLimits { rows_max: settings.queue_rows_max, time_max: settings.queue_time_max };
        let queue = Queue::spawn(settings.threads, limits)?;
        Ok(Self { queue, settings: settings.clone(), metrics: Arc::clone(metrics) })
    }

    /// Runs one request.
    ///
    /// # Errors
    /// `Unavailable`, with a time after which to try again, where it could not
    /// be answered in time; `DeadlineExceeded` where it waited in vain; else what
    /// the engine says.
    pub async fn run(&self, version: &Arc<LoadedVersion>, request: Request) -> Result<Completed> {
        let Request { inputs, deadline, measure_cpu, batching } = request;
        let limits = self.limits(version, &inputs, batching);
        let stats = version.stats(&self.metrics);
        let rows = inputs.first().map_or(1, Tensor::rows);
        let job = |inputs: Vec<Tensor>, limits| {
            let by_shape = version.time_by_shape(&inputs);
            let (version, stats) = (Arc::clone(version), Arc::clone(stats));
            let queued = Instant::now();
            move |reply: oneshot::Sender<Said>| Job {
                id: 0,
                version,
                stats,
                inputs,
                rows,
                by_shape,
                limits,
                measure_cpu,
                deadline,
                queued,
                reply,
            }
        };
        let delay = limits.map_or(Duration::ZERO, |limits| limits.delay_max);
        let time = version.expected_time(&inputs).filter(|_| delay.is_zero());
        let Some(time) = time.filter(|time| *time <= self.settings.inline_limit) else {
            // Boxed, as all that waits is: what runs inline carries none of it.
            return Box::pin(self.queue.run(job(inputs, limits))).await;
        };
        if let Some(limits) = limits.filter(|_| time >= COMBINE_FROM && version.cost_by_rows()) {
            let (number, shard) = version.combiner().shard();
            match shard.crowd.arrive() {
                Way::Alone => {}
                Way::Look { arrived } => {
                    tokio::task::yield_now().await;
                    // The thread may be another one now; the place is the same.
                    version.combiner().looked(number, arrived);
                }
                Way::Gather => {
                    let limits = self.inline(version, limits);
                    return Box::pin(combine::run(number, job(inputs, Some(limits)))).await;
                }
            }
        }
        // Its plan may have been freed since: never made on this thread.
        let known = LoadedVersion::run_known;
        match measured(version, inputs, Duration::ZERO, Some(time), measure_cpu, known)? {
            Ran::Done(completed) => {
                stats.ran(rows, 1);
                Ok(completed)
            }
            Ran::NotKnown(inputs) => Box::pin(self.queue.run(job(inputs, limits))).await,
        }
    }

    /// Refuses a request that [`Self::run`] would refuse, as far as that can be
    /// told without its inputs and without waiting for anything.
    ///
    /// # Errors
    /// `Unavailable`, with a time after which to try again.
    pub fn check(&self, version: &Arc<LoadedVersion>, deadline: Option<Instant>) -> Result<()> {
        let one = version.cost().of(1);
        // What may run inline meets no queue.
        if !version.cost_by_rows() || one <= self.settings.inline_limit {
            return Ok(());
        }
        self.queue.check(version.recent(one), deadline).map_err(|refused| {
            version.stats(&self.metrics).refused(refused.reason);
            refused.into()
        })
    }

    /// Requests that wait for an engine thread.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// What batch a request may be in; `None` if it runs alone.
    fn limits(
        &self,
        version: &LoadedVersion,
        inputs: &[Tensor],
        batching: Batching,
    ) -> Option<Limits> {
        let same_rows = inputs.windows(2).all(|pair| pair[0].rows() == pair[1].rows());
        if !batching.enabled || !same_rows || !version.is_batched() {
            return None;
        }
        let general = || self.settings.batch_rows_max.min(version.cost().rows_worthwhile());
        let rows_max = batching.rows_max.unwrap_or_else(general);
        let delay_max = batching.delay_max.unwrap_or(self.settings.batch_delay_max);
        // One that the engine would have to prepare for gains nothing.
        let fits = rows_max > 1 && version.computed_rows(inputs, rows_max).is_some();
        fits.then_some(Limits { rows_max, delay_max })
    }

    /// The same for a batch that runs on the thread that read it: that thread has
    /// others to answer.
    fn inline(&self, version: &LoadedVersion, limits: Limits) -> Limits {
        let rows = version.cost().rows_within(self.settings.inline_limit);
        Limits { rows_max: limits.rows_max.min(rows), ..limits }
    }
}
