//! `foreshadow rollback`: goes back to the previous champion, or to a former state.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::canary::change;
use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, ModelArg};

/// Make the previous champion the champion again, and take the canary out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  foreshadow rollback churn --reason \"complaints since noon\"\n  \
                        foreshadow rollback churn --to 17"
)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    which: ModelArg,
    /// Make it as it was from this audit entry on (`foreshadow history` has the
    /// numbers): champion, canary and shadows
    #[arg(long, value_name = "ENTRY", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &RollbackArgs) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/rollback", args.which.model);
    let body = args.to.map_or_else(|| json!({}), |entry| json!({"entry": entry}));
    change(&args.options, Method::POST, &path, Some(body)).await
}
