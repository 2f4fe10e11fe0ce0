//! Evidence on the ratio of two event rates: "worse than m", "not worse than M".
//!
//! An e-process is a bet against a hypothesis that is fair or worse while the
//! hypothesis holds. By Ville's inequality its value ever exceeds 1/α with
//! probability α at most, however often one looks and whenever one stops
//! (Ville 1939; Ramdas, Grünwald, Vovk & Shafer, "Game-theoretic statistics and
//! safe anytime-valid inference", Statistical Science 2023, arXiv 2210.01948).
//! Here it is the mean, over 16 alternatives x, of the likelihood ratios
//!
//! ```text
//! E = Σ_x 1/16 · Π_s (θ(p_s,x)/θ(p_s,m))^B_s · ((1−θ(p_s,x))/(1−θ(p_s,m)))^A_s
//! ```
//!
//! for A_s events on the champion and B_s on the canary while the canary had
//! the share p_s. The likelihood ratio is monotone in the true ratio, so the
//! bet is fair or worse against every ratio on the hypothesis' side of m, also
//! against one that changes from event to event.
//!
//! Two things must hold, and are the caller's to see to. Requests are assigned
//! to arms at random with probability p_s (pinned ones do not count); and with
//! a routing key, which sends all of one user's failures to one arm, each key
//! counts at most once per kind of event and rollout.

use serde::{Deserialize, Serialize};

use super::counts::StageCounts;
use super::likelihood::{Expected, Step, ln_mean_exp};
use super::terms::Margin;

/// How many alternatives the bet is spread over.
const ALTERNATIVES: usize = 16;
/// The alternative that is nearest to the bound, as a multiple of it.
const NEAREST: f64 = 1.1;
/// The one that is farthest from it.
const FARTHEST: f64 = 10.0;

/// What evidence is gathered against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hypothesis {
    /// The ratio is at most m; evidence against it shows the canary worse.
    /// Alternatives lie from 1.1·m to 10·m.
    AtMost(Margin),
    /// The ratio is at least M; evidence against it shows the canary not
    /// worse. Alternatives lie from M/1.1 to M/10.
    AtLeast(Margin),
}

impl Hypothesis {
    /// The natural logarithm of the e-value that the counts give, all stages
    /// together; 0 without any count. Finite for all counts.
    #[must_use]
    pub fn ln_e(self, stages: &[StageCounts]) -> f64 {
        self.bet().ln_e(stages)
    }

    const fn bet(self) -> Bet {
        match self {
            Self::AtMost(margin) => Bet { bound: margin.get(), upward: true },
            Self::AtLeast(margin) => Bet { bound: margin.get(), upward: false },
        }
    }
}

/// A hypothesis about any ratio at all, for the search of an interval's ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bet {
    pub(super) bound: f64,
    /// Whether the alternatives lie above the bound.
    pub(super) upward: bool,
}

impl Bet {
    pub(super) fn of(hypothesis: Hypothesis) -> Self {
        hypothesis.bet()
    }

    /// Each alternative's step at a share.
    pub(super) fn steps(self, share: f64) -> [Step; ALTERNATIVES] {
        std::array::from_fn(|k| {
            let position = k as f64 / (ALTERNATIVES - 1) as f64;
            let multiple = NEAREST * (FARTHEST / NEAREST).powf(position);
            let ratio = if self.upward { self.bound * multiple } else { self.bound / multiple };
            Step::new(share, ratio, self.bound)
        })
    }

    /// Each alternative's log likelihood ratio.
    pub(super) fn terms(self, stages: impl Iterator<Item = Expected>) -> [f64; ALTERNATIVES] {
        let mut terms = [0.0; ALTERNATIVES];
        for stage in stages {
            add(&mut terms, &self.steps(stage.share), stage.champion, stage.canary);
        }
        terms
    }

    fn ln_e(self, stages: &[StageCounts]) -> f64 {
        ln_mean_exp(&self.terms(stages.iter().map(Expected::from)))
    }

