//! Runs one case in this process, or every case in processes of their own.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use foreshadow::engine::{Engine as _, EngineError, EngineErrorKind, Tract};
use foreshadow::types::{Signature, Tensor, TensorSpec};

use crate::case;
use crate::compare::Comparison;
use crate::outcome::{Outcome, Status};
use crate::plain;
use crate::suite::Suite;

/// What runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runner {
    /// The gateway's engine, as it would serve.
    Gateway,
    /// tract as its crate comes.
    Tract,
}

/// Both runners' outcomes of one case.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    pub(crate) gateway: Outcome,
    pub(crate) tract: Outcome,
}

/// What one case may use.
pub(crate) struct Limits {
    cpu_seconds: libc::rlim_t,
    /// Of waiting as well, on a machine that has others to serve.
    seconds: libc::c_uint,
    data_bytes: libc::rlim_t,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_seconds: 30, seconds: 300, data_bytes: 4 << 30 }
    }
}

impl Limits {
    /// Puts them on this process; going beyond them ends it with a signal.
    pub(crate) fn apply(&self) {
        let set = |resource, limit| {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: reads the limit behind the pointer, which lives; a refusal
            // leaves the former limit.
            unsafe { libc::setrlimit(resource, &raw const limit) };
        };
        set(libc::RLIMIT_CPU, self.cpu_seconds);
        set(libc::RLIMIT_DATA, self.data_bytes);
        set(libc::RLIMIT_CORE, 0);
        // SAFETY: sets a timer, whose signal ends the process; no memory is involved.
        unsafe { libc::alarm(self.seconds) };
    }
}

/// Runs the case in `folder` in this process.
pub(crate) fn run(folder: &Path, runner: Runner) -> Outcome {
    if let Ok(reason) = std::fs::read_to_string(folder.join(case::NOT_MADE)) {
        return Outcome::new(Status::NotMade, &reason);
    }
    let outcome = match runner {
        Runner::Gateway => gateway(folder),
        Runner::Tract => plain::run(folder),
    };
    outcome.unwrap_or_else(|outcome| outcome)
}

/// Errors are outcomes too: what ended the case early.
fn gateway(folder: &Path) -> Result<Outcome, Outcome> {
    let suite = Suite::above(folder).map_err(|e| Outcome::new(Status::NotMade, &e))?;
    let model = Tract::new().load(&folder.join("model.onnx")).map_err(|e| refused(&e))?;
    let signature = model.signature();
    let mut session = model.session().map_err(|e| refused(&e))?;
    let mut comparison = None;
    for set in case::data_sets(folder).map_err(|e| failed(&e))? {
        let (inputs, expected) = read(&set, signature).map_err(|e| failed(&e))?;
        let inputs = signature.arrange(inputs).map_err(|e| failed(e.message()))?;
        let got = session.run(&inputs).map_err(|e| match e.kind {
            EngineErrorKind::Panic => Outcome::new(Status::Crashed, &e.message),
            _ => failed(&e.message),
        })?;
        let comparison = comparison.get_or_insert_with(|| Comparison::new(suite.rule, &expected));
        if let Some(what) = comparison.difference(&got, &expected) {
            return Err(failed(&format!("{}: {what}", case::set_name(&set))));
        }
    }
    Ok(Outcome::passed())
}

fn read(set: &Path, signature: &Signature) -> Result<(Vec<Tensor>, Vec<Tensor>), String> {
    let names = |specs: &[TensorSpec]| specs.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    let inputs = case::tensors(set, "input", &names(&signature.inputs))?;
    Ok((inputs, case::tensors(set, "output", &names(&signature.outputs))?))
}

fn failed(reason: &str) -> Outcome {
    Outcome::new(Status::Failed, reason)
}

fn refused(error: &EngineError) -> Outcome {
    let status = match error.kind {
        EngineErrorKind::Panic => Status::Crashed,
        _ => Status::Unsupported,
    };
    Outcome::new(status, &error.message)
}

/// Runs the cases below `root` with both runners, as many at a time as there
/// are cores.
pub(crate) fn run_all(root: &Path, names: &[String]) -> Result<BTreeMap<String, Outcomes>, String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || -> Result<(), String> {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let case = root.join(name);
            let gateway = spawn(&case, Runner::Gateway)?;
            let tract = spawn(&case, Runner::Tract)?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.insert(name.clone(), Outcomes { gateway, tract });
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers = (0..cores).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err("a worker panicked".into()))
        })
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs this program again, for one case.
fn spawn(case: &Path, runner: Runner) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let runner = match runner {
        Runner::Gateway => "gateway",
        Runner::Tract => "tract",
    };
    let output = Command::new(program)
        .args(["--child", runner])
        .arg(case)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let crashed = |reason: &str| Ok(Outcome::new(Status::Crashed, reason));
    match output.status.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL | libc::SIGALRM) => {
            return crashed("took more time than it may");
        }
        Some(signal) => return crashed(&format!("ended by signal {signal}")),
        None => {}
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim_end_matches('\n').parse() {
        Ok(outcome) => Ok(outcome),
        Err(_) => crashed(&format!("ended with {}", output.status)),
    }
}
