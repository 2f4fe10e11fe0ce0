//! What a thread did by itself, and how long it only waited for a processor.
//!
//! On a saturated machine a thread of the idle class is ready and is not let for
//! seconds. Wall time blames whatever it runs for that, and CPU time excuses what
//! sleeps or hangs. Linux counts both per thread (`schedstat`: nanoseconds that it
//! ran, and that it was ready and did not).
//!
//! Neither has what the host of a virtual machine takes from a processor while the
//! thread is on it. So the rest of the wall time is taken for sleep only of a thread
//! that gave its processor up of its own accord at all, which Linux counts, too.

use std::time::Duration;

/// A thread, as another one may look at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    /// The kernel's number; `None` where it has no such counts.
    number: Option<i32>,
}

/// What the kernel had counted of a thread at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    ran: Duration,
    waited: Duration,
    /// How often it gave its processor up: it slept, or waited for something.
    gave_up: u64,
    /// It runs, or waits for a processor; a wait is counted when it is over.
    ready: bool,
}

impl Observed {
    /// The calling thread.
    #[must_use]
    pub fn own() -> Self {
        Self { number: platform::number() }
    }

    /// What is counted so far; `None` where the kernel does not tell.
    #[must_use]
    pub fn look(self) -> Option<Scheduled> {
        platform::look(self.number?)
    }
}

/// What is counted so far of the calling thread; cheaper than [`Observed::look`].
#[must_use]
pub fn scheduled() -> Option<Scheduled> {
    platform::look_at_own()
}

/// Of `wall`, the time between two looks, what the thread did not spend waiting for
/// a processor: it ran or slept. Where it is ready at the end, or never slept, this is
/// only what it ran for certain. Without both looks it is all of `wall`.
#[must_use]
pub fn by_itself(wall: Duration, before: Option<Scheduled>, after: Option<Scheduled>) -> Duration {
    let (Some(before), Some(after)) = (before, after) else { return wall };
    match after.ready || after.gave_up == before.gave_up {
        true => after.ran.saturating_sub(before.ran).min(wall),
        false => wall.saturating_sub(after.waited.saturating_sub(before.waited)),
    }
}

/// From the two first numbers of a `schedstat` file.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has the file"))]
fn parse(schedstat: &str, gave_up: u64, ready: bool) -> Option<Scheduled> {
    let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten().map(Duration::from_nanos);
    Some(Scheduled { ran: next()?, waited: next()?, gave_up, ready })
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::{File, read_to_string};
    use std::os::unix::fs::FileExt;

    use super::{Scheduled, parse};

    pub(super) fn number() -> Option<i32> {
        // SAFETY: takes no arguments and cannot fail.
        Some(unsafe { libc::gettid() })
    }

    pub(super) fn look(number: i32) -> Option<Scheduled> {
        let folder = format!("/proc/self/task/{number}");
        // "12 (a name, with (anything)) R ...": the state is after the last parenthesis.
        let stat = read_to_string(format!("{folder}/stat")).ok()?;
        let ready = stat.rsplit(')').next()?.trim_start().starts_with('R');
        let status = read_to_string(format!("{folder}/status")).ok()?;
        let gave_up = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
        let gave_up = gave_up.trim().parse().ok()?;
        parse(&read_to_string(format!("{folder}/schedstat")).ok()?, gave_up, ready)
    }

    pub(super) fn look_at_own() -> Option<Scheduled> {
        thread_local! {
            // Opened once: reading it then takes a microsecond.
            static FILE: Option<File> = File::open("/proc/thread-self/schedstat").ok();
        }
        FILE.with(|file| {
            let mut text = [0; 64];
            let read = file.as_ref()?.read_at(&mut text, 0).ok()?;
            // Its own waits are over: it runs.
            parse(std::str::from_utf8(&text[..read]).ok()?, gave_up()?, false)
        })
    }

    /// How often the calling thread gave its processor up.
    fn gave_up() -> Option<u64> {
        // SAFETY: all-zero is a valid `rusage`, plain integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid and writable for the length of the call.
        let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        (result == 0).then(|| usage.ru_nvcsw.try_into().ok()).flatten()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::Scheduled;

    pub(super) fn number() -> Option<i32> {
        None
    }

    pub(super) fn look(_: i32) -> Option<Scheduled> {
        None
    }

    pub(super) fn look_at_own() -> Option<Scheduled> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn only_the_wait_for_a_processor_is_taken_off() {
        let seen = |ran, waited, gave_up, ready| {
            Some(Scheduled { ran: ms(ran), waited: ms(waited), gave_up, ready })
        };
        let before = seen(100, 1_000, 7, false);
        // It slept at least once since.
        let at = |ran, waited, ready| seen(ran, waited, 8, ready);
        let cases = [
            // It slept for 70 of 100 ms, ran for 20 and waited for 10.
            (before, at(120, 1_010, false), 90),
            // It hangs: nothing is counted at all.
            (before, at(100, 1_000, false), 100),
            // Still ready: its wait is not counted yet, what it ran is.
            (before, at(103, 1_000, true), 3),
            // It loops without an end, and is let.
            (before, at(500, 1_000, true), 100),
            (before, at(100, 9_000, false), 0),
            // It never slept: the host of the machine took the other 70 ms.
            (before, seen(120, 1_010, 7, false), 20),
            (None, at(100, 9_000, false), 100),
            (before, None, 100),
        ];
        for (before, after, expected) in cases {
            assert_eq!(by_itself(ms(100), before, after), ms(expected), "{after:?}");
        }
    }

    #[test]
    fn the_file_is_two_numbers_and_more() {
        let read =
            Scheduled { ran: Duration::from_nanos(5), waited: ms(2), gave_up: 3, ready: true };
        assert_eq!(parse("5 2000000 7\n", 3, true), Some(read));
        for bad in ["", "5", "5 x 7", "-5 1 1"] {
            assert_eq!(parse(bad, 3, true), None, "{bad:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_thread_sees_whether_one_runs_or_sleeps() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let over = AtomicBool::new(false);
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                told.send(Observed::own()).unwrap();
                while !over.load(SeqCst) {
                    std::hint::spin_loop();
                }
            });
            let spins = tell.recv().unwrap();
            let first = spins.look().unwrap();
            while spins.look().unwrap().ran <= first.ran {
                std::thread::yield_now();
            }
            assert!(spins.look().unwrap().ready);
            over.store(true, SeqCst);
        });
        let (own, same) = (scheduled().unwrap(), Observed::own().look().unwrap());
        assert!(same.ran >= own.ran && own.ran > Duration::ZERO, "{own:?} {same:?}");
        assert!(same.gave_up >= own.gave_up, "{own:?} {same:?}");
        let (_never, nothing) = std::sync::mpsc::channel::<()>();
        nothing.recv_timeout(ms(1)).unwrap_err();
        let slept = scheduled().unwrap();
        assert!(slept.gave_up > own.gave_up, "{own:?} {slept:?}");
        assert!(Observed { number: Some(i32::MAX) }.look().is_none());
    }
}
