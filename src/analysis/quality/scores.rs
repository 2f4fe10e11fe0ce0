//! What a classifier's probabilities are worth: log loss, Brier score, calibration and rank.

use serde::{Deserialize, Serialize};

use super::histogram::{Auc, Histogram};
use super::is_default;
use super::sum::Sum;

/// How many bins calibration has, each a tenth wide: from its lower end on, the last one to 1.
const BINS: usize = 10;

/// Sums over labelled rows with probabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Scores {
    #[serde(skip_serializing_if = "is_default")]
    rows: u64,
    #[serde(skip_serializing_if = "is_default")]
    log_loss: Sum,
    #[serde(skip_serializing_if = "is_default")]
    brier: Sum,
    #[serde(skip_serializing_if = "is_default")]
    calibration: [Bin; BINS],
    #[serde(skip_serializing_if = "is_default")]
    ranks: Histogram,
}

/// Rows of one bin, the sum of their probabilities, and how many came true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin(u64, Sum, u64);

impl Scores {
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts a labelled row: the class answered, the true one, and each one's probability.
    pub(super) fn add(&mut self, class: usize, truth: usize, scores: &[f64]) {
        let of = |class: usize| scores.get(class).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        self.rows = self.rows.saturating_add(1);
        self.log_loss.add(-of(truth).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln());
        self.brier.add(brier(scores.len(), truth, of));
        if scores.len() == 2 {
            self.calibrate(of(1), truth == 1);
            self.ranks.add(of(1), truth == 1);
        } else {
            self.calibrate(of(class), truth == class);
        }
    }

    fn calibrate(&mut self, probability: f64, came_true: bool) {
        // A cast stops at the ends.
        let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
        let Bin(rows, sum, trues) = &mut self.calibration[bin];
        *rows = rows.saturating_add(1);
        sum.add(probability);
        *trues = trues.saturating_add(u64::from(came_true));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.log_loss.merge(other.log_loss);
        self.brier.merge(other.brier);
        for (bin, more) in self.calibration.iter_mut().zip(&other.calibration) {
            bin.0 = bin.0.saturating_add(more.0);
            bin.1.merge(more.1);
            bin.2 = bin.2.saturating_add(more.2);
        }
        self.ranks.merge(&other.ranks);
    }

    pub(super) fn log_loss(&self) -> Option<f64> {
        self.mean(self.log_loss.get())
    }

    pub(super) fn brier(&self) -> Option<f64> {
        self.mean(self.brier.get())
    }

    /// `Σ_bins |came true − Σp| / rows`.
    pub(super) fn calibration_error(&self) -> Option<f64> {
        let gap = |Bin(_, sum, trues): &Bin| (*trues as f64 - sum.get()).abs();
        self.mean(self.calibration.iter().map(gap).sum())
    }

    pub(super) fn auc(&self) -> Option<Auc> {
        self.ranks.auc()
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.rows > 0).then(|| sum / self.rows as f64)
    }
}

/// The squared distance from what was true, over all classes; half of it for two classes.
fn brier(classes: usize, truth: usize, of: impl Fn(usize) -> f64) -> f64 {
    let distance = |class| of(class) - f64::from(u8::from(class == truth));
    let sum: f64 = (0..classes).map(|class| distance(class) * distance(class)).sum();
    if classes == 2 { 0.5 * sum } else { sum }
}
