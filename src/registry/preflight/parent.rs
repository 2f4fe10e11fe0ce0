//! The parent's side: spawns the child, watches it, and tells its end in words.

use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{EngineSet, EngineSettings};
use crate::registry::preflight::{Candidate, Outcome, Preflight, Report, Spec, memory};
use crate::types::Digest;

/// How often the child is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Bytes of the child's report that are read.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Last bytes of what the child says that are kept for the reason.
const STDERR_BYTES_MAX: usize = 2048;
/// Lines of these that are shown.
const STDERR_LINES_MAX: usize = 3;
/// Reports that are remembered.
const CACHE_MAX: usize = 1024;

type CacheKey = (Digest, Option<Digest>, String);

/// Tries candidates in child processes of this binary. Reports of those that
/// passed are remembered by the digests and the engine.
pub struct ChildPreflight {
    /// The binary; run as `<exe> preflight`.
    pub exe: PathBuf,
    /// Memory that the child may use, in bytes; less if the machine or the
    /// container has less left.
    pub memory_bytes_max: u64,
    /// Wall time that it may take.
    pub time_max: Duration,
    engines: EngineSettings,
    passed: Mutex<HashMap<CacheKey, Report>>,
    stopped: AtomicBool,
}

impl Default for ChildPreflight {
    /// This binary, 4 GiB, one minute.
    fn default() -> Self {
        Self::new(4 << 30, Duration::from_secs(60))
    }
}

impl ChildPreflight {
    /// Children of this binary with these limits.
    #[must_use]
    pub fn new(memory_bytes_max: u64, time_max: Duration) -> Self {
        Self {
            // Not its path: the file there may be a newer binary by now.
            exe: PathBuf::from("/proc/self/exe"),
            memory_bytes_max,
            time_max,
            engines: EngineSettings::default(),
            passed: Mutex::default(),
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
    fn engine_key(&self, name: &str) -> String {
        let engines = EngineSet::standard(&self.engines);
        let identity = engines.get(name).map(|engine| engine.identity()).unwrap_or_default();
        format!("{name} {identity}")
    }

    fn passed(&self) -> std::sync::MutexGuard<'_, HashMap<CacheKey, Report>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, candidate: &Candidate) -> Result<Report, String> {
        // The rest is for the gateway, which has to load it as well.
        let left = memory::left().map_or(u64::MAX, |left| left / 8 * 7);
        let memory_bytes_max = self.memory_bytes_max.min(left);
        let parent = std::process::id();
        let spec = Spec {
            candidate: candidate.clone(),
            engines: self.engines.clone(),
            memory_bytes_max,
            parent,
        };
        let spec = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        let mut child = Running::spawn(&self.exe, &spec)
            .map_err(|error| format!("the child process could not be started: {error}"))?;
        let end = self.watch(&mut child, memory_bytes_max);
        let (stdout, stderr) = child.output();
        match end.map_err(|error| format!("the child process was lost: {error}"))? {
            End::TimeLimit => Err(format!(
                "killed after {} (time limit)",
                humantime::format_duration(self.time_max)
            )),
            End::MemoryLimit(bytes) => {
                Err(format!("killed at {} resident (memory limit)", gibibytes(bytes)))
            }
            End::Stopped => Err("ended because the gateway stops".to_owned()),
            End::Exited(status) => judge(status, &stdout, &stderr),
        }
    }

    /// Waits for the child's end, or brings it about.
    fn watch(&self, child: &mut Running, memory_bytes_max: u64) -> io::Result<End> {
        let started = Instant::now();
        loop {
            if let Some(status) = child.process.try_wait()? {
                return Ok(End::Exited(status));
            }
            let resident = resident_bytes(child.process.id()).unwrap_or(0);
            let end = if self.stopped.load(SeqCst) {
                End::Stopped
            } else if started.elapsed() >= self.time_max {
                End::TimeLimit
            } else if resident > memory_bytes_max {
                End::MemoryLimit(resident)
            } else {
                thread::sleep(POLL);
                continue;
            };
            child.kill();
            return Ok(end);
        }
    }
}

impl Preflight for ChildPreflight {
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, String> {
        let golden = candidate.golden.as_ref().map(|(_, digest)| *digest);
        let key = (candidate.digest, golden, self.engine_key(&candidate.engine));
        if let Some(report) = self.passed().get(&key) {
            return Ok(report.clone());
        }
        let report = self.run(candidate)?;
        let mut passed = self.passed();
        if passed.len() >= CACHE_MAX {
            passed.clear();
        }
        passed.insert(key, report.clone());
        Ok(report)
    }

    fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }
}

/// How a child ended.
enum End {
    Exited(ExitStatus),
    TimeLimit,
    MemoryLimit(u64),
    Stopped,
}

/// A child and the threads that read what it says. Dropping it kills it.
struct Running {
    process: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    fn spawn(exe: &std::path::Path, spec: &[u8]) -> io::Result<Self> {
        let mut process = Command::new(exe)
            .arg("preflight")
            // The child needs no secrets that the environment may hold, but
            // has to find what an engine's library is linked with.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
            // A terminal's Ctrl-C is for the gateway, which then ends the child.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout, stderr) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let mut running = Self { process, stdout: None, stderr: None };
        running.stdout = stdout.map(|s| read(s, first_bytes)).transpose()?;
        running.stderr = stderr.map(|s| read(s, last_bytes)).transpose()?;
        if let Some(mut stdin) = stdin {
            // A child that ended already is found by its exit status.
            let _ = stdin.write_all(spec);
        }
        Ok(running)
    }

