//! `foreshadow promote`: makes a version the champion.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::canary::change;
use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, VersionArg};

/// Make a version the champion.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  foreshadow promote churn 2 --reason \"a week as canary\"")]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    which: VersionArg,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &PromoteArgs) -> Result<(), Failure> {
    let VersionArg { model, version } = &args.which;
    let path = format!("/v1/models/{model}/promote");
    change(&args.options, Method::POST, &path, Some(json!({"version": version}))).await
}
