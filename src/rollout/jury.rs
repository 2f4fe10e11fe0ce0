//! All guards of one rollout, fed from the recorder's counts, from labels and from kept
//! answers. Pure.

mod labels;
mod parity;

use serde::{Deserialize, Serialize};

use crate::analysis::{
    Exposure, Guard, Judgement, Level, LimitGuard, LimitJudgement, LimitRule, Margin, Outcome,
    ParityJudgement, ParityRule, Rate, Rule, ShiftFacts, ShiftJudgement, ShiftRule, TrafficCheck,
    TrafficFinding, Verdict, judge_shift, outcome,
};
use crate::error::{Error, Result};
use crate::rollout::Stage;
use crate::rollout::jury::labels::LabelGuards;
use crate::rollout::jury::parity::ParityGuard;
use crate::telemetry::TrialCounts;
use crate::telemetry::recorder::{Event, Recorded, Yardstick};
use crate::types::{LimitPolicy, RatioPolicy, RolloutPolicy, Share};

pub(super) use labels::{GroupSaid, GroupsJudgement};

/// One guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// Requests that failed.
    Errors,
    /// Requests that the version refused.
    Refusals,
    /// Answers with a NaN or an infinity in them.
    Nonfinite,
    /// Requests slower than the champion's median.
    LatencyP50,
    /// Requests slower than the champion's 99th percentile.
    LatencyP99,
    /// Requests slower than an absolute time.
    Latency,
    /// The distance of the distributions of the answers.
    OutputShift,
    /// As a shadow: another answer than the champion's.
    Disagreement,
    /// As a shadow: the same, against how often the champion differs from itself.
    Noise,
    /// As a shadow: no answer at all.
    ShadowFailures,
    /// Answers that are wrong by their labels.
    Wrong,
    /// The same within each declared group.
    Fairness,
    /// How differently declared groups are selected.
    Parity,
}

impl GuardName {
    /// Its name in settings, replies and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Refusals => "refusals",
            Self::Nonfinite => "nonfinite",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP99 => "latency_p99",
            Self::Latency => "latency",
            Self::OutputShift => "output_shift",
            Self::Disagreement => "disagreement",
            Self::Noise => "noise",
            Self::ShadowFailures => "shadow_failures",
            Self::Wrong => "wrong",
            Self::Fairness => "fairness",
            Self::Parity => "parity",
        }
    }

    /// Whether it judges in a stage.
    #[must_use]
    pub const fn judges(self, stage: Stage) -> bool {
        let of_shadow = matches!(self, Self::Disagreement | Self::Noise | Self::ShadowFailures);
        of_shadow == matches!(stage, Stage::Shadow(_))
    }

    /// Whether it only ever stops a rollout: nobody waits for labels, nor until groups are
    /// shown to be alike.
    #[must_use]
    pub const fn only_stops(self) -> bool {
        matches!(self, Self::Wrong | Self::Fairness | Self::Parity)
    }

    /// The events that it counts, if it compares two arms.
    const fn event(self) -> Option<Event> {
        match self {
            Self::Errors => Some(Event::Error),
            Self::Refusals => Some(Event::Refusal),
            Self::Nonfinite => Some(Event::Nonfinite),
            Self::LatencyP50 => Some(Event::SlowP50),
            Self::LatencyP99 => Some(Event::SlowP99),
            Self::Latency
            | Self::OutputShift
            | Self::Disagreement
            | Self::Noise
            | Self::ShadowFailures
            | Self::Wrong
            | Self::Fairness
            | Self::Parity => None,
        }
    }
}

/// What one guard says, with all that it says it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// A ratio of two rates.
    Ratio(Judgement),
    /// A rate against a limit.
    Limit(LimitJudgement),
    /// A distance of two distributions against a limit.
    Shift(ShiftJudgement),
    /// A ratio of two rates within each group.
    Groups(GroupsJudgement),
    /// How differently groups are selected.
    Parity(ParityJudgement),
}

impl Judged {
    /// Its verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Ratio(judgement) => judgement.verdict,
            Self::Limit(judgement) => judgement.verdict,
            Self::Shift(judgement) => judgement.verdict,
            Self::Groups(judgement) => judgement.verdict(),
            Self::Parity(judgement) => judgement.verdict,
        }
    }
}

