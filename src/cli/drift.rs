//! `foreshadow drift`: do today's rows look like those that the versions were made for?

use clap::Args;
use http::Method;
use serde_json::{Map, json};

use crate::cli::failure::Failure;
use crate::cli::figures::{NONE, difference};
use crate::cli::reply::{DriftAgainst, DriftColumn, DriftRates, DriftVersion, Drifts};
use crate::cli::table::Sheet;
use crate::cli::{ChangeOptions, ModelArg, output};
use crate::types::VersionId;

/// Show whether today's rows look like those that a model was made for.
#[derive(Debug, Args)]
#[command(mut_arg("reason", |reason| reason.requires("relearn")))]
#[command(mut_arg("actor", |actor| actor.requires("relearn")))]
#[command(after_help = "\
Each window of rows is compared with the version's profile.json, or with what it
learnt from its first rows. PSI is the population stability index; a column moved
if it exceeds its bound and is no chance, and drifts if it did so three windows
in a row. The rates are shares of the window's rows, with the profile's behind them.

A canary is compared with its champion, too, in the same time and the same bins. Both
get a share of the same traffic by lot, so inputs should be alike; where outputs are
not, the canary answers otherwise. Columns are then apart, and different after three
windows in a row; JS is the Jensen-Shannon divergence in bits, and p how often such a
difference comes by chance.

With --relearn the version forgets what it learnt, and learns its profile from the
rows that it answers from now on.

Examples:
  foreshadow drift churn
  foreshadow drift churn --relearn 3 --reason \"it had learnt from a test\"
  foreshadow drift churn --json")]
pub(super) struct DriftArgs {
    #[command(flatten)]
    which: ModelArg,
    /// Have this version learn its profile anew
    #[arg(long, value_name = "VERSION")]
    relearn: Option<VersionId>,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &DriftArgs) -> Result<(), Failure> {
    let ChangeOptions { client, change } = &args.options;
    let admin = client.connect()?;
    let path = format!("/v1/models/{}/drift", args.which.model);
    let reply = match args.relearn {
        None => admin.get_json(&path).await?,
        Some(version) => {
            let fields = Map::from_iter([("version".to_owned(), json!(version))]);
            let path = format!("{path}/relearn");
            admin.send(Method::POST, &path, Some(change.body(fields))).await?
        }
    };
    if client.json {
        return output::print_json(&reply);
    }
    let drifts: Drifts = admin.parse(reply)?;
    output::print(&render(&drifts));
    Ok(())
}

/// Each version with its columns.
pub(super) fn render(drifts: &Drifts) -> String {
    if drifts.versions.is_empty() {
        return "No version is loaded and watched.\n".to_owned();
    }
    let versions: Vec<_> = drifts.versions.iter().map(one).collect();
    format!("{}\n", versions.join("\n\n"))
}

fn one(version: &DriftVersion) -> String {
    let mut lines = vec![format!("version {}: {}", version.version, standing(version))];
    if let Some(last) = &version.last {
        lines.push(format!("last window: {} rows, {} to {}", last.rows, last.from, last.to));
    }
    if version.rows_passed_over > 0 {
        let rows = version.rows_passed_over;
        lines.push(format!("not looked at: {rows} rows of large requests"));
    }
    let mut parts = vec![lines.join("\n")];
    if version.last.is_some() {
        let mut sheet = Sheet::new(&[
            "",
            "column",
            "state",
            "psi",
            "bound",
            "missing",
            "out of range",
            "unseen",
        ]);
        for column in &version.columns {
            sheet.row(row(column));
        }
        parts.push(sheet.render());
    }
    if let Some(against) = &version.against_champion {
        parts.extend(against_champion(version, against));
    }
    parts.join("\n\n")
}

/// A canary beside its champion.
fn against_champion(canary: &DriftVersion, against: &DriftAgainst) -> Vec<String> {
    let (version, champion) = (canary.version, against.version);
    let head = format!("version {version} against champion {champion}");
    if let Some(problem) = &against.problem {
        return vec![format!("{head}: not compared: {problem}")];
    }
    let mut lines = vec![format!(
        "{head}: {} and {} of {} rows for the next window",
        against.window_rows, against.champion_window_rows, canary.window_rows_wanted
    )];
    if let Some(last) = &against.last {
        let (rows, champion_rows) = (last.rows, last.champion_rows);
        let (from, to) = (&last.from, &last.to);
        lines.push(format!("last window: {rows} and {champion_rows} rows, {from} to {to}"));
    }
    let others = against.not_comparable.iter();
    lines.extend(
        others
            .map(|other| format!("not compared: {} {}: {}", other.kind, other.name, other.reason)),
    );
    let mut parts = vec![lines.join("\n")];
    if against.last.is_some() {
        let mut sheet = Sheet::new(&["", "column", "state", "psi", "bound", "js", "p"]);
        for column in &against.columns {
            sheet.row([
                column.kind.clone(),
                column.name.clone(),
                stands(column),
                difference(column.psi),
                difference(column.bound),
                difference(column.js),
                difference(column.p_value),
            ]);
        }
        parts.push(sheet.render());
    }
    parts
}

/// Its state, or why there is none.
fn stands(column: &DriftColumn) -> String {
    column.reason.clone().unwrap_or_else(|| column.state.clone())
}

