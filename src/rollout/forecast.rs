//! Before a rollout: how long will each stage take at the present traffic?

use serde::Serialize;

use crate::analysis::{
    Exposure, FAULTS, LimitRule, Rate, Reach, Rule, StageBudget, limit_outlook, outlook,
};
use crate::error::{Error, ErrorCode, Result};
use crate::rollout::Stage;
use crate::rollout::jury::{GuardName, Rules};
use crate::telemetry::ArmStats;
use crate::types::{ModelName, RolloutPolicy, Share};

/// The rate that is assumed of events that the champion has never had.
const RARE: f64 = 1e-6;
/// What is assumed of a good version: so much of what a limit allows.
const WITHIN_LIMIT: f64 = 0.5;

/// What to expect of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Forecast {
    /// The model.
    pub model: String,
    /// Requests per second that the champion has answered in the last five minutes.
    pub requests_per_second: f64,
    /// Each stage.
    pub stages: Vec<StageForecast>,
}

/// What to expect of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageForecast {
    /// Its name.
    pub stage: String,
    /// Its longest time, in seconds.
    pub max_seconds: f64,
    /// Each guard that compares the arms.
    pub guards: Vec<GuardForecast>,
    /// Each guard that has a limit.
    pub limits: Vec<LimitForecast>,
    /// Whether an equal version passes within the longest time, more likely than
    /// not. If it does not, the stage will stop in front of a person. The watch needs
    /// no evidence to end.
    pub reachable: bool,
}

/// What to expect of a guard in a stage.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct GuardForecast {
    /// Its name.
    pub guard: &'static str,
    /// The champion's events per request; of what it never had, an assumption.
    pub champion_rate: f64,
    /// The margin that the version has to stay below.
    pub margin: f64,
    /// Seconds until an equal version is found not worse; absent for "never".
    pub not_worse_seconds: Option<f64>,
    /// Seconds until a fault of 1.5, 2, 3 and 5 times the champion's rate is
    /// found; null for "never".
    pub fault_seconds: Vec<Option<f64>>,
    /// Whether an equal version passes in time, more likely than not.
    pub reachable: bool,
    /// The tightest margin that the traffic affords; absent where none does.
    pub tightest: Option<f64>,
}

/// What to expect of a guard with a limit in a stage.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LimitForecast {
    /// Its name.
    pub guard: &'static str,
    /// The limit, events per request.
    pub limit: f64,
    /// Seconds until a version at half the limit is found not worse; absent for
    /// "never".
    pub not_worse_seconds: Option<f64>,
    /// Seconds until a rate of 1.5, 2, 3 and 5 times the limit is found; null for
    /// "never", and for more than there can be.
    pub fault_seconds: Vec<Option<f64>>,
    /// Whether a version at half the limit passes in time.
    pub reachable: bool,
}

/// What a champion has done.
pub(super) struct Done<'a> {
    pub(super) stats: &'a ArmStats,
    /// At present.
    pub(super) per_second: f64,
}

/// The forecast for a policy, by what the champion has done.
pub(super) fn forecast(
    model: &ModelName,
    policy: &RolloutPolicy,
    done: &Done<'_>,
) -> Result<Forecast> {
    if done.per_second <= 0.0 {
        let message = format!(
            "model {model} has had no traffic in the last five minutes: there is nothing to plan by"
        );
        return Err(Error::new(ErrorCode::Conflict, message));
    }
    let rules = Rules::of(policy)?;
    let stages = Stage::all(policy);
    let stages = stages.iter().map(|stage| of_stage(*stage, policy, &rules, done));
    let stages = stages.collect::<Result<_>>()?;
    Ok(Forecast { model: model.to_string(), requests_per_second: done.per_second, stages })
}