/// A guard by its name, and what it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Which guard.
    pub guard: GuardName,
    /// What it says.
    pub judged: Judged,
}

/// Everything that a rollout's decisions are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What each guard says.
    pub guards: Vec<Said>,
    /// Whether traffic arrives as it was routed; `None` before the first canary.
    pub traffic: Option<TrafficFinding>,
}

impl Evidence {
    /// What it comes to in a stage.
    #[must_use]
    pub fn outcome(&self, stage: Stage) -> Outcome {
        let misrouted = self.traffic.as_ref().is_some_and(|finding| finding.misrouted);
        outcome(misrouted, self.judging(stage).map(|said| said.judged.verdict()))
    }

    /// The guards by which a stage is judged now.
    pub(super) fn judging(&self, stage: Stage) -> impl Iterator<Item = &Said> {
        self.guards.iter().filter(move |said| {
            let stops = || said.judged.verdict() == Verdict::Worse;
            said.guard.judges(stage) && (!said.guard.only_stops() || stops())
        })
    }

    fn of(&self, guard: GuardName) -> Option<&Judged> {
        self.guards.iter().find(|said| said.guard == guard).map(|said| &said.judged)
    }
}

/// A guard that compares two arms; it begins with the first canary.
struct Comparing {
    name: GuardName,
    event: Event,
    rule: Rule,
    guard: Option<Guard>,
}

/// Which lines were there while something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    /// Those of the champion's quantiles.
    pub(super) relative: bool,
    /// The absolute one.
    pub(super) absolute: bool,
}

impl Drawn {
    /// Those of a yardstick now.
    pub(super) fn on(yardstick: &Yardstick) -> Self {
        let has = |event| yardstick.line(event).is_some();
        Self { relative: has(Event::SlowP99), absolute: has(Event::TooSlow) }
    }
}

/// The guards of one rollout.
pub(super) struct Jury {
    comparing: Vec<Comparing>,
    limits: Vec<(GuardName, LimitGuard)>,
    noise: Option<Guard>,
    shift: Option<(ShiftRule, ShiftFacts)>,
    labels: LabelGuards,
    parity: Option<ParityGuard>,
    traffic: Option<TrafficCheck>,
}

/// Which guards a policy has, and by what they judge.
pub(super) struct Rules {
    pub(super) comparing: Vec<(GuardName, Event, Rule)>,
    pub(super) limits: Vec<(GuardName, LimitRule)>,
    pub(super) noise: Option<Rule>,
    shift: Option<ShiftRule>,
    wrong: Option<Rule>,
    fairness: Option<Rule>,
    parity: Option<ParityRule>,
}

/// A fair lot decides whether the shadow or the champion runs a copy.
fn fair() -> Result<Exposure> {
    let half = Share::from_basis_points(5_000).and_then(Exposure::new);
    half.ok_or_else(|| Error::internal("a half is no share"))
}

