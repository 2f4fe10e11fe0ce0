//! Things that are costly to make and are used by one thread at a time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;

use crate::types::thread;

type Slot<T> = CachePadded<AtomicCell<Option<Box<T>>>>;

/// A bounded pool, whose threads may be of any class.
///
/// Nobody waits for anybody in it: taking and putting back are a bounded number
/// of atomic exchanges. A thread of the idle class may be stopped anywhere, and
/// must not hold up a request then. Each thread looks first where it left
/// something last, so that it finds what is in its caches.
pub struct Pool<T> {
    slots: Box<[Slot<T>]>,
    /// How many are here, or about to be.
    free: AtomicUsize,
    /// The fewest that were here since the last trim.
    spare: AtomicUsize,
}

impl<T> std::fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("free", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Pool<T> {
    /// An empty pool that keeps at most `size`, at least one.
    #[must_use]
    pub fn new(size: usize) -> Self {
        const { assert!(AtomicCell::<Option<Box<T>>>::is_lock_free()) };
        let slots = (0..size.max(1)).map(|_| CachePadded::new(AtomicCell::new(None))).collect();
        Self { slots, free: AtomicUsize::new(0), spare: AtomicUsize::new(0) }
    }

    /// The slots, the calling thread's own first.
    fn slots(&self) -> impl Iterator<Item = &AtomicCell<Option<Box<T>>>> {
        let (others, own) = self.slots.split_at(thread::number() % self.slots.len());
        own.iter().chain(others).map(|slot| &**slot)
    }

    /// Takes one out. May find none although somebody is putting one back.
    pub fn take(&self) -> Option<Box<T>> {
        let taken = match self.free.load(Relaxed) {
            0 => None,
            _ => self.slots().find_map(AtomicCell::take),
        };
        let left = match taken {
            Some(_) => self.free.fetch_sub(1, Relaxed) - 1,
            None => 0,
        };
        if left < self.spare.load(Relaxed) {
            self.spare.fetch_min(left, Relaxed);
        }
        taken
    }

    /// Puts one back. Where all places are taken, one is dropped; seldom, where
    /// others take and put meanwhile, one is dropped all the same.
    pub fn put(&self, item: Box<T>) {
        // First, so that nobody takes one that has not been counted.
        self.free.fetch_add(1, Relaxed);
        let mut item = Some(item);
        for slot in self.slots() {
            item = slot.swap(item);
            if item.is_none() {
                return;
            }
        }
        self.free.fetch_sub(1, Relaxed);
    }

    /// How many are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.free.load(Relaxed)
    }

    /// Whether none is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops those that nobody needed since the last trim. New ones are spared
    /// once.
    pub fn trim(&self) {
        for _ in 0..self.spare.load(Relaxed) {
            if self.slots().find_map(AtomicCell::take).is_some() {
                self.free.fetch_sub(1, Relaxed);
            }
        }
        self.spare.store(self.len(), Relaxed);
    }

    /// Drops all.
    pub fn clear(&self) {
        while self.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_put_back_is_taken_again_up_to_its_size() {
        let pool = Pool::new(2);
        assert!(pool.take().is_none());
        for item in [1, 2, 3] {
            pool.put(Box::new(item));
        }
        assert_eq!(pool.len(), 2);
        let both = [pool.take(), pool.take()].map(|item| *item.unwrap());
        assert_ne!(both[0], both[1]);
        assert!(pool.take().is_none() && pool.is_empty());
        pool.put(Box::new(4));
        pool.clear();
        assert!(pool.is_empty());
    }

    #[test]
    fn only_what_nobody_needed_is_trimmed() {
        let pool = Pool::new(8);
        (0..5).for_each(|item| pool.put(Box::new(item)));
        pool.trim();
        assert_eq!(pool.len(), 5, "they are new");
        let held = [pool.take().unwrap(), pool.take().unwrap()];
        held.into_iter().for_each(|item| pool.put(item));
        pool.trim();
        assert_eq!(pool.len(), 2, "two were needed at a time");
        pool.trim();
        assert_eq!(pool.len(), 0);
    }

    #[test]
    fn nothing_is_doubled_among_threads_and_all_is_counted() {
        let pool = Arc::new(Pool::new(3));
        (0..3).for_each(|item| pool.put(Box::new(item)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        if let Some(item) = pool.take() {
                            pool.put(item);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let counted = pool.len();
        let items: Vec<i32> = std::iter::from_fn(|| pool.take().map(|item| *item)).collect();
        assert_eq!(items.len(), counted);
        let different: std::collections::BTreeSet<_> = items.iter().collect();
        assert_eq!(different.len(), counted);
    }
}
