//! Where the threads of a pool sleep while a lock-free queue is empty.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Thread};

use arc_swap::ArcSwapOption;

/// A place to sleep for each thread of a pool. Waking where nobody sleeps is one
/// load a thread: no lock, no system call.
#[derive(Debug)]
pub struct Sleepers(Vec<Sleeper>);

#[derive(Debug, Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: ArcSwapOption<Thread>,
}

impl Sleepers {
    /// Places for `count` threads.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Sleeper::default()).collect())
    }

    /// The calling thread sleeps at `place` from now on; who slept there before
    /// is woken no more.
    ///
    /// # Panics
    /// There is no such place.
    pub fn take_place(&self, place: usize) {
        self.0[place].thread.store(Some(std::sync::Arc::new(thread::current())));
    }

    /// Sleeps at `place` until woken, unless there is work. May return too early,
    /// so ask again.
    ///
    /// # Panics
    /// There is no such place.
    pub fn sleep_unless(&self, place: usize, work: impl FnOnce() -> bool) {
        let sleeper = &self.0[place];
        // Say that we sleep, then look once more: work that came between the
        // caller's last look and the flag would otherwise be missed.
        sleeper.asleep.store(true, SeqCst);
        if !work() {
            thread::park();
        }
        sleeper.asleep.store(false, SeqCst);
    }

    /// Wakes one that sleeps, if any does. Call it after the work can be seen.
    pub fn wake_one(&self) {
        for sleeper in &self.0 {
            if sleeper.asleep.load(SeqCst) && sleeper.asleep.swap(false, SeqCst) {
                if let Some(thread) = sleeper.thread.load().as_ref() {
                    thread.unpark();
                }
                return;
            }
        }
    }

    /// Wakes all that sleep.
    pub fn wake_all(&self) {
        for _ in &self.0 {
            self.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_work_is_slept_through() {
        const COUNT: usize = 20_000;
        let sleepers = Arc::new(Sleepers::new(2));
        let (offered, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads = [0, 1].map(|place| {
            let (sleepers, offered) = (Arc::clone(&sleepers), Arc::clone(&offered));
            let done = Arc::clone(&done);
            thread::spawn(move || {
                sleepers.take_place(place);
                while done.load(SeqCst) < COUNT {
                    let taken = offered.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
                    if taken.is_err() {
                        let over = || offered.load(SeqCst) > 0 || done.load(SeqCst) == COUNT;
                        sleepers.sleep_unless(place, over);
                    } else if done.fetch_add(1, SeqCst) + 1 == COUNT {
                        sleepers.wake_all();
                    }
                }
            })
        });
        for _ in 0..COUNT {
            offered.fetch_add(1, SeqCst);
            sleepers.wake_one();
        }
        // A wake-up that was missed shows as a test that does not end.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(done.load(SeqCst), COUNT);
    }
}
