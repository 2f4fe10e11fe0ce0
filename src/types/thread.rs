//! What a thread can tell and ask the kernel: its class, its CPU time, to be
//! made to give way; and how large its stack is.

mod pulse;
mod scheduled;
mod sleepers;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use pulse::{LeastShare, Pulse};
pub use scheduled::{Observed, Scheduled, by_itself, scheduled};
pub use sleepers::Sleepers;

/// The stack of a thread that loads, runs or frees models. Engines call
/// themselves as deep as a graph is, and an overflow ends the process: so a
/// candidate is tried with [`TRIAL_STACK_BYTES`], and what has passed has room
/// to spare. Only what is used costs memory.
pub const STACK_BYTES: usize = 8 << 20;

/// The stack with which a candidate is tried in its child process.
pub const TRIAL_STACK_BYTES: usize = STACK_BYTES / 2;

/// See [`Class::Background`]. At 19, the lowest, it would be a seventieth.
const NICE: i32 = 10;

/// How urgently a thread wants to run. Threads inherit the class of the one
/// that spawned them, so it is set on the new thread itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Runs on what nobody else wants (SCHED_IDLE), on a saturated machine
    /// hardly at all: shadows, and at first candidates in their child process.
    /// Such a thread must hold no lock that a request could wait for.
    Idle,
    /// Gives way, but always gets some (nice 10, a tenth of a saturated
    /// processor): loaders, which must finish even there.
    Background,
}

thread_local! {
    static CLASS: Cell<Option<Class>> = const { Cell::new(None) };
}

/// Whether the calling thread is in the idle class: how long it takes for something
/// says little, since others are always before it.
#[must_use]
pub fn is_idle() -> bool {
    CLASS.get() == Some(Class::Idle)
}

/// Puts the calling thread into `class`. Refusal by the kernel is no error
/// for the caller: the thread then runs as before, and the log says so.
pub fn enter(class: Class) {
    CLASS.set(Some(class));
    #[cfg(target_os = "linux")]
    {
        let refused = match class {
            Class::Idle => {
                // SAFETY: all-zero is a valid `sched_param`; it is plain integers.
                let param: libc::sched_param = unsafe { std::mem::zeroed() };
                // SAFETY: pid 0 is the calling thread, and `param` outlives the call.
                unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) != 0 }
            }
            // On Linux niceness belongs to the thread, and id 0 is the caller.
            // SAFETY: takes and keeps no pointers.
            Class::Background => unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) != 0 },
        };
        if refused {
            let error = std::io::Error::last_os_error();
            tracing::warn!(?class, %error, "the kernel refused the scheduling class");
        }
    }
    #[cfg(not(target_os = "linux"))]
    tracing::debug!(?class, "scheduling classes exist on Linux only");
}

/// A small number of the calling thread's own, in the order of asking.
#[must_use]
pub fn number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let own = THREADS.fetch_add(1, Relaxed);
            number.set(Some(own));
            own
        })
    })
}

/// CPU time that the calling thread has used so far. Unlike wall time it does
/// not count preemption, so an idle-class thread can be measured with it.
#[must_use]
pub fn cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The time of a clock that only goes forward; since when is not told.
#[must_use]
pub fn wall_time() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time that all threads of this process have used so far.
#[must_use]
pub fn process_cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that all threads of another process have used so far; `None` where
/// it cannot be told.
#[must_use]
pub fn cpu_time_of(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut id = 0;
    // SAFETY: `id` is a valid, writable clock id for the length of the call.
    (unsafe { libc::clock_getcpuclockid(pid, &raw mut id) } == 0).then(|| clock(id))
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn an_idle_thread_is_idle_and_counts_its_own_cpu() {
        let class = std::thread::spawn(|| {
            enter(Class::Idle);
            // SAFETY: pid 0 is the calling thread; no pointers.
            unsafe { libc::sched_getscheduler(0) }
        });
        assert_eq!(class.join().unwrap(), libc::SCHED_IDLE);
        let before = cpu_time();
        let mut x = 1_u64;
        while cpu_time() < before + Duration::from_micros(100) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_time() > before);
        assert!(process_cpu_time() >= cpu_time());
        let before = process_cpu_time();
        assert!(cpu_time_of(std::process::id()).unwrap() >= before);
    }
}
