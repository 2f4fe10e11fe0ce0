//! The guards that judge by labels. Labels come late, if at all: these guards only ever
//! stop a rollout, and none waits for them. Pure.

use serde::{Deserialize, Serialize};

use crate::analysis::{Exposure, Guard, Judgement, Rule, StageCounts, Verdict};
use crate::error::Result;
use crate::rollout::jury::{Evidence, GuardName, Judged, Rules, Said};
use crate::telemetry::{Wrong, WrongCounts};

/// What a guard says of each group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupsJudgement {
    /// The groups; the level for "worse" is split over them.
    pub groups: Vec<GroupSaid>,
}

/// What is said of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSaid {
    /// By what rows are divided.
    pub grouping: String,
    /// Its name.
    pub group: String,
    /// Whether the version is wrong more often there.
    pub judgement: Judgement,
}

impl GroupsJudgement {
    /// Worse for one group is worse.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is = |verdict| move |said: &GroupSaid| said.judgement.verdict == verdict;
        if self.groups.iter().any(is(Verdict::Worse)) {
            Verdict::Worse
        } else if !self.groups.is_empty() && self.groups.iter().all(is(Verdict::NotWorse)) {
            Verdict::NotWorse
        } else {
            Verdict::NotEnough
        }
    }

    /// The group of which there is the most evidence for "worse"; of equal ones that with the
    /// most events.
    #[must_use]
    pub fn leading(&self) -> Option<&GroupSaid> {
        let evidence = |said: &&GroupSaid| said.judgement.worse.best_ln_e;
        let events = |said: &&GroupSaid| {
            let stages = said.judgement.facts.stages.iter();
            stages.map(StageCounts::total).fold(0, u64::saturating_add)
        };
        let order = |a: &&GroupSaid, b: &&GroupSaid| {
            evidence(a).total_cmp(&evidence(b)).then(events(a).cmp(&events(b)))
        };
        self.groups.iter().max_by(order)
    }
}

/// Both guards of one rollout.
pub(super) struct LabelGuards {
    wrong: Option<(Rule, Option<Guard>)>,
    fairness: Option<Fairness>,
    share: Option<Exposure>,
    /// What labels said last, and what comes of it: a look costs more than most others.
    told: Option<Wrong>,
    said: Vec<Said>,
}

struct Fairness {
    /// Its level is that of all groups together.
    rule: Rule,
    /// Known with the first wrong answer.
    groups: Vec<Group>,
}

struct Group {
    grouping: String,
    group: String,
    guard: Guard,
}

impl LabelGuards {
    /// The guards of these rules, going on from what was recorded.
    pub(super) fn resume(rules: &Rules, evidence: &Evidence) -> Self {
        let resumed = |rule: Rule, said: &Judgement| {
            let share = said.facts.stages.last()?.share;
            Some(Guard::resume(rule, said.facts.clone(), share))
        };
        let wrong = rules.wrong.map(|rule| match evidence.of(GuardName::Wrong) {
            Some(Judged::Ratio(said)) => (rule, resumed(rule, said)),
            _ => (rule, None),
        });
        let fairness = rules.fairness.map(|rule| {
            let groups = match evidence.of(GuardName::Fairness) {
                Some(Judged::Groups(said)) => &said.groups[..],
                _ => &[],
            };
            let each = split(rule, groups.len());
            let groups = groups.iter().filter_map(|said| {
                let guard = resumed(each, &said.judgement)?;
                Some(Group { grouping: said.grouping.clone(), group: said.group.clone(), guard })
            });
            Fairness { rule, groups: groups.collect() }
        });
        let share = wrong.as_ref().and_then(|(_, guard)| guard.as_ref()?.share());
        let of_groups = || fairness.as_ref()?.groups.first()?.guard.share();
        let share = share.or_else(of_groups);
        let mut own = Self { share, wrong, fairness, told: None, said: Vec::new() };
        own.said = own.judged();
        own
    }

    /// Whether labels are of use.
    pub(super) const fn wanted(&self) -> bool {
        self.wrong.is_some() || self.fairness.is_some()
    }

