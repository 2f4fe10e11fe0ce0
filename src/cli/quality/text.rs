//! Quality as text.

use crate::cli::figures::NONE;
use crate::cli::quality::reply::{
    Alert, Disparity, Figures, Grouping, Mean, Proportion, Quality, Version,
};
use crate::cli::table::Sheet;

/// Each version in each role.
pub(super) fn render(quality: &Quality, groups: bool) -> String {
    let mut parts: Vec<_> =
        quality.problem.iter().map(|problem| format!("problem: {problem}")).collect();
    if quality.labels_waiting > 0 {
        parts.push(format!(
            "{} labels wait for an answer that is not known (yet)",
            quality.labels_waiting
        ));
    }
    if quality.versions.is_empty() && parts.is_empty() {
        parts.push("No answers are kept; see [labels] of model.toml.".to_owned());
    }
    let (numbers, classes): (Vec<_>, Vec<_>) =
        quality.versions.iter().partition(|version| version.figures.errors.is_some());
    if !classes.is_empty() {
        parts.push(of_classes(&classes));
    }
    if !numbers.is_empty() {
        parts.push(of_numbers(&numbers));
    }
    for version in quality.versions.iter().filter(|_| groups) {
        parts.extend(version.groupings.iter().map(|grouping| of_groups(version, grouping)));
    }
    format!("{}\n", parts.join("\n\n"))
}

fn of_classes(versions: &[&Version]) -> String {
    let mut sheet = Sheet::new(&[
        "version",
        "labelled",
        "accuracy",
        "precision",
        "recall",
        "f1",
        "auc",
        "log loss",
        "calibration",
    ]);
    for version in versions {
        let figures = &version.figures;
        let positive = figures.positive.as_ref();
        sheet.row([
            name(version),
            labelled(figures),
            accuracy(figures),
            proportion(positive.and_then(|class| class.precision)),
            proportion(positive.and_then(|class| class.recall)),
            number(positive.map_or(figures.macro_f1, |class| class.f1)),
            figures
                .auc
                .as_ref()
                .map_or(NONE.to_owned(), |auc| format!("{:.3} ±{:.3}", auc.value, auc.error)),
            number(figures.log_loss),
            number(figures.calibration_error),
        ]);
    }
    sheet.render()
}

fn of_numbers(versions: &[&Version]) -> String {
    let mut sheet = Sheet::new(&["version", "labelled", "mae", "rmse", "bias", "r²"]);
    for version in versions {
        let Some(errors) = &version.figures.errors else { continue };
        sheet.row([
            name(version),
            labelled(&version.figures),
            mean(&errors.mae),
            format!("{:.4}", errors.rmse),
            mean(&errors.bias),
            number(errors.r2),
        ]);
    }
    sheet.render()
}

fn of_groups(version: &Version, grouping: &Grouping) -> String {
    let title = format!("{} by {}:", name(version), grouping.grouping);
    let mut sheet = Sheet::new(&[
        "group",
        "labelled",
        "accuracy",
        "selected",
        "true positives",
        "false positives",
    ]);
    for group in &grouping.groups {
        let rates = grouping.disparity.iter().flat_map(|disparity| &disparity.groups);
        let rates = rates.clone().find(|rates| rates.group == group.group);
        sheet.row([
            group.group.clone(),
            labelled(&group.figures),
            accuracy(&group.figures),
            proportion(rates.map(|rates| rates.selection_rate)),
            proportion(rates.and_then(|rates| rates.true_positive_rate)),
            proportion(rates.and_then(|rates| rates.false_positive_rate)),
        ]);
    }
    let found = grouping.disparity.as_ref().map(alerts).unwrap_or_default();
    format!("{title}\n{}{found}", sheet.render())
}

fn alerts(disparity: &Disparity) -> String {
    if disparity.groups.len() < 2 {
        let rows = disparity.rows_min;
        return format!("\nnot compared: fewer than two groups have {rows} rows");
    }
    disparity.alerts.iter().map(|alert| format!("\n{}", told(alert))).collect()
}

