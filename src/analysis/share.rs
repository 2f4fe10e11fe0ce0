//! The traffic check: does the split send what it claims to send?
//!
//! Where arms do not get their designed shares (a bug, a retry storm, a cache
//! in front), they do not get comparable requests either, and no other verdict
//! counts. The test is the e-process of a multinomial against a Dirichlet
//! mixture around the intended shares (Lindon & Malek, "Anytime-valid inference
//! for multinomial count data", NeurIPS 2022, arXiv 2011.03567):
//!
//! ```text
//! ln E = lnΓ(k) − lnΓ(k+N) + Σ_i [ lnΓ(k·ρ_i+N_i) − lnΓ(k·ρ_i) − N_i·ln ρ_i ]
//! ```
//!
//! for counts N_i with intended shares ρ_i, `N = ΣN_i`. With a routing key N_i
//! counts *distinct keys* first seen in the stage: one heavy user makes request
//! counts swing, and a check on those trips in most healthy rollouts. Without
//! keys it counts requests.

use serde::{Deserialize, Serialize};

use super::counts::{StageCounts, Tally};
use super::evidence::p_value;
use super::gamma::ln_gamma;
use super::terms::{Exposure, Level};
use crate::error::Error;

/// How much the mixture gathers around the intended shares (k): the default
/// looks for deviations of some percent of the traffic.
pub const CONCENTRATION: f64 = 100.0;

/// The natural logarithm of the e-value against "each arm gets its intended
/// share".
///
/// `intended` are the arms' shares, each 10⁻⁹ at least, together 1; `counts` are
/// as many counts; `concentration` is from 10⁻⁶ to 10⁶. Anything else is an
/// invalid argument. The error is about 1e-15·N·ln N: of 10⁹ requests, 2e-5.
pub fn split_ln_e(intended: &[f64], counts: &[u64], concentration: f64) -> Result<f64, Error> {
    let sum: f64 = intended.iter().sum();
    let shares_fine = intended.iter().all(|share| *share >= 1e-9) && (sum - 1.0).abs() < 1e-9;
    if !shares_fine || intended.len() != counts.len() {
        let message = "traffic check: expected a count for each share, and shares that sum to 1";
        return Err(Error::invalid(message));
    }
    if !(1e-6..=1e6).contains(&concentration) {
        let message = format!("concentration {concentration}: expected from 1e-6 to 1e6");
        return Err(Error::invalid(message));
    }
    let arms = intended.iter().copied().zip(counts.iter().map(|count| *count as f64));
    Ok(ln_e_of(arms, concentration))
}

fn ln_e_of(arms: impl Iterator<Item = (f64, f64)>, concentration: f64) -> f64 {
    let mut total = 0.0;
    let mut ln_e = 0.0;
    for (share, count) in arms {
        let prior = concentration * share;
        ln_e += ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln();
        total += count;
    }
    ln_e + ln_gamma(concentration) - ln_gamma(concentration + total)
}

/// Of all stages together: each stage's bet begins with what the last one won.
fn stages_ln_e(stages: &[StageCounts]) -> f64 {
    let one = |stage: &StageCounts| {
        let share = stage.share.fraction();
        let arms = [(1.0 - share, stage.champion as f64), (share, stage.canary as f64)];
        ln_e_of(arms.into_iter(), CONCENTRATION)
    };
    stages.iter().map(one).sum()
}

/// What the check says, and everything that it says it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficFinding {
    /// Whether traffic is shown not to arrive as it was routed.
    pub misrouted: bool,
    /// The natural logarithm of the e-value of the present counts.
    pub ln_e: f64,
    /// The largest one at any look, which decides; at least 0.
    pub best_ln_e: f64,
    /// The always-valid p-value.
    pub p_value: f64,
    /// The level it was checked at.
    pub alpha: Level,
    /// Traffic by stage and arm, the present stage last.
    pub stages: Vec<StageCounts>,
    /// Traffic at the look with the most evidence.
    pub worst_at: Vec<StageCounts>,
}

/// The finding for these counts. Pure: the level and the counts of a recorded
/// finding give the same one again.
#[must_use]
pub fn check_traffic(
    alpha: Level,
    stages: Vec<StageCounts>,
    worst_at: Vec<StageCounts>,
) -> TrafficFinding {
    let best_ln_e = stages_ln_e(&worst_at).max(0.0);
    TrafficFinding {
        misrouted: best_ln_e >= alpha.ln_threshold(),
        ln_e: stages_ln_e(&stages),
        best_ln_e,
        p_value: p_value(best_ln_e),
        alpha,
        stages,
        worst_at,
    }
}

/// Counts traffic and looks, from the beginning of a rollout to its end.
#[derive(Clone, Debug)]
pub struct TrafficCheck {
    alpha: Level,
    tally: Tally,
    best_ln_e: f64,
    worst_at: Vec<StageCounts>,
}

