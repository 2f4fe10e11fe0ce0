//! The parent's side: watches the child, and tells its end in words.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{EngineSet, EngineSettings};
use crate::registry::preflight::cache::{Cache, Conditions};
use crate::registry::preflight::running::Running;
use crate::registry::preflight::{
    Candidate, End, Failure, Limits, Message, Preflight, Report, Spec, Stage, memory,
};
use crate::types::thread::Class;

/// How often the child is looked at.
const POLL: Duration = Duration::from_millis(5);
/// A child of the idle class that got less than a [`STARVED_PART`] of this time
/// or more is begun again in a class that gets some: nobody without privileges
/// may leave the idle class.
const STARVED_AFTER: Duration = Duration::from_secs(2);
/// See [`STARVED_AFTER`].
const STARVED_PART: u32 = 10;

/// Tries candidates in child processes of this binary. Reports of those that
/// passed may be kept on disk.
pub struct ChildPreflight {
    /// The binary; run as `<exe> preflight`.
    pub exe: PathBuf,
    limits: Limits,
    engines: EngineSettings,
    /// What the machine and the container have left for it.
    memory_left: fn() -> Option<u64>,
    cache: Option<Cache>,
    starved_after: Duration,
    stopped: AtomicBool,
}

impl ChildPreflight {
    /// Children of this binary that may use so much memory, less if the
    /// machine or the container has less left, and take so much time.
    #[must_use]
    pub fn new(memory_bytes_max: u64, time_max: Duration) -> Self {
        Self {
            // Not its path: the file there may be a newer binary by now.
            exe: PathBuf::from("/proc/self/exe"),
            limits: Limits { memory_bytes_max, time_max },
            engines: EngineSettings::default(),
            memory_left: memory::left,
            cache: None,
            starved_after: STARVED_AFTER,
            stopped: AtomicBool::new(false),
        }
    }

    /// Tells the children what the gateway's engines know.
    #[must_use]
    pub fn with_engines(mut self, engines: &EngineSettings) -> Self {
        self.engines = engines.clone();
        self
    }

    /// The engine as it is now: another library is another trial.
    fn engine_identity(&self, name: &str) -> String {
        let engines = EngineSet::standard(&self.engines);
        engines.get(name).map(|engine| engine.identity()).unwrap_or_default()
    }

    fn conditions(&self, candidate: &Candidate) -> Conditions {
        let engine_identity = self.engine_identity(&candidate.engine);
        Conditions { engine_identity, limits: self.limits }
    }

    /// Keeps the reports of those that passed in this folder.
    #[must_use]
    pub fn remember_in(self, folder: PathBuf) -> Self {
        Self { cache: Some(Cache::new(folder)), ..self }
    }

    fn run(&self, candidate: &Candidate) -> Result<Report, Failure> {
        // The rest is for the gateway, which has to load it as well.
        let left = (self.memory_left)().map_or(u64::MAX, |left| left / 8 * 7);
        let memory_bytes_max = self.limits.memory_bytes_max.min(left);
        let mut spec = Spec {
            candidate: candidate.clone(),
            engines: self.engines.clone(),
            limits: Limits { memory_bytes_max, ..self.limits },
            class: Class::Idle,
            parent: std::process::id(),
        };
        loop {
            let mut child = self.spawn(&spec)?;
            let end = self.watch(&mut child, &spec);
            if matches!(end, Ok(Ended::Starved)) {
                spec.class = Class::Background;
                continue;
            }
            let (line, said) = child.output();
            // Nothing, or nonsense: it had not begun.
            let message: Message = serde_json::from_slice(&line).unwrap_or_default();
            return judge(end, message, &said, spec.limits);
        }
    }

    fn spawn(&self, spec: &Spec) -> Result<Running, Failure> {
        let spec = serde_json::to_vec(spec);
        let spec = spec.map_err(|error| Failure::new(Stage::Start, error.to_string()))?;
        Running::spawn(&self.exe, &spec).map_err(|error| {
            Failure::new(Stage::Start, format!("the child process could not be started: {error}"))
        })
    }

    /// Waits for the child's end, or brings it about.
    fn watch(&self, child: &mut Running, spec: &Spec) -> io::Result<Ended> {
        let (started, limits) = (Instant::now(), spec.limits);
        loop {
            if let Some(status) = child.ended()? {
                return Ok(Ended::Itself(status));
            }
            let resident = child.resident_bytes();
            let (cpu, wall) = (child.cpu_time(), started.elapsed());
            let end = if self.stopped.load(SeqCst) {
                Ended::Stopped
            } else if limits.passed(cpu, wall) {
                Ended::TimeLimit
            } else if resident > limits.memory_bytes_max {
                Ended::MemoryLimit(resident)
            } else if spec.class == Class::Idle
                && wall >= self.starved_after
                && cpu < wall / STARVED_PART
            {
                Ended::Starved
            } else {
                thread::sleep(POLL);
                continue;
            };
            child.kill();
            return Ok(end);
        }
    }

