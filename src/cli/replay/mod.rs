//! `foreshadow replay`: captured requests, run on a version without a gateway.

mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::app::{Replaying, replay};
use crate::cli::failure::Failure;
use crate::cli::offline::{Place, RepositoryArgs, until_done_or_signal};
use crate::cli::output;

/// Run captured requests on a version, and compare its answers with those that were given.
#[derive(Debug, Args)]
#[command(after_help = "\
Captures are what a gateway stores of a model with [capture] in its model.toml. Each
request is run as it came, and the answers are compared as a shadow's are with its
champion's: by the label, else by the class with the highest score, else by the number
within the tolerance of model.toml. The interval holds the share of requests that
disagree with 95 % confidence, as long as they are requests like others.

Exit codes: 0 compared, whatever came of it; 1 a file is not whole, is of another
signature, or lacks what the version takes; 2 no such version, or wrong usage; 130 ended
by Ctrl-C.

Examples:
  foreshadow replay .foreshadow/captures/churn/*.parquet --against churn/4
  foreshadow replay capture.parquet --against churn/4 --models /srv/models --json")]
pub(super) struct ReplayArgs {
    /// Captured files; run in this order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The model and the version that is run, as in churn/4
    #[arg(long, value_name = "MODEL/VERSION")]
    against: Place,
    /// The most rows that differ which are shown
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    examples: usize,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repository: RepositoryArgs,
}

/// The most examples that are kept.
const EXAMPLES_MAX: usize = 10_000;

/// Carries it out.
pub(super) fn run(args: ReplayArgs) -> ExitCode {
    super::exit_code(until_done_or_signal("replay", move || carry_out(&args)).flatten())
}

fn carry_out(args: &ReplayArgs) -> Result<(), Failure> {
    let opened = args.repository.open(&args.against)?;
    let found = replay(&Replaying {
        files: &args.files,
        graph: &*opened.graph,
        settings: &opened.settings,
        examples_max: args.examples.min(EXAMPLES_MAX),
    });
    let found = found.map_err(Failure::failed)?;
    if args.json {
        let shown = serde_json::to_value(&found);
        let shown = shown.map_err(|error| Failure::failed(format!("cannot be shown: {error}")))?;
        return output::print_json(&shown);
    }
    let against = format!("{}/{}", args.against.model, args.against.version);
    output::print(&text::render(&found, args.files.len(), &against));
    Ok(())
}
