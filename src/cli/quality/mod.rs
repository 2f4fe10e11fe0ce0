//! `foreshadow quality`: how good were the answers, now that their labels came?

mod reply;
mod text;

use clap::Args;

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::{ModelArg, output};

/// Show how good answers were, by the labels that came for them.
#[derive(Debug, Args)]
#[command(after_help = "\
Intervals (95 %) are in brackets; they may be looked at any time. Precision, recall
and F1 are of the second of two classes, else F1 is the mean over the classes. What
stands behind ~ is no measurement: it is what the model's own probabilities promise
for all rows, labelled or not. AUC is exact but for its ±.

Examples:
  foreshadow quality churn
  foreshadow quality churn --days 30 --groups
  foreshadow quality churn --json")]
pub(super) struct QualityArgs {
    #[command(flatten)]
    which: ModelArg,
    /// Look at the answers of so many days, today (UTC) among them
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Show the groups of model.toml, too, and how differently they are treated
    #[arg(long)]
    groups: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &QualityArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let path = format!("/v1/models/{}/quality?days={}", args.which.model, args.days);
    let reply = admin.get_json(&path).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    let quality: reply::Quality = admin.parse(reply)?;
    output::print(&text::render(&quality, args.groups));
    Ok(())
}
