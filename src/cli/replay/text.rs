//! What a replay found, for people.

use crate::app::{Example, Replay, ReplayValue, ReplayedVersion};
use crate::cli::figures::{count_and_rate, difference, seconds};
use crate::cli::table::Sheet;

/// The most values that are shown of a row's inputs, and of either answer.
const VALUES_SHOWN: usize = 12;

/// Everything.
pub(super) fn render(found: &Replay, files: usize, against: &str) -> String {
    let plural = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let files = plural(u64::try_from(files).unwrap_or(u64::MAX), "file");
    let (requests, rows) = (plural(found.requests, "request"), plural(found.rows, "row"));
    let mut text = format!("{}: {requests} ({rows}) of {files}, run on {against}\n", found.model);
    if found.versions.is_empty() {
        return text;
    }
    text += &format!("\n{}\n", versions(&found.versions));
    let [mean, p50, p99] =
        [found.inference_mean_seconds, found.inference_p50_seconds, found.inference_p99_seconds]
            .map(seconds);
    text += &format!("\nInference: mean {mean}, p50 {p50}, p99 {p99}\n");
    if let Some(failure) = &found.failure {
        text += &format!("\nThe first request that failed: {failure}\n");
    }
    if !found.examples.is_empty() {
        text += "\nRows that differ:\n";
        text.extend(found.examples.iter().map(example));
    }
    text
}

fn versions(versions: &[ReplayedVersion]) -> String {
    let mut sheet = Sheet::new(&[
        "answered",
        "compared",
        "disagree",
        "95 %",
        "rows disagree",
        "max diff",
        "mean diff",
        "failed",
    ]);
    for version in versions {
        let (lower, upper) = (version.disagreement_lower, version.disagreement_upper);
        sheet.row([
            version.version.to_string(),
            version.compared.to_string(),
            count_and_rate(version.disagreed, version.compared),
            format!("{:.2} – {:.2} %", lower * 100.0, upper * 100.0),
            count_and_rate(version.rows_disagreed, version.rows),
            difference_max(version),
            difference(version.difference_mean),
            version.failed.to_string(),
        ]);
    }
    sheet.render()
}

fn difference_max(version: &ReplayedVersion) -> String {
    if version.nonfinite > 0 { "infinite".into() } else { difference(version.difference_max) }
}

fn example(found: &Example) -> String {
    let Example { request_id, row, version, .. } = found;
    let mut text = format!("\n  request {request_id}, row {row}\n");
    let parts = [
        ("input".to_owned(), &found.inputs),
        (format!("version {version}"), &found.captured),
        ("replayed".to_owned(), &found.replayed),
    ];
    for (part, values) in parts {
        text += &format!("    {part:<11}{}\n", listed(values));
    }
    text
}

fn listed(values: &[ReplayValue]) -> String {
    let shown = values.iter().take(VALUES_SHOWN);
    let shown: Vec<_> = shown.map(|value| format!("{} {}", value.name, value.value)).collect();
    let more = values.len().saturating_sub(VALUES_SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found() -> Replay {
        let value = |name: &str, value| ReplayValue { name: name.into(), value };
        Replay {
            model: "churn".into(),
            requests: 1000,
            rows: 1200,
            versions: vec![ReplayedVersion {
                version: 3,
                digest: "sha256:00".into(),
                compared: 999,
                disagreed: 41,
                disagreement: Some(0.041),
                disagreement_lower: 0.0271,
                disagreement_upper: 0.0605,
                rows: 1199,
                rows_disagreed: 41,
                failed: 1,
                nonfinite: 0,
                difference_max: Some(0.4321),
                difference_mean: Some(0.000_012_3),
            }],
            failure: Some("x is 7".into()),
            inference_mean_seconds: Some(14e-6),
            inference_p50_seconds: Some(12.3e-6),
            inference_p99_seconds: Some(30e-6),
            examples: vec![Example {
                request_id: "r-17".into(),
                prediction_id: "00".into(),
                row: 2,
                version: 3,
                inputs: vec![value("age", json!(61.5)), value("plan", json!("basic"))],
                captured: vec![value("label", json!(0))],
                replayed: vec![value("label", json!(1))],
            }],
        }
    }

    #[test]
    fn what_was_found_is_golden_and_fits_a_terminal() {
        let text = render(&found(), 2, "churn/4");
        crate::golden::check("cli/replay-output.txt", &text);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        for figure in ["41 (4.10 %)", "2.71 – 6.05 %", "request r-17, row 2", "age 61.5"] {
            assert!(text.contains(figure), "{figure:?} is not in {text}");
        }
        let none = Replay { versions: vec![], requests: 0, rows: 0, ..found() };
        assert_eq!(
            render(&none, 1, "churn/4"),
            "churn: 0 requests (0 rows) of 1 file, run on churn/4\n"
        );
    }
}
