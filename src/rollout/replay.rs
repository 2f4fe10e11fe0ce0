//! Makes a rollout's recorded verdicts and decisions again from what was recorded
//! with them.

use serde::{Deserialize, Serialize};

use crate::analysis::{check_traffic, judge, judge_limit, judge_parity, judge_shift};
use crate::error::{Error, ErrorCode, Result};
use crate::rollout::jury::{Evidence, GroupSaid, GroupsJudgement, Judged, Said};
use crate::rollout::policy::{Decision, Situation, decide};
use crate::store::AuditEntry;

/// A decision, and what it depends on besides the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Decided {
    pub(super) situation: Situation,
    pub(super) decision: Decision,
}

/// What an entry of the audit log keeps of a rollout's step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StepRecord {
    #[serde(flatten)]
    pub(super) evidence: Evidence,
    /// `None` for a step that no evidence asked for: a person took it, or something
    /// happened to the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decided: Option<Decided>,
}

/// A rollout's decisions, made again.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Replayed {
    /// The rollout's number.
    pub id: u64,
    /// Whether every figure of every step came out the same, bit for bit.
    pub same: bool,
    /// Its steps, oldest first.
    pub steps: Vec<ReplayedStep>,
}

/// One decision, made again.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReplayedStep {
    /// The number of its audit entry.
    pub entry: u64,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// What was done.
    pub action: String,
    /// Why.
    pub reason: Option<String>,
    /// How many guards were judged again; 0 for a step that needed none.
    pub guards: usize,
    /// What comes of them again: `advance`, `finish`, `roll_back`, `freeze`, `stop`,
    /// `misrouted` or `await_approval`; absent for a step that no evidence asked for.
    pub decision: Option<&'static str>,
    /// What came out differently.
    pub different: Vec<String>,
}

/// Judges each entry's evidence again. Pure.
///
/// # Errors
/// An entry's evidence cannot be read.
pub(super) fn replay(id: u64, entries: &[AuditEntry]) -> Result<Replayed> {
    let steps = entries.iter().map(step).collect::<Result<Vec<_>>>()?;
    Ok(Replayed { id, same: steps.iter().all(|step| step.different.is_empty()), steps })
}

fn step(entry: &AuditEntry) -> Result<ReplayedStep> {
    let StepRecord { evidence, decided } = match &entry.evidence {
        None => StepRecord::default(),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            let message = format!("the evidence of entry {} cannot be read: {error}", entry.number);
            Error::new(ErrorCode::Internal, message)
        })?,
    };
    let again = again(&evidence);
    let guards = evidence.guards.iter().zip(&again.guards);
    let differ = guards.filter(|(before, now)| before != now);
    let mut different: Vec<_> = differ.map(|(said, _)| said.guard.as_str().to_owned()).collect();
    if evidence.traffic != again.traffic {
        different.push("traffic".to_owned());
    }
    let decision = decided.map(|decided| {
        let stage = decided.situation.stage;
        let now = decide(&decided.situation, again.outcome(stage));
        if now != decided.decision || !fits(now, entry) {
            different.push("decision".to_owned());
        }
        now.as_str()
    });
    Ok(ReplayedStep {
        entry: entry.number,
        time: entry.time.clone(),
        action: entry.action.clone(),
        reason: entry.reason.clone(),
        guards: evidence.guards.len(),
        decision,
        different,
    })
}

/// Whether what was done is what a decision asks for.
fn fits(decision: Decision, entry: &AuditEntry) -> bool {
    let words = match decision {
        Decision::Hold => return false,
        Decision::Advance => " stage ",
        Decision::Finish => " promoted",
        Decision::RollBack => " rolled back",
        Decision::Freeze | Decision::Stop | Decision::Misrouted => " stopped",
        Decision::AwaitApproval => " awaiting approval",
    };
    entry.action.contains(words)
}