impl Rules {
    /// The level for "worse" is split over all guards.
    pub(super) fn of(policy: &RolloutPolicy) -> Result<Self> {
        let guards = &policy.guards;
        let comparing = [
            (GuardName::Errors, guards.errors),
            (GuardName::Refusals, guards.refusals),
            (GuardName::Nonfinite, guards.nonfinite),
            (GuardName::LatencyP50, guards.latency_p50),
            (GuardName::LatencyP99, guards.latency_p99),
        ];
        let comparing: Vec<_> = comparing.into_iter().filter(|(_, own)| own.enabled).collect();
        let latency = LimitPolicy {
            enabled: guards.latency.enabled && policy.latency_max.is_some(),
            ..guards.latency
        };
        let limits = [
            (GuardName::Latency, latency),
            (GuardName::Disagreement, guards.disagreement),
            (GuardName::ShadowFailures, guards.shadow_failures),
        ];
        let limits: Vec<_> = limits.into_iter().filter(|(_, own)| own.enabled).collect();
        let shift = guards.output_shift.enabled.then_some(guards.output_shift.limit);
        let of_canary = |stage: &Stage| !matches!(stage, Stage::Shadow(_));
        let shares = Stage::all(policy).iter().filter(|stage| of_canary(stage)).count();
        let noise = guards.noise.enabled.then_some(guards.noise);
        let by_answers = [guards.wrong, guards.fairness, guards.parity].map(|own| own.enabled);
        let several = [shift.is_some(), noise.is_some()].into_iter().chain(by_answers);
        let several = several.filter(|own| *own).count();
        let count = comparing.len() + limits.len() + several;
        let (alpha, beta) = (Level::new(policy.alpha)?.split(count), Level::new(policy.beta)?);
        let comparing = comparing.into_iter().filter_map(|(name, own)| {
            let event = name.event()?;
            Some(rule(name, own, alpha, beta).map(|rule| (name, event, rule)))
        });
        let limit = |(name, own): (GuardName, LimitPolicy)| {
            Ok((name, LimitRule { limit: Rate::new(own.limit)?, alpha, beta }))
        };
        let [wrong, fairness] = labels::rules(guards, |name, own| rule(name, own, alpha, beta))?;
        Ok(Self {
            wrong,
            fairness,
            parity: parity::rule(guards.parity, alpha)?,
            comparing: comparing.collect::<Result<_>>()?,
            limits: limits.into_iter().map(limit).collect::<Result<_>>()?,
            noise: noise.map(|own| rule(GuardName::Noise, own, alpha, beta)).transpose()?,
            // Each share has counts of its own, and so a chance of its own to be wrong.
            shift: shift.map(|limit| ShiftRule { limit, alpha: alpha.split(shares), beta }),
        })
    }
}

fn rule(name: GuardName, own: RatioPolicy, alpha: Level, beta: Level) -> Result<Rule> {
    // Where hardly anything is ever slow there are no events to compare: then it
    // is enough that no more are slow than should be.
    let usual = match name {
        GuardName::LatencyP50 => Some(0.5),
        GuardName::LatencyP99 => Some(0.01),
        _ => None,
    };
    let objective = own.objective.or(usual.map(|rate| (rate * own.worse_than).min(0.999)));
    Ok(Rule {
        worse_than: Margin::new(own.worse_than)?,
        not_worse_than: own.not_worse_than.map(Margin::new).transpose()?,
        objective: objective.map(Rate::new).transpose()?,
        alpha,
        beta,
    })
}

impl Jury {
    /// The guards of a policy, going on from what was recorded.
    pub(super) fn resume(policy: &RolloutPolicy, evidence: &Evidence) -> Result<Self> {
        let rules = Rules::of(policy)?;
        let labels = LabelGuards::resume(&rules, evidence);
        let comparing = rules.comparing.into_iter().map(|(name, event, rule)| {
            let guard = match evidence.of(name) {
                Some(Judged::Ratio(said)) => said
                    .facts
                    .stages
                    .last()
                    .map(|stage| Guard::resume(rule, said.facts.clone(), stage.share)),
                _ => None,
            };
            Comparing { name, event, rule, guard }
        });
        let limits = rules.limits.into_iter().map(|(name, rule)| match evidence.of(name) {
            Some(Judged::Limit(said)) => (name, LimitGuard::resume(rule, said.facts.clone())),
            _ => (name, LimitGuard::new(rule)),
        });
        let fair = fair()?;
        let noise = rules.noise.map(|rule| match evidence.of(GuardName::Noise) {
            Some(Judged::Ratio(said)) => Guard::resume(rule, said.facts.clone(), fair),
            _ => Guard::new(rule, fair),
        });
        Ok(Self {
            comparing: comparing.collect(),
            limits: limits.collect(),
            noise,
            labels,
            parity: rules.parity.map(|rule| ParityGuard::resume(rule, evidence)),
            shift: rules.shift.map(|rule| match evidence.of(GuardName::OutputShift) {
                Some(Judged::Shift(said)) => (rule, said.facts.clone()),
                _ => (rule, ShiftFacts::default()),
            }),
            traffic: evidence.traffic.as_ref().map(|said| {
                TrafficCheck::resume(said.alpha, said.stages.clone(), said.worst_at.clone())
            }),
        })
    }

