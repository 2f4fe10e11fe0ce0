//! The parts of the reply that are shown.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Quality {
    pub(super) problem: Option<String>,
    pub(super) labels_waiting: u64,
    pub(super) versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
    pub(super) role: String,
    pub(super) figures: Figures,
    pub(super) groupings: Vec<Grouping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) rows: u64,
    pub(super) unusable: u64,
    pub(super) labelled_rows: u64,
    pub(super) unusable_labels: u64,
    pub(super) accuracy: Option<Proportion>,
    pub(super) positive: Option<Class>,
    pub(super) macro_f1: Option<f64>,
    pub(super) log_loss: Option<f64>,
    pub(super) calibration_error: Option<f64>,
    pub(super) auc: Option<Auc>,
    pub(super) errors: Option<Errors>,
    pub(super) estimate: Option<Estimate>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Proportion {
    pub(super) value: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Class {
    pub(super) precision: Option<Proportion>,
    pub(super) recall: Option<Proportion>,
    pub(super) f1: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Auc {
    pub(super) value: f64,
    pub(super) error: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Errors {
    pub(super) mae: Mean,
    pub(super) bias: Mean,
    pub(super) rmse: f64,
    pub(super) r2: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Mean {
    pub(super) value: f64,
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Estimate {
    pub(super) accuracy: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Grouping {
    pub(super) grouping: String,
    pub(super) groups: Vec<Group>,
    pub(super) disparity: Option<Disparity>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) group: String,
    pub(super) figures: Figures,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disparity {
    pub(super) rows_min: u64,
    pub(super) groups: Vec<Rates>,
    pub(super) alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Rates {
    pub(super) group: String,
    pub(super) selection_rate: Proportion,
    pub(super) true_positive_rate: Option<Proportion>,
    pub(super) false_positive_rate: Option<Proportion>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(super) measure: String,
    pub(super) higher: String,
    pub(super) lower: String,
    pub(super) bound: f64,
    pub(super) margin: f64,
}