fn of_stage(
    stage: Stage,
    policy: &RolloutPolicy,
    rules: &Rules,
    done: &Done<'_>,
) -> Result<StageForecast> {
    let (_, max) = stage.times(policy);
    let max = max.as_secs_f64();
    // Copies, in a shadow's stage; which of them the champion runs again is a coin's.
    let (share, of_all) = match stage {
        Stage::Shadow(sample) => (Share::from_basis_points(5_000), sample.fraction()),
        Stage::Canary(weight) => (Some(weight), 1.0),
        Stage::Watch(Share::ZERO) => (None, 1.0),
        Stage::Watch(control) => (Share::from_basis_points(10_000 - control.basis_points()), 1.0),
    };
    let pace = Pace { per_second: done.per_second * of_all, max };
    let noise = rules.noise.iter().map(|rule| (GuardName::Noise, rule));
    let ratios = rules.comparing.iter().map(|(name, _, rule)| (*name, rule)).chain(noise);
    let ratios = ratios.filter(|(name, _)| name.judges(stage));
    let guards = share.and_then(Exposure::new).map(|share| {
        let of = |(name, rule)| of_ratio(name, rule, share, &pace, done.stats);
        ratios.map(of).collect::<Result<Vec<_>>>()
    });
    let guards = guards.transpose()?.unwrap_or_default();
    // The version's own requests, where it has no copies.
    let own = match stage {
        // The champion runs the other half of them again.
        Stage::Shadow(_) if rules.noise.is_some() => {
            Pace { per_second: pace.per_second * 0.5, max }
        }
        Stage::Shadow(_) => pace,
        _ => Pace { per_second: pace.per_second * share.map_or(1.0, Share::fraction), max },
    };
    // Without a control nobody looks.
    let watched = !matches!(stage, Stage::Watch(Share::ZERO));
    let limits = rules.limits.iter().filter(|(name, _)| watched && name.judges(stage));
    let limits = limits.map(|(name, rule)| of_limit(*name, *rule, &own));
    let limits = limits.collect::<Result<Vec<_>>>()?;
    let passes =
        guards.iter().all(|guard| guard.reachable) && limits.iter().all(|limit| limit.reachable);
    let reachable = passes || matches!(stage, Stage::Watch(_));
    Ok(StageForecast { stage: stage.to_string(), max_seconds: max, guards, limits, reachable })
}

/// Requests per second, and for how many seconds at most.
#[derive(Clone, Copy)]
struct Pace {
    per_second: f64,
    max: f64,
}

impl Pace {
    fn seconds(&self, requests: u64) -> f64 {
        number(requests) / self.per_second
    }
}

fn of_ratio(
    name: GuardName,
    rule: &Rule,
    share: Exposure,
    pace: &Pace,
    champion: &ArmStats,
) -> Result<GuardForecast> {
    let rate = Rate::new(usual(name, champion).clamp(RARE, 0.999))?;
    let budget = Some(whole(pace.max * pace.per_second));
    let found = outlook(rule, rate, &[StageBudget { share, requests_max: budget }]);
    let Some(found) = found.into_iter().next() else {
        return Err(Error::internal("a stage has no outlook"));
    };
    let reach = |reach: Option<Reach>| reach.map(|reach| pace.seconds(reach.requests));
    let by_objective = found.objective_requests.map(|requests| pace.seconds(requests));
    Ok(GuardForecast {
        guard: name.as_str(),
        champion_rate: rate.get(),
        margin: found.margin.get(),
        not_worse_seconds: match (reach(found.not_worse), by_objective) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
        fault_seconds: found.faults.iter().map(|fault| reach(fault.worse)).collect(),
        reachable: found.reachable,
        tightest: found.tightest.map(|margin| margin.get()),
    })
}

/// The champion's events per request.
fn usual(name: GuardName, champion: &ArmStats) -> f64 {
    let snapshot = champion.snapshot();
    let requests = number(snapshot.ok.saturating_add(snapshot.failed).max(1));
    match name {
        GuardName::LatencyP50 => 0.5,
        GuardName::LatencyP99 => 0.01,
        GuardName::Nonfinite => number(snapshot.nonfinite) / requests,
        GuardName::Errors => failures(&snapshot.failures, true) / requests,
        GuardName::Refusals => failures(&snapshot.failures, false) / requests,
        // How noisy it is, nobody knows before.
        _ => 0.0,
    }
}

fn of_limit(name: GuardName, rule: LimitRule, own: &Pace) -> Result<LimitForecast> {
    let limit = rule.limit.get();
    let good = Rate::new((limit * WITHIN_LIMIT).max(f64::MIN_POSITIVE))?;
    let until = |rate, above| limit_outlook(rule, rate, above).map(|n| own.seconds(n));
    let not_worse_seconds = until(good, false);
    let fault = |ratio: &f64| until(Rate::new(limit * ratio).ok()?, true);
    Ok(LimitForecast {
        guard: name.as_str(),
        limit,
        not_worse_seconds,
        fault_seconds: FAULTS.iter().map(fault).collect(),
        reachable: not_worse_seconds.is_some_and(|needed| needed <= own.max),
    })
}

