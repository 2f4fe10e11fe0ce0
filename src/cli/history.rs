//! `foreshadow history`: the audit log.

use std::time::Duration;

use clap::Args;

use crate::cli::client::{Admin, ClientArgs};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::reply::{Entry, History};
use crate::types::ModelName;

/// Show what was changed, when, by whom and why; the newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  foreshadow history\n  foreshadow history churn --limit 5\n  \
                        foreshadow history --follow --json | jq .action")]
pub(super) struct HistoryArgs {
    /// Only this model
    model: Option<ModelName>,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Show what is changed from now on, as it is; with --json a line each
    #[arg(long, conflicts_with = "limit")]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    if args.follow {
        return follow(args, &admin).await;
    }
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

/// The pause after a stream that gave nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// Until Ctrl-C, or until the gateway is gone.
async fn follow(args: &HistoryArgs, admin: &Admin) -> Result<(), Failure> {
    let model = args.model.as_ref().map_or_else(String::new, |model| format!("&model={model}"));
    let newest = admin.parse::<History>(admin.get_json("/v1/history?limit=1").await?)?;
    let mut after = newest.entries.first().map_or(0, |entry| entry.number);
    loop {
        let path = format!("/v1/events?after={after}{model}");
        let (mut events, before) = (admin.events(&path).await?, after);
        while let Some(data) = events.next().await? {
            let entry: Entry = admin.parse(serde_json::from_slice(&data).unwrap_or_default())?;
            after = entry.number;
            if args.client.json {
                output::print_as_it_is(&String::from_utf8_lossy(&data));
            } else {
                output::print(&self::entry(&entry));
            }
        }
        // The gateway ends a stream now and then: it goes on from where it was, and not
        // at once if it gave nothing.
        if after == before {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn render(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing was changed yet".into();
    }
    entries.iter().map(entry).collect::<Vec<_>>().join("\n\n")
}

/// An entry in two lines, or three if somebody said why.
fn entry(entry: &Entry) -> String {
    let Entry { number, model, actor, action, from, to, .. } = entry;
    // What is about no model is about the gateway itself, and changes no plan.
    let model = if model.is_empty() { "foreshadow" } else { model };
    let mut text = format!("#{number}  {}  {model}  {action}  (by {actor})", second(&entry.time));
    if !(from.is_empty() && to.is_empty()) {
        text.push_str(&format!("\n    {from} -> {to}"));
    }
    if let Some(reason) = &entry.reason {
        text.push_str(&format!("\n    {reason}"));
    }
    text
}

/// A time without its fraction of a second.
pub(super) fn second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_tell_what_who_and_why() {
        let of = |number, reason: Option<&str>| Entry {
            number,
            time: "2026-01-02T03:04:05.678Z".into(),
            model: "churn".into(),
            actor: "eve".into(),
            action: "promote 2".into(),
            reason: reason.map(str::to_owned),
            from: "champion 1".into(),
            to: "champion 2".into(),
        };
        assert_eq!(
            render(&[of(2, Some("a week as canary")), of(1, None)]),
            "#2  2026-01-02T03:04:05Z  churn  promote 2  (by eve)\n    champion 1 -> champion 2\n    \
             a week as canary\n\n#1  2026-01-02T03:04:05Z  churn  promote 2  (by eve)\n    \
             champion 1 -> champion 2"
        );
        assert_eq!(render(&[]), "nothing was changed yet");
    }
}
