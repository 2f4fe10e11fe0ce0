//! One run: a schedule, some connections, and what they measured.
//!
//! Invariants:
//! - a request's due time comes from the schedule alone;
//! - every request that came due in the measured window is accounted for once:
//!   a 2xx reply, an error, not sent, or unfinished;
//! - a run ends: the schedule is finite, and what is in flight after its end is
//!   waited for no longer than [`Load::drain_limit`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::runtime;

use crate::arrivals::{Arrivals, Process};
use crate::client::Client;
use crate::error::Error;
use crate::lane::Lane;
use crate::measure::{Live, Measure};
use crate::pace::{Pace, Pacer};
use crate::queue::Job;
use crate::stop::Stop;
use crate::target::Target;
use crate::usage::{self, Usage};

/// Time in which connections are opened before the first request is due.
const OPENING: Duration = Duration::from_millis(250);
/// How often the end of what is in flight is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// How many overdue requests are queued in one go before connections run.
const BURST: usize = 32;

/// What to send, how fast, for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Whom to ask for what.
    pub target: Arc<Target>,
    /// Requests a second.
    pub rate: f64,
    /// How their due times are spaced.
    pub process: Process,
    /// Closed loop: each connection sends its next request as soon as it has
    /// the reply to the last, and there is no rate.
    pub closed: bool,
    /// What takes longer, from when it was due, is no goodput.
    pub deadline: Option<Duration>,
    /// The server's process, whose CPU time and memory are read.
    pub server_pid: Option<u32>,
    /// Seed of the schedule.
    pub seed: u64,
    /// Time before the measured window, under the same load.
    pub warmup: Duration,
    /// The measured window.
    pub window: Duration,
    /// Connections, over all threads.
    pub connections: u32,
    /// Sending threads.
    pub threads: u32,
    /// Requests that may wait for a connection, on each thread.
    pub queue: usize,
    /// Time from the actual send after which a request is given up.
    pub timeout: Duration,
    /// How to wait for due times.
    pub pace: Pace,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Figures of all threads.
    pub measure: Measure,
    /// The measured window; shorter than asked if it was interrupted.
    pub window: Duration,
    /// From the start of the measured window until everything had ended.
    pub elapsed: Duration,
    /// Whether it was stopped before the schedule's end.
    pub interrupted: bool,
    /// When the measured window began.
    pub began: Instant,
    /// What the run took of the server's process.
    pub usage: Option<Usage>,
}

impl Load {
    /// How long replies are waited for after the schedule's end.
    #[must_use]
    pub fn drain_limit(&self) -> Duration {
        self.timeout + Duration::from_secs(1)
    }

    fn arrivals(&self, thread: u32) -> Arrivals {
        let length = self.warmup + self.window;
        Arrivals::split(self.process, self.rate, length, self.seed, (thread, self.threads))
    }

    /// The connections of one thread; their sum is `connections`.
    fn share_of(&self, thread: u32) -> usize {
        let threads = self.threads.max(1);
        let one_more = thread < self.connections % threads;
        (self.connections / threads) as usize + usize::from(one_more)
    }
}

/// Runs the load on threads of its own and calls `progress` about once a second.
///
/// # Errors
/// If nothing listens at the address, there are fewer connections than
/// threads, or a thread cannot be started.
pub fn run(load: &Load, stop: &Stop, progress: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
    check(load)?;
    let live = Arc::new(Live::default());
    let before = load.server_pid.map(usage::look).transpose()?;
    let start = Instant::now() + OPENING;
    let (done, results) = mpsc::channel();
    let measure = std::thread::scope(|scope| {
        for thread in 0..load.threads {
            let (done, live) = (done.clone(), Arc::clone(&live));
            // The receiver outlives the scope.
            let drive = move || drop(done.send(drive(load, thread, start, stop, live)));
            std::thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn_scoped(scope, drive)
                .map_err(|error| Error::new(format!("cannot start a thread: {error}")))
                .inspect_err(|_| stop.end())?;
        }
        drop(done);
        // The scope waits for the threads: those that run must not go on alone.
        collect(&results, &live, start, progress).inspect_err(|_| stop.end())
    })?;
    let begin = start + load.warmup;
    let end = begin + load.window;
    let after = load.server_pid.map(usage::look).transpose()?;
    let usage = before
        .zip(after)
        .map(|(before, after)| Usage::between(before, after, live.due.load(Relaxed)));
    let cut = stop.asked_at().filter(|asked| *asked < end);
    Ok(Outcome {
        measure,
        window: cut.unwrap_or(end).saturating_duration_since(begin),
        elapsed: begin.elapsed(),
        interrupted: cut.is_some(),
        began: begin,
        usage,
    })
}

