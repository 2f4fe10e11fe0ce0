//! `foreshadow try`: sends a sample's rows to a model and compares who
//! answered.

mod load;
mod rows;
mod tally;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use http::Uri;
use serde_json::Value;

use crate::cli::client::{self, Admin, ClientArgs};
use crate::cli::failure::Failure;
use crate::cli::reply::Comparison;
use crate::cli::{compare, output};
use crate::types::ModelName;
use load::{Load, Target};
use tally::Tally;

/// How long the shadows may take to catch up before the comparison is shown.
const CATCH_UP: Duration = Duration::from_secs(5);
/// They have when nothing changed in so many looks: a busy machine may not
/// let them run for a while.
const SAME_LOOKS: u32 = 5;
/// The exit code of a process that Ctrl-C ended: 128 + SIGINT.
const ENDED_BY_SIGNAL: i32 = 130;

/// Send a sample's rows to a model at a steady rate, then compare who answered.
#[derive(Debug, Args)]
#[command(after_help = "\
Requests are sent when they are due, whether or not earlier ones were answered,
over at most --connections connections; one that had to wait for a free
connection counts from the moment it was due. Ctrl-C ends the sending early.

Examples:
  foreshadow try churn --rate 200 --for 30s
  foreshadow try churn --rows customers.json")]
pub(super) struct TryArgs {
    /// The model's name
    model: ModelName,
    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = length)]
    length: Duration,
    /// A JSON file {"instances": […]} [default: <models>/<model>/sample.json]
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// The folder of models, for the sample
    #[arg(
        long,
        value_name = "DIR",
        env = "FORESHADOW_REPOSITORY_MODELS",
        hide_env_values = true,
        default_value = "models"
    )]
    models: PathBuf,
    /// The most open connections
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Where the gateway answers requests
    #[arg(
        long,
        visible_alias = "url",
        value_name = "URL",
        env = "FORESHADOW_INFERENCE",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8000",
        value_parser = client::base_url
    )]
    inference: String,
    #[command(flatten)]
    client: ClientArgs,
}

fn length(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok();
    let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let parsed = parsed.filter(|length| bounds.contains(length));
    parsed.ok_or_else(|| "expected 1s to 1day, such as 30s".into())
}

pub(super) async fn run(args: &TryArgs) -> Result<(), Failure> {
    let default = || args.models.join(args.model.as_str()).join("sample.json");
    let bodies = rows::bodies(&args.rows.clone().unwrap_or_else(default))?;
    let admin = args.client.connect()?;
    let uri = format!("{}/predict/{}", args.inference, args.model);
    let uri: Uri = uri.parse().map_err(|error| Failure::usage(format!("{uri}: {error}")))?;
    let load = Load {
        rate: args.rate,
        length: args.length,
        connections: args.connections.into(),
        target: Target { uri, bodies },
    };
    let progress = |tally: &Tally, elapsed| output::progress(&tally.line(elapsed));
    let interrupted = async {
        // Where it cannot be watched, Ctrl-C ends the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let tally = load::run(load, interrupted, progress).await;
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(ENDED_BY_SIGNAL);
        }
    });
    if tally.answered() == 0 {
        return Err(Failure::failed(format!("no request was answered:\n{}", tally.errors())));
    }
    let path = format!("/v1/models/{}/compare", args.model);
    let reply = caught_up(&admin, &path).await.inspect_err(|_| {
        // What was seen is worth showing even if the gateway is gone.
        output::progress(&tally.render());
    })?;
    if args.client.json {
        return output::print_json(&serde_json::json!({"sent": tally.to_json(), "compare": reply}));
    }
    show(&tally, &admin.parse(reply)?);
    Ok(())
}

fn show(tally: &Tally, comparison: &Comparison) {
    output::print(&format!("\n{}\n", tally.render()));
    output::print(&compare::render(comparison));
}

/// The comparison, once the shadows have worked off what waits for them.
async fn caught_up(admin: &Admin, path: &str) -> Result<Value, Failure> {
    let started = Instant::now();
    let mut last = admin.get_json(path).await?;
    let mut same = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = admin.get_json(path).await?;
        same = if now["shadows"] == last["shadows"] { same + 1 } else { 0 };
        if same >= SAME_LOOKS || started.elapsed() > CATCH_UP {
            return Ok(now);
        }
        last = now;
    }
}
