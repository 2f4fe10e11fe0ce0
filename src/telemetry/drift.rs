//! Figures of drift.

use prometheus::GaugeVec;

use crate::telemetry::Metrics;
use crate::telemetry::anomaly::AnomalyMetrics;
use crate::telemetry::metrics::Declare;
use crate::telemetry::watch::Watches;
use crate::types::{ModelName, VersionId};

const COLUMN: &[&str] = &["model", "version", "kind", "column"];
const VERSION: &[&str] = &["model", "version"];

/// What is shown of a version.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftFigures {
    /// Rows of the last whole window.
    pub rows: u64,
    /// Rows of large requests that were passed over, since it is loaded.
    pub passed_over: u64,
    /// Inputs and outputs.
    pub columns: Vec<ColumnFigures>,
}

/// What is shown of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnFigures {
    /// `input` or `output`.
    pub kind: &'static str,
    /// Its name.
    pub column: String,
    /// Population stability index of the last whole window, if that could be judged.
    pub psi: Option<f64>,
    /// Whether it has moved in several windows in a row.
    pub drifting: bool,
}

/// All families, and who is watched.
pub(super) struct Drift {
    pub(super) watches: Watches,
    pub(super) anomalies: AnomalyMetrics,
    psi: GaugeVec,
    drifting: GaugeVec,
    rows: GaugeVec,
    passed_over: GaugeVec,
    against_psi: GaugeVec,
    different: GaugeVec,
}

impl Drift {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        Self {
            watches: Watches::default(),
            anomalies: AnomalyMetrics::declare(d),
            psi: d.float_gauges(
                "foreshadow_drift_psi",
                "Population stability index of a column in the last whole window of rows.",
                COLUMN,
            ),
            drifting: d.float_gauges(
                "foreshadow_drifting",
                "1 while a column has drifted: it moved in several windows in a row.",
                COLUMN,
            ),
            rows: d.float_gauges(
                "foreshadow_drift_window_rows",
                "Rows of the last whole window that was judged.",
                VERSION,
            ),
            passed_over: d.float_gauges(
                "foreshadow_drift_rows_passed_over",
                "Rows that were not looked at: of large requests, all but a few.",
                VERSION,
            ),
            against_psi: d.float_gauges(
                "foreshadow_canary_psi",
                "Population stability index of a canary's column against its champion's, in \
                 the last whole window of both.",
                COLUMN,
            ),
            different: d.float_gauges(
                "foreshadow_canary_different",
                "1 while a canary's column differs from its champion's: it did in several \
                 windows in a row.",
                COLUMN,
            ),
        }
    }
}

/// Shows columns by an index and whether they are beyond it.
fn set_columns(
    [psi, beyond]: [&GaugeVec; 2],
    [model, version]: [&str; 2],
    columns: &[ColumnFigures],
) {
    for column in columns {
        let labels = [model, version, column.kind, &column.column];
        match column.psi {
            Some(value) => psi.with_label_values(&labels).set(value),
            // It may not be there.
            None => drop(psi.remove_label_values(&labels)),
        }
        beyond.with_label_values(&labels).set(if column.drifting { 1.0 } else { 0.0 });
    }
}

impl Metrics {
    /// The loaded versions, as they are watched.
    #[must_use]
    pub const fn watches(&self) -> &Watches {
        &self.drift.watches
    }

    /// Shows a version's drift, in place of what was shown of the same columns.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub fn set_drift(&self, model: &ModelName, version: VersionId, figures: &DriftFigures) {
        let (model, version, families) = (model.as_str(), version.to_string(), &self.drift);
        families.rows.with_label_values(&[model, &version]).set(figures.rows as f64);
        let passed_over = families.passed_over.with_label_values(&[model, &version]);
        passed_over.set(figures.passed_over as f64);
        let shown = [&families.psi, &families.drifting];
        set_columns(shown, [model, &version], &figures.columns);
    }

    /// Shows how a canary differs from its champion, in place of what was shown of the same
    /// columns; `drifting` are those that differ.
    pub fn set_against(&self, model: &ModelName, version: VersionId, columns: &[ColumnFigures]) {
        let shown = [&self.drift.against_psi, &self.drift.different];
        set_columns(shown, [model.as_str(), &version.to_string()], columns);
    }

    /// Shows nothing of a version against a champion any more.
    pub fn remove_against(&self, model: &ModelName, version: VersionId) {
        for family in [&self.drift.against_psi, &self.drift.different] {
            self.remove(family, model.as_str(), Some(&version.to_string()));
        }
    }

    /// Shows nothing of a version any more.
    pub fn remove_drift(&self, model: &ModelName, version: VersionId) {
        let families = &self.drift;
        for family in [&families.psi, &families.drifting, &families.rows, &families.passed_over] {
            self.remove(family, model.as_str(), Some(&version.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_cannot_be_judged_still_shows_whether_it_drifts() {
        let metrics = Metrics::new();
        let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let figures = |psi| DriftFigures {
            rows: 1000,
            passed_over: 7,
            columns: vec![ColumnFigures {
                kind: "input",
                column: "age".to_owned(),
                psi,
                drifting: true,
            }],
        };
        let labels = "{column=\"age\",kind=\"input\",model=\"m\",version=\"1\"}";
        let psi = format!("foreshadow_drift_psi{labels}");
        let drifting = format!("foreshadow_drifting{labels} 1");
        metrics.set_drift(&model, version, &figures(Some(0.5)));
        let text = metrics.render();
        assert!(text.contains(&format!("{psi} 0.5")) && text.contains(&drifting), "{text}");
        metrics.set_drift(&model, version, &figures(None));
        let text = metrics.render();
        assert!(!text.contains(&psi) && text.contains(&drifting), "{text}");
        metrics.remove_drift(&model, version);
        let text = metrics.render();
        assert!(!text.contains("model=\"m\""), "{text}");
    }

    #[test]
    fn what_a_canary_is_against_its_champion_goes_by_itself() {
        let metrics = Metrics::new();
        let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(2).unwrap());
        let column =
            |psi, drifting| ColumnFigures { kind: "output", column: "y".to_owned(), psi, drifting };
        let labels = "{column=\"y\",kind=\"output\",model=\"m\",version=\"2\"}";
        let figures = DriftFigures { rows: 1, passed_over: 0, columns: vec![column(None, false)] };
        metrics.set_drift(&model, version, &figures);
        metrics.set_against(&model, version, &[column(Some(0.5), true)]);
        let text = metrics.render();
        for line in ["foreshadow_canary_psi{} 0.5", "foreshadow_canary_different{} 1"] {
            let line = line.replace("{}", labels);
            assert!(text.contains(&line), "{line}: {text}");
        }
        metrics.remove_against(&model, version);
        let text = metrics.render();
        assert!(!text.contains("foreshadow_canary_psi{"), "{text}");
        assert!(!text.contains("foreshadow_canary_different{"), "{text}");
        assert!(text.contains(&format!("foreshadow_drifting{labels} 0")), "{text}");
    }
}