fn told(alert: &Alert) -> String {
    let Alert { measure, higher, lower, bound, margin } = alert;
    let measure = measure.replace('_', " ");
    // A ratio alarms when it is small, a difference when it is large.
    let most = if measure.ends_with("ratio") { "at most" } else { "at least" };
    format!("UNEQUAL: {measure}: {higher} above {lower}; {most} {bound:.3}, margin {margin}")
}

fn name(version: &Version) -> String {
    format!("{} {}", version.version, version.role)
}

fn labelled(figures: &Figures) -> String {
    let mut text = format!("{} of {}", figures.labelled_rows, figures.rows);
    let unusable = figures.unusable + figures.unusable_labels;
    if unusable > 0 {
        text.push_str(&format!(", {unusable} unusable"));
    }
    text
}

fn accuracy(figures: &Figures) -> String {
    let estimate = figures.estimate.as_ref().map(|estimate| format!("~{:.3}", estimate.accuracy));
    match (figures.accuracy, estimate) {
        (None, None) => NONE.to_owned(),
        (None, Some(estimate)) => estimate,
        (measured, None) => proportion(measured),
        (measured, Some(estimate)) => format!("{} {estimate}", proportion(measured)),
    }
}

fn proportion(proportion: Option<Proportion>) -> String {
    proportion.map_or(NONE.to_owned(), |Proportion { value, lower, upper }| {
        format!("{value:.3} [{lower:.3} {upper:.3}]")
    })
}

fn mean(mean: &Mean) -> String {
    match (mean.lower, mean.upper) {
        (Some(lower), Some(upper)) => format!("{:.4} [{lower:.4} {upper:.4}]", mean.value),
        _ => format!("{:.4}", mean.value),
    }
}

fn number(number: Option<f64>) -> String {
    number.map_or(NONE.to_owned(), |number| format!("{number:.4}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rendered(reply: Value) -> String {
        render(&serde_json::from_value(reply).unwrap(), true)
    }

    #[test]
    fn nothing_kept_is_told() {
        let text = rendered(json!({"problem": null, "labels_waiting": 0, "versions": []}));
        assert_eq!(text, "No answers are kept; see [labels] of model.toml.\n");
        let text = rendered(json!({"problem": "no room", "labels_waiting": 3, "versions": []}));
        assert_eq!(
            text,
            "problem: no room\n\n3 labels wait for an answer that is not known (yet)\n"
        );
    }

    #[test]
    fn classes_numbers_and_groups_have_their_tables() {
        let rate = json!({"value": 0.9, "lower": 0.85, "upper": 0.95});
        let figures = json!({
            "rows": 1000, "labelled_rows": 400, "accuracy": rate, "unusable": 2,
            "positive": {"precision": rate, "recall": null, "f1": 0.75},
            "auc": {"value": 0.8, "error": 0.001}, "log_loss": 0.3, "calibration_error": 0.02,
            "estimate": {"accuracy": 0.88},
        });
        let number = json!({
            "rows": 10, "labelled_rows": 5,
            "errors": {"mae": {"value": 1.5}, "bias": {"value": -0.5, "lower": -1.0, "upper": 0.0},
                "rmse": 2.0, "r2": 0.5},
        });
        let alert = json!({
            "measure": "demographic_parity_ratio", "higher": "pro", "lower": "basic",
            "bound": 0.7, "margin": 0.8,
        });
        let text = rendered(json!({"problem": null, "labels_waiting": 0, "versions": [
            {"version": 3, "role": "champion", "figures": figures, "groupings": [{
                "grouping": "plan",
                "groups": [{"group": "pro", "figures": figures}],
                "disparity": {"rows_min": 100, "alerts": [alert], "groups": [
                    {"group": "pro", "selection_rate": rate, "true_positive_rate": rate},
                    {"group": "basic", "selection_rate": rate},
                ]},
            }]},
            {"version": 4, "role": "canary", "figures": number, "groupings": []},
        ]}));
        for part in [
            "3 champion",
            "400 of 1000, 2",
            "0.900 [0.850",
            "~0.880",
            "0.7500",
            "±0.001",
            "4 canary",
            "1.5000",
            "-0.5000 [-1.0000 0.0000]",
            "3 champion by plan:",
            "UNEQUAL: demographic parity ratio: pro above basic; at most 0.700, margin 0.8",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
