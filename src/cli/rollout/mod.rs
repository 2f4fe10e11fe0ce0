//! `foreshadow rollout`: brings a version in by evidence.

mod forecast;
mod render;
mod replay;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::client::{Admin, ClientArgs};
use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, ModelArg, VersionArg, output};
use render::{Rollout, RolloutList};

/// How often a rollout that is followed is asked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Bring a version in: shadow, canary, champion, by evidence.
#[derive(Debug, Args)]
#[command(after_help = "\
A rollout walks its stages by itself. A version that is shown to be worse is taken
out at once; one that is shown not to be worse goes on; a stage that cannot tell
within its longest time stops and waits for you.

Examples:
  foreshadow rollout plan churn 3                how long will it take at this traffic
  foreshadow rollout start churn 3 --reason \"retrained on October\"
  foreshadow rollout status churn --follow
  foreshadow rollout abort churn --reason \"wrong features\"")]
pub(super) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Begin to bring a version in
    Start(StartArgs),
    /// Show the newest rollout of a model, and what it is judged by
    Status(StatusArgs),
    /// Show the newest rollouts of a model
    List(ListArgs),
    /// Let it wait where it is; harm that is shown still ends it
    Pause(StepArgs),
    /// Let it go on; one that had stopped gets its stage's time again
    Resume(StepArgs),
    /// End it, and take the version out of its role
    Abort(StepArgs),
    /// Go to the next stage without waiting for evidence; needs --reason
    Skip(StepArgs),
    /// Promote without waiting for evidence, and watch; needs --reason
    Promote(StepArgs),
    /// Approve of the promotion, as somebody else than who began it
    Approve(StepArgs),
    /// Add a remark to its log
    Comment(CommentArgs),
    /// Tell how long each stage will take at the present traffic
    Plan(PlanArgs),
    /// Make every decision of a rollout again, from what was recorded of it
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    #[command(flatten)]
    which: VersionArg,
    /// A file with what this rollout does differently: the keys of [rollout] in
    /// model.toml
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    #[command(flatten)]
    options: ChangeOptions,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    which: ModelArg,
    /// Show it again and again until it has ended
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    which: ModelArg,
    /// The most rollouts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct StepArgs {
    #[command(flatten)]
    which: ModelArg,
    #[command(flatten)]
    options: ChangeOptions,
}

#[derive(Debug, Args)]
struct CommentArgs {
    #[command(flatten)]
    which: ModelArg,
    /// The remark
    text: String,
    #[command(flatten)]
    options: ChangeOptions,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    which: VersionArg,
    /// A file with what the rollout would do differently
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The rollout's number
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &RolloutArgs) -> Result<(), Failure> {
    match &args.command {
        RolloutCommand::Start(args) => start(args).await,
        RolloutCommand::Status(args) => status(args).await,
        RolloutCommand::List(args) => list(args).await,
        RolloutCommand::Pause(args) => step(args, "pause").await,
        RolloutCommand::Resume(args) => step(args, "resume").await,
        RolloutCommand::Abort(args) => step(args, "abort").await,
        RolloutCommand::Skip(args) => step(args, "skip").await,
        RolloutCommand::Promote(args) => step(args, "promote").await,
        RolloutCommand::Approve(args) => step(args, "approve").await,
        RolloutCommand::Comment(args) => comment(args).await,
        RolloutCommand::Plan(args) => plan(args).await,
        RolloutCommand::Replay(args) => replay(args).await,
    }
}

async fn start(args: &StartArgs) -> Result<(), Failure> {
    let VersionArg { model, version } = &args.which;
    let overrides = overrides(args.with.as_ref())?;
    let fields = json!({"version": version, "overrides": overrides});
    ask(&args.options, &format!("/v1/models/{model}/rollout"), fields).await
}

async fn step(args: &StepArgs, what: &str) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/rollout/{what}", args.which.model);
    ask(&args.options, &path, json!({})).await
}

async fn comment(args: &CommentArgs) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/rollout/comments", args.which.model);
    ask(&args.options, &path, json!({"text": args.text})).await
}

/// Asks for a step, and shows the rollout as it stands then.
async fn ask(options: &ChangeOptions, path: &str, fields: Value) -> Result<(), Failure> {
    let admin = options.client.connect()?;
    let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
    let body = options.change.body(fields);
    let reply = admin.send(Method::POST, path, Some(body)).await?;
    show(&admin, &options.client, reply)
}

fn show(admin: &Admin, client: &ClientArgs, reply: Value) -> Result<(), Failure> {
    if client.json {
        return output::print_json(&reply);
    }
    output::print(&admin.parse::<Rollout>(reply)?.render());
    Ok(())
}

async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let path = format!("/v1/models/{}/rollout", args.which.model);
    let mut shown = None;
    loop {
        let reply = admin.get_json(&path).await?;
        let rollout: Rollout = admin.parse(reply.clone())?;
        if !args.follow || args.client.json {
            return show(&admin, &args.client, reply);
        }
        let text = rollout.render();
        if shown.as_ref() != Some(&text) {
            // On a terminal the newest state stands alone.
            if shown.is_some() && std::io::stdout().is_terminal() {
                output::clear();
            }
            output::print(&text);
            shown = Some(text);
        }
        if !rollout.is_open() {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let path = format!("/v1/models/{}/rollouts?limit={}", args.which.model, args.limit);
    let reply = admin.get_json(&path).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&admin.parse::<RolloutList>(reply)?.render());
    Ok(())
}

async fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let VersionArg { model, version } = &args.which;
    let path = format!("/v1/models/{model}/rollout/plan");
    let body = json!({"version": version, "overrides": overrides(args.with.as_ref())?});
    let reply = admin.send(Method::POST, &path, Some(body)).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&admin.parse::<forecast::Forecast>(reply)?.render());
    Ok(())
}

async fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let reply = admin.get_json(&format!("/v1/rollouts/{}/replay", args.id)).await?;
    let replayed: replay::Replayed = admin.parse(reply.clone())?;
    if args.client.json {
        output::print_json(&reply)?;
    } else {
        output::print(&replayed.render());
    }
    if replayed.same {
        return Ok(());
    }
    Err(Failure::failed(format!("rollout {} does not come out as it was recorded", args.id)))
}

/// What a file says, as the API takes it. The gateway checks it.
fn overrides(file: Option<&PathBuf>) -> Result<Value, Failure> {
    let Some(file) = file else { return Ok(json!({})) };
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let overrides: crate::types::RolloutOverrides =
        toml::from_str(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    serde_json::to_value(overrides).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}
