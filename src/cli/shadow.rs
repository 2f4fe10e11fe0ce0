//! `foreshadow shadow`: runs a version on copies of the champion's requests.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::canary::change;
use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, VersionArg};
use crate::types::Share;

/// Run a version on copies of the champion's requests; clients see nothing of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  foreshadow shadow churn 3
  foreshadow shadow churn 3 --sample 10%
  foreshadow shadow churn 3 --off")]
pub(super) struct ShadowArgs {
    #[command(flatten)]
    which: VersionArg,
    /// The share of the champion's requests that are copied
    #[arg(long, value_name = "SHARE", default_value = "100%", conflicts_with = "off")]
    sample: Share,
    /// Stop copying to it
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &ShadowArgs) -> Result<(), Failure> {
    let VersionArg { model, version } = &args.which;
    let path = format!("/v1/models/{model}/shadows/{version}");
    if args.off {
        let query = args.options.change.query();
        return change(&args.options, Method::DELETE, &format!("{path}{query}"), None).await;
    }
    change(&args.options, Method::PUT, &path, Some(json!({"sample": args.sample}))).await
}
