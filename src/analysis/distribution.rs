//! Whole distributions of two arms: has the score shifted, has latency's bulk?
//!
//! The time-uniform Dvoretzky-Kiefer-Wolfowitz band of Howard & Ramdas,
//! "Sequential estimation of quantiles with applications to A/B testing and
//! best-arm identification", Bernoulli 28(3), 2022, theorem 2:
//!
//! ```text
//! r(n, α) = 0.85·√((ln(1 + ln n) + 0.8·ln(1612/α)) / n)
//! ```
//!
//! Two arms differ once their distribution functions are further apart than
//! the sum of both radii at α/2. It holds on fixed histogram bounds alone, so
//! counts suffice, and replicas merge by addition. It is good for shifts of
//! the bulk and useless for a p99: count slow requests as events for that.

use serde::{Deserialize, Serialize};

use super::terms::Level;
use crate::error::Error;

/// How far the distribution function of `n` observations may be off, at any
/// time, with probability 1 − `alpha`; at most 1, as it is for none.
#[must_use]
pub fn radius(n: u64, alpha: Level) -> f64 {
    if n == 0 {
        return 1.0;
    }
    let n = n as f64;
    let ln_term = 0.8 * (1_612.0_f64.ln() + alpha.ln_threshold());
    (0.85 * ((n.ln().ln_1p() + ln_term) / n).sqrt()).min(1.0)
}

/// How far apart two distributions are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// The largest distance between the distribution functions, 0 to 1.
    pub gap: f64,
    /// The bin at whose upper bound it is.
    pub bin: usize,
    /// What it has to exceed.
    pub radius: f64,
    /// Whether it does: the distributions differ.
    pub differ: bool,
}

/// Compares two histograms of the same bins.
///
/// The bins must have been fixed before the first count. Histograms of
/// different lengths are an invalid argument.
pub fn distance(a: &[u64], b: &[u64], alpha: Level) -> Result<Distance, Error> {
    if a.len() != b.len() {
        let message = format!("histograms of {} and {} bins: expected the same", a.len(), b.len());
        return Err(Error::invalid(message));
    }
    let [n_a, n_b] = [a, b].map(|bins| bins.iter().fold(0_u64, |n, c| n.saturating_add(*c)));
    let half = alpha.split(2);
    let mut found =
        Distance { gap: 0.0, bin: 0, radius: radius(n_a, half) + radius(n_b, half), differ: false };
    if n_a > 0 && n_b > 0 {
        let (mut below_a, mut below_b) = (0_u64, 0_u64);
        for (bin, (count_a, count_b)) in a.iter().zip(b).enumerate() {
            below_a = below_a.saturating_add(*count_a);
            below_b = below_b.saturating_add(*count_b);
            let gap = (below_a as f64 / n_a as f64 - below_b as f64 / n_b as f64).abs();
            if gap > found.gap {
                (found.gap, found.bin) = (gap, bin);
            }
        }
    }
    found.differ = found.gap > found.radius;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_radius_is_that_of_the_paper() {
        // By hand: ln(1612/.05) = 10.38109…, ln(1 + ln 1000) = 2.06769…
        let expected =
            0.85 * f64::sqrt((f64::ln(1.0 + f64::ln(1e3)) + 0.8 * f64::ln(1612.0 / 0.05)) / 1e3);
        let got = radius(1_000, Level::NOT_WORSE);
        assert!((got - expected).abs() < 1e-12 && (got - 0.0865).abs() < 1e-3, "{got}");
        assert_eq!(radius(0, Level::NOT_WORSE), 1.0);
        assert_eq!(radius(1, Level::NOT_WORSE), 1.0);
    }

    #[test]
    fn a_shift_of_the_bulk_shows_and_no_shift_does_not() {
        let (champion, canary) = ([47_500, 47_500], [2_250, 2_750]);
        let shifted = distance(&champion, &canary, Level::NOT_WORSE).unwrap();
        assert!((shifted.gap - 0.05).abs() < 1e-12 && shifted.bin == 0);
        assert!(shifted.differ, "{shifted:?}");
        let same = distance(&champion, &[2_500, 2_500], Level::NOT_WORSE).unwrap();
        assert!(!same.differ && same.gap == 0.0);
        assert!(!distance(&[5, 0], &[0, 5], Level::NOT_WORSE).unwrap().differ, "too few");
        assert!(distance(&[1], &[1, 2], Level::NOT_WORSE).is_err());
        assert!(!distance(&[], &[], Level::NOT_WORSE).unwrap().differ);
    }

    proptest! {
        #[test]
        fn any_counts_have_a_distance(
            a in proptest::collection::vec(any::<u64>(), 3), b in proptest::collection::vec(any::<u64>(), 3),
        ) {
            let found = distance(&a, &b, Level::NOT_WORSE).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.gap) && found.radius.is_finite());
            prop_assert!(found.bin < 3);
        }
    }
}