    /// What the child could load must fit in here as well.
    fn fits(&self, report: Report) -> Result<Report, Failure> {
        let peak = report.memory.load_peak_bytes;
        match (self.memory_left)() {
            Some(left) if peak > left => {
                let (peak, left) = (memory::in_words(peak), memory::in_words(left));
                let reason = format!(
                    "loading it takes {peak} of memory at its peak, and only {left} are left; \
                     give the gateway more, or retire another version"
                );
                Err(Failure { stage: Stage::Memory, reason, report: Box::new(report) })
            }
            _ => Ok(report),
        }
    }
}

impl Preflight for ChildPreflight {
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, Failure> {
        let Some(cache) = &self.cache else { return self.fits(self.run(candidate)?) };
        let conditions = self.conditions(candidate);
        if let Some(report) = cache.get(candidate, &conditions) {
            return self.fits(report);
        }
        let report = self.run(candidate)?;
        cache.put(candidate, &conditions, &report);
        self.fits(report)
    }

    fn forget(&self, candidate: &Candidate) {
        if let Some(cache) = &self.cache {
            cache.remove(candidate, &self.conditions(candidate));
        }
    }

    fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }
}

/// How a child ended.
enum Ended {
    Itself(ExitStatus),
    TimeLimit,
    MemoryLimit(u64),
    /// It hardly got a processor, and has to begin again.
    Starved,
    Stopped,
}

/// What an end and the last message mean.
fn judge(
    ended: io::Result<Ended>,
    message: Message,
    said: &str,
    limits: Limits,
) -> Result<Report, Failure> {
    let Message { stage, report, end } = message;
    let (stage, reason) = match (ended, end) {
        (Ok(Ended::Itself(status)), Some(End::Passed)) if status.success() => return Ok(report),
        (Ok(Ended::Itself(status)), Some(End::Failed(why))) if status.signal().is_none() => {
            (stage, why)
        }
        (Ok(Ended::Itself(status)), _) => (stage, end_in_words(status, stage, said)),
        (Ok(Ended::TimeLimit), _) => {
            let time = humantime::format_duration(limits.time_max);
            (stage, format!("killed after {time} (time limit) {}", stage.while_it()))
        }
        (Ok(Ended::MemoryLimit(bytes)), _) => {
            let (bytes, when) = (memory::in_words(bytes), stage.while_it());
            (Stage::Memory, format!("killed at {bytes} resident (memory limit) {when}"))
        }
        (Ok(Ended::Starved), _) => (stage, "it got no processor".to_owned()),
        (Ok(Ended::Stopped), _) => (stage, "ended because the gateway stops".to_owned()),
        (Err(error), _) => (stage, format!("the child process was lost: {error}")),
    };
    Err(Failure { stage, reason, report: Box::new(report) })
}

