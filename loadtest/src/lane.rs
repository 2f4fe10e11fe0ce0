//! What the schedule and the connections of one thread share: the queue, what
//! is in flight, and the figures.
//!
//! Its locks are never contended: everything but the progress line, which reads
//! atomics only, runs on one thread.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::client::{Failure, Reply};
use crate::measure::{Live, Measure};
use crate::queue::{Job, Queue};

/// One thread's state of a run.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    live: Arc<Live>,
    /// Start of the measured window.
    begin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    measure: Measure,
    /// What each connection is busy with.
    in_flight: Vec<Option<Job>>,
}

impl Lane {
    pub(crate) fn new(
        queue_bound: usize,
        connections: usize,
        live: Arc<Live>,
        begin: Instant,
    ) -> Self {
        let state = State { measure: Measure::default(), in_flight: vec![None; connections] };
        Self { queue: Queue::new(queue_bound), live, begin, state: Mutex::new(state) }
    }

    /// A request is due: queue it, or count it as not sent.
    pub(crate) fn came_due(&self, job: Job) {
        self.live.due.fetch_add(1, Relaxed);
        let queued = self.queue.push(job);
        if !queued {
            self.live.failed.fetch_add(1, Relaxed);
        }
        if job.measured {
            let mut state = self.state();
            state.measure.came_due(job.due.elapsed());
            state.measure.not_sent += u64::from(!queued);
        }
    }

    /// A connection is free and sends a request of its own (closed loop).
    pub(crate) fn begin_next(&self, connection: usize, job: Job) {
        self.live.due.fetch_add(1, Relaxed);
        let mut state = self.state();
        state.measure.scheduled += u64::from(job.measured);
        state.in_flight[connection] = Some(job);
    }

    /// A connection took a request from the queue.
    pub(crate) fn begin(&self, connection: usize, job: Job) {
        self.state().in_flight[connection] = Some(job);
    }

    /// A connection is done with the request that it took, sent at `sent`.
    pub(crate) fn finish(&self, connection: usize, result: &Result<Reply, Failure>, sent: Instant) {
        let end = Instant::now();
        let mut state = self.state();
        let Some(job) = state.in_flight[connection].take() else { return };
        let latency = end.saturating_duration_since(job.due);
        if job.measured {
            let at = job.due.saturating_duration_since(self.begin);
            state.measure.finished(result, at, latency, end.saturating_duration_since(sent));
        }
        drop(state);
        let ok = result.as_ref().is_ok_and(|reply| reply.status.is_success());
        self.live.finished(ok, latency);
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.state().in_flight.iter().all(Option::is_none)
    }

    /// Counts what still waits or is in flight as unfinished, and returns the
    /// figures. Call it when the connections' tasks are gone.
    pub(crate) fn close(&self, end: Instant) -> Measure {
        let mut state = self.state();
        let waiting = std::iter::from_fn(|| self.queue.pop());
        let sent: Vec<Job> = state.in_flight.iter_mut().filter_map(Option::take).collect();
        for job in sent.into_iter().chain(waiting).filter(|job| job.measured) {
            state.measure.left_over(end.saturating_duration_since(job.due));
        }
        std::mem::take(&mut state.measure)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u64, measured: bool) -> Job {
        Job { number, due: Instant::now(), measured }
    }

    #[test]
    fn every_measured_request_is_accounted_for_once() {
        let lane = Lane::new(4, 1, Arc::default(), Instant::now());
        lane.came_due(job(0, false));
        for number in 1..=5 {
            lane.came_due(job(number, true));
        }
        assert!(!lane.is_idle());
        // The warm-up's request, then a failed one, then one that stays in flight.
        for finishes in [true, true, false] {
            lane.begin(0, lane.queue.pop().unwrap());
            if finishes {
                lane.finish(0, &Err(Failure::Closed), Instant::now());
            }
        }
        let measure = lane.close(Instant::now());
        assert_eq!(measure.scheduled, 5);
        // Room for four: the last two found none.
        assert_eq!(measure.not_sent, 2);
        assert_eq!(measure.errors.closed, 1);
        assert_eq!(measure.unfinished, 2);
        assert!(lane.is_idle());
    }
}
