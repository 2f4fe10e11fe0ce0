//! Threads for bodies and replies so large that reading or writing them would
//! make a data thread's other connections wait.
//!
//! They give way: their class is the background's, and a pulse makes them offer
//! their processor to whoever waits for it, since the kernel lets even a nicer
//! thread finish its slice of some milliseconds first.
//!
//! Invariant: a data thread never waits for these threads, not even for a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::panicked;
use crate::types::thread as os_thread;

/// Bodies and outputs above this are read and written here. As JSON they take
/// some 0.1 ms, a few times as long as handing over.
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// Settings of an [`Offload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffloadSettings {
    /// Number of threads.
    pub threads: usize,
    /// Pieces of work that may wait for one.
    pub queue_count_max: usize,
}

impl Default for OffloadSettings {
    /// One thread; 256 may wait.
    fn default() -> Self {
        Self { threads: 1, queue_count_max: 256 }
    }
}

type Work = Box<dyn FnOnce() + Send>;

struct Shared {
    queue: ArrayQueue<Work>,
    sleepers: Vec<Sleeper>,
    closed: AtomicBool,
}

/// A thread's place to sleep.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: ArcSwapOption<thread::Thread>,
}

/// Runs what is large. Dropping it ends the threads; what waits then is dropped.
pub struct Offload {
    shared: Arc<Shared>,
}

impl Offload {
    /// Starts the threads.
    pub fn spawn(settings: &OffloadSettings) -> std::io::Result<Self> {
        let threads = settings.threads.max(1);
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(settings.queue_count_max.max(1)),
            sleepers: (0..threads).map(|_| Sleeper::default()).collect(),
            closed: AtomicBool::new(false),
        });
        let offload = Self { shared: Arc::clone(&shared) };
        for i in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("decode-{i}")).spawn(move || {
                os_thread::enter(os_thread::Class::Background);
                shared.work(i);
            })?;
        }
        Ok(offload)
    }

    /// Runs `work` on one of the threads. Nothing is run for who leaves before
    /// its turn. A panic is an error.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move || {
            if reply.is_closed() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic));
            // The caller may have left meanwhile.
            drop(reply.send(done));
        });
        if self.shared.queue.push(work).is_err() {
            return Err(Error::new(
                ErrorCode::Unavailable,
                "too many large bodies wait to be read already; try again",
            ));
        }
        self.shared.wake();
        let ended = || Error::new(ErrorCode::Unavailable, "the server ends");
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        while self.shared.queue.pop().is_some() {}
        for _ in &self.shared.sleepers {
            self.shared.wake();
        }
    }
}

impl Shared {
    /// Wakes one sleeping thread, if any. The flag makes the common case, nobody
    /// asleep, free of system calls.
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

    /// A thread's life.
    fn work(&self, place: usize) {
        let sleeper = &self.sleepers[place];
        sleeper.thread.store(Some(Arc::new(thread::current())));
        let pulse = os_thread::Pulse::new();
        while !self.closed.load(SeqCst) {
            if let Some(work) = self.queue.pop() {
                pulse.during(work);
                continue;
            }
            // Say that we sleep, then look once more: a push that came between
            // the look above and the flag would otherwise be missed.
            sleeper.asleep.store(true, SeqCst);
            if self.queue.is_empty() && !self.closed.load(SeqCst) {
                thread::park();
            }
            sleeper.asleep.store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_is_an_error() {
        let offload = Offload::spawn(&OffloadSettings::default()).unwrap();
        for _ in 0..100 {
            let name = offload.run(|| thread::current().name().map(str::to_owned)).await.unwrap();
            assert_eq!(name.as_deref(), Some("decode-0"));
        }
        let error = offload.run(|| -> () { panic!("oh") }).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert_eq!(error.detail(), Some("oh"));
        assert_eq!(offload.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_who_left_costs_nothing() {
        let settings = OffloadSettings { threads: 1, queue_count_max: 1 };
        let offload = Offload::spawn(&settings).unwrap();
        let (started, starts) = channel();
        let (release, releases) = channel::<()>();
        let held = offload.run(move || {
            started.send(()).unwrap();
            // Ends when the test drops its sender, too.
            let _ = releases.recv();
        });
        let ran = Arc::new(AtomicBool::new(false));
        let waits = {
            let ran = Arc::clone(&ran);
            offload.run(move || ran.store(true, SeqCst))
        };
        let mut held = std::pin::pin!(held);
        assert!(super::super::call::once(held.as_mut()).await.is_pending());
        starts.recv().unwrap();
        {
            let mut waits = std::pin::pin!(waits);
            assert!(super::super::call::once(waits.as_mut()).await.is_pending());
            let refused = offload.run(|| ()).await.unwrap_err();
            assert_eq!(refused.code(), ErrorCode::Unavailable);
        }
        drop(release);
        held.await.unwrap();
        // Its place is free once the thread has come by.
        while offload.run(|| ()).await.is_err() {
            thread::yield_now();
        }
        assert!(!ran.load(SeqCst), "nobody waited for it");
    }
}