    /// As [`Hypothesis::ln_e`].
    pub(super) fn rejected(self, stages: &[StageCounts], ln_threshold: f64) -> bool {
        self.ln_e(stages) >= ln_threshold
    }
}

fn add(terms: &mut [f64; ALTERNATIVES], steps: &[Step; ALTERNATIVES], champion: f64, canary: f64) {
    for (term, step) in terms.iter_mut().zip(steps) {
        *term += step.of(champion, canary);
    }
}

/// Evidence as it comes in: the same figures as [`Hypothesis::ln_e`], bit for
/// bit, at a cost that suits a look after every event, and the best that was
/// ever reached.
///
/// The best counts: whoever may look at any time may also have stopped at the
/// best one. Its counts are kept, since the order of events is not, so that a
/// verdict can be recomputed.
#[derive(Clone, Debug)]
pub struct Evidence {
    hypothesis: Hypothesis,
    /// The stages before the present one.
    settled: [f64; ALTERNATIVES],
    /// Of the present stage.
    steps: [Step; ALTERNATIVES],
    best_ln_e: f64,
    best_at: Vec<StageCounts>,
}

impl Evidence {
    /// Evidence against a hypothesis, with a first look at what is counted
    /// already.
    #[must_use]
    pub fn new(hypothesis: Hypothesis, stages: &[StageCounts]) -> Self {
        let mut evidence = Self {
            hypothesis,
            settled: [0.0; ALTERNATIVES],
            steps: [Step::default(); ALTERNATIVES],
            // Nobody has to bet: before the first event E is 1.
            best_ln_e: 0.0,
            best_at: Vec::new(),
        };
        evidence.begin(stages);
        evidence
    }

    /// Evidence that goes on from what was recorded: the counts so far, and those
    /// at the best look.
    #[must_use]
    pub fn resume(
        hypothesis: Hypothesis,
        stages: &[StageCounts],
        best_at: Vec<StageCounts>,
    ) -> Self {
        let mut evidence = Self::new(hypothesis, &[]);
        evidence.best_ln_e = hypothesis.ln_e(&best_at).max(0.0);
        evidence.best_at = best_at;
        evidence.begin(stages);
        evidence
    }

    /// The present stage (the last one) is another now.
    pub fn begin(&mut self, stages: &[StageCounts]) {
        let Some((present, settled)) = stages.split_last() else { return };
        let bet = self.hypothesis.bet();
        self.settled = bet.terms(settled.iter().map(Expected::from));
        self.steps = bet.steps(present.share.fraction());
        self.look(stages);
    }

    /// Takes notice of the present stage's counts. The stages before it must be
    /// those of the last [`Self::begin`].
    pub fn look(&mut self, stages: &[StageCounts]) {
        let Some(present) = stages.last() else { return };
        let mut terms = self.settled;
        add(&mut terms, &self.steps, present.champion as f64, present.canary as f64);
        // The mean is never above the largest: most looks end here.
        if terms.iter().any(|term| *term > self.best_ln_e) {
            let ln_e = ln_mean_exp(&terms);
            if ln_e > self.best_ln_e {
                self.best_ln_e = ln_e;
                self.best_at.clear();
                self.best_at.extend_from_slice(stages);
            }
        }
    }

    /// What it is against.
    #[must_use]
    pub const fn hypothesis(&self) -> Hypothesis {
        self.hypothesis
    }

    /// The largest logarithm of the e-value at any look so far, at least 0.
    #[must_use]
    pub const fn best_ln_e(&self) -> f64 {
        self.best_ln_e
    }

    /// The counts at that look; empty where nothing ever spoke against the
    /// hypothesis.
    #[must_use]
    pub fn best_at(&self) -> &[StageCounts] {
        &self.best_at
    }
}

/// The always-valid p-value: `min(1, 1/max E)`. Whenever it is read, it is
/// below any α with probability α at most while the hypothesis holds.
#[must_use]
pub fn p_value(best_ln_e: f64) -> f64 {
    (-best_ln_e.max(0.0)).exp()
}

