//! What waits for an engine thread, and the threads.
//!
//! Whenever a thread is free, it takes the next batch of what waits (see
//! [`decide`]). What cannot be served in time is refused when it comes (see
//! [`admit`]), for which the queue knows the time that its work should take, by
//! what runs took lately. A request whose caller leaves is taken out at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::serving::admission::{Backlog, QueueLimits, admit};
use crate::serving::batch::{Next, Waiting as _, decide};
use crate::serving::combine::extract;
use crate::serving::job::{self, Job, Said};
use crate::serving::{Completed, LoadedVersion};
use crate::telemetry::Refusal;
use crate::types::thread as os_thread;

/// The queue; dropping it ends the engine threads once it is empty.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    limits: QueueLimits,
    started: Instant,
    /// Rows that wait, and when a thread is free for what comes now, in
    /// nanoseconds after the start: for a look without the lock.
    rows: AtomicUsize,
    free_at: AtomicU64,
}

struct State {
    jobs: VecDeque<Job>,
    /// What waits, by version: few.
    loads: Vec<Load>,
    /// For each thread: when its present run should be over.
    busy: Vec<Option<Instant>>,
    /// Threads that sleep, and those of them that were woken.
    sleeping: usize,
    woken: usize,
    next_id: u64,
    closed: bool,
}

/// What waits of one version.
struct Load {
    version: Arc<LoadedVersion>,
    requests: usize,
    rows: usize,
    /// Those of them whose time follows from their shapes, and their times.
    by_shape: usize,
    by_shape_rows: usize,
    by_shape_time: Duration,
    /// Of a batch; `None` if they run one by one.
    rows_max: Option<usize>,
}

impl Load {
    const fn new(version: Arc<LoadedVersion>) -> Self {
        Self {
            version,
            requests: 0,
            rows: 0,
            by_shape: 0,
            by_shape_rows: 0,
            by_shape_time: Duration::ZERO,
            rows_max: None,
        }
    }

    fn add(&mut self, job: &Job) {
        self.requests += 1;
        self.rows += job.rows;
        self.rows_max = job.limits.map(|limits| limits.rows_max);
        if let Some(time) = job.by_shape {
            self.by_shape += 1;
            self.by_shape_rows += job.rows;
            self.by_shape_time = self.by_shape_time.saturating_add(time);
        }
    }

    fn remove(&mut self, job: &Job) {
        self.requests -= 1;
        self.rows -= job.rows;
        if let Some(time) = job.by_shape {
            self.by_shape -= 1;
            self.by_shape_rows -= job.rows;
            self.by_shape_time = self.by_shape_time.saturating_sub(time);
        }
    }

    /// What its runs should take together.
    fn time(&self) -> Duration {
        let (requests, rows) = (self.requests - self.by_shape, self.rows - self.by_shape_rows);
        let runs = match self.rows_max {
            Some(rows_max) => rows.div_ceil(rows_max.max(1)).max(1).min(requests),
            None => requests,
        };
        let cost = self.version.cost();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fixed = cost.fixed.saturating_mul(number(runs));
        let line = fixed.saturating_add(cost.per_row.saturating_mul(number(rows)));
        self.version.recent(line.saturating_add(self.by_shape_time))
    }
}

/// What a thread is to do.
struct Work {
    late: Vec<Job>,
    batch: Vec<Job>,
}

