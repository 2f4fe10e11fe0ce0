//! The queue and its threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;

use crate::routing::Assignment;
use crate::routing::shadow::run::{Copy, Original, run};
use crate::telemetry::{DropReason, ShadowFailure, ShadowStats};
use crate::types::{Tensor, thread as os_thread};

/// Settings of a [`Lane`].
#[derive(Clone, Debug, PartialEq)]
pub struct LaneSettings {
    /// Threads that run copies.
    pub threads: usize,
    /// Copies that may wait.
    pub queue_count_max: usize,
    /// Bytes of inputs and outputs that may wait.
    pub queue_bytes_max: usize,
    /// A run that took longer is counted as `timeout`, and a thread that is
    /// stuck for longer is given up and replaced.
    pub timeout: Duration,
}

/// Threads given up because a shadow never came back; beyond this, stuck
/// threads are not replaced and the lane drops what it cannot run.
const STUCK_MAX: usize = 4;

/// Runs copies for the shadows.
pub struct Lane {
    shared: Arc<Shared>,
}

struct Shared {
    queue: ArrayQueue<Copy>,
    bytes: AtomicUsize,
    bytes_max: usize,
    timeout: Duration,
    closed: AtomicBool,
    started: Instant,
    sleepers: Vec<Arc<Sleeper>>,
}

/// A place where one thread at a time sleeps until there is work.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: ArcSwapOption<Thread>,
}

/// A thread as the watch sees it.
struct Worker {
    sleeper: usize,
    /// Milliseconds since the lane's start, plus one, at which its present
    /// run began; 0 while it runs nothing.
    busy_since: AtomicU64,
    /// Where its present run is counted.
    current: ArcSwapOption<ShadowStats>,
    given_up: AtomicBool,
}

impl Lane {
    /// Starts the lane's threads and their watch.
    pub fn spawn(settings: &LaneSettings) -> std::io::Result<Self> {
        let threads = settings.threads.max(1);
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(settings.queue_count_max.max(1)),
            bytes: AtomicUsize::new(0),
            bytes_max: settings.queue_bytes_max,
            timeout: settings.timeout,
            closed: AtomicBool::new(false),
            started: Instant::now(),
            sleepers: (0..threads).map(|_| Arc::default()).collect(),
        });
        let workers = (0..threads).map(|i| shared.spawn(i)).collect::<Result<Vec<_>, _>>()?;
        let watched = Arc::clone(&shared);
        let watch = move || watched.watch(workers);
        thread::Builder::new().name("shadow-watch".into()).spawn(watch)?;
        Ok(Self { shared })
    }

    /// Queues a copy for each of the assignment's shadows; never waits.
    pub fn offer(
        &self,
        assignment: &Assignment,
        inputs: Vec<Tensor>,
        outputs: Vec<Tensor>,
        prediction_id: &str,
    ) {
        let bytes = inputs.iter().chain(&outputs).map(Tensor::byte_len).sum();
        let prediction_id = prediction_id.to_owned();
        let original = Arc::new(Original { inputs, outputs, prediction_id });
        for shadow in assignment.shadows() {
            let copy = Copy { shadow: shadow.clone(), original: Arc::clone(&original), bytes };
            if let Err(reason) = self.shared.push(copy) {
                shadow.stats.dropped(reason);
            }
        }
    }

    /// Copies that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }
}

impl Drop for Lane {
    /// Ends the threads after their present copy; what waits is counted as
    /// dropped.
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        while let Some(copy) = self.shared.pop() {
            copy.shadow.stats.dropped(DropReason::Shutdown);
        }
        for _ in &self.shared.sleepers {
            self.shared.wake();
        }
    }
}