    /// From now on the version answers this share.
    pub(super) fn begin(&mut self, share: Exposure) {
        for Comparing { rule, guard, .. } in &mut self.comparing {
            match guard {
                Some(guard) if guard.share() == Some(share) => {}
                Some(guard) => guard.begin(share),
                None => *guard = Some(Guard::new(*rule, share)),
            }
        }
        match &mut self.traffic {
            Some(traffic) => traffic.begin(share),
            None => self.traffic = Some(TrafficCheck::new(Level::TRAFFIC, share)),
        }
        if let Some((_, facts)) = self.shift.as_mut().filter(|(_, own)| own.share != Some(share)) {
            *facts = ShiftFacts::at(share);
        }
        self.labels.begin(share);
    }

    /// Takes what both arms counted since the last time; the canary is the version
    /// that is judged. Where there was no line yet, nothing could be slow, which
    /// says nothing.
    pub(super) fn count(&mut self, since: &Recorded, drawn: Drawn) {
        let Recorded { champion, canary } = since;
        for Comparing { event, guard, .. } in &mut self.comparing {
            let of_line = matches!(event, Event::SlowP50 | Event::SlowP99);
            let Some(guard) = guard.as_mut().filter(|_| drawn.relative || !of_line) else {
                continue;
            };
            guard.add(champion.events(*event), canary.events(*event));
            guard.add_requests(canary.done, canary.all(*event));
        }
        if let Some(traffic) = &mut self.traffic {
            traffic.add(champion.assigned, canary.assigned);
        }
        if drawn.absolute {
            self.count_limit(GuardName::Latency, canary.done, canary.all(Event::TooSlow), 0);
        }
    }

    /// Takes how many events of each kind could not be counted so far.
    pub(super) fn note_lost(&mut self, lost: impl Fn(Event) -> u64) {
        for Comparing { event, guard, .. } in &mut self.comparing {
            if let Some(guard) = guard {
                guard.set_dropped(lost(*event));
            }
        }
    }

    /// Takes what a shadow did since the last time: copies compared, those that
    /// disagreed, those that failed, and those that were dropped.
    pub(super) fn count_shadow(&mut self, since: &ShadowCounts) {
        let ShadowCounts { compared, disagreed, failed, dropped, noise } = *since;
        // Where the champion often cannot run a copy again, the lot is not fair any more.
        let again = noise.champion_compared.saturating_add(noise.champion_failed);
        let fair = noise.champion_failed.saturating_mul(100) <= again;
        if let Some(guard) = self.noise.as_mut().filter(|_| fair) {
            guard.add(noise.champion_disagreed, noise.shadow_disagreed);
            guard.add_requests(noise.shadow_compared, noise.shadow_disagreed);
        }
        self.count_limit(GuardName::Disagreement, compared, disagreed, dropped);
        self.count_limit(
            GuardName::ShadowFailures,
            compared.saturating_add(failed),
            failed,
            dropped,
        );
    }

    fn count_limit(&mut self, name: GuardName, requests: u64, events: u64, dropped: u64) {
        let guard = self.limits.iter_mut().find(|(own, _)| *own == name);
        let Some((_, guard)) = guard else { return };
        if requests > 0 {
            guard.add(requests, events);
        }
        guard.add_dropped(dropped);
    }

    /// Takes the scores of both arms since the last time.
    pub(super) fn count_scores(&mut self, champion: &[u64], canary: &[u64]) {
        if let Some((_, facts)) = &mut self.shift {
            facts.add(champion, canary);
        }
    }

    /// Whether scores are of use.
    pub(super) const fn wants_scores(&self) -> bool {
        self.shift.is_some()
    }

    /// Takes all that labels and kept answers say so far of both arms.
    pub(super) fn count_trial(&mut self, counts: &TrialCounts) {
        self.labels.count(&counts.wrong);
        if let Some(parity) = &mut self.parity {
            parity.count(&counts.selection);
        }
    }

    /// Whether those are of use.
    pub(super) const fn wants_trial(&self) -> bool {
        self.labels.wanted() || self.parity.is_some()
    }

