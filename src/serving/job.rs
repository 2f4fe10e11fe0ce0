//! A request that waits for its run, and runs: alone, or as one batch with
//! others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::serving::batch::{self, Limits, Waiting};
use crate::serving::combine::Lead;
use crate::serving::{Completed, LoadedVersion, RunError};
use crate::telemetry::{Left, QueueStats, Split};
use crate::types::{Tensor, thread as os_thread};

/// What a waiting request is told.
pub(super) enum Said {
    /// Its answer.
    Done(Result<Completed>),
    /// To listen on there, and to run what waits, itself included. In this order:
    /// if both are dropped, the lead must not come back to who listened.
    Lead(oneshot::Receiver<Said>, Lead),
}

/// One waiting request.
pub(super) struct Job {
    /// Ascending, in a queue.
    pub(super) id: u64,
    pub(super) version: Arc<LoadedVersion>,
    pub(super) stats: Arc<QueueStats>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) rows: usize,
    /// Its time alone, where the version's cost by rows does not tell it.
    pub(super) by_shape: Option<Duration>,
    /// Its batch; `None` if it runs alone.
    pub(super) limits: Option<Limits>,
    pub(super) measure_cpu: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) queued: Instant,
    pub(super) reply: oneshot::Sender<Said>,
}

impl Waiting for Job {
    fn rows(&self) -> usize {
        self.rows
    }

    fn joins(&self, other: &Self) -> bool {
        let row = |tensor: &Tensor| tensor.shape().len();
        let same = |(a, b): (&Tensor, &Tensor)| {
            row(a) == row(b) && a.shape().iter().skip(1).eq(b.shape().iter().skip(1))
        };
        self.limits.is_some()
            && other.limits.is_some()
            && Arc::ptr_eq(&self.version, &other.version)
            && self.version.is_batched()
            && self.inputs.iter().zip(&other.inputs).all(same)
    }

    fn limits(&self) -> Limits {
        self.limits.unwrap_or(Limits { rows_max: 1, delay_max: Duration::ZERO })
    }

    fn queued(&self) -> Instant {
        self.queued
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    fn computed_rows(&self, rows: usize) -> Option<usize> {
        self.version.computed_rows(&self.inputs, rows)
    }

    fn run_time(&self, computed_rows: usize) -> Duration {
        self.version.recent(self.expected(computed_rows))
    }
}

impl Job {
    /// What a run like this one that computes so many rows should take by
    /// earlier measurements, whatever happened lately.
    fn expected(&self, computed_rows: usize) -> Duration {
        let Some(alone) = self.by_shape else { return self.version.cost().of(computed_rows) };
        let own = self.computed_rows(self.rows).unwrap_or(self.rows).max(1);
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        let times = computed_rows as f64 / own as f64;
        alone.mul_f64(times)
    }

    /// The same, where it was measured at all: a run on new shapes says nothing
    /// about how others go.
    fn known(&self, computed_rows: usize) -> Option<Duration> {
        let measured = self.by_shape.is_some() || self.version.cost_by_rows();
        measured.then(|| self.expected(computed_rows))
    }
}

/// Runs a batch that the policy chose. Should it fail as a whole, each runs
/// alone, once, so that only those fail of which it comes.
pub(super) fn run(jobs: Vec<Job>) {
    match <[Job; 1]>::try_from(jobs) {
        Ok([job]) => {
            job.alone();
        }
        Err(jobs) => {
            let Some(first) = jobs.first() else { return };
            let version = Arc::clone(&first.version);
            if let Err(Apart { jobs, by_itself }) = together(&version, jobs) {
                // Each is run, whatever came of those before it.
                let came: Vec<_> = jobs.into_iter().map(Job::alone).collect();
                if by_itself && came.iter().all(|fine| *fine == Some(true)) {
                    // It is not one of the requests that the batch failed of.
                    version.stop_batching();
                }
            }
        }
    }
}

/// Jobs that could not be run as one.
struct Apart {
    jobs: Vec<Job>,
    /// The batch would fail again: it was not for want of memory, which others
    /// may have held.
    by_itself: bool,
}

/// Runs them as one; gives them back if that fails.
fn together(version: &LoadedVersion, jobs: Vec<Job>) -> std::result::Result<(), Apart> {
    let requests: Vec<&[Tensor]> = jobs.iter().map(|job| &job.inputs[..]).collect();
    let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
    let (total, stats) = (rows.iter().sum::<usize>(), Arc::clone(&jobs[0].stats));
    let Some(inputs) = batch::join(&requests, version.take_buffers()) else {
        // The policy joins what fits; alone they run all the same.
        return Err(Apart { jobs, by_itself: false });
    };
    let cpu = jobs.iter().any(|job| job.measure_cpu).then(os_thread::cpu_time);
    let started = Instant::now();
    let outputs = version.run(&inputs);
    let inference = started.elapsed();
    let cpu = cpu.map(|before| os_thread::cpu_time().saturating_sub(before));
    let computed = version.computed_rows(&inputs, total).unwrap_or(total);
    let expected = jobs[0].known(computed);
    version.put_buffers(inputs);
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(error) => {
            tracing::debug!(model = %version.model(), version = %version.id(), %error, "a batch failed");
            stats.split(Split::Failed);
            return Err(Apart { jobs, by_itself: !out_of_memory(&error) });
        }
    };
    let Some(answers) = batch::split(&outputs, &rows) else {
        stats.split(Split::Rows);
        version.stop_batching();
        return Err(Apart { jobs, by_itself: true });
    };
    if let Some(expected) = expected {
        version.took(expected, inference);
    }
    stats.ran(total, jobs.len());
    let count = jobs.len();
    for (job, outputs) in jobs.into_iter().zip(answers) {
        let queue = started.saturating_duration_since(job.queued);
        let cpu = cpu.filter(|_| job.measure_cpu).map(|cpu| part(cpu, job.rows, total, count));
        // The caller may have left meanwhile.
        let done = Completed { inputs: job.inputs, outputs, queue, inference, cpu };
        drop(job.reply.send(Said::Done(Ok(done))));
    }
    Ok(())
}