#[cfg(test)]
mod tests {
    use super::super::counts::Tally;
    use super::super::terms::tests::percent;
    use super::*;

    fn stage(share: f64, champion: u64, canary: u64) -> StageCounts {
        StageCounts { share: percent(share), champion, canary }
    }

    fn at_least(margin: f64) -> Hypothesis {
        Hypothesis::AtLeast(Margin::new(margin).unwrap())
    }

    #[test]
    fn known_answers() {
        let worse = Hypothesis::AtMost(Margin::ONE);
        let three = [stage(1.0, 50, 3), stage(5.0, 95, 20), stage(25.0, 30, 25)];
        let cases: [(Hypothesis, &[StageCounts], f64); 4] = [
            (worse, &[stage(5.0, 95, 5)], -1.552_294_441_634),
            (worse, &[stage(5.0, 95, 20)], 10.317_881_990_683),
            (worse, &three, 16.966_895_797_692),
            (at_least(1.5), &[stage(50.0, 300, 300)], 9.807_946_439_272),
        ];
        for (hypothesis, stages, expected) in cases {
            let got = hypothesis.ln_e(stages);
            assert!((got - expected).abs() < 1e-9, "{hypothesis:?}: {got}, expected {expected}");
        }
    }

    #[test]
    fn arms_can_be_exchanged() {
        // After a promotion the former champion is the control with a small
        // share: the same events seen from the other side.
        let one = at_least(1.0).ln_e(&[stage(5.0, 95, 2)]);
        let other = Hypothesis::AtMost(Margin::ONE).ln_e(&[stage(95.0, 2, 95)]);
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }

    #[test]
    fn event_by_event_gives_what_all_at_once_gives() {
        let mut tally = Tally::new(percent(1.0));
        let mut evidence = Evidence::new(Hypothesis::AtMost(Margin::ONE), tally.stages());
        let mut best: f64 = 0.0;
        for i in 0..900_u64 {
            if i % 200 == 199 {
                tally.begin(percent([5.0, 1.0, 25.0, 50.0][(i / 200 % 4) as usize]));
                evidence.begin(tally.stages());
            }
            let canary = u64::from(i % 7 == 0);
            tally.add(1 - canary, canary);
            evidence.look(tally.stages());
            best = best.max(evidence.hypothesis().ln_e(tally.stages()));
            assert_eq!(evidence.best_ln_e(), best);
            if best > 0.0 {
                assert_eq!(evidence.hypothesis().ln_e(evidence.best_at()), best);
            }
        }
        assert!(best > 5.0, "{best}");
    }

    #[test]
    fn an_e_value_is_one_on_average_at_the_bound() {
        // Exactly: over all ways in which 12 events can fall at a ratio of m.
        for (share, margin) in [(1.0, 1.0), (5.0, 1.25), (50.0, 3.0), (99.0, 0.5)] {
            let theta = super::super::likelihood::on_canary(share / 100.0, margin);
            let margin = Margin::new(margin).unwrap();
            for hypothesis in [Hypothesis::AtMost(margin), Hypothesis::AtLeast(margin)] {
                let mut mean = 0.0;
                let mut ways = 1.0;
                for canary in 0..=12_u64 {
                    let chance =
                        ways * theta.powi(canary as i32) * (1.0 - theta).powi(12 - canary as i32);
                    mean += chance * hypothesis.ln_e(&[stage(share, 12 - canary, canary)]).exp();
                    ways *= (12 - canary) as f64 / (canary + 1) as f64;
                }
                assert!((mean - 1.0).abs() < 1e-9, "{hypothesis:?} at {share}%: {mean}");
            }
        }
    }

    #[test]
    fn p_values_are_probabilities() {
        assert_eq!(p_value(-3.0), 1.0);
        assert!((p_value(100.0_f64.ln()) - 0.01).abs() < 1e-15);
        assert_eq!(p_value(1e300), 0.0);
    }
}