/// How a child ended by itself.
fn end_in_words(status: ExitStatus, stage: Stage, said: &str) -> String {
    let when = stage.while_it();
    if let Some(signal) = status.signal() {
        return format!("crashed with signal {signal}{} {when}{said}", signal_name(signal));
    }
    let code = status.code().map_or_else(|| "no code".to_owned(), |code| code.to_string());
    format!("ended with code {code} and no report {when}{said}")
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        _ => return String::new(),
    };
    format!(" ({name})")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::types::{Digest, ModelName, VersionId};

    fn candidate() -> Candidate {
        Candidate {
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(1).unwrap(),
            artifact: "/nowhere".into(),
            digest: Digest::new([1; 32]),
            golden: None,
            engine: "tract".into(),
            declared: None,
        }
    }

    /// A preflight whose child is this shell script.
    fn scripted(folder: &tempfile::TempDir, script: &str, time_max: Duration) -> ChildPreflight {
        let exe = folder.path().join("child");
        // Written by another process: a descriptor of ours, inherited by a
        // child that another test spawns just now, would make it busy.
        let text = format!("#!/bin/sh\n{script}\n");
        let write = "printf %s \"$0\" > \"$1\" && chmod 755 \"$1\"";
        let status = Command::new("sh").arg("-c").arg(write).arg(text).arg(&exe).status();
        assert!(status.unwrap().success());
        ChildPreflight { exe, ..ChildPreflight::new(1 << 30, time_max) }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn every_end_has_its_words() {
        let failed =
            r#"echo '{"stage":"load","report":{},"end":{"failed":"node \"a\": no operator"}}'"#;
        let began = r#"echo '{"stage":"warm_up","report":{"engine":"e"},"end":null}'"#;
        let cases = [
            (failed.to_owned(), MINUTE, "node \"a\": no operator", Stage::Load),
            (
                format!("{began}; echo boom >&2; kill -ABRT $$"),
                MINUTE,
                "crashed with signal 6 (SIGABRT) while it was warmed up: boom",
                Stage::WarmUp,
            ),
            (
                "echo boom >&2; exit 3".to_owned(),
                MINUTE,
                "ended with code 3 and no report while it started: boom",
                Stage::Start,
            ),
            (
                format!("{began}; exit 0"),
                MINUTE,
                "ended with code 0 and no report while it was warmed up",
                Stage::WarmUp,
            ),
            (
                "echo nonsense".to_owned(),
                MINUTE,
                "ended with code 0 and no report while it started",
                Stage::Start,
            ),
            (
                "exec sleep 600".to_owned(),
                Duration::from_millis(50),
                "killed after 50ms (time limit) while it started",
                Stage::Start,
            ),
        ];
        for (script, time_max, reason, stage) in cases {
            let folder = tempfile::tempdir().unwrap();
            let preflight = scripted(&folder, &script, time_max);
            let failure = preflight.try_candidate(&candidate()).unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.stage), (reason, stage), "{script}");
            let told = script.contains(began);
            assert_eq!(failure.report.engine == "e", told, "what was found out is kept");
        }
    }

    const PASSED: &str = r#"echo '{"stage":"cost","report":{"engine":"e","memory":
        {"load_peak_bytes":1000}},"end":"passed"}' | tr -d '\n'; echo"#;

    #[test]
    fn what_passed_is_not_tried_again_unless_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let preflight = scripted(&folder, PASSED, MINUTE);
        let preflight = preflight.remember_in(folder.path().join("kept"));
        let report = preflight.try_candidate(&candidate()).unwrap();
        assert_eq!(report.engine, "e");
        // The child would not even start now.
        std::fs::remove_file(&preflight.exe).unwrap();
        assert_eq!(preflight.try_candidate(&candidate()), Ok(report));
        let forgetful = ChildPreflight { cache: None, ..preflight };
        let failure = forgetful.try_candidate(&candidate()).unwrap_err();
        assert!(failure.reason.contains("could not be started"), "{failure}");
    }

    #[test]
    fn what_is_forgotten_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let preflight = scripted(&folder, PASSED, MINUTE);
        let preflight = preflight.remember_in(folder.path().join("kept"));
        // Also before there is anything to forget.
        preflight.forget(&candidate());
        preflight.try_candidate(&candidate()).unwrap();
        std::fs::remove_file(&preflight.exe).unwrap();
        assert!(preflight.try_candidate(&candidate()).is_ok());
        preflight.forget(&candidate());
        let failure = preflight.try_candidate(&candidate()).unwrap_err();
        assert!(failure.reason.contains("could not be started"), "{failure}");
    }

    #[test]
    fn failures_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        let preflight = scripted(&folder, "exit 1", MINUTE).remember_in(kept.clone());
        assert!(preflight.try_candidate(&candidate()).is_err());
        let preflight = scripted(&folder, PASSED, MINUTE).remember_in(kept);
        assert!(preflight.try_candidate(&candidate()).is_ok());
    }

    #[test]
    fn a_good_model_that_does_not_fit_is_refused_kept_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let script = PASSED.replace("1000", "1073741824");
        let mut preflight = scripted(&folder, &script, MINUTE);
        preflight = preflight.remember_in(folder.path().join("kept"));
        preflight.memory_left = || Some(64 << 20);
        for kept in [false, true] {
            let failure = preflight.try_candidate(&candidate()).unwrap_err();
            assert_eq!((failure.stage, &*failure.report.engine), (Stage::Memory, "e"), "{kept}");
            let expected = "loading it takes 1.0 GiB of memory at its peak, and only 64.0 MiB";
            assert!(failure.reason.starts_with(expected), "{failure}");
            // From here on the kept report speaks.
            let _ = std::fs::remove_file(&preflight.exe);
        }
        preflight.memory_left = || None;
        assert!(preflight.try_candidate(&candidate()).is_ok());
    }

    #[test]
    fn a_child_that_grows_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut preflight = scripted(&folder, "exec sleep 600", MINUTE);
        preflight.limits.memory_bytes_max = 1;
        let failure = preflight.try_candidate(&candidate()).unwrap_err();
        assert!(failure.reason.starts_with("killed at "), "{failure}");
        assert!(failure.reason.ends_with("(memory limit) while it started"), "{failure}");
        assert_eq!(failure.stage, Stage::Memory);
    }

    #[test]
    fn a_child_that_gets_no_processor_begins_again_in_another_class() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("grep -q '\"class\":\"idle\"' && exec sleep 600\n{PASSED}");
        let mut preflight = scripted(&folder, &script, MINUTE);
        preflight.starved_after = Duration::from_millis(50);
        assert!(preflight.try_candidate(&candidate()).is_ok());
    }

    #[test]
    fn stopping_ends_children() {
        let folder = tempfile::tempdir().unwrap();
        let preflight = scripted(&folder, "exec sleep 600", MINUTE);
        preflight.stop();
        let failure = preflight.try_candidate(&candidate()).unwrap_err();
        assert_eq!(failure.reason, "ended because the gateway stops");
    }
}
