//! `foreshadow push`: puts a new version into the repository.

use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::{ModelName, VersionId};

/// Put a new version into the repository, whole or not at all, under the next number.
#[derive(Debug, Args)]
#[command(after_help = "\
This works on the folder; a gateway that watches it finds the version, tries
it, and then waits for you to give it a role.

Examples:
  foreshadow push churn model.onnx
  foreshadow push churn model.onnx --version-file version.toml --models /srv/models")]
pub(super) struct PushArgs {
    /// The model's name
    model: ModelName,
    /// The ONNX file
    file: PathBuf,
    /// Its lineage: code commit, data digest, metrics, notes
    #[arg(long, value_name = "FILE")]
    version_file: Option<PathBuf>,
    /// The folder of models
    #[arg(
        long,
        value_name = "DIR",
        env = "FORESHADOW_REPOSITORY_MODELS",
        hide_env_values = true,
        default_value = "models"
    )]
    models: PathBuf,
}

pub(super) fn run(args: &PushArgs) -> Result<(), Failure> {
    let version = deliver(args)?;
    output::print(&format!("{} {version}: pushed to {}", args.model, args.models.display()));
    Ok(())
}

/// The one place that calls the repository.
fn deliver(args: &PushArgs) -> Result<VersionId, Failure> {
    let _ = args;
    Err(Failure::failed("the repository is not wired yet"))
}
