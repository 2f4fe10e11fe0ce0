//! How good the answers probably are, by what the model itself thinks of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_default;
use super::sum::Sum;

/// Sums over answered rows with probabilities, labelled or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Expected {
    /// All rows with probabilities.
    #[serde(skip_serializing_if = "is_default")]
    rows: u64,
    /// Rows with two classes, by the class answered.
    #[serde(skip_serializing_if = "is_default")]
    binary: [u64; 2],
    /// Their probabilities of the positive class.
    #[serde(skip_serializing_if = "is_default")]
    positive: [Sum; 2],
    /// Of the rows with another number of classes: probabilities of the class answered.
    #[serde(skip_serializing_if = "is_default")]
    confidence: Sum,
}

/// What is expected of the answers while labels lag: an *estimate*, not a measurement.
///
/// Confidence-based performance estimation (CBPE; Białek, Kuberski, Perrakis & Bifet,
/// NannyML): each row counts as right with the probability that the model gives. It is as
/// good as the model is calibrated, and cannot see that what is true has changed for the
/// same inputs (concept drift).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Estimate {
    /// Answered rows with probabilities, labelled or not; at least 1.
    pub rows: u64,
    /// Expected accuracy, 0 to 1.
    pub accuracy: f64,
    /// Two classes: expected precision of the positive class, 0 to 1; not where it was never
    /// answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Two classes: expected recall of the positive class, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Two classes: F1 of the expected counts of the positive class, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

impl Expected {
    /// Counts an answered row.
    pub(super) fn add(&mut self, class: usize, scores: &[f64]) {
        let of = |class: usize| scores.get(class).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        if scores.is_empty() {
            return;
        }
        self.rows = self.rows.saturating_add(1);
        if scores.len() == 2 {
            let answered = usize::from(class == 1);
            self.binary[answered] = self.binary[answered].saturating_add(1);
            self.positive[answered].add(of(1));
        } else {
            self.confidence.add(of(class));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        for answered in 0..2 {
            self.binary[answered] = self.binary[answered].saturating_add(other.binary[answered]);
            self.positive[answered].merge(other.positive[answered]);
        }
        self.confidence.merge(other.confidence);
    }

    /// `None` of no rows.
    pub(super) fn figures(&self) -> Option<Estimate> {
        let [negatives, positives] = self.binary.map(|rows| rows as f64);
        let [missed, hits] = self.positive.map(Sum::get);
        let share = |part: f64, of: f64| (of > 0.0).then(|| (part / of).clamp(0.0, 1.0));
        let right = hits + (negatives - missed) + self.confidence.get();
        share(right, self.rows as f64).map(|accuracy| Estimate {
            rows: self.rows,
            accuracy,
            precision: share(hits, positives),
            recall: share(hits, hits + missed),
            f1: share(2.0 * hits, positives + hits + missed),
        })
    }
}
