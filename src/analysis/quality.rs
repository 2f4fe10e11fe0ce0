//! Live quality of a model, from its answers and from labels that come late.
//!
//! [`Quality`] holds sums alone, so that those of a day, a segment or a replica can be
//! stored and added up; [`Quality::figures`] makes of any of them what people look at.
//! Labels say nothing about rows that never get one: where whether a row is labelled
//! depends on what was answered (only granted loans are ever repaid), figures are those of
//! labelled rows, not of all.
//!
//! Of a classifier with two classes, the one with the index 1 is the positive class.
//! Definitions are scikit-learn's where it has one (compared with 1.9.1):
//!
//! - *Log loss*: −ln of the true class's probability, clipped to ε … 1 − ε with the ε
//!   of an `f64`, 2⁻⁵². Probabilities are taken as they are: rows that do not sum to 1
//!   are not normalised (scikit-learn has not done so since 1.5, and warns).
//! - *Brier score*: Σ over the classes of (probability − truth)², halved for two classes.
//! - *Calibration error* (ECE; Naeini, Cooper & Hauskrecht 2015): ten bins of equal width,
//!   of the positive class's probability, or of the answered one's where there are not two
//!   classes.
//! - *F1* of a class: 2·hits / (rows of it + answers of it). *Macro F1*: the plain mean over
//!   classes that either a label or the answer to a labelled row has named.

mod errors;
mod estimate;
mod figures;
mod histogram;
mod proportion;
mod scores;
mod sum;
mod table;

use serde::{Deserialize, Serialize};

use super::terms::Level;
use crate::types::{RowAnswer, Truth};

use self::errors::{Errors, VALUE_MAX};
use self::estimate::Expected;
use self::scores::Scores;
use self::table::{ByClass, Confusion};

pub use self::errors::{ErrorFigures, ErrorMean};
pub use self::estimate::Estimate;
pub use self::figures::{ClassFigures, Figures};
pub use self::histogram::Auc;
pub use self::proportion::Proportion;

/// The most classes that a model may have; rows that name another are unusable.
pub const CLASSES_MAX: usize = 32;
/// How far a probability may be below 0 or above 1, by rounding of a model's `f32`.
const SLACK: f64 = 1e-6;

/// Sums over answered rows and over labelled ones.
///
/// The order in which rows are counted, and in which sums are merged, changes nothing but
/// the last digit of a figure. At most some 30 kB, however many rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    #[serde(skip_serializing_if = "is_default")]
    rows: u64,
    #[serde(skip_serializing_if = "is_default")]
    unusable: u64,
    #[serde(skip_serializing_if = "is_default")]
    unusable_labels: u64,
    /// The most classes that a row has shown the model to have.
    #[serde(skip_serializing_if = "is_default")]
    classes: u16,
    #[serde(skip_serializing_if = "is_default")]
    answered: ByClass,
    #[serde(skip_serializing_if = "is_default")]
    expected: Expected,
    #[serde(skip_serializing_if = "is_default")]
    confusion: Confusion,
    #[serde(skip_serializing_if = "is_default")]
    scores: Scores,
    #[serde(skip_serializing_if = "is_default")]
    errors: Errors,
}

impl Quality {
    /// Counts an answered row, whether or not a label will come.
    ///
    /// A class beyond [`CLASSES_MAX`] or without a score among those given, a score that is no
    /// probability, and a value that is not finite (or beyond ±1e100) are unusable: they are
    /// counted as such, and nowhere else.
    pub fn predicted(&mut self, answer: &RowAnswer) {
        match answer {
            RowAnswer::Class { class, scores } if is_usable(*class, scores) => {
                self.know(*class, scores);
                self.answered.add(usize::from(*class), 1);
                self.expected.add(usize::from(*class), scores);
                self.rows = self.rows.saturating_add(1);
            }
            RowAnswer::Value(value) if is_value(*value) => self.rows = self.rows.saturating_add(1),
            _ => self.unusable = self.unusable.saturating_add(1),
        }
    }

    /// Counts a row whose answer is no class of the model's, and no number.
    pub fn unusable(&mut self) {
        self.unusable = self.unusable.saturating_add(1);
    }

