//! Chooses the thread: inline for what is cheap, a bounded queue and engine
//! threads for what is not.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::serving::{LoadedVersion, RunError};
use crate::types::{Tensor, thread as os_thread};

/// Settings of an [`Executor`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorSettings {
    /// Number of engine threads.
    pub threads: usize,
    /// Runs that should take at most this long stay on the caller's thread:
    /// handing over to another thread costs some tens of microseconds. Those
    /// whose time is not known from warm-up never do.
    pub inline_limit: Duration,
    /// Requests that may wait for an engine thread.
    pub queue_count_max: usize,
}

/// A finished run. The inputs come back, for the shadows.
pub struct Completed {
    /// What was sent.
    pub inputs: Vec<Tensor>,
    /// What came out.
    pub outputs: Vec<Tensor>,
    /// Time spent waiting for an engine thread.
    pub queue: Duration,
    /// Time in the engine.
    pub inference: Duration,
    /// CPU time in the engine, if it was asked for.
    pub cpu: Option<Duration>,
}

/// One request waiting for an engine thread.
struct Job {
    version: Arc<LoadedVersion>,
    inputs: Vec<Tensor>,
    measure_cpu: bool,
    deadline: Option<Instant>,
    queued: Instant,
    reply: oneshot::Sender<Result<Completed>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    count_max: usize,
}

/// Runs versions. Dropping it ends the engine threads once the queue is empty.
pub struct Executor {
    shared: Arc<Shared>,
    inline_limit: Duration,
}

