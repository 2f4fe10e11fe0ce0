//! Alarms without a control: has the level of something changed?
//!
//! After a promotion there is no champion to compare with, unless a share was
//! held back for it (then the ratio of events goes on, with the arms
//! exchanged). For a level alone an e-detector serves:
//!
//! ```text
//! S_t = (S_{t−1} + 1)·L_t        alarm at S_t ≥ 1/α
//! ```
//!
//! Each observation starts another bet against "nothing has changed", so that a
//! change is found soon after it happens, however long nothing did. Between
//! false alarms there are at least 1/α observations on average (Shin, Ramdas &
//! Rinaldo, "E-detectors: a nonparametric framework for sequential change
//! detection", 2022, arXiv 2203.03532).

use serde::{Deserialize, Serialize};

use super::terms::Rate;

/// The sum of all bets, as a logarithm: `ln S_t`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    /// `None` is `ln 0`, the beginning.
    ln_sum: Option<f64>,
}

/// Logarithms stay within this, so that sums of them are numbers.
const LN_MAX: f64 = 1e15;

impl EDetector {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ln_sum: None }
    }

    /// Sees one observation, by the logarithm of its e-value `ln L_t`: of a bet
    /// that is fair or worse while nothing has changed. NaN counts as no news
    /// (0), and infinities as very large numbers.
    pub fn add(&mut self, ln_l: f64) {
        let ln_l = if ln_l.is_nan() { 0.0 } else { ln_l.clamp(-LN_MAX, LN_MAX) };
        // ln(S + 1), without overflow.
        let ln_plus_one = self.ln_sum.map_or(0.0, |ln| ln.max(0.0) + (-ln.abs()).exp().ln_1p());
        self.ln_sum = Some((ln_plus_one + ln_l).clamp(-LN_MAX, LN_MAX));
    }

    /// `ln S_t`; the least number before the first observation.
    #[must_use]
    pub fn ln_sum(&self) -> f64 {
        self.ln_sum.unwrap_or(-LN_MAX)
    }
}

impl Default for EDetector {
    fn default() -> Self {
        Self::new()
    }
}

/// The alternatives of a [`RateDetector`], as multiples of the usual odds.
const RISES: [f64; 4] = [1.5, 2.0, 4.0, 10.0];

/// Watches for a rise of an event's rate above what is usual: the mean of four
/// e-detectors, one for each size of the rise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateDetector {
    usual: Rate,
    observations_between: u64,
    rises: [EDetector; RISES.len()],
}

impl RateDetector {
    /// A detector for rates above `usual`, which alarms falsely once in
    /// `observations_between` observations at most, on average. 90 days of the
    /// present traffic is a good choice.
    #[must_use]
    pub fn new(usual: Rate, observations_between: u64) -> Self {
        let observations_between = observations_between.max(1);
        Self { usual, observations_between, rises: [EDetector::new(); RISES.len()] }
    }

    /// Sees one observation: whether it had the event.
    pub fn add(&mut self, event: bool) {
        let q = self.usual.get();
        for (detector, rise) in self.rises.iter_mut().zip(RISES) {
            // Odds instead of rates, which would leave [0, 1].
            let scale = 1.0 - q + q * rise;
            let ln_l = if event { rise.ln() } else { 0.0 } - scale.ln();
            detector.add(ln_l);
        }
    }

    /// Whether the rate has risen. After an alarm, begin with a new detector.
    #[must_use]
    pub fn alarm(&self) -> bool {
        let lns = self.rises.map(|detector| detector.ln_sum());
        super::likelihood::ln_mean_exp(&lns) >= (self.observations_between as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_the_recursion() {
        let mut detector = EDetector::new();
        let mut sum = 0.0;
        for factor in [0.5, 2.0, 3.0, 0.1, 1.0, 4.0] {
            detector.add(f64::ln(factor));
            sum = (sum + 1.0) * factor;
            assert!((detector.ln_sum() - f64::ln(sum)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_rise_is_found_soon_after_it_happens() {
        let mut detector = RateDetector::new(Rate::new(0.01).unwrap(), 1_000_000);
        // One in a hundred, for long: no alarm, and nothing that delays one.
        for i in 0..50_000 {
            detector.add(i % 100 == 0);
            assert!(!detector.alarm(), "{i}");
        }
        let after = (0..10_000).find(|i| {
            detector.add(i % 20 == 0);
            detector.alarm()
        });
        assert!(after.unwrap() < 1_000, "{after:?}");
    }

    proptest! {
        #[test]
        fn any_news_is_a_number(news in proptest::collection::vec(any::<f64>(), 0..50)) {
            let mut detector = EDetector::new();
            for ln_l in news {
                detector.add(ln_l);
                prop_assert!(detector.ln_sum().is_finite());
            }
        }
    }
}
