//! What is shown of a rollout.

use serde::Serialize;

use crate::analysis::{
    Judgement, Outcome, ParityJudgement, ParityPair, SelectedCounts, SelectedGroup, StageCounts,
};
use crate::rollout::jury::{GuardName, Judged, Said};
use crate::rollout::{Rollout, explain};
use crate::types::VersionId;

/// A rollout as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// Its number.
    pub id: u64,
    /// The model.
    pub model: String,
    /// The version that it brings in.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// The champion when it began.
    #[schema(value_type = u64)]
    pub base: VersionId,
    /// By whose hand it was begun.
    pub actor: String,
    /// When, RFC 3339, UTC.
    pub started: String,
    /// `running`, `paused`, `stopped` (it waits for a person), `awaiting_approval`,
    /// `promoted`, `rolled_back`, `aborted`, `superseded`, `overtaken` (somebody
    /// changed the roles by hand) or `lost` (the version is gone).
    pub phase: &'static str,
    /// Why it stands so.
    pub why: String,
    /// The names of the stages, in their order.
    pub stages: Vec<String>,
    /// The present one's place among them, from 0.
    pub stage: usize,
    /// How long it has run, in seconds, without pauses.
    pub ran_seconds: f64,
    /// The shortest that it takes, in seconds.
    pub min_seconds: f64,
    /// The longest, in seconds; then it waits for a person.
    pub max_seconds: f64,
    /// What the stage's guards come to: `worse`, `not_worse`, `not_enough` or
    /// `misrouted`.
    pub outcome: &'static str,
    /// Every guard.
    pub guards: Vec<GuardView>,
    /// Whether traffic arrives as it was routed; absent before the first canary.
    pub traffic: Option<TrafficView>,
    /// Who approved of the promotion.
    pub approved: Option<String>,
    /// A newer version that waits for its end.
    #[schema(value_type = Option<u64>)]
    pub queued: Option<VersionId>,
    /// Unclean ends of the process within the present stage.
    pub unclean_exits: u32,
    /// Restarts at which the counts of up to five seconds were lost.
    pub gaps: u32,
    /// What hinders it now, such as a store that cannot be written.
    pub problem: Option<String>,
    /// What happened, oldest first.
    pub log: Vec<LogView>,
}

/// What a guard says.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct GuardView {
    /// Its name.
    pub guard: &'static str,
    /// `worse`, `not worse` or `not enough evidence`.
    pub verdict: &'static str,
    /// Whether the present stage is judged by it.
    pub judges: bool,
    /// The same in a line.
    pub text: String,
    /// The group that the figures are of: the one with the most evidence for "worse", of a
    /// guard that judges groups; of `parity` the one that is selected least.
    pub group: Option<String>,
    /// Events by stage and arm, where it compares two arms; of `parity` the group's selected
    /// rows.
    pub stages: Vec<StageCountsView>,
    /// The ratio of the rates, or the rate, or the distance; of `parity` how many times as
    /// unequal as the champion.
    pub effect: Option<f64>,
    /// Its interval's lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: Option<f64>,
    /// Worse is an effect above this.
    pub worse_above: f64,
    /// Not worse is one below this; 0 for a guard that only ever stops a rollout.
    pub not_worse_below: f64,
    /// The largest ln E for "worse" at any look; absent where it is judged by intervals.
    pub worse_ln_e: Option<f64>,
    /// The largest ln E for "not worse" at any look; absent where it is judged by intervals.
    pub not_worse_ln_e: Option<f64>,
    /// What "worse" has to reach: ln(1/α).
    pub worse_threshold: f64,
    /// What "not worse" has to reach: ln(1/β).
    pub not_worse_threshold: f64,
    /// How many more events (requests, for a limit) it would take to be shown not
    /// worse; absent for "never".
    pub more: Option<u64>,
    /// What could not be counted.
    pub dropped: u64,
}

/// Events of one share.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageCountsView {
    /// The canary's share, 0 to 1.
    pub share: f64,
    /// The champion's.
    pub champion: u64,
    /// The canary's.
    pub canary: u64,
}

/// Whether traffic arrives as it was routed.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TrafficView {
    /// It does not.
    pub misrouted: bool,
    /// The always-valid p-value of "it does".
    pub p_value: f64,
    /// Keys (requests, without keys) by stage and arm.
    pub stages: Vec<StageCountsView>,
}

/// A line of a rollout's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LogView {
    /// When, RFC 3339, UTC.
    pub time: String,
    /// By whose hand.
    pub actor: String,
    /// What.
    pub text: String,
}

impl RolloutView {
    /// What is shown of a rollout, and of what hinders it.
    #[must_use]
    pub fn of(rollout: &Rollout, problem: Option<&str>) -> Self {
        let present = rollout.present();
        let (min, max) = present.times(&rollout.policy);
        Self {
            id: rollout.id,
            model: rollout.model.to_string(),
            version: rollout.version,
            base: rollout.base,
            actor: rollout.actor.clone(),
            started: rollout.started.clone(),
            phase: rollout.phase.as_str(),
            why: rollout.why.clone(),
            stages: rollout.stages.iter().map(ToString::to_string).collect(),
            stage: rollout.stage,
            ran_seconds: rollout.ran().as_secs_f64(),
            min_seconds: min.as_secs_f64(),
            max_seconds: max.as_secs_f64(),
            outcome: match rollout.evidence.outcome(present) {
                Outcome::Misrouted => "misrouted",
                Outcome::Worse => "worse",
                Outcome::NotWorse => "not_worse",
                Outcome::NotEnough => "not_enough",
            },
            guards: {
                let guards = rollout.evidence.guards.iter();
                guards.filter_map(|said| GuardView::of(said, said.guard.judges(present))).collect()
            },
            traffic: rollout.evidence.traffic.as_ref().map(|found| TrafficView {
                misrouted: found.misrouted,
                p_value: found.p_value,
                stages: counts(&found.stages),
            }),
            approved: rollout.approved.clone(),
            queued: rollout.queued,
            unclean_exits: rollout.unclean,
            gaps: rollout.gaps,
            problem: problem.map(str::to_owned),
            log: {
                let line = |line: &super::record::LogLine| LogView {
                    time: line.time.clone(),
                    actor: line.actor.clone(),
                    text: line.text.clone(),
                };
                rollout.log.iter().map(line).collect()
            },
        }
    }
}

