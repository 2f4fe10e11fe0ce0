//! The real program: started, spoken to, stopped.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_foreshadow");

/// A running `foreshadow serve`. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    pub(crate) inference: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// `foreshadow` with no setting from this process's environment.
pub(crate) fn command(args: &[&str]) -> Command {
    command_by(&[BINARY], args)
}

/// The same by other words than the program's name.
fn command_by(words: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FORESHADOW_") {
            command.env_remove(name);
        }
    }
    command.args(&words[1..]).args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Starts `serve` over a repository, on ports of the system's choice, and
/// reads where it listens from what it prints.
pub(crate) fn serve(models: &Path, state: &Path, settings: &[(&str, &str)]) -> Program {
    serve_by(&[BINARY], models, state, settings)
}

/// The same by other words than the program's name, which become it at the end.
pub(crate) fn serve_by(
    words: &[&str],
    models: &Path,
    state: &Path,
    settings: &[(&str, &str)],
) -> Program {
    let mut command = command_by(words, &["serve", "--models", models.to_str().unwrap()]);
    command
        .env("FORESHADOW_SERVER_LISTEN", "127.0.0.1:0")
        .env("FORESHADOW_GRPC_LISTEN", "127.0.0.1:0")
        .env("FORESHADOW_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FORESHADOW_REPOSITORY_STATE", state)
        .envs(settings.iter().copied())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut address = |name: &str| loop {
        let mut line = String::new();
        assert!(
            stdout.read_line(&mut line).unwrap() > 0,
            "it ended before it said where it listens"
        );
        let rest = line.trim().strip_prefix(name).map(str::trim);
        if let Some(url) = rest.and_then(|rest| rest.strip_prefix("http://")) {
            break url.split_whitespace().next().unwrap().parse().unwrap();
        }
    };
    let (inference, admin) = (address("inference"), address("admin"));
    Program { child, stdout, inference, admin }
}

/// The child processes that a process has now, by their ids.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let parent = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name in parentheses: the state, then the parent.
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let names = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let ids = names.filter_map(|name| name.to_str()?.parse().ok());
    ids.filter(|id| parent(*id) == Some(of)).collect()
}

impl Program {
    /// Reads stdout up to the first line that begins so, and returns it.
    pub(crate) fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "no line begins with {start:?}");
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// The child processes that it has now, by their ids.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Sends a signal by its name, as a shell would.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for its end; the exit code and the rest of stdout.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