    /// Counts a label of a row that was answered like this. It does not count the answer:
    /// [`Quality::predicted`] does, when it is given.
    ///
    /// What is unusable in an answer is so here; and so is a class where a number was
    /// answered, a number where a class was, and a class that the model does not have.
    pub fn labelled(&mut self, answer: &RowAnswer, truth: Truth) {
        match (answer, truth) {
            (RowAnswer::Class { class, scores }, Truth::Class(truth))
                if is_usable(*class, scores) && is_usable(truth, scores) =>
            {
                self.know((*class).max(truth), scores);
                let [class, truth] = [*class, truth].map(usize::from);
                self.confusion.add(truth, class);
                if !scores.is_empty() {
                    self.scores.add(class, truth, scores);
                }
            }
            (RowAnswer::Value(value), Truth::Value(truth))
                if is_value(*value) && is_value(truth) =>
            {
                self.errors.add(*value, truth);
            }
            _ => self.unusable_labels = self.unusable_labels.saturating_add(1),
        }
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.unusable = self.unusable.saturating_add(other.unusable);
        self.unusable_labels = self.unusable_labels.saturating_add(other.unusable_labels);
        self.classes = self.classes.max(other.classes);
        self.answered.merge(&other.answered);
        self.expected.merge(&other.expected);
        self.confusion.merge(&other.confusion);
        self.scores.merge(&other.scores);
        self.errors.merge(&other.errors);
    }

    /// Answered rows that are usable.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Labelled rows that are usable.
    #[must_use]
    pub fn labelled_rows(&self) -> u64 {
        self.confusion.all().saturating_add(self.errors.rows())
    }

    /// The share of rows whose true class was answered; `None` without any.
    #[must_use]
    pub fn accuracy(&self, level: Level) -> Option<Proportion> {
        Proportion::new(self.confusion.right(), self.confusion.all(), level)
    }

    /// The most classes that a row has shown the model to have.
    #[must_use]
    pub const fn classes(&self) -> u16 {
        self.classes
    }

    /// Whether nothing has been counted, not even what is unusable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }

    /// A row shows that there are at least so many classes.
    fn know(&mut self, class: u16, scores: &[f64]) {
        let classes = u16::try_from(scores.len()).unwrap_or(u16::MAX);
        self.classes = self.classes.max(class.saturating_add(1)).max(classes);
    }

    /// Rows to which a class was answered, and rows to which any was.
    pub(super) fn selected(&self, class: u16) -> (u64, u64) {
        (self.answered.of(usize::from(class)), self.answered.all())
    }

    /// Labelled rows of a class against all others.
    pub(super) fn against_others(&self, class: u16) -> AgainstOthers {
        let class = usize::from(class);
        let (hits, answers) = (self.confusion.hits(class), self.confusion.of_answer(class));
        let positives = self.confusion.of_truth(class);
        AgainstOthers {
            hits,
            answers,
            positives,
            false_alarms: answers.saturating_sub(hits),
            negatives: self.confusion.all().saturating_sub(positives),
        }
    }
}

/// Labelled rows of one class against all others.
#[derive(Clone, Copy)]
pub(super) struct AgainstOthers {
    /// Of the class, and answered as it.
    pub(super) hits: u64,
    /// Answered as the class.
    pub(super) answers: u64,
    /// Of the class.
    pub(super) positives: u64,
    /// Not of the class, but answered as it.
    pub(super) false_alarms: u64,
    /// Not of the class.
    pub(super) negatives: u64,
}

/// Whether a class can be counted, and each score is a probability.
fn is_usable(class: u16, scores: &[f64]) -> bool {
    let class = usize::from(class);
    let classes = if scores.is_empty() { CLASSES_MAX } else { scores.len().min(CLASSES_MAX) };
    let probability = |score: &f64| (-SLACK..=1.0 + SLACK).contains(score);
    class < classes && scores.len() <= CLASSES_MAX && scores.iter().all(probability)
}

fn is_value(value: f64) -> bool {
    value.abs() <= VALUE_MAX
}

fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

#[cfg(test)]
pub(super) mod tests;