    /// What all guards say now.
    pub(super) fn evidence(&self) -> Evidence {
        let comparing = self.comparing.iter().filter_map(|comparing| {
            let judged = Judged::Ratio(comparing.guard.as_ref()?.judgement());
            Some(Said { guard: comparing.name, judged })
        });
        let limits = self
            .limits
            .iter()
            .map(|(guard, own)| Said { guard: *guard, judged: Judged::Limit(own.judgement()) });
        let noise = self.noise.iter().map(|guard| Said {
            guard: GuardName::Noise,
            judged: Judged::Ratio(guard.judgement()),
        });
        let shift = self.shift.iter().map(|(rule, facts)| Said {
            guard: GuardName::OutputShift,
            judged: Judged::Shift(judge_shift(*rule, facts.clone())),
        });
        Evidence {
            guards: comparing
                .chain(limits)
                .chain(noise)
                .chain(shift)
                .chain(self.labels.said())
                .chain(self.parity.iter().map(ParityGuard::said))
                .collect(),
            traffic: self.traffic.as_ref().map(TrafficCheck::finding),
        }
    }
}

/// What a shadow did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShadowCounts {
    pub(super) compared: u64,
    pub(super) disagreed: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    pub(super) noise: NoiseCounts,
}

/// What the champion and the shadow did of the copies that either got by lot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NoiseCounts {
    pub(super) champion_compared: u64,
    pub(super) champion_disagreed: u64,
    pub(super) champion_failed: u64,
    pub(super) shadow_compared: u64,
    pub(super) shadow_disagreed: u64,
}

impl NoiseCounts {
    const fn since(&self, before: &Self) -> Self {
        Self {
            champion_compared: self.champion_compared.saturating_sub(before.champion_compared),
            champion_disagreed: self.champion_disagreed.saturating_sub(before.champion_disagreed),
            champion_failed: self.champion_failed.saturating_sub(before.champion_failed),
            shadow_compared: self.shadow_compared.saturating_sub(before.shadow_compared),
            shadow_disagreed: self.shadow_disagreed.saturating_sub(before.shadow_disagreed),
        }
    }
}

