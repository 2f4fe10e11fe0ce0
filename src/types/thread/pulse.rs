//! A thread that gives way while it works.
//!
//! Linux with lazy preemption lets a running thread keep its processor until it
//! enters the kernel or the next tick comes, some milliseconds later, even if a
//! more urgent thread was woken meanwhile; and a woken thread does not replace
//! one of its own policy before that one's slice is over. So a loop in the
//! background shows in the requests' tail, however low its class. A timer that
//! interrupts the background thread a few thousand times a second, and yields,
//! takes that away: measured beside 4,000 wake-ups of 0.1 ms a second on one
//! core, p99 went from 3.7 ms (nice 10) and 1.1 ms (idle class) to 0.9 and 0.55
//! ms, where 0.55 ms is what an empty core has. It costs the background thread
//! about a hundredth of its time, and the others nothing.
//!
//! Who yields is put behind by a whole slice, though it had only a part of one:
//! beside threads that never sleep, one that yields this often gets next to
//! nothing (a load of 3 s was not over after 60). So it does not yield while it
//! has had less than its least share lately.

use std::time::Duration;

/// Between two interruptions. A request waits for at most this long.
const PERIOD: Duration = Duration::from_micros(200);

/// What a thread is to get of a processor that others saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeastShare {
    /// Whatever is left over.
    Nothing,
    /// A tenth, which is the share of nice 10 beside one thread of nice 0.
    Tenth,
    /// A quarter: for what somebody waits for.
    Quarter,
}

impl LeastShare {
    /// One of so many parts; 0 for nothing.
    const fn parts(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Tenth => 10,
            Self::Quarter => 4,
        }
    }
}

/// A timer that makes the thread which made it yield every 0.2 ms, while it
/// is started, unless it had less than its least share of a processor lately.
/// Where the kernel has no such timer nothing happens.
#[derive(Debug)]
pub struct Pulse {
    timer: platform::Timer,
    least: LeastShare,
}

impl Pulse {
    /// A timer for the calling thread, not started yet.
    #[must_use]
    pub fn new(least: LeastShare) -> Self {
        Self { timer: platform::Timer::new(), least }
    }

    /// Before a piece of work.
    pub fn start(&self) {
        platform::begin(self.least.parts());
        self.timer.set(PERIOD);
    }

    /// After it: a thread that waits must not be woken for nothing.
    pub fn stop(&self) {
        self.timer.set(Duration::ZERO);
    }