    fn kill(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What it said on standard output and error. Call after its end.
    fn output(&mut self) -> (Vec<u8>, Vec<u8>) {
        let join = |reader: &mut Option<JoinHandle<Vec<u8>>>| {
            reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        (join(&mut self.stdout), join(&mut self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read<R: Read + Send + 'static>(
    source: R,
    how: fn(R) -> Vec<u8>,
) -> io::Result<JoinHandle<Vec<u8>>> {
    thread::Builder::new().name("preflight-read".into()).spawn(move || how(source))
}

/// The first bytes of a stream; reads on to its end, so that the writer is
/// never held up.
fn first_bytes(mut source: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    each_chunk(&mut source, |chunk| {
        let room = REPORT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    });
    kept
}

/// The last bytes of a stream.
fn last_bytes(mut source: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    each_chunk(&mut source, |chunk| {
        kept.extend_from_slice(chunk);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    });
    kept
}

fn each_chunk(source: &mut impl Read, mut each: impl FnMut(&[u8])) {
    let mut chunk = [0; 4096];
    while let Ok(n) = source.read(&mut chunk)
        && n > 0
    {
        each(&chunk[..n]);
    }
}

/// What an end by itself means.
fn judge(status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Result<Report, String> {
    let said = tail(stderr);
    if let Some(signal) = status.signal() {
        return Err(format!("crashed with signal {signal}{}{said}", signal_name(signal)));
    }
    match serde_json::from_slice(stdout) {
        Ok(Outcome::Passed(report)) if status.success() => Ok(report),
        Ok(Outcome::Failed(why)) => Err(why),
        Ok(Outcome::Passed(_)) | Err(_) => {
            let code = status.code().map_or_else(|| "no code".to_owned(), |c| c.to_string());
            Err(format!("ended with code {code} and no report{said}"))
        }
    }
}

/// `: ` and the last lines, or nothing.
fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<_> = text.lines().map(str::trim).filter(|l| useful(l)).collect();
    let excess = lines.len().saturating_sub(STDERR_LINES_MAX);
    lines.drain(..excess);
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}

fn useful(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("note: ")
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

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The resident size of a process; `None` where it cannot be told.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: takes an integer only.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ModelName, VersionId};

    fn candidate() -> Candidate {
        Candidate {
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(1).unwrap(),
            artifact: "/nowhere".into(),
            digest: Digest::new([1; 32]),
            golden: None,
            engine: "tract".into(),
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

    #[test]
    fn every_end_has_its_words() {
        let passed = r#"echo '{"passed":{"signature":"s","cost_seconds":1.0,"golden_cases":0}}'"#;
        let failed = r#"echo '{"failed":"node \"a\": no such operator"}'"#;
        let minute = Duration::from_secs(60);
        let cases = [
            (failed, minute, "node \"a\": no such operator"),
            ("echo boom >&2; kill -ABRT $$", minute, "crashed with signal 6 (SIGABRT): boom"),
            ("echo boom >&2; exit 3", minute, "ended with code 3 and no report: boom"),
            ("exit 0", minute, "ended with code 0 and no report"),
            ("echo nonsense", minute, "ended with code 0 and no report"),
            ("exec sleep 600", Duration::from_millis(50), "killed after 50ms (time limit)"),
        ];
        for (script, time_max, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let preflight = scripted(&folder, script, time_max);
            assert_eq!(preflight.try_candidate(&candidate()), Err(expected.to_owned()), "{script}");
        }
        let folder = tempfile::tempdir().unwrap();
        let preflight = scripted(&folder, passed, minute);
        assert_eq!(preflight.try_candidate(&candidate()).unwrap().signature, "s");
        // Remembered: the child would not even start now.
        std::fs::remove_file(&preflight.exe).unwrap();
        assert!(preflight.try_candidate(&candidate()).is_ok());
    }

    #[test]
    fn a_child_that_grows_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut preflight = scripted(&folder, "exec sleep 600", Duration::from_secs(60));
        preflight.memory_bytes_max = 1;
        let why = preflight.try_candidate(&candidate()).unwrap_err();
        assert!(why.starts_with("killed at ") && why.ends_with("(memory limit)"), "{why}");
    }

    #[test]
    fn stopping_ends_children() {
        let folder = tempfile::tempdir().unwrap();
        let preflight = scripted(&folder, "exec sleep 600", Duration::from_secs(60));
        preflight.stop();
        let why = preflight.try_candidate(&candidate()).unwrap_err();
        assert_eq!(why, "ended because the gateway stops");
    }

    #[test]
    fn only_the_last_words_are_kept() {
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"a\nb\nc\nd\nnote: run with RUST_BACKTRACE=1\n\n"), ": b; c; d");
        assert_eq!(last_bytes(&vec![b'x'; 10_000][..]).len(), STDERR_BYTES_MAX);
        assert_eq!(first_bytes(&vec![b'x'; 3 << 20][..]).len(), REPORT_BYTES_MAX);
    }
}
