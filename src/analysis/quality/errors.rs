//! How far the numbers of a regression are from the truth.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::terms::Level;
use super::is_default;
use super::sum::Sum;

/// The largest number that is taken: its square, summed over any number of rows, is finite.
pub(super) const VALUE_MAX: f64 = 1e100;
/// The fewest rows for which a mean gets an interval: it holds for many rows alone.
const ROWS_MIN: u64 = 100;
/// The number of rows for which the interval is narrowest.
const ROWS_BEST: f64 = 1_000.0;

/// Sums over labelled rows; e is answer − truth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Errors {
    #[serde(skip_serializing_if = "is_default")]
    rows: u64,
    #[serde(skip_serializing_if = "is_default")]
    error: Sum,
    #[serde(skip_serializing_if = "is_default")]
    absolute: Sum,
    #[serde(skip_serializing_if = "is_default")]
    squares: Sum,
    #[serde(skip_serializing_if = "is_default")]
    truth: Sum,
    #[serde(skip_serializing_if = "is_default")]
    truth_squares: Sum,
}

/// A mean of errors, in the unit of what is predicted.
///
/// Its interval is *asymptotic*: errors have no bounds, so that none can hold for few rows.
/// It is the confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas
/// ("Time-uniform central limit theory and asymptotic confidence sequences", Annals of
/// Statistics 2024, arXiv 2103.06476, theorem 2.2): from 100 rows on it may be
/// looked at any time, and the less errors are skewed the better it keeps its level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct ErrorMean {
    /// The mean.
    pub value: f64,
    /// The asymptotic interval's lower end; not with fewer than 100 rows, nor where all
    /// errors are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// Its upper end, where there is a lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
}

/// Errors of a regression: answer − truth, in the unit of what is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct ErrorFigures {
    /// Labelled rows with a number, at least 1.
    pub rows: u64,
    /// Mean absolute error, from 0.
    pub mae: ErrorMean,
    /// Mean error: above 0 where answers are too high.
    pub bias: ErrorMean,
    /// Root of the mean squared error, from 0.
    pub rmse: f64,
    /// Coefficient of determination, at most 1 (as scikit-learn's `r2_score`); not where
    /// all truths are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
}

impl Errors {
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts a labelled row; both numbers within [`VALUE_MAX`].
    pub(super) fn add(&mut self, answer: f64, truth: f64) {
        let error = answer - truth;
        self.rows = self.rows.saturating_add(1);
        self.error.add(error);
        self.absolute.add(error.abs());
        self.squares.add_square(error);
        self.truth.add(truth);
        self.truth_squares.add_square(truth);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.error.merge(other.error);
        self.absolute.merge(other.absolute);
        self.squares.merge(other.squares);
        self.truth.merge(other.truth);
        self.truth_squares.merge(other.truth_squares);
    }

    /// `None` of no rows.
    pub(super) fn figures(&self, level: Level) -> Option<ErrorFigures> {
        let n = self.rows as f64;
        let mean = |sum| ErrorMean::new(sum, self.squares, self.rows, level);
        let spread = self.truth.deviation(self.truth_squares, self.rows);
        (self.rows > 0).then(|| ErrorFigures {
            rows: self.rows,
            mae: mean(self.absolute),
            bias: mean(self.error),
            rmse: (self.squares.get() / n).max(0.0).sqrt(),
            r2: Some(1.0 - self.squares.get() / spread).filter(|r2| r2.is_finite()),
        })
    }
}

impl ErrorMean {
    /// The fewest rows for which there is an interval.
    pub const ROWS_MIN: u64 = ROWS_MIN;

    /// Of at least one row.
    fn new(sum: Sum, squares: Sum, rows: u64, level: Level) -> Self {
        let n = rows as f64;
        let value = sum.get() / n;
        let deviation = (sum.deviation(squares, rows) / n).sqrt();
        let radius = deviation * radius(n, level);
        let end = |end: f64| (rows >= ROWS_MIN && deviation > 0.0).then_some(end);
        Self { value, lower: end(value - radius), upper: end(value + radius) }
    }
}

/// Half of the interval, in standard deviations: Robbins' normal mixture,
/// `√(2(nρ² + 1)/(n²ρ²)·ln(√(nρ² + 1)/α))`.
fn radius(n: f64, level: Level) -> f64 {
    let twice = 2.0 * level.ln_threshold();
    let rho_squared = (twice + twice.ln_1p()) / ROWS_BEST;
    let grown = n.mul_add(rho_squared, 1.0);
    (grown * (grown.ln() + twice) / rho_squared).sqrt() / n
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    fn errors(rows: impl Iterator<Item = (f64, f64)>) -> Errors {
        let mut errors = Errors::default();
        rows.for_each(|(answer, truth)| errors.add(answer, truth));
        errors
    }

    #[test]
    fn few_rows_have_no_interval_and_one_truth_no_r2() {
        assert_eq!(Errors::default().figures(Level::NOT_WORSE), None);
        let found = errors([(3.0, 1.0), (1.0, 1.0)].into_iter()).figures(Level::NOT_WORSE).unwrap();
        assert_eq!((found.mae.value, found.bias.value, found.rmse), (1.0, 1.0, 2.0_f64.sqrt()));
        assert_eq!((found.mae.lower, found.bias.upper, found.r2), (None, None, None));
        let largest = errors([(VALUE_MAX, -VALUE_MAX), (VALUE_MAX, VALUE_MAX)].into_iter());
        let found = largest.figures(Level::NOT_WORSE).unwrap();
        assert!(found.rmse.is_finite() && found.r2.is_some_and(f64::is_finite), "{found:?}");
    }

    #[test]
    fn the_interval_holds_at_every_look_from_its_first_row_on() {
        let level = Level::new(0.1).unwrap();
        let mut random = Random(7);
        let (mut bias, mut absolute) = (0, 0);
        for _ in 0..500 {
            let (mut errors, mut missed) = (Errors::default(), [false; 2]);
            for rows in 1..=1_000_u32 {
                // Triangular on −1 to 1, moved by ¼: |e| has a mean of 37/96 by integration.
                errors.add(random.unit() - random.unit() + 0.25, 0.0);
                if rows >= 100 && rows % 10 == 0 {
                    let found = errors.figures(level).unwrap();
                    let outside = |mean: ErrorMean, truth: f64| {
                        !(mean.lower.unwrap()..=mean.upper.unwrap()).contains(&truth)
                    };
                    missed[0] |= outside(found.bias, 0.25);
                    missed[1] |= outside(found.mae, ABSOLUTE);
                }
            }
            bias += u32::from(missed[0]);
            absolute += u32::from(missed[1]);
        }
        assert!(bias <= 50 && absolute <= 50, "{bias} {absolute} of 500");
    }

    /// E|t + ¼| of a triangular t on −1 to 1: ⅓ + ¼² − ¼³/3.
    const ABSOLUTE: f64 = 1.0 / 3.0 + 1.0 / 16.0 - 1.0 / 192.0;
}
