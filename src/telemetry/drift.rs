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
    /// Whether it has drifted.
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
        }
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
        for column in &figures.columns {
            let labels = [model, &version, column.kind, &column.column];
            match column.psi {
                Some(psi) => families.psi.with_label_values(&labels).set(psi),
                // It may not be there.
                None => drop(families.psi.remove_label_values(&labels)),
            }
            let drifting = if column.drifting { 1.0 } else { 0.0 };
            families.drifting.with_label_values(&labels).set(drifting);
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
}
