//! What people look at.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::terms::Level;
use super::errors::ErrorFigures;
use super::estimate::Estimate;
use super::histogram::Auc;
use super::proportion::Proportion;
use super::{AgainstOthers, CLASSES_MAX, Quality};

/// No more classes than this, even of sums that were not made here.
const MOST: u16 = CLASSES_MAX as u16;

/// Quality of answers. What no row tells is left out.
///
/// Each interval holds by itself, at every look, with a probability of 1 − `level` or more;
/// those of error means only for many rows.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Figures {
    /// The probability that an interval ever misses, above 0 and up to 0.5.
    pub level: f64,
    /// Answered rows.
    pub rows: u64,
    /// Answered rows that no figure could count: no class of the model's, no probability, or
    /// no finite number. They are not among `rows`.
    pub unusable: u64,
    /// Labelled rows. The figures below, but the estimate, are of these.
    pub labelled_rows: u64,
    /// Labels that no figure could count: of another kind than the answer, of a class that
    /// the model does not have, not finite, or of an unusable answer.
    pub unusable_labels: u64,
    /// The share of rows whose true class was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Proportion>,
    /// Each class by itself, in order; empty for numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassFigures>,
    /// Two classes: the positive one, with the index 1, once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive: Option<ClassFigures>,
    /// The plain mean of F1 over the classes that labelled rows have, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Labelled rows with probabilities, of which the four figures below are.
    pub scored_rows: u64,
    /// Log loss in nats per row: 0 is perfect, and 36.04 the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Brier score: 0 is perfect; at most 1 for two classes. For more it is at most 2 where
    /// probabilities sum to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
    /// Expected calibration error, 0 to 1: how far probabilities are from what came true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_error: Option<f64>,
    /// Two classes: the area under the ROC curve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<Auc>,
    /// Numbers: how far they are from the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorFigures>,
    /// What the model's own probabilities promise, of all answered rows. It is not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// One class against all others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct ClassFigures {
    /// Its place among the model's classes.
    pub class: u16,
    /// Rows to which it was answered, labelled or not.
    pub answered_rows: u64,
    /// Of the labelled rows to which it was answered: those that are of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Proportion>,
    /// Of the labelled rows that are of it: those to which it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Proportion>,
    /// The harmonic mean of precision and recall, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

impl Quality {
    /// The figures that these sums give.
    #[must_use]
    pub fn figures(&self, level: Level) -> Figures {
        let classes: Vec<_> =
            (0..self.classes.min(MOST)).map(|class| self.class(class, level)).collect();
        Figures {
            level: level.get(),
            rows: self.rows,
            unusable: self.unusable,
            labelled_rows: self.labelled_rows(),
            unusable_labels: self.unusable_labels,
            accuracy: self.accuracy(level),
            positive: if let [_, positive] = *classes { Some(positive) } else { None },
            macro_f1: macro_f1(&classes),
            classes,
            scored_rows: self.scores.rows(),
            log_loss: self.scores.log_loss(),
            brier: self.scores.brier(),
            calibration_error: self.scores.calibration_error(),
            auc: self.scores.auc(),
            errors: self.errors.figures(level),
            estimate: self.expected.figures(),
        }
    }

    fn class(&self, class: u16, level: Level) -> ClassFigures {
        let AgainstOthers { hits, answers, positives, .. } = self.against_others(class);
        let named = answers as f64 + positives as f64;
        ClassFigures {
            class,
            answered_rows: self.selected(class).0,
            precision: Proportion::new(hits, answers, level),
            recall: Proportion::new(hits, positives, level),
            f1: (named > 0.0).then(|| 2.0 * hits as f64 / named),
        }
    }
}

fn macro_f1(classes: &[ClassFigures]) -> Option<f64> {
    let named = || classes.iter().filter_map(|class| class.f1);
    let count = named().count();
    (count > 0).then(|| named().sum::<f64>() / count as f64)
}
