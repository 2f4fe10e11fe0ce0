//! `foreshadow anomalies`: which rows are odd by what the versions were made for?

use clap::Args;

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::figures::NONE;
use crate::cli::reply::{Anomalies, AnomalyVersion, OddRow};
use crate::cli::table::Sheet;
use crate::cli::{ModelArg, output};

/// Show which rows are odd by what a model was made for.
#[derive(Debug, Args)]
#[command(after_help = "\
A row is odd if at most the share of rows that model.toml tells ([monitor] anomalies,
1% if it says nothing) of rows like the version's profile are as odd: by a value
beyond all of the profile's, a category that is unseen there, or inputs that lack
their values together. A score of 3 is one row in a thousand; it is rounded down to
halves, since a finer one would tell a number.

Examples:
  foreshadow anomalies churn
  foreshadow anomalies churn --json")]
pub(super) struct AnomaliesArgs {
    #[command(flatten)]
    which: ModelArg,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &AnomaliesArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let reply = admin.get_json(&format!("/v1/models/{}/anomalies", args.which.model)).await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    let anomalies: Anomalies = admin.parse(reply)?;
    output::print(&render(&anomalies));
    Ok(())
}

/// Each version with its newest odd rows.
fn render(anomalies: &Anomalies) -> String {
    if anomalies.versions.is_empty() {
        return "No version is loaded and watched.\n".to_owned();
    }
    let versions: Vec<_> = anomalies.versions.iter().map(one).collect();
    format!("{}\n", versions.join("\n\n"))
}

fn one(version: &AnomalyVersion) -> String {
    let Some(level) = version.level else {
        return format!("version {}: off: model.toml says anomalies = \"0%\"", version.version);
    };
    if version.standing != "counting" {
        let why = match (&version.problem, version.standing.as_str()) {
            (Some(problem), _) => problem,
            (None, "off") => "model.toml says drift = false",
            (None, "learning") => "its profile is being learnt",
            (None, _) => "it has no profile",
        };
        return format!("version {}: nothing is looked at: {why}", version.version);
    }
    let mut lines = vec![format!(
        "version {}: {} of {} rows were odd; of rows like its profile's at most {} % are",
        version.version,
        version.odd,
        version.rows,
        level * 100.0
    )];
    if let Some(least) = version.least.filter(|least| *least > level) {
        lines.push(format!(
            "its profile has few rows: only numbers beyond all of them can be odd, for all else it \
             tells no less than {:.2} %",
            least * 100.0
        ));
    }
    if !version.reasons.is_empty() {
        let reasons = version.reasons.iter().map(|one| format!("{} {}", one.rows, one.why));
        lines.push(format!("by: {}", reasons.collect::<Vec<_>>().join(", ")));
    }
    if version.newest.is_empty() {
        return lines.join("\n");
    }
    let mut sheet = Sheet::new(&["when", "prediction", "odd", "row", "score", "why", "input"]);
    version.newest.iter().for_each(|odd| sheet.row(row(odd)));
    format!("{}\n\n{}", lines.join("\n"), sheet.render())
}

fn row(odd: &OddRow) -> [String; 7] {
    [
        odd.at.clone(),
        odd.prediction_id.clone(),
        odd.odd.to_string(),
        odd.row.to_string(),
        format!("{:.1}", odd.score),
        odd.why.clone(),
        odd.input.clone().unwrap_or_else(|| NONE.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(version: serde_json::Value) -> String {
        render(&serde_json::from_value(json!({ "versions": [version] })).unwrap())
    }

    #[test]
    fn odd_rows_are_listed_with_what_makes_them_so() {
        let text = rendered(json!({
            "version": 3, "level": 0.01, "standing": "counting", "least": 0.02,
            "rows": 1000, "odd": 2,
            "reasons": [{"why": "above", "rows": 1}, {"why": "missing_together", "rows": 1}],
            "newest": [
                {"at": "2026-01-01T00:00:00.000Z", "prediction_id": "ab", "odd": 1, "row": 7, "score": 3.0,
                 "why": "above", "input": "age"},
                {"at": "2026-01-01T00:00:00.000Z", "prediction_id": "cd", "odd": 1, "row": 0, "score": 2.0,
                 "why": "missing_together", "input": null},
            ],
        }));
        for part in [
            "version 3: 2 of 1000 rows were odd; of rows like its profile's at most 1 % are",
            "by: 1 above, 1 missing_together",
            "for all else it tells no less than 2.00 %",
            "3.0",
            "age",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_off_or_has_none_says_so() {
        let version = |level: Option<f64>, standing: &str, problem: Option<&str>| {
            json!({"version": 1, "level": level, "standing": standing, "problem": problem,
                "least": 0.001, "rows": 9, "odd": 0, "reasons": [], "newest": []})
        };
        let none = version(Some(0.005), "counting", None);
        let expected =
            "version 1: 0 of 9 rows were odd; of rows like its profile's at most 0.5 % are\n";
        assert_eq!(rendered(none), expected);
        for (standing, problem, why) in [
            ("off", None, "model.toml says drift = false"),
            ("learning", None, "its profile is being learnt"),
            ("resting", None, "it has no profile"),
            ("resting", Some("it is broken"), "it is broken"),
        ] {
            let text = rendered(version(Some(0.01), standing, problem));
            assert_eq!(text, format!("version 1: nothing is looked at: {why}\n"));
        }
        let off = version(None, "off", None);
        assert_eq!(rendered(off), "version 1: off: model.toml says anomalies = \"0%\"\n");
    }
}
