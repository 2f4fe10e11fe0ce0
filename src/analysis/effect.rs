//! How large the difference is: the ratio of the rates, and an interval for it
//! that may be read at any time.
//!
//! The interval inverts the e-processes of [`super::evidence`]. Its lower end
//! is the largest r against which "the ratio is at most r" has evidence of
//! 1/α, its upper end the smallest r against which "the ratio is at least r"
//! has evidence of 1/β. The log likelihood is concave in ln r, so the likelihood
//! ratio of r·g against r falls in r for g > 1 and rises for g < 1: the evidence
//! is monotone in r, and halving finds each end. Together they hold the true
//! ratio, at every look, with probability 1 − α − β or more. Against the even
//! mixture of both bets at (α + β)/2 this gives away next to nothing: on either
//! side of the best ratio the other half is at most 1/2.
//!
//! Because the ends come from the same bets at the same levels as the verdicts,
//! they say the same: the lower end is above m exactly where "worse" is shown,
//! and the upper end below M where "not worse" is.

use serde::{Deserialize, Serialize};

use super::counts::StageCounts;
use super::evidence::Bet;
use super::likelihood::{Expected, RATIO_MAX, RATIO_MIN, halve, most_likely};
use super::terms::Level;

/// The canary's event rate as a multiple of the champion's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The ratio that makes the counts most likely; 0 where only the champion
    /// had events, `None` where it had none (or nobody had any).
    pub ratio: Option<f64>,
    /// The interval's lower end, at least 0.
    pub lower: f64,
    /// Its upper end; `None` is "no bound yet".
    pub upper: Option<f64>,
}

impl Effect {
    /// The present ratio with the interval that the best evidence gives.
    ///
    /// `lower_at` and `upper_at` are the counts at the looks with the best
    /// evidence for "worse" and for "not worse" (or the present ones). Should
    /// the ends cross, the ratio was not one and the same all the time.
    #[must_use]
    pub fn new(
        present: &[StageCounts],
        lower_at: &[StageCounts],
        alpha: Level,
        upper_at: &[StageCounts],
        beta: Level,
    ) -> Self {
        Self { ratio: ratio(present), lower: lower(lower_at, alpha), upper: upper(upper_at, beta) }
    }
}

/// The ratio that makes the counts most likely.
fn ratio(stages: &[StageCounts]) -> Option<f64> {
    let any = |count: fn(&StageCounts) -> u64| stages.iter().any(|stage| count(stage) > 0);
    match (any(|s| s.champion), any(|s| s.canary)) {
        (false, _) => None,
        (true, false) => Some(0.0),
        (true, true) => Some(most_likely(&stages.iter().map(Expected::from).collect::<Vec<_>>())),
    }
}

/// The largest ratio that is shown to be too small, rounded down.
fn lower(stages: &[StageCounts], alpha: Level) -> f64 {
    let threshold = alpha.ln_threshold();
    let too_small = |ln: f64| Bet { bound: ln.exp(), upward: true }.rejected(stages, threshold);
    let (end, _) = halve(too_small);
    if end > RATIO_MIN.ln() { end.exp() } else { 0.0 }
}

/// The smallest ratio that is shown to be too large, rounded up.
fn upper(stages: &[StageCounts], beta: Level) -> Option<f64> {
    let threshold = beta.ln_threshold();
    let possible = |ln: f64| !Bet { bound: ln.exp(), upward: false }.rejected(stages, threshold);
    let (_, end) = halve(possible);
    (end < RATIO_MAX.ln()).then(|| end.exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::evidence::Hypothesis;
    use super::super::terms::tests::percent;
    use super::super::terms::{Exposure, Margin};
    use super::*;
    use crate::types::Share;

    fn both(stages: &[StageCounts]) -> Effect {
        let (alpha, beta) = (Level::new(0.01).unwrap(), Level::new(0.05).unwrap());
        Effect::new(stages, stages, alpha, stages, beta)
    }

    fn stage(share: f64, champion: u64, canary: u64) -> StageCounts {
        StageCounts { share: percent(share), champion, canary }
    }

    #[test]
    fn the_interval_holds_the_ratio_and_narrows() {
        let mut width = f64::INFINITY;
        for times in [1, 10, 100, 1000] {
            let effect = both(&[stage(5.0, 95 * times, 10 * times)]);
            let (ratio, upper) = (effect.ratio.unwrap(), effect.upper.unwrap());
            assert!((ratio - 2.0).abs() < 1e-9);
            assert!(effect.lower < 2.0 && upper > 2.0, "{effect:?}");
            assert!(upper - effect.lower < width);
            width = upper - effect.lower;
        }
        // The alternative nearest to a bound is 1.1 times it, so an end never
        // comes nearer than half of that.
        assert!(width < 0.25, "{width}");
    }

    #[test]
    fn without_events_anything_is_possible() {
        let nothing = Effect { ratio: None, lower: 0.0, upper: None };
        assert_eq!(both(&[]), nothing);
        assert_eq!(both(&[stage(5.0, 0, 0)]), nothing);
        assert_eq!(both(&[stage(5.0, 9, 0)]).ratio, Some(0.0));
        assert_eq!(both(&[stage(5.0, 0, 9)]).ratio, None);
        assert!(both(&[stage(5.0, 0, 9)]).lower > 10.0);
    }

    fn some_stages() -> impl Strategy<Value = Vec<StageCounts>> {
        let count = || prop_oneof![0_u64..400, any::<u64>(), Just(u64::MAX)];
        let stage = (1_u16..10_000, count(), count()).prop_map(|(points, champion, canary)| {
            let share = Share::from_basis_points(points).unwrap();
            StageCounts { share: Exposure::new(share).unwrap(), champion, canary }
        });
        proptest::collection::vec(stage, 0..4)
    }

    proptest! {
        #[test]
        fn any_counts_have_figures(stages in some_stages()) {
            let effect = both(&stages);
            prop_assert!(effect.ratio.is_none_or(f64::is_finite));
            prop_assert!(effect.lower.is_finite() && effect.lower >= 0.0);
            prop_assert!(effect.upper.is_none_or(|upper| upper.is_finite() && upper > 0.0));
            for margin in [0.01, 1.0, 100.0] {
                let margin = Margin::new(margin).unwrap();
                prop_assert!(Hypothesis::AtMost(margin).ln_e(&stages).is_finite());
                prop_assert!(Hypothesis::AtLeast(margin).ln_e(&stages).is_finite());
            }
        }

        #[test]
        fn the_interval_says_what_the_verdicts_say(
            share in 1_u16..10_000, champion in 0_u64..400, canary in 0_u64..400, margin in 0.1..10.0,
        ) {
            let share = Exposure::new(Share::from_basis_points(share).unwrap()).unwrap();
            let stages = [StageCounts { share, champion, canary }];
            let effect = both(&stages);
            prop_assert!(effect.ratio.is_none_or(|ratio| ratio >= effect.lower));
            let margin = Margin::new(margin).unwrap();
            let worse = Hypothesis::AtMost(margin).ln_e(&stages) >= 100.0_f64.ln();
            let not_worse = Hypothesis::AtLeast(margin).ln_e(&stages) >= 20.0_f64.ln();
            // Up to the rounding of an end.
            let (m, slack) = (margin.get(), 1e-9);
            prop_assert!((effect.lower >= m - slack || !worse) && (effect.lower <= m + slack || worse));
            let upper = effect.upper.unwrap_or(f64::INFINITY);
            prop_assert!((upper <= m + slack || !not_worse) && (upper >= m - slack || not_worse));
        }
    }
}
