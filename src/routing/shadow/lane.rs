//! The queue and its threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::routing::shadow::run::{Copy, Original, count, failed, run};
use crate::routing::split::{Key, Purpose, point};
use crate::routing::{Assignment, Shadow};
use crate::telemetry::{DropReason, Runs, ShadowFailure};
use crate::types::{Full, Inbox, Tensor, thread as os_thread};

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
    /// stuck for longer is given up and replaced. That a thread waited for a
    /// processor, as these do on a busy machine, is not the version's doing
    /// and is not counted, where the kernel tells it.
    pub timeout: Duration,
}

/// Threads that may be given up at a time because a shadow does not come
/// back; beyond this, stuck threads are not replaced and the lane drops what
/// it cannot run.
const STUCK_MAX: usize = 4;

/// Runs copies for the shadows.
pub struct Lane {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Inbox<Copy>,
    timeout: Duration,
    closed: AtomicBool,
    started: Instant,
    sleepers: os_thread::Sleepers,
}

/// A thread as the watch sees it.
struct Worker {
    place: usize,
    thread: OnceLock<os_thread::Observed>,
    /// Milliseconds since the lane's start, plus one, at which its present
    /// run began; 0 while it runs nothing.
    busy_since: AtomicU64,
    /// Its present run.
    current: ArcSwapOption<Running>,
}

struct Running {
    copy: Copy,
    /// What its thread had run and waited before.
    before: Option<os_thread::Scheduled>,
}

impl Worker {
    /// Takes the run that began at `since` from the other side: the thread
    /// does so when the run is over, the watch when it gives the thread up.
    /// Only one of them can, and that one counts it.
    fn take(&self, since: u64) -> bool {
        self.busy_since.compare_exchange(since, 0, SeqCst, SeqCst).is_ok()
    }
}