impl Executor {
    /// Starts the engine threads.
    pub fn spawn(settings: &ExecutorSettings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            count_max: settings.queue_count_max,
        });
        let executor = Self { shared: Arc::clone(&shared), inline_limit: settings.inline_limit };
        for i in 0..settings.threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("engine-{i}"));
            thread.stack_size(os_thread::STACK_BYTES).spawn(move || {
                while let Some(job) = shared.next() {
                    job.run()
                }
            })?;
        }
        Ok(executor)
    }

    /// Runs one request. `inputs` are in the signature's order and checked.
    /// `measure_cpu` asks for the CPU time as well, which costs two system calls.
    pub async fn run(
        &self,
        version: &Arc<LoadedVersion>,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        measure_cpu: bool,
    ) -> Result<Completed> {
        let expected = version.expected_time(&inputs);
        let inline = expected.is_some_and(|time| time <= self.inline_limit);
        let inputs = if inline {
            // Its plan may have been freed since: never made on this thread.
            match run(version, inputs, Duration::ZERO, measure_cpu, LoadedVersion::run_known)? {
                Ran::Done(completed) => return Ok(completed),
                Ran::NotKnown(inputs) => inputs,
            }
        } else {
            inputs
        };
        let (reply, answer) = oneshot::channel();
        let queued = Instant::now();
        let version = Arc::clone(version);
        self.shared.push(Job { version, inputs, measure_cpu, deadline, queued, reply })?;
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(Error::internal("the engine thread ended before its answer")))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<()> {
        let mut queue = self.lock();
        if queue.jobs.len() >= self.count_max {
            // Whoever left takes no place from those who wait.
            queue.jobs.retain(|job| !job.reply.is_closed());
        }
        if queue.jobs.len() >= self.count_max {
            return Err(Error::new(
                ErrorCode::Unavailable,
                format!("{} requests wait for an engine thread already; try again", self.count_max),
            ));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// The next job; `None` once closed and empty.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    /// Runs it, unless nobody waits for it any more.
    fn run(self) {
        if self.reply.is_closed() {
            return;
        }
        let waited = self.queued.elapsed();
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let answer = if late {
            let waited = humantime::format_duration(Duration::from_micros(
                u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
            ));
            let message =
                format!("the deadline passed after {waited} in the queue; nothing was run");
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        } else {
            let whole = |version: &LoadedVersion, inputs: &[Tensor]| version.run(inputs).map(Some);
            match run(&self.version, self.inputs, waited, self.measure_cpu, whole) {
                Ok(Ran::Done(completed)) => Ok(completed),
                Ok(Ran::NotKnown(_)) => Err(Error::internal("the engine gave no answer")),
                Err(error) => Err(error),
            }
        };
        // The caller may have left meanwhile.
        let _ = self.reply.send(answer);
    }
}

/// What came of an attempt to run.
enum Ran {
    Done(Completed),
    /// The engine has to make something for these first.
    NotKnown(Vec<Tensor>),
}

fn run(
    version: &LoadedVersion,
    inputs: Vec<Tensor>,
    queue: Duration,
    measure_cpu: bool,
    how: impl FnOnce(&LoadedVersion, &[Tensor]) -> std::result::Result<Option<Vec<Tensor>>, RunError>,
) -> Result<Ran> {
    let cpu = measure_cpu.then(os_thread::cpu_time);
    let started = Instant::now();
    let outputs = how(version, &inputs).map_err(|error| failure(version, &error))?;
    let Some(outputs) = outputs else { return Ok(Ran::NotKnown(inputs)) };
    let inference = started.elapsed();
    let cpu = cpu.map(|before| os_thread::cpu_time().saturating_sub(before));
    Ok(Ran::Done(Completed { inputs, outputs, queue, inference, cpu }))
}

/// What the caller may know of an engine's failure.
fn failure(version: &LoadedVersion, error: &RunError) -> Error {
    use crate::engine::EngineErrorKind as Kind;
    let code = match error {
        RunError::Engine(e) if matches!(e.kind, Kind::BadInput | Kind::BadValue) => {
            ErrorCode::InvalidArgument
        }
        RunError::Engine(e) if e.kind == Kind::OutOfMemory => ErrorCode::Unavailable,
        RunError::Engine(_) | RunError::Panic(_) => ErrorCode::Internal,
    };
    let which = format!("model {} version {}", version.model(), version.id());
    match code {
        ErrorCode::InvalidArgument => Error::new(code, format!("{which}: {error}")),
        ErrorCode::Unavailable => Error::new(code, format!("{which}: not enough memory")),
        _ => Error::new(code, format!("{which} failed to run")).with_detail(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::version::tests::{Doubler, input};
    use crate::types::Data;

    fn settings(inline_limit: Duration, queue_count_max: usize) -> ExecutorSettings {
        ExecutorSettings { threads: 1, inline_limit, queue_count_max }
    }

    #[tokio::test]
    async fn both_ways_give_the_same_answer() {
        let version = Arc::new(Doubler::version());
        for inline_limit in [Duration::MAX, Duration::ZERO] {
            let executor = Executor::spawn(&settings(inline_limit, 8)).unwrap();
            version.warm_up().unwrap();
            let done = executor.run(&version, input(3.0), None, true).await.unwrap();
            assert_eq!(done.outputs[0].data(), &Data::Fp32(vec![6.0]));
            assert_eq!(done.inputs, input(3.0));
            assert!(done.cpu.is_some());
            let error = executor.run(&version, input(13.0), None, false).await.err().unwrap();
            assert_eq!(error.code(), ErrorCode::Internal);
            assert!(error.detail().unwrap().contains("thirteen"));
        }
    }

    #[tokio::test]
    async fn a_deadline_that_passed_runs_nothing() {
        let version = Arc::new(Doubler::version());
        version.warm_up().unwrap();
        let executor = Executor::spawn(&settings(Duration::ZERO, 8)).unwrap();
        let past = Some(Instant::now());
        // 13 would panic if it ran.
        let error = executor.run(&version, input(13.0), past, false).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
    }

    #[test]
    fn who_left_takes_no_place_in_the_queue() {
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new(), count_max: 1 };
        let push = || {
            let (reply, answer) = oneshot::channel();
            let (version, queued) = (Arc::new(Doubler::version()), Instant::now());
            let (inputs, measure_cpu, deadline) = (input(1.0), false, None);
            let job = Job { version, inputs, measure_cpu, deadline, queued, reply };
            shared.push(job).map(|()| answer)
        };
        let first = push().unwrap();
        assert_eq!(push().err().unwrap().code(), ErrorCode::Unavailable);
        drop(first);
        let second = push().unwrap();
        assert!(push().is_err());
        drop(second);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let version = Arc::new(Doubler::version());
        version.warm_up().unwrap();
        let executor = Executor::spawn(&settings(Duration::ZERO, 0)).unwrap();
        let error = executor.run(&version, input(1.0), None, false).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::Unavailable);
    }
}