impl Queue {
    /// Starts the engine threads.
    pub(super) fn spawn(threads: usize, limits: QueueLimits) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let state = State {
            jobs: VecDeque::new(),
            loads: Vec::new(),
            busy: vec![None; threads],
            sleeping: 0,
            woken: 0,
            next_id: 0,
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            limits,
            started: Instant::now(),
            rows: AtomicUsize::new(0),
            free_at: AtomicU64::new(0),
        });
        let queue = Self { shared: Arc::clone(&shared) };
        for i in 0..threads {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("engine-{i}"));
            thread.stack_size(os_thread::STACK_BYTES).spawn(move || {
                // A run is as urgent as a request, but longer than most: those
                // that come meanwhile do not wait for its slice to end.
                let pulse = os_thread::Pulse::new(os_thread::LeastShare::Quarter);
                while let Some(Work { late, batch }) = shared.next(i) {
                    // The engine's panics are caught where it runs; this is for
                    // ours: the thread goes on, and who waits is told.
                    let run = || {
                        late.into_iter().for_each(Job::late);
                        job::run(batch);
                    };
                    if catch_unwind(AssertUnwindSafe(|| pulse.during(run))).is_err() {
                        tracing::error!("an engine thread panicked on a batch");
                    }
                }
            })?;
        }
        Ok(queue)
    }

    /// Waits for an engine thread, and for the answer.
    ///
    /// # Errors
    /// The request was refused, or was late, or its run failed.
    pub(super) async fn run(
        &self,
        job: impl FnOnce(oneshot::Sender<Said>) -> Job,
    ) -> Result<Completed> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let id = self.shared.push(job)?;
        let mut ticket = Ticket { shared: &self.shared, id, answered: false };
        let said = answer.await;
        ticket.answered = true;
        match said {
            Ok(Said::Done(done)) => done,
            Ok(Said::Lead(..)) | Err(_) => {
                Err(Error::internal("the engine thread ended before its answer"))
            }
        }
    }

    /// Requests that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Whether a request of one row, which should run for `own`, would be
    /// refused now. Takes no lock.
    pub(super) fn check(&self, own: Duration, deadline: Option<Instant>) -> Result<(), Refused> {
        let shared = &self.shared;
        let now = Instant::now();
        let free_at = Duration::from_nanos(shared.free_at.load(Relaxed));
        let wait = free_at.saturating_sub(now.saturating_duration_since(shared.started));
        let backlog = Backlog { rows: shared.rows.load(Relaxed), wait };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        admit(backlog, shared.limits, 1, own, left).map_err(|reason| Refused { reason, backlog })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

/// Why a request was refused, and the queue that it met.
pub(super) struct Refused {
    pub(super) reason: Refusal,
    backlog: Backlog,
}

impl From<Refused> for Error {
    fn from(Refused { reason, backlog: Backlog { rows, wait } }: Refused) -> Self {
        let message = match reason {
            Refusal::QueueFull => format!("{rows} rows wait for an engine thread already"),
            Refusal::QueueTime => {
                format!("an engine thread would be free in {} ms only", wait.as_millis())
            }
            Refusal::Deadline => format!(
                "the deadline would pass: an engine thread is free in {} ms",
                wait.as_millis()
            ),
        };
        Self::new(ErrorCode::Unavailable, message + "; try again later").with_retry_after(wait)
    }
}

/// A request's place in the queue, given up when its caller leaves.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    answered: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.leave(self.id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request into the queue, or refuses it; its number.
    fn push(&self, mut job: Job) -> Result<u64> {
        let computed = job.computed_rows(job.rows).unwrap_or(job.rows);
        let own = job.run_time(computed);
        let mut state = self.lock();
        let now = Instant::now();
        let left = job.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let backlog = state.backlog(now);
        if let Err(reason) = admit(backlog, self.limits, job.rows, own, left) {
            drop(state);
            job.stats.refused(reason);
            return Err(Refused { reason, backlog }.into());
        }
        let id = state.next_id;
        state.next_id += 1;
        job.id = id;
        state.enter(job);
        self.show(&state, now);
        let wake = state.sleeping > state.woken;
        state.woken += usize::from(wake);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(id)
    }

    /// What thread `i` is to do next; `None` once closed and empty.
    fn next(&self, i: usize) -> Option<Work> {
        let mut state = self.lock();
        state.busy[i] = None;
        loop {
            let now = Instant::now();
            let decision = decide(state.jobs.make_contiguous(), now);
            let until = match decision.next {
                Next::WaitUntil(until) => Some(until),
                Next::Run(_) | Next::Nothing => None,
            };
            let batch = match decision.next {
                Next::Run(batch) => batch,
                Next::WaitUntil(_) | Next::Nothing => Vec::new(),
            };
            let [cancelled, late, batch] =
                state.take([&decision.cancelled, &decision.late, &batch]);
            state.busy[i] = run_time(&batch).and_then(|time| now.checked_add(time));
            self.show(&state, now);
            // Seldom: who leaves takes itself out.
            cancelled.into_iter().for_each(Job::left);
            if !(late.is_empty() && batch.is_empty()) {
                return Some(Work { late, batch });
            }
            if state.closed && until.is_none() {
                return None;
            }
            state = self.sleep(state, until);
        }
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.sleeping += 1;
        let mut state = match until {
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.sleeping -= 1;
        // Without a call, too: then one is woken once too often, at worst.
        state.woken = state.woken.saturating_sub(1);
        state
    }

    /// Takes a request out whose caller has left, if it waits still.
    fn leave(&self, id: u64) {
        let mut state = self.lock();
        let Ok(place) = state.jobs.binary_search_by_key(&id, |job| job.id) else { return };
        let [gone] = state.take([&[place]]);
        let now = Instant::now();
        self.show(&state, now);
        drop(state);
        gone.into_iter().for_each(Job::left);
    }

    /// Shows the queue to those who look without the lock.
    fn show(&self, state: &State, now: Instant) {
        let Backlog { rows, wait } = state.backlog(now);
        let free_at = now.saturating_duration_since(self.started).saturating_add(wait);
        self.rows.store(rows, Relaxed);
        self.free_at.store(u64::try_from(free_at.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// What a batch should take; `None` if there is none.
fn run_time(batch: &[Job]) -> Option<Duration> {
    let first = batch.first()?;
    let rows = batch.iter().map(|job| job.rows).sum();
    Some(first.run_time(first.computed_rows(rows).unwrap_or(rows)))
}

impl State {
    fn backlog(&self, now: Instant) -> Backlog {
        let rows = self.loads.iter().map(|load| load.rows).sum();
        let idle = self.busy.iter().any(Option::is_none);
        if idle && self.jobs.is_empty() {
            return Backlog { rows, wait: Duration::ZERO };
        }
        let running = self.busy.iter().flatten().map(|end| end.saturating_duration_since(now));
        let waiting = self.loads.iter().map(Load::time);
        let work = running.chain(waiting).fold(Duration::ZERO, Duration::saturating_add);
        let threads = u32::try_from(self.busy.len()).unwrap_or(u32::MAX);
        // Busy is not free, however late its run is already.
        Backlog { rows, wait: (work / threads).max(Duration::from_nanos(1)) }
    }

    fn enter(&mut self, job: Job) {
        job.stats.waits(job.rows);
        let known = self.loads.iter().position(|load| Arc::ptr_eq(&load.version, &job.version));
        let place = known.unwrap_or_else(|| {
            self.loads.push(Load::new(Arc::clone(&job.version)));
            self.loads.len() - 1
        });
        self.loads[place].add(&job);
        self.jobs.push_back(job);
    }

    /// Takes the jobs at these places out.
    fn take<const N: usize>(&mut self, places: [&[usize]; N]) -> [Vec<Job>; N] {
        let taken = extract(&mut self.jobs, places);
        for job in taken.iter().flatten() {
            job.stats.waits_no_more(job.rows);
            let at = self.loads.iter().position(|load| Arc::ptr_eq(&load.version, &job.version));
            let Some(at) = at else { continue };
            let load = &mut self.loads[at];
            load.remove(job);
            if load.requests == 0 {
                self.loads.swap_remove(at);
            }
        }
        taken
    }
}