impl ShadowCounts {
    pub(super) const fn since(&self, before: &Self) -> Self {
        Self {
            compared: self.compared.saturating_sub(before.compared),
            disagreed: self.disagreed.saturating_sub(before.disagreed),
            failed: self.failed.saturating_sub(before.failed),
            dropped: self.dropped.saturating_sub(before.dropped),
            noise: self.noise.since(&before.noise),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ALL: Drawn = Drawn { relative: true, absolute: true };
    const NONE: Drawn = Drawn { relative: false, absolute: true };
    use crate::error::ErrorCode;
    use crate::telemetry::recorder::{Arm, Recorder};

    const CANARY: Stage = Stage::Canary(Share::ALL);
    const SHADOW: Stage = Stage::Shadow(Share::ALL);

    fn exposure(percent: f64) -> Exposure {
        Exposure::new(Share::from_percent(percent).unwrap()).unwrap()
    }

    fn jury() -> Jury {
        Jury::resume(&RolloutPolicy::default(), &Evidence::default()).unwrap()
    }

    /// `per_arm` requests on either arm, of which so many of the canary fail.
    fn requests(per_arm: u64, failing: u64) -> Recorded {
        let recorder = Recorder::new(Share::from_percent(50.0).unwrap(), Arc::default());
        for i in 0..per_arm {
            for arm in [Arm::Champion, Arm::Canary] {
                recorder.assigned(arm, None);
                match arm {
                    Arm::Canary if i < failing => recorder.failed(arm, None, ErrorCode::Internal),
                    _ => recorder.answered(arm, None, std::time::Duration::ZERO, &[]),
                }
            }
        }
        recorder.read()
    }

    #[test]
    fn a_stage_is_judged_by_its_own_guards() {
        let mut jury = jury();
        assert_eq!(jury.evidence().outcome(SHADOW), Outcome::NotEnough);
        let good =
            ShadowCounts { compared: 1_000, disagreed: 10, dropped: 3, ..ShadowCounts::default() };
        jury.count_shadow(&good);
        assert_eq!(jury.evidence().outcome(SHADOW), Outcome::NotWorse);
        assert_eq!(jury.evidence().outcome(CANARY), Outcome::NotEnough);
        let bad = ShadowCounts { compared: 3_000, disagreed: 2_500, ..ShadowCounts::default() };
        jury.count_shadow(&bad);
        assert_eq!(jury.evidence().outcome(SHADOW), Outcome::Worse);
    }

    #[test]
    fn a_shadow_may_differ_as_often_as_the_champion_differs_from_itself() {
        let mut policy = RolloutPolicy::default();
        policy.guards.noise.enabled = true;
        let judged = |champion_disagreed, shadow_disagreed| {
            let mut jury = Jury::resume(&policy, &Evidence::default()).unwrap();
            let noise = NoiseCounts {
                champion_compared: 2_000,
                champion_disagreed,
                shadow_compared: 2_000,
                shadow_disagreed,
                champion_failed: 0,
            };
            jury.count_shadow(&ShadowCounts { noise, ..ShadowCounts::default() });
            // It is kept, and goes on from there.
            let resumed = Jury::resume(&policy, &jury.evidence()).unwrap();
            assert_eq!(resumed.evidence(), jury.evidence());
            jury.evidence().of(GuardName::Noise).map(Judged::verdict).unwrap()
        };
        assert_eq!(judged(300, 300), Verdict::NotWorse);
        assert_eq!(judged(300, 500), Verdict::Worse);
        // A champion that never differs from itself allows nothing.
        assert_eq!(judged(0, 40), Verdict::Worse);
        assert_eq!(judged(0, 0), Verdict::NotEnough);
        // A champion that fails to answer again is no measure.
        let mut jury = Jury::resume(&policy, &Evidence::default()).unwrap();
        let noise = NoiseCounts {
            champion_compared: 1_000,
            champion_failed: 100,
            shadow_compared: 1_100,
            shadow_disagreed: 500,
            champion_disagreed: 0,
        };
        jury.count_shadow(&ShadowCounts { noise, ..ShadowCounts::default() });
        let said = jury.evidence();
        assert_eq!(said.of(GuardName::Noise).map(Judged::verdict), Some(Verdict::NotEnough));
        assert!(!GuardName::Noise.judges(CANARY) && GuardName::Noise.judges(SHADOW));
    }

    #[test]
    fn failures_of_the_canary_alone_are_worse_and_none_is_not() {
        let mut good = jury();
        good.begin(exposure(50.0));
        good.count(&requests(2_000, 0), ALL);
        assert_eq!(good.evidence().outcome(CANARY), Outcome::NotWorse, "{:?}", good.evidence());
        let mut blind = jury();
        blind.begin(exposure(50.0));
        blind.count(&requests(2_000, 0), NONE);
        assert_eq!(blind.evidence().outcome(CANARY), Outcome::NotEnough);
        let mut bad = jury();
        bad.begin(exposure(50.0));
        bad.count(&requests(2_000, 20), ALL);
        assert_eq!(bad.evidence().outcome(CANARY), Outcome::Worse);
    }

    #[test]
    fn traffic_that_does_not_arrive_as_routed_overrules_everything() {
        let mut jury = jury();
        jury.begin(exposure(5.0));
        jury.count(&requests(1_000, 900), ALL);
        assert_eq!(jury.evidence().outcome(CANARY), Outcome::Misrouted);
    }

    #[test]
    fn it_goes_on_from_its_record() {
        let mut policy = RolloutPolicy::default();
        policy.guards.output_shift.enabled = true;
        let mut whole = Jury::resume(&policy, &Evidence::default()).unwrap();
        whole.begin(exposure(50.0));
        whole.count(&requests(500, 3), ALL);
        whole.count_scores(&[5, 0, 7], &[4, 1]);
        let text = serde_json::to_string(&whole.evidence()).unwrap();
        let read: Evidence = serde_json::from_str(&text).unwrap();
        assert_eq!(read, whole.evidence());
        let mut resumed = Jury::resume(&policy, &read).unwrap();
        for jury in [&mut whole, &mut resumed] {
            jury.begin(exposure(50.0));
            jury.count(&requests(100, 1), ALL);
            jury.count_scores(&[1], &[0, 0, 0, 2]);
        }
        assert_eq!(resumed.evidence(), whole.evidence());
        let scores = |jury: &Jury| match jury.evidence().of(GuardName::OutputShift) {
            Some(Judged::Shift(said)) => (said.champion, said.canary),
            _ => panic!("it judges"),
        };
        assert_eq!(scores(&resumed), (13, 7));
        resumed.begin(exposure(60.0));
        assert_eq!(scores(&resumed), (0, 0), "another share, other counts");
    }
}