fn counts(stages: &[StageCounts]) -> Vec<StageCountsView> {
    let one = |stage: &StageCounts| StageCountsView {
        share: stage.share.fraction(),
        champion: stage.champion,
        canary: stage.canary,
    };
    stages.iter().map(one).collect()
}

impl GuardView {
    fn of(said: &Said, judges: bool) -> Option<Self> {
        let (guard, text) = (said.guard.as_str(), explain::line(said));
        let verdict = explain::verdict(said.judged.verdict());
        let ratio = |judged: &Judgement, text, group| Self {
            guard,
            verdict,
            judges,
            text,
            group,
            stages: counts(&judged.facts.stages),
            effect: judged.effect.ratio,
            lower: judged.effect.lower,
            upper: judged.effect.upper,
            worse_above: judged.worse.margin.get(),
            not_worse_below: judged.not_worse.margin.get(),
            worse_ln_e: Some(judged.worse.best_ln_e),
            not_worse_ln_e: Some(judged.not_worse.best_ln_e),
            worse_threshold: judged.worse.ln_threshold,
            not_worse_threshold: judged.not_worse.ln_threshold,
            more: judged.not_worse.events_more,
            dropped: judged.facts.dropped,
        };
        Some(match &said.judged {
            Judged::Ratio(judged) => ratio(judged, text, None),
            // There is one with the first label.
            Judged::Groups(judged) => {
                let said = judged.leading()?;
                let group = format!("{}={}", said.grouping, said.group);
                ratio(&said.judgement, text, Some(group))
            }
            Judged::Parity(judged) => Self::of_parity(judged, verdict, judges, text),
            Judged::Limit(judged) => Self {
                guard,
                verdict,
                judges,
                text,
                group: None,
                stages: Vec::new(),
                effect: judged.rate,
                lower: judged.lower,
                upper: Some(judged.upper),
                worse_above: judged.rule.limit.get(),
                not_worse_below: judged.rule.limit.get(),
                worse_ln_e: Some(judged.above_ln_e),
                not_worse_ln_e: Some(judged.below_ln_e),
                worse_threshold: judged.rule.alpha.ln_threshold(),
                not_worse_threshold: judged.rule.beta.ln_threshold(),
                more: judged.requests_more,
                dropped: judged.facts.dropped,
            },
            Judged::Shift(judged) => Self {
                guard,
                verdict,
                judges,
                text,
                group: None,
                stages: Vec::new(),
                effect: Some(judged.gap),
                lower: judged.lower,
                upper: Some(judged.upper),
                worse_above: judged.rule.limit,
                not_worse_below: judged.rule.limit,
                worse_ln_e: None,
                not_worse_ln_e: None,
                worse_threshold: judged.rule.alpha.ln_threshold(),
                not_worse_threshold: judged.rule.beta.ln_threshold(),
                more: None,
                dropped: 0,
            },
        })
    }

    /// Of the two groups between which there is the most to be said, if there are any.
    fn of_parity(
        judged: &ParityJudgement,
        verdict: &'static str,
        judges: bool,
        text: String,
    ) -> Self {
        let pair = judged.leading.as_ref();
        let change = pair.map(|pair| pair.change);
        let threshold = judged.rule.alpha.ln_threshold();
        Self {
            guard: GuardName::Parity.as_str(),
            verdict,
            judges,
            text,
            group: pair.map(|pair| format!("{}={}", pair.grouping, pair.less)),
            stages: pair.map(|pair| selected(judged, pair)).unwrap_or_default(),
            effect: change.and_then(|change| change.ratio),
            lower: change.map_or(0.0, |change| change.lower),
            upper: change.and_then(|change| change.upper),
            worse_above: judged.rule.worse_than.get(),
            not_worse_below: 0.0,
            worse_ln_e: None,
            not_worse_ln_e: None,
            worse_threshold: threshold,
            not_worse_threshold: threshold,
            more: None,
            dropped: judged.facts.dropped,
        }
    }
}

/// The selected rows of the group that is selected less.
fn selected(judged: &ParityJudgement, pair: &ParityPair) -> Vec<StageCountsView> {
    let is_less = |own: &&SelectedGroup| own.grouping == pair.grouping && own.group == pair.less;
    let stages = judged.facts.groups.iter().find(is_less).map(|less| &less.stages[..]);
    let selected = |own: &SelectedCounts| StageCounts {
        share: own.share,
        champion: own.champion.selected,
        canary: own.canary.selected,
    };
    counts(&stages.unwrap_or_default().iter().map(selected).collect::<Vec<_>>())
}
