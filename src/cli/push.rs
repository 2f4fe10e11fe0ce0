//! `foreshadow push`: puts a new version into the repository.

use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::registry;
use crate::types::{ModelName, VersionId};

/// Put a new version into the repository, whole or not at all, under the next number.
#[derive(Debug, Args)]
#[command(after_help = "\
Files beside the ONNX file in which it keeps tensors (external data) are taken
along.

This works on the folder; a gateway that watches it finds the version, tries
it, and then waits for you to give it a role.

Examples:
  foreshadow push churn model.onnx
  foreshadow push churn build/
  foreshadow push churn model.onnx --version-file version.toml --models /srv/models")]
pub(super) struct PushArgs {
    /// The model's name
    model: ModelName,
    /// The ONNX file, or a folder with model.onnx and what belongs to it
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
    let version_file = args.version_file.as_deref();
    registry::push(&args.models, &args.model, &args.file, version_file)
        .map_err(|error| Failure::failed(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pushed_file_becomes_the_next_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, b"bytes").unwrap();
        let models = folder.path().join("models");
        std::fs::create_dir(&models).unwrap();
        let mut args = PushArgs {
            model: "churn".parse().unwrap(),
            file,
            version_file: None,
            models: models.clone(),
        };
        for number in ["1", "2"] {
            run(&args).unwrap();
            let pushed = models.join("churn").join(number).join("model.onnx");
            assert_eq!(std::fs::read(pushed).unwrap(), b"bytes");
        }
        args.models = folder.path().join("elsewhere");
        let failure = run(&args).unwrap_err().to_string();
        assert!(failure.contains("elsewhere does not exist"), "{failure}");
    }
}
