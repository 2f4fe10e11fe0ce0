//! Rows by class: those answered, and which class was answered to rows of which true one.

use serde::{Deserialize, Serialize};

use super::CLASSES_MAX;

/// Rows by a class, as long as the last class that has any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByClass(Vec<u64>);

impl ByClass {
    /// Counts rows of a class; those of one beyond [`CLASSES_MAX`] are not counted.
    pub(super) fn add(&mut self, class: usize, rows: u64) {
        if rows == 0 || class >= CLASSES_MAX {
            return;
        }
        self.0.resize(self.0.len().max(class + 1), 0);
        self.0[class] = self.0[class].saturating_add(rows);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().enumerate().for_each(|(class, rows)| self.add(class, *rows));
    }

    pub(super) fn of(&self, class: usize) -> u64 {
        self.0.get(class).copied().unwrap_or(0)
    }

    pub(super) fn all(&self) -> u64 {
        sum(self.0.iter().copied())
    }
}

/// Rows by true class, and of each by the class answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confusion(Vec<ByClass>);

impl Confusion {
    /// Counts a row; both classes below [`CLASSES_MAX`].
    pub(super) fn add(&mut self, truth: usize, answered: usize) {
        self.row(truth).add(answered, 1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (truth, rows) in other.0.iter().enumerate().take(CLASSES_MAX) {
            self.row(truth).merge(rows);
        }
    }

    /// The last row has rows, as each that is asked for here gets some or lies below it.
    fn row(&mut self, truth: usize) -> &mut ByClass {
        self.0.resize_with(self.0.len().max(truth + 1), ByClass::default);
        &mut self.0[truth]
    }

    pub(super) fn all(&self) -> u64 {
        sum(self.0.iter().map(ByClass::all))
    }

    /// Rows whose true class was answered.
    pub(super) fn right(&self) -> u64 {
        sum((0..self.0.len()).map(|class| self.hits(class)))
    }

    /// Rows of a class to which it was answered.
    pub(super) fn hits(&self, class: usize) -> u64 {
        self.0.get(class).map_or(0, |rows| rows.of(class))
    }

    /// Rows whose true class is this.
    pub(super) fn of_truth(&self, class: usize) -> u64 {
        self.0.get(class).map_or(0, ByClass::all)
    }

    /// Rows to which this class was answered.
    pub(super) fn of_answer(&self, class: usize) -> u64 {
        sum(self.0.iter().map(|rows| rows.of(class)))
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
