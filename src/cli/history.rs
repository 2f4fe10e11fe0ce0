//! `foreshadow history`: the audit log.

use clap::Args;

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::reply::{Entry, History};
use crate::cli::table::Sheet;
use crate::types::ModelName;

/// Show what was changed, when, by whom and why; the newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  foreshadow history\n  foreshadow history churn --limit 5")]
pub(super) struct HistoryArgs {
    /// Only this model
    model: Option<ModelName>,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let path = match &args.model {
        Some(model) => format!("/v1/models/{model}/history"),
        None => "/v1/history".to_owned(),
    };
    let reply = admin.get_json(&format!("{path}?limit={}", args.limit)).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&render(&admin.parse::<History>(reply)?.entries));
    Ok(())
}

fn render(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing was changed yet".into();
    }
    let mut sheet = Sheet::new(&["#", "time", "model", "who", "what", "from", "to", "why"]);
    for entry in entries {
        sheet.row([
            entry.number.to_string(),
            second(&entry.time),
            entry.model.clone(),
            entry.actor.clone(),
            entry.action.clone(),
            entry.from.clone(),
            entry.to.clone(),
            entry.reason.clone().unwrap_or_default(),
        ]);
    }
    sheet.render()
}

/// A time without its fraction of a second.
fn second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}
