//! The child's process: limits itself, tries the candidate, tells what it does.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::thread;

use crate::engine::EngineSet;
use crate::registry::preflight::{Message, Spec, trial};
use crate::types::thread::{Class, LeastShare, Pulse, TRIAL_STACK_BYTES};

/// The largest spec, in bytes: more than declarations of the size that is read.
const SPEC_BYTES_MAX: u64 = 16 << 20;
/// What allocators and threads reserve without using it; the kernel counts it
/// as data, and the parent, which watches what is used, does not.
const RESERVED_BYTES: u64 = 2 << 30;
/// The child is the first that the kernel ends when memory runs out.
const OOM_SCORE_ADJ: &str = "1000";

/// The hidden subcommand's whole life: a spec as JSON on standard input, lines
/// of JSON on standard output. Returns the exit code.
#[must_use]
pub fn child_main() -> i32 {
    let mut spec = String::new();
    let read = io::stdin().take(SPEC_BYTES_MAX).read_to_string(&mut spec);
    let spec: Spec = match read.map_err(|e| e.to_string()).and_then(|_| {
        serde_json::from_str(&spec).map_err(|e| format!("expected a candidate as JSON: {e}"))
    }) {
        Ok(spec) => spec,
        Err(why) => {
            let _ = writeln!(io::stderr(), "preflight: {why}");
            return 2;
        }
    };
    limit(&spec);
    let Ok(mut stdout) = take_stdout() else { return 2 };
    let mut written = Ok(());
    let trial = || {
        let engines = EngineSet::standard(&spec.engines);
        trial::attempt(&spec.candidate, spec.limits, &engines, |message| {
            if written.is_ok() {
                written = tell(&mut stdout, message);
            }
        });
    };
    let least = match spec.class {
        Class::Idle => LeastShare::Nothing,
        Class::Background => LeastShare::Tenth,
    };
    if let Err(error) = on_trial_stack(least, trial) {
        let _ = writeln!(io::stderr(), "no thread to try it on: {error}");
        return 2;
    }
    i32::from(written.is_err())
}

/// Runs `trial` with less stack than the gateway's threads have, so that a
/// model that overflows one does so here.
fn on_trial_stack(least: LeastShare, trial: impl FnOnce() + Send) -> io::Result<()> {
    let thread = thread::Builder::new().name("trial".into()).stack_size(TRIAL_STACK_BYTES);
    thread::scope(|scope| {
        let trial = thread.spawn_scoped(scope, || Pulse::new(least).during(trial))?;
        trial.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    })
}

/// Writes a line at once: the next stage may be the last.
fn tell(stdout: &mut File, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stdout.write_all(&line)
}

/// Keeps standard output for the messages alone: whatever an engine prints
/// there goes to standard error.
fn take_stdout() -> io::Result<File> {
    // SAFETY: plain file descriptors; no pointers.
    let kept = unsafe { libc::dup(libc::STDOUT_FILENO) };
    if kept < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; both descriptors are open.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `dup` returned a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(kept) })
}

/// Binds this process: memory, no core file, first to go when memory runs
/// out, gives way to requests, ends with its parent. What the kernel refuses
/// is left out: the parent watches as well.
fn limit(spec: &Spec) {
    let set = |resource, bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: `limit` is valid for the length of the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            let _ = writeln!(io::stderr(), "a limit was refused: {}", io::Error::last_os_error());
        }
    };
    set(libc::RLIMIT_DATA, spec.limits.memory_bytes_max.saturating_add(RESERVED_BYTES));
    set(libc::RLIMIT_CORE, 0);
    #[cfg(target_os = "linux")]
    {
        let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
        // SAFETY: takes integers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // The parent may have ended before that line: then we belong to another.
        if std::os::unix::process::parent_id() != spec.parent {
            std::process::exit(2);
        }
    }
    // Its limit is CPU time, and it shares no lock with the requests.
    crate::types::thread::enter(spec.class);
}