fn standing(version: &DriftVersion) -> String {
    if let Some(problem) = &version.problem {
        return format!("not watched: {problem}");
    }
    if let Some(learnt) = &version.learnt {
        return format!("learns its profile: {} of {} rows", learnt.rows, learnt.rows_wanted);
    }
    if version.standing == "off" {
        return "off: its model.toml says [monitor] drift = false".to_owned();
    }
    let Some(reference) = &version.reference else {
        return "not watched: it has no profile, and learns none".to_owned();
    };
    format!(
        "{} of {} rows for the next window; compared with {} ({} rows, {})",
        version.window_rows,
        version.window_rows_wanted,
        reference.source,
        reference.rows,
        reference.created
    )
}

fn row(column: &DriftColumn) -> [String; 8] {
    let (now, then) = (&column.window, &column.reference);
    let empty = |rates: &DriftRates| rates.missing + rates.nan;
    [
        column.kind.clone(),
        column.name.clone(),
        stands(column),
        difference(column.psi),
        difference(column.bound),
        rates(empty(now), empty(then)),
        rates(now.out_of_range, then.out_of_range),
        rates(now.unseen, then.unseen),
    ]
}

/// A share, and what it was: `4.1 % (2.0 %)`.
fn rates(now: f64, then: f64) -> String {
    if now == 0.0 && then == 0.0 {
        return NONE.to_owned();
    }
    format!("{:.1} % ({:.1} %)", now * 100.0, then * 100.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(version: serde_json::Value) -> String {
        render(&serde_json::from_value(json!({ "versions": [version] })).unwrap())
    }

    #[test]
    fn a_version_tells_how_far_it_is() {
        let base = json!({
            "version": 3, "standing": "resting", "window_rows": 12, "window_rows_wanted": 1000, "rows_passed_over": 0,
            "columns": [],
        });
        let with = |more: serde_json::Value| {
            let mut version = base.clone();
            version.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rendered(version)
        };
        let cases = [
            (
                json!({"problem": "profile.json: EOF"}),
                "version 3: not watched: profile.json: EOF\n",
            ),
            (
                json!({"learnt": {"rows": 7, "rows_wanted": 5000}}),
                "version 3: learns its profile: 7 of 5000 rows\n",
            ),
            (
                json!({"reference": {"source": "train.csv", "created": "2026", "rows": 9}}),
                "version 3: 12 of 1000 rows for the next window; compared with train.csv (9 rows, \
                 2026)\n",
            ),
            (
                json!({"standing": "off"}),
                "version 3: off: its model.toml says [monitor] drift = false\n",
            ),
            (json!({}), "version 3: not watched: it has no profile, and learns none\n"),
        ];
        for (more, expected) in cases {
            assert_eq!(with(more), expected);
        }
        assert_eq!(render(&Drifts { versions: vec![] }), "No version is loaded and watched.\n");
    }

    #[test]
    fn each_column_has_its_line() {
        let rates = |missing: f64| json!({"missing": missing, "nan": 0.0, "out_of_range": 0.0, "unseen": 0.0});
        let text = rendered(json!({
            "version": 3, "standing": "counting", "window_rows": 0, "window_rows_wanted": 1000, "rows_passed_over": 5,
            "reference": {"source": "train.csv", "created": "2026", "rows": 9},
            "last": {"rows": 1200, "from": "a", "to": "b"},
            "columns": [
                {"kind": "input", "name": "age", "state": "drifting", "psi": 0.5, "bound": 0.1,
                 "reference": rates(0.02), "window": rates(0.061)},
                {"kind": "output", "name": "label", "state": "waiting", "reason": "too few",
                 "reference": rates(0.0), "window": rates(0.0)},
            ],
        }));
        for part in [
            "last window: 1200 rows, a to b",
            "not looked at: 5 rows",
            "age",
            "drifting",
            "0.500",
            "6.1 % (2.0 %)",
            "too few",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_canary_is_told_against_its_champion() {
        let canary = |against: serde_json::Value| {
            rendered(json!({
                "version": 3, "standing": "resting", "window_rows": 0, "window_rows_wanted": 1000, "rows_passed_over": 0,
                "columns": [], "against_champion": against,
            }))
        };
        let none = json!({
            "version": 2, "problem": "it learns", "window_rows": 0, "champion_window_rows": 0,
            "columns": [], "not_comparable": [],
        });
        let says = "version 3: not watched: it has no profile, and learns none\n\n\
                    version 3 against champion 2: not compared: it learns\n";
        assert_eq!(canary(none), says);
        let rates = json!({"missing": 0.0, "nan": 0.0, "out_of_range": 0.0, "unseen": 0.0});
        let text = canary(json!({
            "version": 2, "window_rows": 12, "champion_window_rows": 340,
            "last": {"rows": 1003, "champion_rows": 19007, "from": "a", "to": "b"},
            "columns": [{"kind": "output", "name": "label", "state": "different", "psi": 0.5,
                         "bound": 0.1, "js": 0.08, "p_value": 1e-9, "reference": rates, "window": rates}],
            "not_comparable": [{"kind": "output", "name": "score", "reason": "no such tensor"}],
        }));
        for part in [
            "version 3 against champion 2: 12 and 340 of 1000 rows for the next window",
            "last window: 1003 and 19007 rows, a to b",
            "not compared: output score: no such tensor",
            "different",
            "0.500",
            "0.080",
            "1.0e-9",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