impl TrafficCheck {
    /// A check at the beginning of the first stage that has a canary.
    #[must_use]
    pub fn new(alpha: Level, share: Exposure) -> Self {
        Self { alpha, tally: Tally::new(share), best_ln_e: 0.0, worst_at: Vec::new() }
    }

    /// A check that goes on from what was recorded.
    #[must_use]
    pub fn resume(alpha: Level, stages: Vec<StageCounts>, worst_at: Vec<StageCounts>) -> Self {
        let best_ln_e = stages_ln_e(&worst_at).max(0.0);
        Self { alpha, tally: Tally::of(stages), best_ln_e, worst_at }
    }

    /// From now on the canary has this share.
    pub fn begin(&mut self, share: Exposure) {
        self.tally.begin(share);
    }

    /// Counts keys seen for the first time (or requests, without keys) of both
    /// arms, and looks.
    pub fn add(&mut self, champion: u64, canary: u64) {
        self.tally.add(champion, canary);
        let ln_e = stages_ln_e(self.tally.stages());
        if ln_e > self.best_ln_e {
            self.best_ln_e = ln_e;
            self.worst_at.clear();
            self.worst_at.extend_from_slice(self.tally.stages());
        }
    }

    /// What it says now.
    #[must_use]
    pub fn finding(&self) -> TrafficFinding {
        check_traffic(self.alpha, self.tally.stages().to_vec(), self.worst_at.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::terms::tests::percent;
    use super::*;
    use crate::types::Share;

    #[test]
    fn known_answers() {
        let ln_e = split_ln_e(&[0.5, 0.5], &[10, 0], 2.0).unwrap();
        assert!((ln_e.exp() - 1024.0 / 11.0).abs() < 1e-9, "{ln_e}");
        let ln_e = split_ln_e(&[0.95, 0.05], &[95, 20], 100.0).unwrap();
        assert!((ln_e - 6.576_463_036_533).abs() < 1e-9, "{ln_e}");
        let stage = StageCounts { share: percent(5.0), champion: 95, canary: 20 };
        assert!((stages_ln_e(&[stage]) - 6.576_463_036_533).abs() < 1e-9);
    }

    #[test]
    fn an_e_value_is_one_on_average_where_shares_are_as_intended() {
        let share = 0.3;
        let mut mean = 0.0;
        let mut ways = 1.0;
        for canary in 0..=12_u64 {
            let chance =
                ways * f64::powi(share, canary as i32) * f64::powi(1.0 - share, 12 - canary as i32);
            let counts = [12 - canary, canary];
            mean += chance * split_ln_e(&[1.0 - share, share], &counts, 100.0).unwrap().exp();
            ways *= (12 - canary) as f64 / (canary + 1) as f64;
        }
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn a_trip_stays_and_stages_add_up() {
        let mut check = TrafficCheck::new(Level::TRAFFIC, percent(1.0));
        check.add(9_900, 100);
        check.begin(percent(5.0));
        check.add(950, 50);
        assert!(!check.finding().misrouted && check.finding().ln_e < 0.0);
        check.add(950, 150);
        assert!(check.finding().misrouted, "{:?}", check.finding());
        check.add(95_000, 4_900);
        let finding = check.finding();
        assert!(finding.misrouted && finding.ln_e < finding.best_ln_e);
        let again = check_traffic(finding.alpha, finding.stages.clone(), finding.worst_at.clone());
        assert_eq!(again, finding);
    }

    #[test]
    fn nonsense_is_refused() {
        let nonsense: [(&[f64], &[u64], f64); 7] = [
            (&[0.5, 0.5], &[1], 100.0),
            (&[], &[], 100.0),
            (&[1.0, 0.0], &[1, 1], 100.0),
            (&[f64::NAN, 0.5], &[1, 1], 100.0),
            (&[0.5, 0.6], &[1, 1], 100.0),
            (&[0.5, 0.5], &[1, 1], 0.0),
            (&[0.5, 0.5], &[1, 1], f64::NAN),
        ];
        for (shares, counts, concentration) in nonsense {
            assert!(split_ln_e(shares, counts, concentration).is_err(), "{shares:?} {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn any_counts_have_a_finding(points in 1_u16..10_000, champion: u64, canary: u64) {
            let share = Exposure::new(Share::from_basis_points(points).unwrap()).unwrap();
            let mut check = TrafficCheck::new(Level::TRAFFIC, share);
            for (champion, canary) in [(champion, 0), (0, canary), (u64::MAX, u64::MAX)] {
                check.add(champion, canary);
                let finding = check.finding();
                prop_assert!(finding.ln_e.is_finite() && finding.best_ln_e.is_finite());
            }
        }
    }
}