/// The same judgements, made from their rules and facts alone.
fn again(evidence: &Evidence) -> Evidence {
    let guard = |said: &Said| {
        let judged = match &said.judged {
            Judged::Ratio(said) => Judged::Ratio(judge(said.rule, said.facts.clone())),
            Judged::Limit(said) => Judged::Limit(judge_limit(said.rule, said.facts.clone())),
            Judged::Shift(said) => Judged::Shift(judge_shift(said.rule, said.facts.clone())),
            Judged::Parity(said) => Judged::Parity(judge_parity(said.rule, said.facts.clone())),
            Judged::Groups(said) => {
                let group = |own: &GroupSaid| GroupSaid {
                    judgement: judge(own.judgement.rule, own.judgement.facts.clone()),
                    ..own.clone()
                };
                Judged::Groups(GroupsJudgement { groups: said.groups.iter().map(group).collect() })
            }
        };
        Said { guard: said.guard, judged }
    };
    Evidence {
        guards: evidence.guards.iter().map(guard).collect(),
        traffic: evidence
            .traffic
            .as_ref()
            .map(|found| check_traffic(found.alpha, found.stages.clone(), found.worst_at.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Exposure;
    use crate::rollout::Stage;
    use crate::rollout::jury::{Jury, ShadowCounts};
    use crate::types::{OnWorse, RolloutPolicy, Share};
    use std::time::Duration;

    fn entry(evidence: Option<String>) -> AuditEntry {
        AuditEntry {
            number: 9,
            time: "2026-01-02T03:04:05.678Z".into(),
            model: "m".into(),
            actor: "rollout 7".into(),
            action: "rollout 7: version 3 stage canary 5%".into(),
            reason: None,
            from: String::new(),
            to: String::new(),
            evidence,
            hash: String::new(),
        }
    }

    #[test]
    fn an_honest_record_comes_out_the_same_and_a_changed_one_does_not() {
        let mut jury = Jury::resume(&RolloutPolicy::default(), &Evidence::default()).unwrap();
        jury.begin(Exposure::new(Share::from_percent(5.0).unwrap()).unwrap());
        let shadow =
            ShadowCounts { compared: 321, disagreed: 17, failed: 1, ..ShadowCounts::default() };
        jury.count_shadow(&shadow);
        let text = serde_json::to_string(&jury.evidence()).unwrap();
        let honest = replay(7, &[entry(None), entry(Some(text.clone()))]).unwrap();
        assert!(honest.same && honest.steps[0].guards == 0 && honest.steps[1].guards == 7);
        let forged = text.replace("\"verdict\":\"not_worse\"", "\"verdict\":\"worse\"");
        assert_ne!(forged, text);
        let found = replay(7, &[entry(Some(forged))]).unwrap();
        assert!(!found.same);
        assert_eq!(found.steps[0].different, ["disagreement"]);
        assert!(replay(7, &[entry(Some("{".into()))]).is_err());
    }

    #[test]
    fn a_decision_is_made_again_from_what_it_depended_on() {
        let mut jury = Jury::resume(&RolloutPolicy::default(), &Evidence::default()).unwrap();
        let shadow = ShadowCounts { compared: 1_000, disagreed: 1, ..ShadowCounts::default() };
        jury.count_shadow(&shadow);
        let situation = Situation {
            running: true,
            stage: Stage::Shadow(Share::ALL),
            next: Some(Stage::Canary(Share::ALL)),
            ran: Duration::from_secs(400),
            min: Duration::from_secs(300),
            max: Duration::from_secs(900),
            on_worse: OnWorse::Rollback,
            approved: true,
        };
        let decided = Some(Decided { situation, decision: Decision::Advance });
        let record = StepRecord { evidence: jury.evidence(), decided };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<StepRecord>(&text).unwrap(), record);
        let honest = replay(7, &[entry(Some(text.clone()))]).unwrap();
        assert_eq!((honest.same, honest.steps[0].decision), (true, Some("advance")));
        // One that came too early, and one that was not done.
        let early = text.replace("\"secs\":400", "\"secs\":200");
        let other = AuditEntry { action: "rollout 7: promoted".into(), ..entry(Some(text)) };
        for forged in [entry(Some(early)), other] {
            assert_eq!(replay(7, &[forged]).unwrap().steps[0].different, ["decision"]);
        }
    }
}