/// The part of a batch's CPU time that falls to so many of its rows.
fn part(cpu: Duration, rows: usize, total: usize, requests: usize) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let part = match total {
        0 => 1.0 / requests as f64,
        total => rows as f64 / total as f64,
    };
    cpu.mul_f64(part)
}

impl Job {
    /// Runs it, and says whether that went well; `None` if it was not run, since
    /// nobody waits for it any more.
    fn alone(self) -> Option<bool> {
        if self.is_cancelled() {
            self.left();
            return None;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.late();
            return None;
        }
        let waited = self.queued.elapsed();
        let expected = self.known(self.computed_rows(self.rows).unwrap_or(self.rows));
        let whole = |version: &LoadedVersion, inputs: &[Tensor]| version.run(inputs).map(Some);
        let answer =
            measured(&self.version, self.inputs, waited, expected, self.measure_cpu, whole);
        let answer = answer.and_then(|ran| match ran {
            Ran::Done(completed) => Ok(completed),
            Ran::NotKnown(_) => Err(Error::internal("the engine gave no answer")),
        });
        let fine = answer.is_ok();
        if fine {
            self.stats.ran(self.rows, 1);
        }
        // The caller may have left meanwhile.
        drop(self.reply.send(Said::Done(answer)));
        Some(fine)
    }

    /// Counts it as one whose caller has left: by itself, or because its deadline
    /// passed.
    pub(super) fn left(self) {
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        self.stats.left(if late { Left::Late } else { Left::Cancelled });
    }

    /// Tells it that its deadline has passed, or will have.
    pub(super) fn late(self) {
        self.stats.left(Left::Late);
        let waited = u64::try_from(self.queued.elapsed().as_micros()).unwrap_or(u64::MAX);
        let waited = humantime::format_duration(Duration::from_micros(waited));
        let error = Error::new(
            ErrorCode::DeadlineExceeded,
            format!("no time was left for a run after {waited} in the queue; nothing was run"),
        );
        drop(self.reply.send(Said::Done(Err(error))));
    }
}

/// What came of an attempt to run.
pub(super) enum Ran {
    Done(Completed),
    /// The engine has to make something for these first.
    NotKnown(Vec<Tensor>),
}

/// Runs one request, and measures; `expected` is what it should take, if it is
/// known.
pub(super) fn measured(
    version: &LoadedVersion,
    inputs: Vec<Tensor>,
    queue: Duration,
    expected: Option<Duration>,
    measure_cpu: bool,
    how: impl FnOnce(&LoadedVersion, &[Tensor]) -> std::result::Result<Option<Vec<Tensor>>, RunError>,
) -> Result<Ran> {
    let cpu = measure_cpu.then(os_thread::cpu_time);
    let started = Instant::now();
    let outputs = how(version, &inputs).map_err(|error| failure(version, &error))?;
    let Some(outputs) = outputs else { return Ok(Ran::NotKnown(inputs)) };
    let inference = started.elapsed();
    let cpu = cpu.map(|before| os_thread::cpu_time().saturating_sub(before));
    if let Some(expected) = expected {
        version.took(expected, inference);
    }
    Ok(Ran::Done(Completed { inputs, outputs, queue, inference, cpu }))
}

fn out_of_memory(error: &RunError) -> bool {
    matches!(error, RunError::Engine(e) if e.kind == crate::engine::EngineErrorKind::OutOfMemory)
}

/// What the caller may know of an engine's failure.
fn failure(version: &LoadedVersion, error: &RunError) -> Error {
    use crate::engine::EngineErrorKind as Kind;
    let code = match error {
        RunError::Engine(e) if matches!(e.kind, Kind::BadInput | Kind::BadValue) => {
            ErrorCode::InvalidArgument
        }
        error if out_of_memory(error) => ErrorCode::Unavailable,
        RunError::Engine(_) | RunError::Panic(_) => ErrorCode::Internal,
    };
    let which = format!("model {} version {}", version.model(), version.id());
    match code {
        ErrorCode::InvalidArgument => Error::new(code, format!("{which}: {error}")),
        ErrorCode::Unavailable => Error::new(code, format!("{which}: not enough memory")),
        _ => Error::new(code, format!("{which} failed to run")).with_detail(error),
    }
}
