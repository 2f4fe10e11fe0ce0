//! Events by stage and arm: all that a verdict on a ratio depends on.

use serde::{Deserialize, Serialize};

use super::terms::Exposure;

/// What was counted while the canary had one share.
///
/// The same shape serves for events (failed, slow or wrong requests) and for
/// traffic (requests, or distinct keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCounts {
    /// The canary's designed share.
    pub share: Exposure,
    /// How many fell on the champion.
    pub champion: u64,
    /// How many fell on the canary.
    pub canary: u64,
}

impl StageCounts {
    /// Nothing yet.
    #[must_use]
    pub const fn new(share: Exposure) -> Self {
        Self { share, champion: 0, canary: 0 }
    }

    /// Both arms' counts.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.champion.saturating_add(self.canary)
    }

    const fn add(&mut self, champion: u64, canary: u64) {
        self.champion = self.champion.saturating_add(champion);
        self.canary = self.canary.saturating_add(canary);
    }
}

/// Counts of all stages of a rollout, the present one last.
///
/// Stages with the same share are one: their likelihood is that of the sum, so
/// nothing is lost, and a rollout whose weight is changed back and forth all
/// day does not grow without a bound (there are 9,999 shares). Counts stop at
/// `u64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally(Vec<StageCounts>);

impl Tally {
    /// A tally that goes on from these stages, the present one last.
    #[must_use]
    pub(super) const fn of(stages: Vec<StageCounts>) -> Self {
        Self(stages)
    }

    /// Nothing yet, at the first stage's share.
    #[must_use]
    pub fn new(share: Exposure) -> Self {
        Self(vec![StageCounts::new(share)])
    }

    /// From now on the canary has this share.
    pub fn begin(&mut self, share: Exposure) {
        let known = self.0.iter().position(|stage| stage.share == share);
        let stage = known.map_or_else(|| StageCounts::new(share), |at| self.0.remove(at));
        self.0.push(stage);
    }

    /// Adds to the present stage.
    pub fn add(&mut self, champion: u64, canary: u64) {
        if let Some(stage) = self.0.last_mut() {
            stage.add(champion, canary);
        }
    }

    /// Takes stages' counts in place of those so far. A stage that was not known comes
    /// before the present one.
    pub(super) fn replace(&mut self, stages: &[StageCounts]) {
        for stage in stages {
            let known = self.0.iter().position(|own| own.share == stage.share);
            match known {
                Some(at) => self.0[at] = *stage,
                None => self.0.insert(self.0.len().saturating_sub(1), *stage),
            }
        }
    }

    /// Stage by stage, the present one last.
    #[must_use]
    pub fn stages(&self) -> &[StageCounts] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::percent;
    use super::*;

    #[test]
    fn a_share_that_comes_again_goes_on_counting() {
        let mut tally = Tally::new(percent(1.0));
        tally.add(3, 1);
        tally.begin(percent(5.0));
        tally.add(2, 2);
        tally.begin(percent(1.0));
        tally.add(u64::MAX, 1);
        let stages = [
            StageCounts { share: percent(5.0), champion: 2, canary: 2 },
            StageCounts { share: percent(1.0), champion: u64::MAX, canary: 2 },
        ];
        assert_eq!(tally.stages(), stages);
        assert_eq!(tally.stages()[1].total(), u64::MAX);
        // What is known later is of the stage that it was in.
        let late = |p, champion| StageCounts { share: percent(p), champion, canary: 7 };
        tally.replace(&[late(5.0, 3), late(25.0, 4), late(1.0, 5)]);
        assert_eq!(tally.stages(), [late(5.0, 3), late(25.0, 4), late(1.0, 5)]);
    }
}
