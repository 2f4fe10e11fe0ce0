//! A child that runs, and what it says.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::registry::preflight::memory;
use crate::registry::preflight::report::REPORT_BYTES_MAX;
use crate::types::thread::cpu_time_of;

/// The longest line that is read: a report and the stage.
const LINE_BYTES_MAX: usize = REPORT_BYTES_MAX + (64 << 10);
/// Last bytes of what the child says on standard error that are kept.
const STDERR_BYTES_MAX: usize = 2048;
/// Lines of these that are shown.
const STDERR_LINES_MAX: usize = 3;

/// A child and the threads that read what it says. Dropping it kills it.
pub(super) struct Running {
    process: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `<exe> preflight`, and hands it the spec.
    pub(super) fn spawn(exe: &Path, spec: &[u8]) -> io::Result<Self> {
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
        running.stdout = stdout.map(|s| read(s, last_line)).transpose()?;
        running.stderr = stderr.map(|s| read(s, last_bytes)).transpose()?;
        if let Some(mut stdin) = stdin {
            // A child that ended already is found by its exit status.
            let _ = stdin.write_all(spec);
        }
        Ok(running)
    }

    /// Its exit status, if it has ended.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// What it has in memory now.
    pub(super) fn resident_bytes(&self) -> u64 {
        memory::resident_of(self.process.id()).unwrap_or(0)
    }

    /// CPU time that all of its threads have used so far.
    pub(super) fn cpu_time(&self) -> Duration {
        cpu_time_of(self.process.id()).unwrap_or_default()
    }

    /// Ends it.
    pub(super) fn kill(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The last line that it wrote, and its last words on standard error.
    /// Call after its end.
    pub(super) fn output(&mut self) -> (Vec<u8>, String) {
        let join = |reader: &mut Option<JoinHandle<Vec<u8>>>| {
            reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        (join(&mut self.stdout), tail(&join(&mut self.stderr)))
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

/// The last line of a stream that is whole and not too long; reads on to its
/// end, so that the writer is never held up.
fn last_line(source: impl Read) -> Vec<u8> {
    let mut source = BufReader::new(source);
    let (mut last, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match source.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(n) if n > 0 && line.ends_with(b"\n") => std::mem::swap(&mut last, &mut line),
            // Too long a line goes on; only its end may look like one.
            Ok(n) if n >= LINE_BYTES_MAX => last.clear(),
            _ => return last,
        }
    }
}

/// The last bytes of a stream.
fn last_bytes(mut source: impl Read) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(n) = source.read(&mut chunk)
        && n > 0
    {
        kept.extend_from_slice(&chunk[..n]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_words_are_kept() {
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"a\nb\nc\nd\nnote: run with RUST_BACKTRACE=1\n\n"), ": b; c; d");
        assert_eq!(last_bytes(&vec![b'x'; 10_000][..]).len(), STDERR_BYTES_MAX);
    }

    #[test]
    fn only_the_last_whole_line_is_kept() {
        assert_eq!(last_line(&b""[..]), b"");
        assert_eq!(last_line(&b"a\nb\nhalf"[..]), b"b\n");
        assert_eq!(last_line(&vec![b'x'; 3 * LINE_BYTES_MAX][..]), b"");
        let mut long = vec![b'x'; LINE_BYTES_MAX];
        long.extend(b"\nb\n");
        assert_eq!(last_line(&long[..]), b"b\n");
    }
}