    /// Does `work` with the pulse on.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Stops it after a panic as well.
        struct Started<'a>(&'a Pulse);
        impl Drop for Started<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        self.start();
        let _started = Started(self);
        work()
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::cell::Cell;
    use std::ffi::c_int;
    use std::io;
    use std::marker::PhantomData;
    use std::mem::zeroed;
    use std::ptr::{from_mut, null_mut};
    use std::sync::OnceLock;
    use std::time::Duration;

    use crate::types::thread::{cpu_time, wall_time};

    /// What was lately, after which it counts no more.
    const LATELY: Duration = Duration::from_secs(1);

    /// What the handler knows of its thread.
    #[derive(Clone, Copy)]
    struct Lately {
        /// The least share is one of so many parts; 0 for none.
        parts: u64,
        wall: Duration,
        cpu: Duration,
    }

    thread_local! {
        // Without a destructor and with a constant to begin with, so that reading
        // it in a signal handler is a plain load.
        static LATELY_SINCE: Cell<Lately> =
            const { Cell::new(Lately { parts: 0, wall: Duration::ZERO, cpu: Duration::ZERO }) };
    }

    /// Work begins on the calling thread, whose timer is not running.
    pub(super) fn begin(parts: u64) {
        LATELY_SINCE.set(Lately { parts, wall: wall_time(), cpu: cpu_time() });
    }

    /// Whether the calling thread may give way: it has had its least share.
    fn may_give_way() -> bool {
        let since = LATELY_SINCE.get();
        if since.parts == 0 {
            return true;
        }
        let (wall, cpu) = (wall_time(), cpu_time());
        let (passed, had) = (wall.saturating_sub(since.wall), cpu.saturating_sub(since.cpu));
        if passed > LATELY {
            LATELY_SINCE.set(Lately { wall, cpu, ..since });
        }
        had.as_nanos() * u128::from(since.parts) >= passed.as_nanos()
    }

    /// Ignored by default, and what runtimes use for this: nobody sends it
    /// unasked, and a debugger lets it pass.
    const SIGNAL: c_int = libc::SIGURG;

    /// `None` if the kernel refused it.
    #[derive(Debug)]
    pub(super) struct Timer {
        id: Option<libc::timer_t>,
        /// It belongs to the thread that made it.
        _not_send: PhantomData<*const ()>,
    }

    impl Timer {
        pub(super) fn new() -> Self {
            let id = create().inspect_err(|error| {
                tracing::warn!(%error, "no timer that makes a thread give way");
            });
            Self { id: id.ok(), _not_send: PhantomData }
        }

        /// Every `period` from now on; never for zero.
        pub(super) fn set(&self, period: Duration) {
            let Some(id) = self.id else { return };
            let period = libc::timespec {
                tv_sec: period.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: period.subsec_nanos().into(),
            };
            let spec = libc::itimerspec { it_interval: period, it_value: period };
            // SAFETY: `id` is a timer of ours that lives as long as `self`, and
            // `spec` is valid for the length of the call. It fails only for what
            // is not so.
            unsafe { libc::timer_settime(id, 0, &raw const spec, null_mut()) };
        }
    }

    #[cfg(test)]
    impl Timer {
        /// Time to the next signal: zero if it is not set, `None` if there is no timer.
        pub(super) fn left(&self) -> Option<Duration> {
            // SAFETY: all-zero is a valid `itimerspec`, plain integers.
            let mut spec: libc::itimerspec = unsafe { zeroed() };
            // SAFETY: a timer of ours; `spec` is valid and writable.
            let result = unsafe { libc::timer_gettime(self.id?, &raw mut spec) };
            let (seconds, nanos) = (spec.it_value.tv_sec, spec.it_value.tv_nsec);
            let left = Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?);
            (result == 0).then_some(left)
        }
    }

    impl Drop for Timer {
        fn drop(&mut self) {
            if let Some(id) = self.id {
                // SAFETY: a timer of ours that nobody uses any more.
                unsafe { libc::timer_delete(id) };
            }
        }
    }

    fn create() -> io::Result<libc::timer_t> {
        static HANDLER: OnceLock<Result<(), i32>> = OnceLock::new();
        let handler = HANDLER.get_or_init(|| install().map_err(|e| e.raw_os_error().unwrap_or(0)));
        handler.map_err(io::Error::from_raw_os_error)?;
        // SAFETY: all-zero is a valid `sigevent`: integers and a null pointer.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        // SAFETY: takes nothing, cannot fail.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id: libc::timer_t = null_mut();
        let clock = libc::CLOCK_MONOTONIC;
        // SAFETY: both pointers are valid for the length of the call.
        let result = unsafe { libc::timer_create(clock, from_mut(&mut event), &raw mut id) };
        if result == 0 { Ok(id) } else { Err(io::Error::last_os_error()) }
    }

    /// Once for the process; the timers' signals go to their threads alone.
    fn install() -> io::Result<()> {
        // SAFETY: all-zero is a valid `sigaction`: no handler, an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = give_way as extern "C" fn(c_int) as libc::sighandler_t;
        // System calls go on; a thread with a stack for signals takes it there.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the handler only reads clocks, which cannot fail, reads and writes
        // `Cell`s of its thread that nobody else touches while the timer runs, and makes
        // a system call that touches neither memory nor `errno`: so it may come at any
        // time; `action` is valid.
        let result = unsafe { libc::sigaction(SIGNAL, &raw const action, null_mut()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    extern "C" fn give_way(_: c_int) {
        if may_give_way() {
            // SAFETY: takes nothing and cannot fail.
            unsafe { libc::syscall(libc::SYS_sched_yield) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::time::Duration;

    pub(super) fn begin(_: u64) {}

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn set(&self, _: Duration) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::types::thread::cpu_time;

    #[test]
    fn it_beats_while_work_is_done_and_not_after() {
        let pulse = Pulse::new(LeastShare::Tenth);
        assert_eq!(pulse.timer.left(), Some(Duration::ZERO), "not started");
        pulse.during(|| {
            // Several periods long: the signal ends nothing.
            let until = cpu_time() + 10 * PERIOD;
            while cpu_time() < until {}
            assert!(pulse.timer.left().is_some_and(|left| !left.is_zero()));
        });
        assert_eq!(pulse.timer.left(), Some(Duration::ZERO), "stopped");
        let panics = || pulse.during(|| panic!("in the work"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(pulse.timer.left(), Some(Duration::ZERO), "stopped after a panic");
    }
}
