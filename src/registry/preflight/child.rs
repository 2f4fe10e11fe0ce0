//! The child's side: limits itself, then does what the gateway would do.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::sync::Arc;
use std::thread;

use crate::engine::EngineSet;
use crate::registry::preflight::{Candidate, Outcome, Report, Spec, golden};
use crate::serving::LoadedVersion;
use crate::types::thread::TRIAL_STACK_BYTES;
use crate::types::{Signature, TensorSpec};

/// The largest spec, in bytes.
const SPEC_BYTES_MAX: u64 = 64 * 1024;
/// What allocators and threads reserve without using it; the kernel counts it
/// as data, and the parent, which watches what is used, does not.
const RESERVED_BYTES: u64 = 2 << 30;
/// The child is the first that the kernel ends when memory runs out.
const OOM_SCORE_ADJ: &str = "1000";

/// The hidden subcommand's whole life: a spec as JSON on standard input, an
/// outcome as JSON on standard output. Returns the exit code.
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
    let Ok(mut report) = take_stdout() else { return 2 };
    let trial = || attempt(&spec.candidate, &EngineSet::standard(&spec.engines));
    let outcome = match on_trial_stack(trial) {
        Ok(report) => Outcome::Passed(report),
        Err(why) => Outcome::Failed(why),
    };
    let written = serde_json::to_writer(&mut report, &outcome).map_err(io::Error::from);
    i32::from(written.and_then(|()| report.flush()).is_err())
}

/// Runs `trial` with less stack than the gateway's threads have, so that a
/// model that overflows one does so here.
fn on_trial_stack<T: Send>(trial: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    let thread = thread::Builder::new().name("trial".into()).stack_size(TRIAL_STACK_BYTES);
    thread::scope(|scope| {
        let trial = thread.spawn_scoped(scope, trial);
        let trial = trial.map_err(|error| format!("no thread to try it on: {error}"))?;
        trial.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Loads, warms up, and checks the golden cases.
pub(super) fn attempt(candidate: &Candidate, engines: &EngineSet) -> Result<Report, String> {
    let engine = engines.require(&candidate.engine).map_err(|error| error.to_string())?;
    let graph = engine.load(&candidate.artifact).map_err(|error| error.to_string())?;
    let version = LoadedVersion::new(
        candidate.model.clone(),
        candidate.version,
        candidate.digest,
        engine.name(),
        Arc::clone(&graph),
    );
    let cost = version.warm_up().map_err(|error| format!("warm-up: {error}"))?;
    let golden_cases = match &candidate.golden {
        Some((path, _)) => {
            let text = fs::read_to_string(path).map_err(|e| format!("golden.json: {e}"))?;
            golden::check(&text, &version).map_err(|why| format!("golden.json {why}"))?
        }
        None => 0,
    };
    let signature = in_words(graph.signature());
    Ok(Report { signature, cost_seconds: cost.of(1).as_secs_f64(), golden_cases })
}

/// `x FP32 [-1, 4] → label INT64 [-1]`.
fn in_words(signature: &Signature) -> String {
    let list = |specs: &[TensorSpec]| {
        let one = |s: &TensorSpec| format!("{} {} {:?}", s.name, s.datatype, s.wire_shape());
        specs.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!("{} → {}", list(&signature.inputs), list(&signature.outputs))
}

/// Keeps standard output for the outcome alone: whatever an engine prints
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
    set(libc::RLIMIT_DATA, spec.memory_bytes_max.saturating_add(RESERVED_BYTES));
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
    crate::types::thread::enter(crate::types::thread::Class::Background);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::EngineSettings;
    use crate::types::{Digest, ModelName, VersionId};

    fn standard() -> EngineSet {
        EngineSet::standard(&EngineSettings::default())
    }

    /// A sample of this repository, with these golden cases.
    fn candidate(golden: &Path) -> Candidate {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/1");
        let digest = Digest::new([0; 32]);
        Candidate {
            model: ModelName::new("churn").unwrap(),
            version: VersionId::new(1).unwrap(),
            artifact: sample.join("model.onnx"),
            digest,
            golden: Some((sample.join(golden), digest)),
            engine: "tract".into(),
        }
    }

    #[test]
    fn a_sample_passes_with_its_own_answers_and_not_with_others() {
        let report = attempt(&candidate(Path::new("golden.json")), &standard()).unwrap();
        assert!(report.golden_cases > 0 && report.cost_seconds > 0.0, "{report:?}");
        let signature = "input FP32 [-1, 12] → label INT64 [-1], probabilities FP32 [-1, 2]";
        assert_eq!(report.signature, signature);

        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("golden.json");
        let two = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/2/golden.json");
        fs::copy(two, &other).unwrap();
        let why = attempt(&candidate(&other), &standard()).unwrap_err();
        assert!(why.starts_with("golden.json case 1: output \""), "{why}");
        assert!(why.contains("expected") && why.contains("tolerance"), "{why}");
    }

    #[test]
    fn an_unknown_engine_is_named() {
        let error = attempt(&candidate(Path::new("golden.json")), &EngineSet::default());
        assert!(error.unwrap_err().contains("\"tract\""));
    }
}
