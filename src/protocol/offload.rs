//! Threads for bodies and replies so large that reading or writing them would
//! make a data thread's other connections wait.
//!
//! They give way: their class is the background's, and a pulse makes them offer
//! their processor to whoever waits for it, since the kernel lets even a nicer
//! thread finish its slice of some milliseconds first.
//!
//! What is compressed is decompressed by these threads only, one piece at a time
//! each. So it counts in the queue as the memory that it holds there, and what all of
//! them hold at most is `queue_bytes_max` and, for each thread, one body's limit. To
//! count what each may unpack to would refuse small bodies for what they are not:
//! nobody knows it before it is done.
//!
//! Invariant: a data thread never waits for these threads, not even for a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::panicked;
use crate::types::{Inbox, thread as os_thread};

/// Bodies and outputs above this are read and written here. As JSON they take
/// some 0.1 ms, a few times as long as handing over.
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// What is compressed and above this is decompressed here.
pub(super) const COMPRESSED_LARGE_BYTES: usize = 8 << 10;

/// Settings of an [`Offload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffloadSettings {
    /// Number of threads.
    pub threads: usize,
    /// Pieces of work that may wait for one.
    pub queue_count_max: usize,
    /// Bytes of bodies and outputs that may wait, as they came: what is compressed
    /// waits compressed, and counts so. One piece may have more.
    pub queue_bytes_max: usize,
}

impl Default for OffloadSettings {
    /// One thread; 256 pieces and 256 MiB may wait.
    fn default() -> Self {
        Self { threads: 1, queue_count_max: 256, queue_bytes_max: 256 << 20 }
    }
}

/// When to try again, if too much waits: the reading of a large body takes some
/// milliseconds, and times are told in whole seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What to do where too much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowded {
    /// Refuse: nothing has been done for the request yet.
    Refuse,
    /// Do it here: too much has been done for it to be thrown away.
    Here,
}

type Work = Box<dyn FnOnce() + Send>;

struct Shared {
    queue: Inbox<Work>,
    bytes_max: usize,
    sleepers: os_thread::Sleepers,
    closed: AtomicBool,
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
            queue: Inbox::new(settings.queue_count_max.max(1), settings.queue_bytes_max),
            bytes_max: settings.queue_bytes_max,
            sleepers: os_thread::Sleepers::new(threads),
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

    /// Runs `work` on `bytes` bytes on one of the threads. Nothing is run for who
    /// leaves before its turn. A panic is an error.
    ///
    /// # Errors
    /// `Unavailable` where too much waits already, unless it is to be done here.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        crowded: Crowded,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move || {
            if reply.is_closed() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic));
            // The caller may have left meanwhile.
            drop(reply.send(done));
        });
        match (self.shared.push(run, bytes), crowded) {
            (Ok(()), _) => {}
            (Err(work), Crowded::Here) => work(),
            (Err(_), Crowded::Refuse) => {
                let message = "too many large bodies wait to be read already; try again";
                let error = Error::new(ErrorCode::Unavailable, message);
                return Err(error.with_retry_after(RETRY_AFTER));
            }
        }
        let ended = || Error::new(ErrorCode::Unavailable, "the server ends");
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        while self.shared.queue.pop().is_some() {}
        self.shared.sleepers.wake_all();
    }
}

impl Shared {
    fn push(&self, work: Work, bytes: usize) -> Result<(), Work> {
        // A piece that is larger than the bound has the queue for itself.
        let bytes = bytes.min(self.bytes_max);
        self.queue.push(work, bytes).map_err(|(work, _)| work)?;
        self.sleepers.wake_one();
        Ok(())
    }

    /// A thread's life.
    fn work(&self, place: usize) {
        self.sleepers.take_place(place);
        let pulse = os_thread::Pulse::new(os_thread::LeastShare::Tenth);
        while !self.closed.load(SeqCst) {
            if let Some(work) = self.queue.pop() {
                pulse.during(work);
                continue;
            }
            let work = || !self.queue.is_empty() || self.closed.load(SeqCst);
            self.sleepers.sleep_unless(place, work);
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
            let name = offload
                .run(1, Crowded::Refuse, || thread::current().name().map(str::to_owned))
                .await
                .unwrap();
            assert_eq!(name.as_deref(), Some("decode-0"));
        }
        let error = offload.run(1, Crowded::Refuse, || -> () { panic!("oh") }).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert_eq!(error.detail(), Some("oh"));
        assert_eq!(offload.run(1, Crowded::Refuse, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_who_left_costs_nothing() {
        let settings = OffloadSettings { queue_count_max: 1, ..OffloadSettings::default() };
        let offload = Offload::spawn(&settings).unwrap();
        let (started, starts) = channel();
        let (release, releases) = channel::<()>();
        let held = offload.run(1, Crowded::Refuse, move || {
            started.send(()).unwrap();
            // Ends when the test drops its sender, too.
            let _ = releases.recv();
        });
        let ran = Arc::new(AtomicBool::new(false));
        let waits = {
            let ran = Arc::clone(&ran);
            offload.run(8, Crowded::Refuse, move || ran.store(true, SeqCst))
        };
        let mut held = std::pin::pin!(held);
        assert!(super::super::call::once(held.as_mut()).await.is_pending());
        starts.recv().unwrap();
        {
            let mut waits = std::pin::pin!(waits);
            assert!(super::super::call::once(waits.as_mut()).await.is_pending());
            let refused = offload.run(1, Crowded::Refuse, || ()).await.unwrap_err();
            assert_eq!(refused.code(), ErrorCode::Unavailable);
            assert!(refused.retry_after().is_some());
            let here = offload.run(1, Crowded::Here, || thread::current().id()).await.unwrap();
            assert_eq!(here, thread::current().id());
        }
        drop(release);
        held.await.unwrap();
        // Its place is free once the thread has come by.
        while offload.run(1, Crowded::Refuse, || ()).await.is_err() {
            thread::yield_now();
        }
        assert!(!ran.load(SeqCst), "nobody waited for it");
    }

    #[tokio::test]
    async fn bytes_are_bounded_but_one_piece_may_be_larger() {
        let settings = OffloadSettings { queue_bytes_max: 10, ..OffloadSettings::default() };
        let offload = Offload::spawn(&settings).unwrap();
        let (_release, releases) = channel::<()>();
        let (started, starts) = channel();
        let held = offload.run(1, Crowded::Refuse, move || {
            started.send(()).unwrap();
            let _ = releases.recv();
        });
        let mut held = std::pin::pin!(held);
        assert!(super::super::call::once(held.as_mut()).await.is_pending());
        starts.recv().unwrap();
        let mut large = std::pin::pin!(offload.run(100, Crowded::Refuse, || ()));
        assert!(super::super::call::once(large.as_mut()).await.is_pending());
        let refused = offload.run(1, Crowded::Refuse, || ()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unavailable);
    }
}
