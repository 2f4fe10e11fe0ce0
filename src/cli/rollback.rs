//! `foreshadow rollback`: goes back to the previous champion.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::canary::change;
use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, ModelArg};

/// Make the previous champion the champion again, and take the canary out.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  foreshadow rollback churn --reason \"complaints since noon\"")]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    which: ModelArg,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &RollbackArgs) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/rollback", args.which.model);
    change(&args.options, Method::POST, &path, Some(json!({}))).await
}
