//! The mean of a bounded quantity, with an interval that may be read at any
//! time: how often a shadow disagrees, accuracy on late labels, a selection
//! rate.
//!
//! The predictable-mixture empirical-Bernstein confidence sequence of
//! Waudby-Smith & Ramdas, "Estimating means of bounded random variables by
//! betting", JRSS B 2024, arXiv 2010.09686, theorem 2. One pass, constant memory:
//!
//! ```text
//! λ_t = min(½, √(2·ln(2/α) / (σ̂²_{t−1}·t·ln(1+t))))       ψ(λ) = −ln(1−λ) − λ
//! Σλ_i·x_i/Σλ_i  ±  (ln(2/α) + Σψ(λ_i)·(x_i − μ̂_{i−1})²)/Σλ_i
//! ```
//!
//! It is for one arm. Between two arms whose weights ramp while the base drifts
//! the difference of two such means is not valid: compare arms by the ratio of
//! binary events, by paired differences of a shadow, or within one stage. It
//! depends on the order of what it sees, so replicas cannot be merged; each
//! has a sequence of its own.

use serde::{Deserialize, Serialize};

use super::terms::Level;

/// An interval for a mean in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end, at least 0.
    pub lower: f64,
    /// The upper end, at most 1.
    pub upper: f64,
}

/// A running mean with its confidence sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    /// `ln(2/α)`: both sides get half of the level.
    ln_threshold: f64,
    count: u64,
    refused: u64,
    /// ½ + Σx, of the regularised mean μ̂.
    sum: f64,
    /// ¼ + Σ(x_i − μ̂_i)², of the regularised variance σ̂².
    squares: f64,
    lambdas: f64,
    weighted: f64,
    penalties: f64,
}

impl Mean {
    /// A mean of nothing yet, whose interval holds with probability 1 − `alpha`.
    #[must_use]
    pub fn new(alpha: Level) -> Self {
        Self {
            ln_threshold: alpha.ln_threshold() + std::f64::consts::LN_2,
            count: 0,
            refused: 0,
            sum: 0.5,
            squares: 0.25,
            lambdas: 0.0,
            weighted: 0.0,
            penalties: 0.0,
        }
    }

    /// Sees one observation.
    ///
    /// Values outside of [0, 1] count as the nearer end: the caller scales, and
    /// rounding may overshoot. NaN is not a value: it is refused and counted.
    pub fn add(&mut self, x: f64) {
        if x.is_nan() {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let x = x.clamp(0.0, 1.0);
        // What is known before this observation…
        let seen = self.count as f64 + 1.0;
        let (mean, variance) = (self.sum / seen, self.squares / seen);
        // …sets the stake on it, or the bet would not be fair.
        let lambda = (2.0 * self.ln_threshold / (variance * seen * seen.ln_1p())).sqrt().min(0.5);
        let surprise = (x - mean) * (x - mean);
        self.lambdas += lambda;
        self.weighted += lambda * x;
        self.penalties += (-(-lambda).ln_1p() - lambda) * surprise;
        self.count = self.count.saturating_add(1);
        self.sum += x;
        let mean = self.sum / (seen + 1.0);
        self.squares += (x - mean) * (x - mean);
    }

    /// How many observations it has seen.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The plain mean; `None` of nothing.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum - 0.5) / self.count as f64)
    }

    /// The interval now: [0, 1] before the first observation.
    #[must_use]
    pub fn interval(&self) -> Interval {
        if self.count == 0 {
            return Interval { lower: 0.0, upper: 1.0 };
        }
        let centre = self.weighted / self.lambdas;
        let radius = (self.ln_threshold + self.penalties) / self.lambdas;
        Interval { lower: (centre - radius).max(0.0), upper: (centre + radius).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(values: impl IntoIterator<Item = f64>) -> Mean {
        let mut mean = Mean::new(Level::NOT_WORSE);
        values.into_iter().for_each(|x| mean.add(x));
        mean
    }

    #[test]
    fn known_answers() {
        let rare = after((0..1_000).map(|i| f64::from(u8::from(i % 20 == 0))));
        let spread = after((0..500).map(|i| f64::from((7_919 * i) % 1_000) / 1_000.0));
        let cases =
            [(rare, 0.025_941_478_1, 0.076_290_448_0), (spread, 0.453_138_239_2, 0.544_132_207_0)];
        for (mean, lower, upper) in cases {
            let got = mean.interval();
            assert!((got.lower - lower).abs() < 1e-9, "{got:?}");
            assert!((got.upper - upper).abs() < 1e-9, "{got:?}");
        }
    }

    #[test]
    fn nothing_says_nothing_and_nan_is_counted() {
        let mut mean = Mean::new(Level::NOT_WORSE);
        assert_eq!((mean.mean(), mean.interval()), (None, Interval { lower: 0.0, upper: 1.0 }));
        let nothing = mean.clone();
        mean.add(f64::NAN);
        assert_eq!((mean.refused(), mean.count()), (1, 0));
        assert_eq!(mean.interval(), nothing.interval());
        mean.add(f64::INFINITY);
        mean.add(-7.0);
        assert_eq!((mean.count(), mean.mean()), (2, Some(0.5)));
    }

    proptest! {
        #[test]
        fn any_observations_have_an_interval(values in proptest::collection::vec(any::<f64>(), 0..200)) {
            let mean = after(values);
            let Interval { lower, upper } = mean.interval();
            prop_assert!((0.0..=1.0).contains(&lower) && (0.0..=1.0).contains(&upper));
            prop_assert!(lower <= upper + 1e-12, "{lower} {upper}");
        }
    }
}