/// Failures that are errors of the version, or its refusals.
fn failures(by_code: &std::collections::BTreeMap<&'static str, u64>, errors: bool) -> f64 {
    use crate::error::ErrorCode as Code;
    use crate::telemetry::recorder::Event;
    let wanted = if errors { Event::Error } else { Event::Refusal };
    let of = |code: &Code| Event::of(*code) == Some(wanted);
    let counts = Code::ALL.iter().filter(|code| of(code)).filter_map(|c| by_code.get(c.as_str()));
    counts.map(|count| number(*count)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a forecast")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a forecast")]
fn whole(count: f64) -> u64 {
    count.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Answered, ArmRole, Metrics};
    use crate::types::VersionId;
    use std::time::Duration;

    fn champion() -> (ModelName, std::sync::Arc<ArmStats>) {
        let model = ModelName::new("m").unwrap();
        let one = VersionId::new(1).unwrap();
        let stats = Metrics::new().arm(&model, one, ArmRole::Champion);
        for i in 0..1_000 {
            match i % 100 {
                0 => stats.failed(ErrorCode::Internal, Duration::ZERO),
                _ => stats.answered(Answered::within(Duration::ZERO)),
            }
        }
        (model, stats)
    }

    #[test]
    fn without_traffic_nothing_is_told_and_with_it_every_stage_is() {
        let (model, stats) = champion();
        let policy = RolloutPolicy::default();
        let told = |per_second| forecast(&model, &policy, &Done { stats: &stats, per_second });
        assert_eq!(told(0.0).unwrap_err().code(), ErrorCode::Conflict);
        let told = told(50.0).unwrap();
        assert_eq!(told.stages.len(), 6);
        let errors = &told.stages[2].guards[0];
        assert!((errors.champion_rate - 0.01).abs() < 1e-9);
        assert!(told.stages[2].reachable, "{told:?}");
        // 28 events of 1 % of the requests.
        let requests = errors.not_worse_seconds.unwrap() * told.requests_per_second;
        assert!((2_000.0..3_800.0).contains(&requests), "{requests}");
        assert!(errors.fault_seconds[3] < errors.fault_seconds[1]);
    }

    #[test]
    fn shadow_and_watch_are_told_of_too() {
        let (model, stats) = champion();
        let mut policy = RolloutPolicy {
            shadow: Share::from_percent(50.0).unwrap(),
            latency_max: Some(Duration::from_millis(50)),
            ..RolloutPolicy::default()
        };
        policy.guards.noise.enabled = true;
        policy.guards.disagreement.enabled = true;
        let done = Done { stats: &stats, per_second: 1.0 };
        let told = forecast(&model, &policy, &done).unwrap();
        let names = |stage: &StageForecast| -> Vec<_> {
            let guards = stage.guards.iter().map(|guard| guard.guard);
            guards.chain(stage.limits.iter().map(|limit| limit.guard)).collect()
        };
        let [shadow, first, .., watch] = &told.stages[..] else { panic!("{told:?}") };
        assert_eq!(names(shadow), ["noise", "disagreement", "shadow_failures"]);
        assert_eq!(names(first).last(), Some(&"latency"));
        assert!(watch.reachable && names(watch).len() == 6, "{watch:?}");
        // Half of the traffic, and what a limit of 20 % takes at 10 %.
        let disagreement = &shadow.limits[0];
        let copies = disagreement.not_worse_seconds.unwrap() * 0.5 * 0.5;
        assert!((40.0..200.0).contains(&copies), "{copies}");
        assert_eq!(disagreement.fault_seconds.len(), 4);
        // 5 × 20 % is more than all.
        assert!(disagreement.fault_seconds[3].is_none());
        // A canary of 1 % sees a hundredth of it.
        let (latency, failures) = (&first.limits[0], &shadow.limits[1]);
        let ratio = latency.not_worse_seconds.unwrap() / failures.not_worse_seconds.unwrap();
        assert!((24.0..26.0).contains(&ratio), "{ratio}");
    }
}
