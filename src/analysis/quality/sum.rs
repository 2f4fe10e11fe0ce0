//! A sum of many numbers that hardly depends on their order.

use serde::{Deserialize, Serialize};

/// A sum in twice the precision of an `f64`: the rounded sum, and what rounding lost
/// (Knuth's two-sum, Dekker 1971). Its relative error is near 1e-32 per addition, so that
/// sums of cells may be added up in any order, and a variance may be had from Σx and Σx²
/// even where the mean is a million times the deviation.
///
/// Whoever adds keeps the sum far from the largest `f64`: infinity has no rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sum(f64, f64);

/// As a part of Σx², what is left after subtraction must be more to be more than rounding: a
/// standard deviation of a millionth of a millionth of the mean.
const SQUARES_MIN: f64 = 1e-24;

impl Sum {
    /// The sum, rounded.
    pub(super) const fn get(self) -> f64 {
        self.0
    }

    /// Adds one number.
    pub(super) fn add(&mut self, x: f64) {
        self.merge(Self(x, 0.0));
    }

    /// Adds the exact square of a number.
    pub(super) fn add_square(&mut self, x: f64) {
        self.merge(Self(x, 0.0).times(x));
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: Self) {
        let (sum, rest) = two_sum(self.0, other.0);
        let (sum, rest) = two_sum(sum, rest + (self.1 + other.1));
        *self = Self(sum, rest);
    }

    /// The sum, multiplied.
    pub(super) fn times(self, factor: f64) -> Self {
        let product = self.0 * factor;
        let rest = self.0.mul_add(factor, -product) + self.1 * factor;
        let (product, rest) = two_sum(product, rest);
        Self(product, rest)
    }

    /// `Σ(x − x̄)²` of `count` numbers, from their sum and the sum of their squares; at
    /// least 0, and 0 where it is below [`SQUARES_MIN`].
    pub(super) fn deviation(self, squares: Self, count: u64) -> f64 {
        if count == 0 {
            return 0.0;
        }
        let n = count as f64;
        let near = self.0 / n;
        // Σ(x − near)², less n·(x̄ − near)².
        let mut around = squares;
        around.merge(self.times(-2.0 * near));
        around.merge(Self(n, 0.0).times(near).times(near));
        let mut off = self;
        off.merge(Self(n, 0.0).times(-near));
        around.add(-(off.0 * off.0) / n);
        if around.0 > squares.0 * SQUARES_MIN { around.0 } else { 0.0 }
    }
}

/// The rounded sum and what rounding lost, exactly.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: impl Iterator<Item = f64>) -> (Sum, Sum, u64) {
        let mut all = (Sum::default(), Sum::default(), 0);
        for x in values {
            all.0.add(x);
            all.1.add_square(x);
            all.2 += 1;
        }
        all
    }

    #[test]
    fn what_a_plain_sum_loses_is_kept() {
        let (mut sum, ..) = sums([1e12, 1.0, 1e-16, -1e12, 1.0].into_iter());
        assert_eq!(sum.get(), 2.0);
        sum.merge(Sum(-2.0, 0.0));
        assert!((sum.get() - 1e-16).abs() < 1e-19, "{sum:?}");
    }

    #[test]
    fn a_small_deviation_about_a_large_mean() {
        // 0, 1, 2 … 9: Σ(x − x̄)² is 82.5 per ten.
        let (sum, squares, n) = sums((0..1_000).map(|i| 1e9 + f64::from(i % 10)));
        assert!((sum.deviation(squares, n) / 8_250.0 - 1.0).abs() < 1e-14);
        let (sum, squares, n) = sums((0..1_000).map(|_| 0.1));
        assert_eq!(sum.deviation(squares, n), 0.0);
        assert_eq!(Sum::default().deviation(Sum::default(), 0), 0.0);
    }
}
