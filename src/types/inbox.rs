//! A queue from urgent threads to less urgent ones.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crossbeam_queue::SegQueue;

/// A queue that request threads fill and threads of a lower class empty, bounded
/// by count and by bytes.
///
/// Who pushes never waits for who pops, not even for a moment: a thread of the
/// idle class may be stopped anywhere, and on a busy processor it does not go on
/// until the others let it. (A ring buffer such as crossbeam's `ArrayQueue` is no
/// such queue: who pushes into a full one spins until the slot that somebody is
/// just taking is free.)
#[derive(Debug)]
pub struct Inbox<T> {
    queue: SegQueue<(T, usize)>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    count_max: usize,
    bytes_max: usize,
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many wait already.
    Count,
    /// So many bytes wait already.
    Bytes,
}

impl<T> Inbox<T> {
    /// An empty one.
    #[must_use]
    pub const fn new(count_max: usize, bytes_max: usize) -> Self {
        let queue = SegQueue::new();
        let (count, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { queue, count, bytes, count_max, bytes_max }
    }

    /// Adds an item that holds `bytes` bytes; gives it back if a bound is met.
    pub fn push(&self, item: T, bytes: usize) -> Result<(), (T, Full)> {
        // Reserve first, so that many at once cannot overshoot together.
        if self.count.fetch_add(1, SeqCst) >= self.count_max {
            self.count.fetch_sub(1, SeqCst);
            return Err((item, Full::Count));
        }
        if self.bytes.fetch_add(bytes, SeqCst).saturating_add(bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, SeqCst);
            self.count.fetch_sub(1, SeqCst);
            return Err((item, Full::Bytes));
        }
        self.queue.push((item, bytes));
        Ok(())
    }

    /// Which bound an item of `bytes` bytes would meet now: what is dear to make need
    /// not be made in vain.
    #[must_use]
    pub fn full_for(&self, bytes: usize) -> Option<Full> {
        if self.count.load(SeqCst) >= self.count_max {
            return Some(Full::Count);
        }
        let bytes = self.bytes.load(SeqCst).saturating_add(bytes);
        (bytes > self.bytes_max).then_some(Full::Bytes)
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<T> {
        let (item, bytes) = self.queue.pop()?;
        self.bytes.fetch_sub(bytes, SeqCst);
        self.count.fetch_sub(1, SeqCst);
        Some(item)
    }

    /// Whether there is nothing to pop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_what_is_taken_makes_room() {
        let inbox = Inbox::new(2, 10);
        assert!(inbox.is_empty());
        inbox.push('a', 4).unwrap();
        assert_eq!((inbox.full_for(7), inbox.full_for(6)), (Some(Full::Bytes), None));
        assert_eq!(inbox.push('b', 7), Err(('b', Full::Bytes)));
        inbox.push('c', 6).unwrap();
        assert_eq!(inbox.full_for(0), Some(Full::Count));
        assert_eq!(inbox.push('d', 0), Err(('d', Full::Count)));
        assert_eq!(inbox.push('e', usize::MAX), Err(('e', Full::Count)));
        assert_eq!((inbox.len(), inbox.pop()), (2, Some('a')));
        assert_eq!(inbox.push('f', usize::MAX), Err(('f', Full::Bytes)));
        inbox.push('g', 4).unwrap();
        assert_eq!([inbox.pop(), inbox.pop(), inbox.pop()], [Some('c'), Some('g'), None]);
    }

    /// On one processor, where the one that pops is stopped anywhere and goes on
    /// only when the other has nothing to do. Who waited for it would wait for ever.
    #[test]
    #[cfg(target_os = "linux")]
    fn who_pushes_does_not_wait_for_an_idle_thread() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;

        use crate::types::thread::{Class, LeastShare, Pulse, enter};

        fn on_one_processor() {
            // SAFETY: all-zero is an empty set.
            let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: the set is valid, and so is the processor's number.
            unsafe { libc::CPU_SET(libc::sched_getcpu().unsigned_abs() as usize, &mut set) };
            // SAFETY: 0 is the calling thread; the set is valid for the call. A
            // thread that inherits it stays there, too.
            unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
        }

        let pusher = std::thread::spawn(|| {
            on_one_processor();
            let inbox = Arc::new(Inbox::new(2, usize::MAX));
            let over = Arc::new(AtomicBool::new(false));
            let popper = {
                let (inbox, over) = (Arc::clone(&inbox), Arc::clone(&over));
                std::thread::spawn(move || {
                    enter(Class::Idle);
                    let pops = || {
                        while !over.load(SeqCst) {
                            inbox.pop();
                        }
                    };
                    Pulse::new(LeastShare::Nothing).during(pops);
                })
            };
            for round in 0..2_000 {
                let fitted = (0..100).filter(|item| inbox.push(*item, 1).is_ok()).count();
                assert!(fitted < 100, "the other has no turn yet");
                if round % 10 == 0 {
                    // The other one's turn, which this one's return ends anywhere.
                    std::thread::park_timeout(std::time::Duration::from_micros(50));
                }
            }
            over.store(true, SeqCst);
            popper.join().unwrap();
        });
        pusher.join().unwrap();
    }
}
