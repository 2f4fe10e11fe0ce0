//! `foreshadow alerts`: is there something that somebody should look at?

use clap::{Args, ValueEnum};

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::figures::NONE;
use crate::cli::history::second;
use crate::cli::output;
use crate::cli::reply::{Alert, Alerts};
use crate::cli::table::Sheet;

/// Show what somebody should look at.
#[derive(Debug, Args)]
#[command(after_help = "\
A condition that holds is pending until it has lasted for `[alerts] pending`; then its
alert fires, until the condition was gone for `clear_after`. A level that has changed all
at once fires without waiting. What was resolved is shown for an hour. What fires and
what is resolved stands in the history, too.

Examples:
  foreshadow alerts
  foreshadow alerts --state firing --json")]
pub(super) struct AlertsArgs {
    /// Only those in this state
    #[arg(long)]
    state: Option<AlertState>,
    #[command(flatten)]
    client: ClientArgs,
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlertState {
    Pending,
    Firing,
    Resolved,
}

impl AlertState {
    const fn query(self) -> &'static str {
        match self {
            Self::Pending => "?state=pending",
            Self::Firing => "?state=firing",
            Self::Resolved => "?state=resolved",
        }
    }
}

pub(super) async fn run(args: &AlertsArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let query = args.state.map_or("", AlertState::query);
    let reply = admin.get_json(&format!("/v1/alerts{query}")).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&render(&admin.parse(reply)?));
    Ok(())
}

/// A line for each, and what stands in none.
fn render(alerts: &Alerts) -> String {
    let mut parts = Vec::new();
    if alerts.alerts.is_empty() {
        parts.push("no alerts".to_owned());
    } else {
        let mut sheet = Sheet::new(&["state", "alert", "model", "version", "since", ""]);
        alerts.alerts.iter().for_each(|alert| sheet.row(row(alert)));
        parts.push(sheet.render());
    }
    let counts = [
        (alerts.passed_over, "conditions hold and are not followed: there are too many alerts"),
        (alerts.unrecorded, "changes of alerts wait to be written into the history"),
        (alerts.dropped, "changes of alerts stand in no history: too many waited"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    parts.extend(told.map(|(count, what)| format!("{count} {what}")));
    parts.join("\n")
}

fn row(alert: &Alert) -> [String; 6] {
    [
        alert.state.clone(),
        alert.alert.clone(),
        alert.model.clone().unwrap_or_else(|| NONE.to_owned()),
        alert.version.map_or_else(|| NONE.to_owned(), |version| version.to_string()),
        second(&alert.since),
        alert.says.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(reply: serde_json::Value) -> String {
        render(&serde_json::from_value(reply).unwrap())
    }

    #[test]
    fn each_alert_has_its_line() {
        let none = json!({"alerts": [], "passed_over": 0, "unrecorded": 0, "dropped": 0});
        assert_eq!(rendered(none), "no alerts");
        let text = rendered(json!({
            "alerts": [
                {"alert": "errors", "model": "churn", "version": null, "state": "firing",
                 "says": "6.0% of 1000 requests failed", "value": 0.06, "limit": 0.05,
                 "since": "2026-01-02T03:04:05.678Z", "fired": null, "resolved": null},
                {"alert": "store", "model": null, "version": null, "state": "pending",
                 "says": "changes cannot be recorded", "value": null, "limit": null,
                 "since": "2026-01-02T03:04:05Z", "fired": null, "resolved": null}],
            "passed_over": 3, "unrecorded": 0, "dropped": 1,
        }));
        let words: Vec<Vec<_>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["STATE", "ALERT", "MODEL", "VERSION", "SINCE"]);
        assert_eq!(words[1][..5], ["firing", "errors", "churn", "-", "2026-01-02T03:04:05Z"]);
        assert_eq!(words[2][..4], ["pending", "store", "-", "-"]);
        assert!(text.contains("\n3 conditions hold"), "{text}");
        assert!(text.ends_with("\n1 changes of alerts stand in no history: too many waited"));
        assert!(!text.contains("wait to be written"), "{text}");
    }
}
