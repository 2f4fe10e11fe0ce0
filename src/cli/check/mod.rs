//! `foreshadow check`: tries versions as the gateway would, without one.

mod junit;
mod text;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::ByteSize;
use crate::engine::{EngineSet, EngineSettings};
use crate::error::{ErrorCode, Result};
use crate::registry::preflight::{ChildPreflight, Preflight as _};
use crate::registry::{self, CheckSettings, Checked};

/// How long a signal waits for the child's end.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Check versions as the gateway would before they may serve, without a gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
DIR is a version's folder (models/churn/3), a model's, or a folder of models.
Each version is tried in a child process under the limits, with the settings of
its model.toml: it must load and warm up, answer its golden.json, keep the
champion's signature and be as quick as cost_max asks.

Exit codes: 0 all passed; 1 a version failed; 2 nothing to check, or wrong
usage; 130 ended by Ctrl-C.

Examples:
  foreshadow check models/churn/3
  foreshadow check models --format junit --output report.xml
  foreshadow check build/model --against models/churn/2 --time-max 30s")]
pub(super) struct CheckArgs {
    /// A version's folder, a model's, or a folder of models
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The version whose signature must be kept [default: the champion in [start] of model.toml]
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// The engine, instead of the one that the files name
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// The shared library of ONNX Runtime, for versions that run on it
    #[arg(
        long,
        value_name = "FILE",
        env = "FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY",
        hide_env_values = true
    )]
    onnxruntime_library: Option<PathBuf>,
    /// CPU time that a version's trial may take, and ten times as much of the
    /// clock
    #[arg(
        long,
        value_name = "TIME",
        env = "FORESHADOW_PREFLIGHT_TIME_MAX",
        hide_env_values = true,
        default_value = "60s",
        value_parser = positive_time
    )]
    time_max: Duration,
    /// Memory that it may use
    #[arg(
        long,
        value_name = "SIZE",
        env = "FORESHADOW_PREFLIGHT_MEMORY_MAX",
        hide_env_values = true,
        default_value = "2GiB"
    )]
    memory_max: ByteSize,
    /// The largest artifact
    #[arg(
        long,
        value_name = "SIZE",
        env = "FORESHADOW_REPOSITORY_ARTIFACT_MAX",
        hide_env_values = true,
        default_value = "2GiB"
    )]
    artifact_max: ByteSize,
    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where it is written; the text then goes to stdout all the same
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl CheckArgs {
    /// Where the library of ONNX Runtime is: others have a variable for it.
    fn onnxruntime(&self) -> Option<PathBuf> {
        let common = || std::env::var_os(crate::config::LIBRARY_VARIABLE).map(PathBuf::from);
        self.onnxruntime_library.clone().or_else(common)
    }
}

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Everything that was found out
    Json,
    /// For CI servers
    Junit,
}

fn positive_time(text: &str) -> std::result::Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("expected more than zero".to_owned()) } else { Ok(time) }
}

/// Carries it out. The exit code is the verdict.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    match check(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            output::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Whether all passed.
fn check(args: &CheckArgs) -> std::result::Result<bool, Failure> {
    let checked = until_done_or_signal(args)?.map_err(|error| match error.code() {
        ErrorCode::InvalidArgument => Failure::usage(error.message()),
        _ => Failure::failed(error.message()),
    })?;
    let shown = render(&checked, args.format)?;
    match &args.output {
        Some(file) => {
            write(file, &shown)?;
            output::print(&text::render(&checked));
        }
        None if args.format == Format::Text => output::print(&shown),
        None => output::print_as_it_is(&shown),
    }
    Ok(checked.iter().all(|checked| checked.passed))
}

#[derive(Serialize)]
struct Json<'a> {
    passed: bool,
    versions: &'a [Checked],
}

fn render(checked: &[Checked], format: Format) -> std::result::Result<String, Failure> {
    let cannot = |error: String| Failure::failed(format!("the result cannot be written: {error}"));
    match format {
        Format::Text => Ok(text::render(checked)),
        Format::Json => {
            let passed = checked.iter().all(|checked| checked.passed);
            serde_json::to_string_pretty(&Json { passed, versions: checked })
                .map_err(|error| cannot(error.to_string()))
        }
        Format::Junit => junit::render(checked).map_err(|error| cannot(error.to_string())),
    }
}

/// Whole or not at all: a CI server may read it while it is written.
fn write(file: &Path, text: &str) -> std::result::Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).and_then(
        |mut temporary| {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o644);
            temporary.as_file().set_permissions(mode)?;
            writeln!(temporary, "{}", text.trim_end_matches('\n'))?;
            temporary.persist(file).map(drop).map_err(|error| error.error)
        },
    );
    written
        .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", file.display())))
}

/// Checks on a thread of its own, so that a signal ends the child, too.
fn until_done_or_signal(args: &CheckArgs) -> std::result::Result<Result<Vec<Checked>>, Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot)?;
    let _entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let engines = EngineSettings { onnxruntime_library: args.onnxruntime() };
    let preflight = ChildPreflight::new(args.memory_max.get(), args.time_max);
    let preflight = Arc::new(preflight.with_engines(&engines));
    let mut result = spawn(args, &engines, Arc::clone(&preflight)).map_err(cannot)?;
    runtime.block_on(async {
        let signal = tokio::select! {
            checked = &mut result => {
                return checked.map_err(|_| Failure::failed("the check panicked"));
            }
            signal = either(&mut interrupt, &mut terminate) => signal,
        };
        preflight.stop();
        let _ = tokio::time::timeout(STOP_MAX, result).await;
        Err(Failure::signal(signal))
    })
}

/// Which of the two came.
async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => libc::SIGINT,
        _ = terminate.recv() => libc::SIGTERM,
    }
}

fn spawn(
    args: &CheckArgs,
    engines: &EngineSettings,
    preflight: Arc<ChildPreflight>,
) -> std::io::Result<oneshot::Receiver<Result<Vec<Checked>>>> {
    let settings = CheckSettings {
        against: args.against.clone(),
        engine: args.engine.clone(),
        artifact_bytes_max: args.artifact_max.get(),
    };
    let (folder, engines) = (args.folder.clone(), EngineSet::standard(engines));
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("check".into()).spawn(move || {
        let each = |label: &str| output::progress(&format!("checking {label}"));
        let checked = registry::check(&folder, &settings, &engines, preflight, each);
        // Who asked may have been told to end.
        let _ = done.send(checked);
    })?;
    Ok(result)
}