impl Lane {
    /// Starts the lane's threads and their watch.
    pub fn spawn(settings: &LaneSettings) -> std::io::Result<Self> {
        let threads = settings.threads.max(1);
        let shared = Arc::new(Shared {
            queue: Inbox::new(settings.queue_count_max.max(1), settings.queue_bytes_max),
            timeout: settings.timeout,
            closed: AtomicBool::new(false),
            started: Instant::now(),
            sleepers: os_thread::Sleepers::new(threads),
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
            let runs = draw(assignment, shadow);
            let version = match runs {
                Runs::Champion => assignment.version(),
                Runs::Shadow | Runs::ShadowByLot => &shadow.version,
            };
            let (version, original) = (Arc::clone(version), Arc::clone(&original));
            let copy = Copy { shadow: shadow.clone(), version, runs, original };
            if let Err(reason) = self.shared.push(copy, bytes) {
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

/// Who runs a shadow's next copy. Where the champion's own noise is asked for, a fair
/// lot decides for each copy anew, whatever is in it: so both see the same kind of
/// requests, and a coin's odds are what the guard `noise` reckons with.
fn draw(assignment: &Assignment, shadow: &Shadow) -> Runs {
    let plan = assignment.plan();
    if !plan.settings.shadow_noise {
        return Runs::Shadow;
    }
    let purpose = Purpose::Again(shadow.version.id().get());
    let lot = point(plan.salt, purpose, Key::Counter(shadow.stats.next_lot()));
    if lot >> 63 == 0 { Runs::ShadowByLot } else { Runs::Champion }
}

impl Drop for Lane {
    /// Ends the threads after their present copy; what waits is counted as
    /// dropped.
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        while let Some(copy) = self.shared.queue.pop() {
            copy.shadow.stats.dropped(DropReason::Shutdown);
        }
        self.shared.sleepers.wake_all();
    }
}

impl Shared {
    fn push(&self, copy: Copy, bytes: usize) -> Result<(), DropReason> {
        if self.closed.load(SeqCst) {
            return Err(DropReason::Shutdown);
        }
        self.queue.push(copy, bytes).map_err(|(_, full)| match full {
            Full::Count => DropReason::QueueCount,
            Full::Bytes => DropReason::QueueBytes,
        })?;
        self.sleepers.wake_one();
        Ok(())
    }

    fn spawn(self: &Arc<Self>, place: usize) -> std::io::Result<Arc<Worker>> {
        let worker = Arc::new(Worker {
            place,
            thread: OnceLock::new(),
            busy_since: AtomicU64::new(0),
            current: ArcSwapOption::empty(),
        });
        let (shared, own) = (Arc::clone(self), Arc::clone(&worker));
        let run = move || {
            os_thread::enter(os_thread::Class::Idle);
            own.thread.get_or_init(os_thread::Observed::own);
            shared.work(&own);
        };
        thread::Builder::new()
            .name(format!("shadow-{place}"))
            .stack_size(os_thread::STACK_BYTES)
            .spawn(run)?;
        Ok(worker)
    }

    /// A lane thread's life.
    fn work(&self, worker: &Worker) {
        self.sleepers.take_place(worker.place);
        let pulse = os_thread::Pulse::new(os_thread::LeastShare::Nothing);
        pulse.start();
        loop {
            if let Some(copy) = self.queue.pop() {
                if self.run(worker, copy) {
                    continue;
                }
                // Another thread has this one's place now.
                return;
            }
            if self.closed.load(SeqCst) {
                return;
            }
            pulse.stop();
            let work = || !self.queue.is_empty() || self.closed.load(SeqCst);
            self.sleepers.sleep_unless(worker.place, work);
            pulse.start();
        }
    }

    /// Runs a copy; `false` if the thread was given up meanwhile.
    fn run(&self, worker: &Worker, copy: Copy) -> bool {
        let since = self.now_ms() + 1;
        let running = Arc::new(Running { copy, before: os_thread::scheduled() });
        let Running { copy, before } = &*running;
        worker.current.store(Some(Arc::clone(&running)));
        worker.busy_since.store(since, SeqCst);
        // The engine's panics are caught where it runs; this is for ours.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(copy, *before, self.timeout)))
            .unwrap_or(Err(ShadowFailure::Panic));
        let own = worker.take(since);
        worker.current.store(None);
        if own {
            count(copy, outcome);
        }
        own
    }

    /// Replaces threads that are stuck in a shadow.
    fn watch(self: Arc<Self>, workers: Vec<Arc<Worker>>) {
        let mut workers: Vec<_> = workers.into_iter().map(Some).collect();
        let mut stuck: Vec<Arc<Worker>> = Vec::new();
        while !self.closed.load(SeqCst) {
            thread::park_timeout((self.timeout / 4).max(Duration::from_millis(1)));
            // A thread that came back after all has let go of its worker.
            stuck.retain(|worker| Arc::strong_count(worker) > 1);
            for (place, worker) in workers.iter_mut().enumerate() {
                if stuck.len() < STUCK_MAX {
                    stuck.extend(worker.take_if(|worker| self.give_up(worker)));
                }
                if worker.is_some() {
                    continue;
                }
                match self.spawn(place) {
                    Ok(replacement) => *worker = Some(replacement),
                    Err(error) => tracing::error!(%error, "no thread to replace a stuck one"),
                }
            }
        }
    }

    /// Whether the thread is stuck; then its run is counted, and it will end
    /// when the run does.
    fn give_up(&self, worker: &Worker) -> bool {
        let since = worker.busy_since.load(SeqCst);
        let busy = Duration::from_millis((self.now_ms() + 1).saturating_sub(since));
        // `current` is that of the run only while the run is not over.
        let current = worker.current.load_full();
        if since == 0 || busy <= self.timeout {
            return false;
        }
        let before = current.as_ref().and_then(|running| running.before);
        let now = worker.thread.get().and_then(|thread| thread.look());
        let by_itself = os_thread::by_itself(busy, before, now);
        if by_itself <= self.timeout || !worker.take(since) {
            return false;
        }
        if let Some(running) = current {
            failed(&running.copy, ShadowFailure::Timeout);
        }
        tracing::warn!(?busy, "a shadow does not come back; its thread is given up");
        true
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
    use crate::routing::testing::{Behaviour, adds, fails, plan, row, shadow, version, version_of};
    use crate::routing::{Plan, Shadow};
    use crate::telemetry::{Metrics, ShadowSnapshot};
    use crate::types::{Data, Datatype, Dim, ModelSettings, Share, Signature, TensorSpec};

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
        let deadline = Instant::now() + Duration::from_secs(300);
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
        let other_shape: Behaviour =
            Arc::new(|_| Ok(vec![Tensor::new("y", vec![0, 1], Data::Fp32(vec![])).unwrap()]));
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
    fn a_lot_decides_whether_the_champion_runs_a_copy_once_more() {
        const OFFERED: u64 = 400;
        let lane = Lane::spawn(&LaneSettings { queue_count_max: 400, ..settings() }).unwrap();
        let metrics = Metrics::new();
        let shadow = shadow(&metrics, &version(3, 1, adds(1.0)), Share::ALL);
        let settings = ModelSettings { shadow_noise: true, ..ModelSettings::default() };
        // The champion adds nothing to what it is given, as the answer that is offered.
        let plan = plan(&metrics, settings, None, vec![shadow.clone()]);
        (0..OFFERED).for_each(|_| offer(&lane, &plan));
        let noise = loop {
            let noise = shadow.stats.snapshot().noise.unwrap_or_default();
            if noise.champion_compared + noise.shadow_compared == OFFERED {
                break noise;
            }
            thread::yield_now();
        };
        assert!((140..260).contains(&noise.champion_compared), "{noise:?}");
        assert_eq!((noise.champion_disagreed, noise.champion_failed), (0, 0));
        assert_eq!(noise.shadow_disagreed, noise.shadow_compared);
        let got = shadow.stats.snapshot();
        assert_eq!((got.compared, got.disagreed), (noise.shadow_compared, noise.shadow_disagreed));
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

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_is_not_let_run_is_not_late() {
        let timeout = Duration::from_millis(100);
        let lane = Lane::spawn(&LaneSettings { timeout, ..settings() }).unwrap();
        let (started, starts) = channel();
        let started = Mutex::new(started);
        let works: Behaviour = Arc::new(move |inputs| {
            let until = os_thread::cpu_time() + Duration::from_millis(20);
            started.lock().unwrap().send(()).unwrap();
            while os_thread::cpu_time() < until {
                std::hint::spin_loop();
            }
            adds(0.0)(inputs)
        });
        let (plan, shadow) = setup(1, works);
        offer(&lane, &plan);
        starts.recv().unwrap();
        // For a while they leave nothing over for the lane.
        let over = Instant::now() + timeout * 4;
        thread::scope(|scope| {
            for _ in 0..=thread::available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    while Instant::now() < over {
                        std::hint::spin_loop();
                    }
                });
            }
        });
        let got = settled(&shadow, 1);
        assert_eq!((got.compared, got.failures.len()), (1, 0), "{got:?}");
    }

    #[test]
    fn a_thread_that_came_back_may_be_given_up_again() {
        let timeout = Duration::from_millis(5);
        let lane = Lane::spawn(&LaneSettings { timeout, ..settings() }).unwrap();
        for _ in 0..=STUCK_MAX {
            let (behaviour, starts, release) = held();
            let (plan, stuck) = setup(1, behaviour);
            offer(&lane, &plan);
            starts.recv().unwrap();
            // Counted by the watch: it does not come back before it is.
            assert_eq!(settled(&stuck, 1).failures.get("timeout"), Some(&1));
            drop(release);
        }
    }

    /// A copy as a lane thread gets it.
    fn copy(shadow: &Shadow, inputs: Vec<Tensor>) -> Copy {
        let outputs = vec![Tensor::new("y", vec![1, 1], row(1.0).into_parts().2).unwrap()];
        let original = Arc::new(Original { inputs, outputs, prediction_id: "id".into() });
        let version = Arc::clone(&shadow.version);
        Copy { shadow: shadow.clone(), version, runs: Runs::Shadow, original }
    }

    #[test]
    fn a_run_that_was_given_up_is_not_counted_again() {
        let lane = Lane::spawn(&settings()).unwrap();
        let worker = Arc::new(Worker {
            place: 0,
            thread: OnceLock::new(),
            busy_since: AtomicU64::new(0),
            current: ArcSwapOption::empty(),
        });
        // The watch takes the run while it runs.
        let taken = Arc::clone(&worker);
        let behaviour: Behaviour = Arc::new(move |inputs| {
            assert!(taken.take(taken.busy_since.load(SeqCst)));
            adds(0.0)(inputs)
        });
        let (_, shadow) = setup(1, behaviour);
        assert!(!lane.shared.run(&worker, copy(&shadow, vec![row(1.0)])));
        let got = shadow.stats.snapshot();
        assert_eq!((got.compared, got.failures.len()), (0, 0));
        let (_, shadow) = setup(1, adds(0.0));
        assert!(lane.shared.run(&worker, copy(&shadow, vec![row(1.0)])));
        assert_eq!(shadow.stats.snapshot().compared, 1);
    }

    #[test]
    fn a_copy_passes_the_shadows_own_checks() {
        let spec = |name: &str| {
            TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(1)])
        };
        let signature = Signature::new(vec![spec("x"), spec("z")], vec![spec("y")]);
        let version = version_of(3, signature, adds(0.0));
        let shadow = shadow(&Metrics::new(), &version, Share::ALL);
        let z = |rows| Tensor::new("z", vec![rows, 1], Data::zeros(Datatype::Fp32, rows)).unwrap();
        let outcome = |inputs| run(&copy(&shadow, inputs), None, Duration::MAX).err();
        // Each input fits, but both rows are called N: an engine relies on it.
        let unequal = outcome(vec![row(1.0), z(2)]);
        assert_eq!(unequal, Some(ShadowFailure::InputMismatch));
        assert_eq!(outcome(vec![row(1.0), z(1)]), None);
        // Another order is no other model.
        assert_eq!(outcome(vec![z(1), row(1.0)]), None);
    }
}
