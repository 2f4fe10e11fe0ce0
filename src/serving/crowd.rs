//! Whether cheap requests come one at a time or in crowds.
//!
//! A thread that runs requests itself cannot see who stands behind the one it
//! runs: they are in the sockets still. So it looks now and then: it lets the
//! thread's other tasks go first, once, and counts who came of it. Where several
//! did, requests of that version are gathered like this each time, until they
//! come alone again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// While requests come alone, one of so many has a look. It costs it a
/// microsecond.
const LOOK_EVERY: u32 = 16;
/// The average is kept in parts of a request.
const ONE: u32 = 256;
/// From here on they are gathered …
const GATHER_FROM: u32 = ONE * 2;
/// … and down to here.
const GATHER_TO: u32 = ONE * 5 / 4;

/// What a request is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Run.
    Alone,
    /// Let the others go first, tell [`Crowd::looked`], and run.
    Look {
        /// Arrivals until now.
        arrived: u32,
    },
    /// Run together with those who come meanwhile.
    Gather,
}

/// The requests of one version on one thread.
#[derive(Default)]
pub(super) struct Crowd {
    arrived: AtomicU32,
    /// How many came at a time, lately.
    average: AtomicU32,
    gathers: AtomicBool,
}

impl Crowd {
    /// A request is here.
    pub(super) fn arrive(&self) -> Way {
        let arrived = self.arrived.fetch_add(1, Relaxed).wrapping_add(1);
        if self.gathers.load(Relaxed) {
            Way::Gather
        } else if arrived.is_multiple_of(LOOK_EVERY) {
            Way::Look { arrived }
        } else {
            Way::Alone
        }
    }

    /// The end of a look that began at `arrived`.
    pub(super) fn looked(&self, arrived: u32) {
        self.came(self.arrived.load(Relaxed).wrapping_sub(arrived).saturating_add(1));
    }

    /// So many came at a time.
    pub(super) fn came(&self, requests: u32) {
        let average = self.average.load(Relaxed);
        let newest = requests.min(1 << 16) * ONE;
        // A quarter of the newest.
        let average = average - average / 4 + newest / 4;
        self.average.store(average, Relaxed);
        if average >= GATHER_FROM {
            self.gathers.store(true, Relaxed);
        } else if average < GATHER_TO {
            self.gathers.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How `n` requests are sent, where `company` come with each that looks or
    /// gathers.
    fn ways(crowd: &Crowd, n: u32, company: u32) -> (u32, u32, u32) {
        let (mut alone, mut looks, mut gathers) = (0, 0, 0);
        for _ in 0..n {
            match crowd.arrive() {
                Way::Alone => alone += 1,
                Way::Look { arrived } => {
                    looks += 1;
                    for _ in 0..company {
                        crowd.arrive();
                    }
                    crowd.looked(arrived);
                }
                Way::Gather => {
                    gathers += 1;
                    crowd.came(1 + company);
                }
            }
        }
        (alone, looks, gathers)
    }

    #[test]
    fn who_comes_alone_is_never_gathered() {
        let (alone, looks, gathers) = ways(&Crowd::default(), 1600, 0);
        assert_eq!((alone, looks, gathers), (1500, 100, 0));
    }

    #[test]
    fn a_crowd_is_seen_soon_and_forgotten_soon() {
        let crowd = Crowd::default();
        let (_, looks, gathers) = ways(&crowd, 100, 9);
        assert!(looks == 1 && gathers >= 80, "{looks} {gathers}");
        let (alone, _, gathers) = ways(&crowd, 100, 0);
        assert!(gathers <= 16 && alone > 75, "{alone} {gathers}");
    }

    #[test]
    fn now_and_then_two_are_no_crowd() {
        let crowd = Crowd::default();
        for _ in 0..100 {
            crowd.came(2);
            for _ in 0..3 {
                crowd.came(1);
            }
            assert_ne!(crowd.arrive(), Way::Gather);
        }
        for _ in 0..100 {
            crowd.came(u32::MAX);
        }
        assert_eq!(crowd.arrive(), Way::Gather);
    }
}