impl Shared {
    fn push(&self, copy: Copy) -> Result<(), DropReason> {
        if self.closed.load(SeqCst) {
            return Err(DropReason::Shutdown);
        }
        // Reserve the bytes first, so that many requests at once cannot
        // overshoot together.
        let bytes = copy.bytes;
        if self.bytes.fetch_add(bytes, SeqCst) + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, SeqCst);
            return Err(DropReason::QueueBytes);
        }
        if self.queue.push(copy).is_err() {
            self.bytes.fetch_sub(bytes, SeqCst);
            return Err(DropReason::QueueCount);
        }
        self.wake();
        Ok(())
    }

    fn pop(&self) -> Option<Copy> {
        let copy = self.queue.pop()?;
        self.bytes.fetch_sub(copy.bytes, SeqCst);
        Some(copy)
    }

    /// Wakes one sleeping thread, if any. The flag makes the common case,
    /// nobody asleep, free of system calls.
    fn wake(&self) {
        for sleeper in &self.sleepers {
            if sleeper.asleep.swap(false, SeqCst) {
                if let Some(thread) = sleeper.thread.load().as_ref() {
                    thread.unpark();
                }
                return;
            }
        }
    }

    fn spawn(self: &Arc<Self>, sleeper: usize) -> std::io::Result<Arc<Worker>> {
        let worker = Arc::new(Worker {
            sleeper,
            busy_since: AtomicU64::new(0),
            current: ArcSwapOption::empty(),
            given_up: AtomicBool::new(false),
        });
        let (shared, own) = (Arc::clone(self), Arc::clone(&worker));
        let run = move || {
            os_thread::enter(os_thread::Class::Idle);
            shared.work(&own);
        };
        thread::Builder::new().name(format!("shadow-{sleeper}")).spawn(run)?;
        Ok(worker)
    }

    /// A lane thread's life.
    fn work(&self, worker: &Worker) {
        let sleeper = &self.sleepers[worker.sleeper];
        sleeper.thread.store(Some(Arc::new(thread::current())));
        while !worker.given_up.load(SeqCst) {
            if let Some(copy) = self.pop() {
                self.run(worker, &copy);
                continue;
            }
            if self.closed.load(SeqCst) {
                return;
            }
            // Say that we sleep, then look once more: a push that came
            // between the look above and the flag would otherwise be missed.
            sleeper.asleep.store(true, SeqCst);
            if self.queue.is_empty() && !self.closed.load(SeqCst) {
                thread::park();
            }
            sleeper.asleep.store(false, SeqCst);
        }
    }

    fn run(&self, worker: &Worker, copy: &Copy) {
        worker.current.store(Some(Arc::clone(&copy.shadow.stats)));
        worker.busy_since.store(self.now_ms() + 1, SeqCst);
        let outcome = run(copy, self.timeout);
        worker.busy_since.store(0, SeqCst);
        // A thread that was given up has been counted by the watch.
        if let Err(failure) = outcome
            && !worker.given_up.load(SeqCst)
        {
            copy.shadow.stats.failed(failure);
        }
    }

    /// Replaces threads that are stuck in a shadow.
    fn watch(self: Arc<Self>, mut workers: Vec<Arc<Worker>>) {
        let limit_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut stuck = 0;
        while !self.closed.load(SeqCst) {
            thread::park_timeout((self.timeout / 4).max(Duration::from_millis(1)));
            for worker in &mut workers {
                let since = worker.busy_since.load(SeqCst);
                let busy_ms = (self.now_ms() + 1).saturating_sub(since);
                if since == 0 || busy_ms <= limit_ms || stuck >= STUCK_MAX {
                    continue;
                }
                worker.given_up.store(true, SeqCst);
                stuck += 1;
                if let Some(stats) = worker.current.load().as_ref() {
                    stats.failed(ShadowFailure::Timeout);
                }
                tracing::warn!(
                    busy_ms,
                    stuck,
                    "a shadow does not come back; its thread is given up"
                );
                match self.spawn(worker.sleeper) {
                    Ok(replacement) => *worker = replacement,
                    Err(error) => tracing::error!(%error, "no thread to replace it"),
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
