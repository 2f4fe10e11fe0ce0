//! The likelihood of a ratio, given on which arm each event fell.
//!
//! Given that an event happened while the canary had the share p, and that the
//! canary's event rate is r times the champion's, it fell on the canary with
//! probability `θ(p, r) = p·r / (1 − p + p·r)`. The base rate cancels out: it
//! may change with the hour as it likes.

use super::counts::StageCounts;

/// The ratios that are told apart: beyond them nothing changes for anyone.
pub(super) const RATIO_MIN: f64 = 1e-6;
/// See [`RATIO_MIN`].
pub(super) const RATIO_MAX: f64 = 1e6;

/// Counts that may be fractions: expected ones, for a forecast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// The canary's share.
    pub(super) share: f64,
    /// Events of the champion.
    pub(super) champion: f64,
    /// Events of the canary.
    pub(super) canary: f64,
}

impl From<&StageCounts> for Expected {
    fn from(stage: &StageCounts) -> Self {
        Self {
            share: stage.share.fraction(),
            champion: stage.champion as f64,
            canary: stage.canary as f64,
        }
    }
}

/// θ: the probability that an event falls on the canary.
pub(super) fn on_canary(share: f64, ratio: f64) -> f64 {
    share * ratio / (1.0 - share + share * ratio)
}

/// How one event moves the log likelihood ratio of `ratio` against `bound`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// `ln(ratio/bound)`, for an event on the canary.
    canary: f64,
    /// `ln((1 − p + p·ratio)/(1 − p + p·bound))`, taken off for any event.
    any: f64,
}

impl Step {
    pub(super) fn new(share: f64, ratio: f64, bound: f64) -> Self {
        // ln_1p keeps the digits at small shares.
        let weight = |ratio: f64| (share * (ratio - 1.0)).ln_1p();
        Self { canary: (ratio / bound).ln(), any: weight(ratio) - weight(bound) }
    }

    /// The log likelihood ratio of so many events.
    pub(super) fn of(self, champion: f64, canary: f64) -> f64 {
        canary * self.canary - (champion + canary) * self.any
    }
}

/// `ln(mean(exp(terms)))`, without overflow.
pub(super) fn ln_mean_exp(terms: &[f64]) -> f64 {
    let max = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !max.is_finite() {
        return max;
    }
    let sum: f64 = terms.iter().map(|term| (term - max).exp()).sum();
    max + (sum / terms.len() as f64).ln()
}

/// The ratio that makes the counts most likely, within [`RATIO_MIN`] and
/// [`RATIO_MAX`].
///
/// The derivative of the log likelihood by `ln r`, `Σ_s B_s − N_s·θ(p_s, r)`,
/// falls in r, so that halving finds its root.
pub(super) fn most_likely(stages: &[Expected]) -> f64 {
    let slope = |ln_ratio: f64| -> f64 {
        let of = |stage: &Expected| {
            let events = stage.champion + stage.canary;
            stage.canary - events * on_canary(stage.share, ln_ratio.exp())
        };
        stages.iter().map(of).sum()
    };
    let (low, high) = halve(|ln_ratio| slope(ln_ratio) > 0.0);
    f64::midpoint(low, high).exp()
}

/// Narrows down where `holds` turns from true to false, between the logarithms
/// of [`RATIO_MIN`] and [`RATIO_MAX`]: (it holds, it does not). An end that
/// was never tried is that of the range.
pub(super) fn halve(holds: impl Fn(f64) -> bool) -> (f64, f64) {
    let (mut low, mut high) = (RATIO_MIN.ln(), RATIO_MAX.ln());
    // The range is 28 wide; after 60 halvings what is left is below rounding.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stage_s_best_ratio_is_that_of_the_rates() {
        for (share, champion, canary) in [(0.05, 95.0, 20.0), (0.5, 30.0, 10.0), (0.01, 990.0, 1.0)]
        {
            let expected = (canary / share) / (champion / (1.0 - share));
            let got = most_likely(&[Expected { share, champion, canary }]);
            assert!((got / expected - 1.0).abs() < 1e-9, "{got} {expected}");
            assert!((on_canary(share, expected) - canary / (champion + canary)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_mean_of_exponentials_does_not_overflow() {
        assert_eq!(ln_mean_exp(&[1e300, 1e300]), 1e300);
        assert!((ln_mean_exp(&[0.0, 3.0_f64.ln()]) - 2.0_f64.ln()).abs() < 1e-15);
        assert_eq!(ln_mean_exp(&[f64::NEG_INFINITY; 2]), f64::NEG_INFINITY);
    }
}
