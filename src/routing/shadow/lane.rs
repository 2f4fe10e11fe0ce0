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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::routing::testing::{Behaviour, adds, fails, plan, row, shadow, version};
    use crate::routing::{Plan, Shadow};
    use crate::telemetry::{Metrics, ShadowSnapshot};
    use crate::types::{ModelSettings, Share};

    fn settings() -> LaneSettings {
        LaneSettings {
            threads: 1,
            queue_count_max: 4,
            queue_bytes_max: 1 << 20,
            timeout: Duration::from_secs(600),
        }
    }

    /// A champion with one shadow that behaves so.
    fn setup(width: usize, behaviour: Behaviour) -> (Arc<Plan>, Shadow) {
        let metrics = Metrics::new();
        let shadow = shadow(&metrics, &version(3, width, behaviour), Share::ALL);
        let plan = plan(&metrics, ModelSettings::default(), None, vec![shadow.clone()]);
        (plan, shadow)
    }

    fn offer(lane: &Lane, plan: &Arc<Plan>) {
        let assignment = plan.assign(None, None, None).unwrap();
        let y = Tensor::new("y", vec![1, 1], row(1.0).into_parts().2).unwrap();
        lane.offer(&assignment, vec![row(1.0)], vec![y], "id");
    }

    /// Waits until the counts say that everything offered has come to an end.
    fn settled(shadow: &Shadow, offered: u64) -> ShadowSnapshot {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let s = shadow.stats.snapshot();
            let ended =
                s.compared + s.failures.values().sum::<u64>() + s.dropped.values().sum::<u64>();
            if ended == offered {
                return s;
            }
            assert!(Instant::now() < deadline, "{s:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn every_end_is_counted_under_its_name() {
        let panics: Behaviour = Arc::new(|_| panic!("boo"));
        let other_shape: Behaviour = Arc::new(|_| {
            Ok(vec![Tensor::new("y", vec![0, 1], crate::types::Data::Fp32(vec![])).unwrap()])
        });
        let cases = [
            (1, fails(), "error"),
            (1, panics, "panic"),
            (1, other_shape, "output_mismatch"),
            (2, adds(0.0), "input_mismatch"),
        ];
        for (width, behaviour, reason) in cases {
            let lane = Lane::spawn(&settings()).unwrap();
            let (plan, shadow) = setup(width, behaviour);
            offer(&lane, &plan);
            let got = settled(&shadow, 1);
            assert_eq!(got.failures.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        }
    }

    #[test]
    fn what_agrees_and_what_does_not_is_counted_and_kept() {
        let lane = Lane::spawn(&settings()).unwrap();
        let (plan, same) = setup(1, adds(0.0));
        offer(&lane, &plan);
        let got = settled(&same, 1);
        assert_eq!((got.compared, got.disagreed, got.difference_max), (1, 0, Some(0.0)));
        let (plan, off) = setup(1, adds(0.5));
        offer(&lane, &plan);
        let got = settled(&off, 1);
        assert_eq!((got.compared, got.disagreed, got.difference_max), (1, 1, Some(0.5)));
        let deadline = Instant::now() + Duration::from_secs(60);
        while off.worst.list().is_empty() {
            assert!(Instant::now() < deadline, "the disagreement was not kept");
            thread::yield_now();
        }
        assert_eq!(off.worst.list()[0].prediction_id, "id");
    }

    /// A shadow that says when it starts and goes on when it is told to.
    fn held() -> (Behaviour, Receiver<()>, std::sync::mpsc::Sender<()>) {
        let (started, starts) = channel();
        let (release, releases) = channel::<()>();
        let (started, releases) = (Mutex::new(started), Mutex::new(releases));
        let behaviour: Behaviour = Arc::new(move |inputs| {
            started.lock().unwrap().send(()).unwrap();
            // Ends when the test drops its sender, too.
            let _ = releases.lock().unwrap().recv();
            adds(0.0)(inputs)
        });
        (behaviour, starts, release)
    }

    #[test]
    fn a_slow_shadow_fills_the_queue_and_the_rest_is_dropped() {
        let lane = Lane::spawn(&settings()).unwrap();
        let (behaviour, starts, release) = held();
        let (plan, shadow) = setup(1, behaviour);
        offer(&lane, &plan);
        starts.recv().unwrap();
        for _ in 0..10 {
            offer(&lane, &plan);
        }
        assert_eq!(lane.waiting(), 4);
        assert_eq!(shadow.stats.snapshot().dropped.get("queue_count"), Some(&6));
        drop(release);
        assert_eq!(settled(&shadow, 11).compared, 5);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let lane = Lane::spawn(&LaneSettings { queue_bytes_max: 4, ..settings() }).unwrap();
        let (plan, shadow) = setup(1, adds(0.0));
        offer(&lane, &plan);
        assert_eq!(settled(&shadow, 1).dropped.get("queue_bytes"), Some(&1));
        assert_eq!(lane.shared.bytes.load(SeqCst), 0);
    }

    #[test]
    fn a_stuck_thread_is_replaced_and_the_others_shadows_go_on() {
        let timeout = Duration::from_millis(20);
        let lane = Lane::spawn(&LaneSettings { timeout, ..settings() }).unwrap();
        let (behaviour, starts, release) = held();
        let (stuck_plan, stuck) = setup(1, behaviour);
        offer(&lane, &stuck_plan);
        starts.recv().unwrap();
        let (plan, healthy) = setup(1, adds(0.0));
        offer(&lane, &plan);
        settled(&healthy, 1);
        assert_eq!(settled(&stuck, 1).failures.get("timeout"), Some(&1));
        drop(release);
    }
}
