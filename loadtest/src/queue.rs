//! The bounded queue between the schedule and the connections.
//!
//! A request that finds no free connection waits here, and the time counts as
//! latency. Beyond the bound it is refused, for the caller to count: a queue
//! without a bound would eat the memory of a generator whose server hangs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// One request of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its position in the schedule, which also picks its body.
    pub number: u64,
    /// When it should leave.
    pub due: Instant,
    /// Whether it counts; those of the warm-up do not.
    pub measured: bool,
}

/// First in, first out, at most `bound` waiting.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<VecDeque<Job>>,
    bound: usize,
    arrived: Notify,
}

impl Queue {
    /// An empty queue for at most `bound` waiting requests.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { waiting: Mutex::default(), bound, arrived: Notify::new() }
    }

    /// Appends a request and wakes one connection; false when the queue is full.
    #[must_use]
    pub fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting();
        if waiting.len() >= self.bound {
            return false;
        }
        waiting.push_back(job);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// The next request, as soon as there is one.
    pub async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.pop() {
                return job;
            }
            // A push between the look and this wait leaves a permit behind.
            self.arrived.notified().await;
        }
    }

    /// The next request, if one waits.
    #[must_use]
    pub fn pop(&self) -> Option<Job> {
        self.waiting().pop_front()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u64) -> Job {
        Job { number, due: Instant::now(), measured: true }
    }

    #[test]
    fn keeps_order_and_refuses_beyond_its_bound() {
        let queue = Queue::new(2);
        assert!(queue.push(job(1)));
        assert!(queue.push(job(2)));
        assert!(!queue.push(job(3)));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop().unwrap().number, 1);
        assert!(queue.push(job(4)));
        assert_eq!(queue.pop().unwrap().number, 2);
        assert_eq!(queue.pop().unwrap().number, 4);
        assert_eq!(queue.pop(), None);
    }

    #[tokio::test]
    async fn wakes_whoever_waits() {
        let queue = Queue::new(1);
        let (first, ()) = tokio::join!(queue.next(), async {
            assert!(queue.push(job(9)));
        });
        assert_eq!(first.number, 9);
    }
}