    /// From now on the version answers this share.
    pub(super) fn begin(&mut self, share: Exposure) {
        let begin = |guard: &mut Guard| {
            if guard.share() != Some(share) {
                guard.begin(share);
            }
        };
        if let Some((rule, guard)) = &mut self.wrong {
            begin(guard.get_or_insert_with(|| Guard::new(*rule, share)));
        }
        if let Some(fairness) = &mut self.fairness {
            fairness.groups.iter_mut().for_each(|group| begin(&mut group.guard));
        }
        (self.share, self.told) = (Some(share), None);
        self.said = self.judged();
    }

    /// Takes all that labels say so far, in place of what they said before.
    pub(super) fn count(&mut self, wrong: &Wrong) {
        let Some(share) = self.share.filter(|_| self.told.as_ref() != Some(wrong)) else { return };
        if let Some((_, Some(guard))) = &mut self.wrong {
            guard.replace(&stages(&wrong.all));
            guard.set_dropped(wrong.lost);
        }
        if let Some(fairness) = &mut self.fairness {
            fairness.count(wrong, share);
        }
        self.told = Some(wrong.clone());
        self.said = self.judged();
    }

    /// What they say now; nothing before the first canary.
    pub(super) fn said(&self) -> impl Iterator<Item = Said> {
        self.said.iter().cloned()
    }

    fn judged(&self) -> Vec<Said> {
        let wrong = self.wrong.as_ref().and_then(|(_, guard)| guard.as_ref());
        let wrong = wrong.map(|guard| Said {
            guard: GuardName::Wrong,
            judged: Judged::Ratio(guard.judgement()),
        });
        let fairness = self.fairness.as_ref().filter(|own| !own.groups.is_empty());
        let fairness = fairness.map(|Fairness { groups, .. }| {
            let said = |own: &Group| GroupSaid {
                grouping: own.grouping.clone(),
                group: own.group.clone(),
                judgement: own.guard.judgement(),
            };
            let groups = groups.iter().map(said).collect();
            Said { guard: GuardName::Fairness, judged: Judged::Groups(GroupsJudgement { groups }) }
        });
        wrong.into_iter().chain(fairness).collect()
    }
}

impl Fairness {
    fn count(&mut self, wrong: &Wrong, share: Exposure) {
        if self.groups.is_empty() {
            let each = split(self.rule, wrong.groups.len());
            self.groups.extend(wrong.groups.iter().map(|told| Group {
                grouping: told.grouping.clone(),
                group: told.group.clone(),
                guard: Guard::new(each, share),
            }));
        }
        for Group { grouping, group, guard } in &mut self.groups {
            let told =
                wrong.groups.iter().find(|told| told.grouping == *grouping && told.group == *group);
            if let Some(told) = told {
                guard.replace(&stages(&told.counts));
                guard.set_dropped(wrong.lost);
            }
        }
    }
}

fn split(rule: Rule, groups: usize) -> Rule {
    Rule { alpha: rule.alpha.split(groups.max(1)), ..rule }
}

/// Counts by share; nothing is compared where one of the arms had no share.
fn stages(counts: &[WrongCounts]) -> Vec<StageCounts> {
    let one = |own: &WrongCounts| {
        let share = Exposure::new(own.share)?;
        Some(StageCounts { share, champion: own.champion, canary: own.canary })
    };
    counts.iter().filter_map(one).collect()
}

/// The rules of a policy, if any of both judges.
pub(super) fn rules(
    policy: &crate::types::GuardPolicies,
    rule: impl Fn(GuardName, crate::types::RatioPolicy) -> Result<Rule>,
) -> Result<[Option<Rule>; 2]> {
    let of =
        |name, own: crate::types::RatioPolicy| own.enabled.then(|| rule(name, own)).transpose();
    Ok([of(GuardName::Wrong, policy.wrong)?, of(GuardName::Fairness, policy.fairness)?])
}

#[cfg(test)]
mod tests;
