//! The guard that judges how often groups are selected, by answers alone. It only ever stops
//! a rollout: that groups are treated alike is never shown, and nobody waits for it. Pure.

use crate::analysis::{
    Exposure, Level, Margin, ParityFacts, ParityJudgement, ParityRule, Rate, Selected,
    SelectedCounts, SelectedGroup, judge_parity,
};
use crate::error::Result;
use crate::rollout::jury::{Evidence, GuardName, Judged, Said};
use crate::telemetry::{GroupSelection, SelectedRows, Selection, SelectionCounts};
use crate::types::RatioPolicy;

/// The rule of four fifths, where a policy says nothing else.
const FOUR_FIFTHS: f64 = 0.8;

/// The rule of a policy, if it judges.
pub(super) fn rule(own: RatioPolicy, alpha: Level) -> Result<Option<ParityRule>> {
    let rule = || {
        Ok(ParityRule {
            ratio: Rate::new(own.objective.unwrap_or(FOUR_FIFTHS))?,
            worse_than: Margin::new(own.worse_than)?,
            alpha,
        })
    };
    own.enabled.then(rule).transpose()
}

/// The guard of one rollout.
pub(super) struct ParityGuard {
    rule: ParityRule,
    /// What was told last, and what comes of it: a look costs more than most others.
    told: Selection,
    said: ParityJudgement,
}

impl ParityGuard {
    /// Going on from what was recorded.
    pub(super) fn resume(rule: ParityRule, evidence: &Evidence) -> Self {
        let facts = match evidence.of(GuardName::Parity) {
            Some(Judged::Parity(said)) => said.facts.clone(),
            _ => ParityFacts::default(),
        };
        Self { rule, told: Selection::default(), said: judge_parity(rule, facts) }
    }

    /// Takes all that is known so far, in place of what was known before.
    pub(super) fn count(&mut self, selection: &Selection) {
        if selection.groups.is_empty() || self.told == *selection {
            return;
        }
        let groups = selection.groups.iter().map(group).collect();
        let facts = ParityFacts { groups, dropped: selection.lost };
        self.said = judge_parity(self.rule, facts);
        self.told = selection.clone();
    }

    /// What it says now.
    pub(super) fn said(&self) -> Said {
        Said { guard: GuardName::Parity, judged: Judged::Parity(self.said.clone()) }
    }
}

fn group(told: &GroupSelection) -> SelectedGroup {
    let rows = |own: SelectedRows| Selected { rows: own.rows, selected: own.selected };
    // Nothing is compared where one of the arms had no share.
    let stage = |own: &SelectionCounts| {
        let share = Exposure::new(own.share)?;
        Some(SelectedCounts { share, champion: rows(own.champion), canary: rows(own.canary) })
    };
    SelectedGroup {
        grouping: told.grouping.clone(),
        group: told.group.clone(),
        stages: told.counts.iter().filter_map(stage).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Outcome, Verdict};
    use crate::rollout::Stage;
    use crate::rollout::jury::Jury;
    use crate::telemetry::TrialCounts;
    use crate::types::{RolloutPolicy, Share};

    const CANARY: Stage = Stage::Canary(Share::ALL);

    /// This guard, and those that no policy is without.
    fn jury(ratio: Option<f64>) -> Jury {
        let mut policy = RolloutPolicy::default();
        policy.guards.parity.enabled = true;
        policy.guards.parity.objective = ratio;
        Jury::resume(&policy, &Evidence::default()).unwrap()
    }

    /// Of 4,000 rows of each group and arm half are selected, but for the canary's of `basic`.
    fn told(basic: u64) -> TrialCounts {
        let rows = |selected| SelectedRows { rows: 4_000, selected };
        let group = |group: &str, canary| GroupSelection {
            grouping: "plan".into(),
            group: group.into(),
            counts: vec![SelectionCounts {
                share: Share::from_percent(50.0).unwrap(),
                champion: rows(2_000),
                canary: rows(canary),
            }],
        };
        let groups = vec![group("basic", basic), group("pro", 2_000)];
        TrialCounts {
            selection: Selection { groups, lost: 2, keyed: vec![] },
            ..TrialCounts::default()
        }
    }

    #[test]
    fn a_canary_that_selects_one_group_less_is_stopped_and_told_why() {
        let mut jury = jury(None);
        assert!(jury.wants_trial());
        jury.count_trial(&told(1_000));
        let evidence = jury.evidence();
        assert_eq!(evidence.outcome(CANARY), Outcome::Worse);
        let text = crate::rollout::explain::why(&evidence, CANARY);
        assert!(
            text.starts_with(
                "worse: parity: plan: basic is selected 0.5 times as often as pro (at most 0.6"
            ),
            "{text}"
        );
        assert!(text.ends_with("2 answers were not counted: too many routing keys"), "{text}");
        // It goes on from its record.
        let stored = serde_json::to_string(&evidence).unwrap();
        let mut policy = RolloutPolicy::default();
        policy.guards.parity.enabled = true;
        let resumed = Jury::resume(&policy, &serde_json::from_str(&stored).unwrap()).unwrap();
        assert_eq!(resumed.evidence(), evidence);
    }

    #[test]
    fn it_never_holds_a_rollout_up_and_the_ratio_is_the_owners() {
        let mut even = jury(None);
        let (before, verdict) = (even.evidence().outcome(CANARY), |jury: &Jury| {
            jury.evidence().of(GuardName::Parity).map(Judged::verdict)
        });
        assert_eq!(verdict(&even), Some(Verdict::NotEnough));
        even.count_trial(&told(2_000));
        assert_eq!(verdict(&even), Some(Verdict::NotEnough));
        assert_eq!(even.evidence().outcome(CANARY), before);
        let mut lax = jury(Some(0.4));
        lax.count_trial(&told(1_000));
        assert_eq!(verdict(&lax), Some(Verdict::NotEnough));
        let usual = Jury::resume(&RolloutPolicy::default(), &Evidence::default()).unwrap();
        assert!(!usual.wants_trial());
    }
}