fn check(load: &Load) -> Result<(), Error> {
    if load.threads == 0 || load.connections < load.threads {
        return Err(Error::new(format!(
            "{} connections on {} threads: every thread needs at least one",
            load.connections, load.threads
        )));
    }
    let address = load.target.server.address;
    // Nothing to learn from a run in which every request fails to connect.
    std::net::TcpStream::connect_timeout(&address, load.timeout.max(Duration::from_millis(1)))
        .map(drop)
        .map_err(|error| Error::new(format!("{address}: {error}; is the server running?")))
}

/// Merges the threads' figures as they end, and reports progress meanwhile.
fn collect(
    results: &mpsc::Receiver<Result<Measure, Error>>,
    live: &Live,
    start: Instant,
    progress: &mut dyn FnMut(&str),
) -> Result<Measure, Error> {
    let second = Duration::from_secs(1);
    let mut measure = Measure::default();
    let mut tick = start + second;
    let mut due_before = 0;
    loop {
        match results.recv_timeout(tick.saturating_duration_since(Instant::now())) {
            Ok(part) => measure.merge(&part?),
            Err(RecvTimeoutError::Disconnected) => return Ok(measure),
            Err(RecvTimeoutError::Timeout) => {
                progress(&progress_line(tick - start, live, &mut due_before));
                tick += second;
            }
        }
    }
}

fn progress_line(at: Duration, live: &Live, due_before: &mut u64) -> String {
    let due = live.due.load(Relaxed);
    let (answered, failed) = (live.answered.load(Relaxed), live.failed.load(Relaxed));
    let slowest = Duration::from_nanos(live.slowest_ns.swap(0, Relaxed));
    let rate = due - std::mem::replace(due_before, due);
    let open = due.saturating_sub(answered + failed);
    format!(
        "{:>5}s  {rate:>7}/s due  {answered:>9} answered  {failed:>6} failed  {open:>6} open  \
         slowest {:.3} ms",
        at.as_secs(),
        slowest.as_secs_f64() * 1e3
    )
}

/// One thread: its share of the schedule and of the connections.
fn drive(
    load: &Load,
    thread: u32,
    start: Instant,
    stop: &Stop,
    live: Arc<Live>,
) -> Result<Measure, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
    // A closed loop wakes itself; spinning would only be in its way.
    let pace = if load.closed { Pace::Spin } else { load.pace };
    let pacer = Pacer::build(pace, load.arrivals(thread), start)?;
    let connections = load.share_of(thread);
    let begin = start + load.warmup;
    let lane = Arc::new(Lane::new(load.queue, connections, live, begin));
    runtime.block_on(async {
        for connection in 0..connections {
            let client = Client::new(Arc::clone(&load.target), load.timeout);
            if load.closed {
                let times = (start, begin, begin + load.window);
                tokio::spawn(repeat(Arc::clone(&lane), connection, client, times, stop.clone()));
            } else {
                tokio::spawn(work(Arc::clone(&lane), connection, client));
            }
        }
        if load.closed {
            pacer.until(begin + load.window, stop).await;
        } else {
            send(load, thread, start, &pacer, &lane, stop).await;
        }
        drain(&lane, load.drain_limit(), stop).await;
    });
    // Ends the connections' tasks, so that nothing is counted any more.
    drop(runtime);
    Ok(lane.close(Instant::now()))
}

/// Walks through the schedule; what is due goes to the lane.
async fn send(load: &Load, thread: u32, start: Instant, pacer: &Pacer, lane: &Lane, stop: &Stop) {
    // Threads take turns through the bodies.
    let numbers = (u64::from(thread)..).step_by(load.threads as usize);
    for (count, (number, offset)) in numbers.zip(load.arrivals(thread)).enumerate() {
        let due = start + offset;
        pacer.until(due, stop).await;
        if stop.is_asked() {
            return;
        }
        lane.came_due(Job { number, due, measured: offset >= load.warmup });
        if count % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until nothing is in flight, at most `limit`.
async fn drain(lane: &Lane, limit: Duration, stop: &Stop) {
    let end = Instant::now() + limit;
    while !lane.is_idle() && Instant::now() < end && !stop.is_urgent() {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// One connection in a closed loop, until the window's end.
async fn repeat(
    lane: Arc<Lane>,
    connection: usize,
    mut client: Client,
    (start, begin, end): (Instant, Instant, Instant),
    stop: Stop,
) {
    client.connect().await;
    tokio::time::sleep_until(start.into()).await;
    // Connections take different bodies.
    for number in (connection as u64..).step_by(17) {
        let due = Instant::now();
        if due >= end || stop.is_asked() {
            return;
        }
        lane.begin_next(connection, Job { number, due, measured: due >= begin });
        let result = client.exchange(number).await;
        lane.finish(connection, &result, due);
        if result.is_err() {
            // A server that is gone must not be asked a million times a second.
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// One connection's work; ends with the runtime.
async fn work(lane: Arc<Lane>, connection: usize, mut client: Client) {
    client.connect().await;
    loop {
        let job = lane.queue.next().await;
        lane.begin(connection, job);
        let sent = Instant::now();
        let result = client.exchange(job.number).await;
        lane.finish(connection, &result, sent);
    }
}
