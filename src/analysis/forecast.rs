//! How many events it takes until something is shown.
//!
//! A calculation, not a simulation: further events fall on the arms in their
//! expected proportion, and the forecast is the number at which the evidence
//! then reaches its threshold. Real runs scatter around that, and since the best
//! look counts, half of them are there earlier: the forecast lies a tenth to a
//! half above the median. It is for a judgement in the middle of a rollout,
//! made at every look; [`super::passage`] is exact, and dearer.

use super::counts::StageCounts;
use super::evidence::Bet;
use super::likelihood::{Expected, ln_mean_exp, most_likely, on_canary};

/// Beyond so many events a forecast says "never".
const EVENTS_MAX: f64 = 1e12;

/// The number of further events at a share and a true ratio until the evidence
/// that `stages` already give has grown to `ln_threshold`; `None` where it
/// shrinks or takes more than 10¹² events.
pub(super) fn events_until(
    bet: Bet,
    stages: &[StageCounts],
    share: f64,
    ratio: f64,
    ln_threshold: f64,
) -> Option<u64> {
    let start = bet.terms(stages.iter().map(Expected::from));
    let theta = on_canary(share, ratio);
    let growth = bet.steps(share).map(|step| step.of(1.0 - theta, theta));
    let reached = |events: f64| {
        let terms: Vec<_> = start.iter().zip(&growth).map(|(a, b)| a + b * events).collect();
        ln_mean_exp(&terms) >= ln_threshold
    };
    if reached(0.0) {
        return Some(0);
    }
    // The logarithm of a mean of exponentials of lines is convex: below the
    // threshold at 0, it crosses it once at most.
    if !reached(EVENTS_MAX) {
        return None;
    }
    let (mut low, mut high) = (0_u64, EVENTS_MAX as u64);
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if reached(middle as f64) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// The ratio to go on with: the most likely one, drawn towards 1 by a single
/// imagined event, so that it is a number before both arms had one.
pub(super) fn present_ratio(stages: &[StageCounts]) -> f64 {
    let Some(share) = stages.last().map(|stage| stage.share.fraction()) else { return 1.0 };
    let imagined = Expected { share, champion: 1.0 - share, canary: share };
    let mut stages: Vec<_> = stages.iter().map(Expected::from).collect();
    stages.push(imagined);
    most_likely(&stages)
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::percent;
    use super::*;

    #[test]
    fn growth_is_seen_and_shrinking_too() {
        let bet = Bet { bound: 1.0, upward: true };
        let threshold = 100.0_f64.ln();
        let more =
            |stages: &[StageCounts], ratio| events_until(bet, stages, 0.05, ratio, threshold);
        let scratch = more(&[], 3.0).unwrap();
        let some = [StageCounts { share: percent(5.0), champion: 38, canary: 6 }];
        assert!(more(&some, 3.0).unwrap() < scratch);
        assert_eq!(more(&[], 1.0), None);
        let enough = [StageCounts { share: percent(5.0), champion: 95, canary: 20 }];
        assert_eq!(more(&enough, 1.0), Some(0));
    }

    #[test]
    fn the_present_ratio_is_a_number_from_the_start() {
        assert_eq!(present_ratio(&[]), 1.0);
        let at = |champion, canary| {
            present_ratio(&[StageCounts { share: percent(5.0), champion, canary }])
        };
        assert!((at(0, 0) - 1.0).abs() < 1e-9);
        assert!(at(0, 3) > 1.0 && at(0, 3).is_finite() && at(20, 0) < 1.0);
        assert!((at(95_000, 10_000) - 2.0).abs() < 0.001);
    }
}
