//! The command line: `serve`, `check`, `profile`, `replay`, `audit`, `token`,
//! and the clients of the admin API.
//!
//! One file for each subcommand. A client command knows the gateway through
//! its admin API only, never through the process's own state, so that it
//! works against any gateway.
//!
//! Exit codes: 0 done; 1 refused or failed; 2 wrong usage or wrong settings;
//! 130 ended by Ctrl-C.

mod alerts;
mod anomalies;
mod audit;
mod canary;
mod check;
mod client;
mod compare;
mod data;
mod dataset;
mod drift;
mod failure;
mod feedback;
mod figures;
mod history;
mod models;
mod offline;
mod output;
mod preflight;
mod profile;
mod promote;
mod push;
mod quality;
mod replay;
mod reply;
mod report;
mod rollback;
mod rollout;
mod serve;
mod shadow;
mod show;
mod stream;
mod table;
mod token;
mod trial;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::types::{ModelName, VersionId};
use client::{ChangeArgs, ClientArgs};
use failure::Failure;

const EXAMPLES: &str = "\
Examples:
  foreshadow                                     serve ./models with defaults
  foreshadow serve --models /srv/models --listen 0.0.0.0:8000
  foreshadow serve --config gateway.toml --check-config
  foreshadow models                              what is there, and who answers
  foreshadow canary churn 2 --weight 5%          send 5 % of the requests to version 2
  foreshadow rollout start churn 2               bring version 2 in, by evidence
  foreshadow try churn --rate 200 --for 30s      send the sample's rows and compare
  foreshadow promote churn 2 --reason \"5 % looked good for a day\"
  foreshadow check models/churn/3                what a gateway would say of it, without one

Every setting can come from the environment too (FORESHADOW_SERVER_LISTEN, …);
`foreshadow serve --check-config` prints them all with their meaning.";

/// A low-latency serving gateway for ONNX models, with champion, canary and
/// shadow on the real traffic. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "foreshadow", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Models(models::ModelsArgs),
    Show(show::ShowArgs),
    Canary(canary::CanaryArgs),
    Shadow(shadow::ShadowArgs),
    Promote(promote::PromoteArgs),
    Rollback(rollback::RollbackArgs),
    Rollout(rollout::RolloutArgs),
    Compare(compare::CompareArgs),
    Drift(drift::DriftArgs),
    Anomalies(anomalies::AnomaliesArgs),
    Quality(quality::QualityArgs),
    Feedback(feedback::FeedbackArgs),
    Alerts(alerts::AlertsArgs),
    History(history::HistoryArgs),
    Audit(audit::AuditArgs),
    Token(token::TokenArgs),
    Try(trial::TryArgs),
    Push(push::PushArgs),
    Check(check::CheckArgs),
    Profile(profile::ProfileArgs),
    Replay(replay::ReplayArgs),
    Dataset(dataset::DatasetArgs),
    /// Tries one artifact under limits; started by the gateway itself.
    #[command(hide = true)]
    Preflight,
}

/// Parses the process's arguments and carries them out.
#[must_use]
pub fn main() -> ExitCode {
    // Prints help or the usage error itself, and exits with 0 or 2.
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Preflight => preflight::run(),
        Command::Check(args) => check::run(&args),
        Command::Profile(args) => profile::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Dataset(args) => dataset::run(args),
        command => exit_code(run_client(command)),
    }
}

fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Client commands wait for one answer at a time: one thread is enough.
fn run_client(command: Command) -> Result<(), Failure> {
    if let Command::Push(args) = &command {
        return push::run(args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::failed(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Models(args) => models::run(&args).await,
            Command::Show(args) => show::run(&args).await,
            Command::Canary(args) => canary::run(&args).await,
            Command::Shadow(args) => shadow::run(&args).await,
            Command::Promote(args) => promote::run(&args).await,
            Command::Rollback(args) => rollback::run(&args).await,
            Command::Rollout(args) => rollout::run(&args).await,
            Command::Compare(args) => compare::run(&args).await,
            Command::Drift(args) => drift::run(&args).await,
            Command::Anomalies(args) => anomalies::run(&args).await,
            Command::Feedback(args) => feedback::run(&args).await,
            Command::Quality(args) => quality::run(&args).await,
            Command::Alerts(args) => alerts::run(&args).await,
            Command::History(args) => history::run(&args).await,
            Command::Audit(args) => audit::run(&args).await,
            Command::Token(args) => token::run(&args).await,
            Command::Try(args) => trial::run(&args).await,
            Command::Serve(_)
            | Command::Push(_)
            | Command::Check(_)
            | Command::Profile(_)
            | Command::Replay(_)
            | Command::Dataset(_)
            | Command::Preflight => Ok(()),
        }
    })
}

/// A model, for commands that need nothing else.
#[derive(Debug, Args)]
struct ModelArg {
    /// The model's name.
    model: ModelName,
}

/// A model and one of its versions.
#[derive(Debug, Args)]
struct VersionArg {
    /// The model's name.
    model: ModelName,
    /// The version's number.
    version: VersionId,
}

/// What every command has that changes something.
#[derive(Debug, Args)]
struct ChangeOptions {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

#[cfg(test)]
mod tests;
