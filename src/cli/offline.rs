//! What commands share that run a version without a gateway: where it is, and that a
//! signal ends them.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::failure::Failure;
use crate::config::ByteSize;
use crate::engine::{EngineSet, EngineSettings};
use crate::error::ErrorCode;
use crate::registry::{self, Opened};
use crate::types::thread::STACK_BYTES;
use crate::types::{ModelName, VersionId};

/// A version of a model.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) model: ModelName,
    pub(super) version: VersionId,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').ok_or("expected a model and a version, as in churn/3")?;
        let model = parts.0.parse().map_err(|error: crate::error::Error| error.to_string())?;
        let version = parts.1.parse().map_err(|error: crate::error::Error| error.to_string())?;
        Ok(Self { model, version })
    }
}

/// Where the versions are, and what runs them.
#[derive(Debug, Args)]
pub(super) struct RepositoryArgs {
    /// The folder of models
    #[arg(
        long,
        value_name = "DIR",
        env = "FORESHADOW_REPOSITORY_MODELS",
        hide_env_values = true,
        default_value = "models"
    )]
    models: PathBuf,
    /// The shared library of ONNX Runtime, for versions that run on it
    #[arg(
        long,
        value_name = "FILE",
        env = "FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY",
        hide_env_values = true
    )]
    onnxruntime_library: Option<PathBuf>,
    /// The largest artifact
    #[arg(
        long,
        value_name = "SIZE",
        env = "FORESHADOW_REPOSITORY_ARTIFACT_MAX",
        hide_env_values = true,
        default_value = "2GiB"
    )]
    artifact_max: ByteSize,
}

impl RepositoryArgs {
    /// Loads a version, as a gateway would.
    pub(super) fn open(&self, place: &Place) -> Result<Opened, Failure> {
        let common = || std::env::var_os(crate::config::LIBRARY_VARIABLE).map(PathBuf::from);
        let onnxruntime_library = self.onnxruntime_library.clone().or_else(common);
        let engines = EngineSet::standard(&EngineSettings { onnxruntime_library });
        let Place { model, version } = place;
        let opened =
            registry::open(&self.models, model, *version, &engines, self.artifact_max.get());
        opened.map_err(|error| match error.code() {
            ErrorCode::NotFound => Failure::usage(error.message()),
            _ => Failure::failed(error.message()),
        })
    }
}

/// Works on a thread of its own, with a stack as deep as graphs need. A signal ends the
/// wait for it, and from the first moment on no signal cuts a file in half.
pub(super) fn until_done_or_signal<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot)?;
    let _entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    thread
        .spawn(move || {
            // Who asked may have been told to end.
            let _ = done.send(work());
        })
        .map_err(cannot)?;
    runtime.block_on(async {
        tokio::select! {
            done = result => done.map_err(|_| {
                Failure::failed("the version or a file made it panic; see what is said above")
            }),
            _ = interrupt.recv() => Err(Failure::signal(libc::SIGINT)),
            _ = terminate.recv() => Err(Failure::signal(libc::SIGTERM)),
        }
    })
}
