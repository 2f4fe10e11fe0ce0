//! Before a rollout: how long will it take to know?
//!
//! A rollout whose stages cannot reach a verdict in their time is known as such
//! before it starts, and the outlook names the tightest bound that its traffic
//! affords. Figures are for one guard, a judge that looks after every event,
//! and a stage that begins from nothing; evidence of earlier stages comes on
//! top. They are exact (a calculation of probabilities, no simulation) up to
//! 20,000 events. Beyond, they come from expected counts, which lie up to a
//! half above the median.

use serde::{Deserialize, Serialize};

use super::evidence::Bet;
use super::forecast::events_until;
use super::guard::Rule;
use super::objective::RequestCounts;
use super::passage::Passage;
use super::terms::{Exposure, Margin, Rate};

/// Multiples of the champion's rate that an outlook tells about.
pub const FAULTS: [f64; 4] = [1.5, 2.0, 3.0, 5.0];

/// Events up to which an outlook is exact.
const EXACT_MAX: u64 = 20_000;
/// Requests of the canary beyond which an outlook says "never".
const REQUESTS_MAX: u64 = 1 << 50;

/// A stage of a rollout that has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageBudget {
    /// The canary's share.
    pub share: Exposure,
    /// Requests (both arms) that arrive in the stage's longest time; `None` is
    /// a stage that may take as long as it takes.
    pub requests_max: Option<u64>,
}

/// How much it takes until something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Events of both arms, in the median.
    pub events: u64,
    /// Requests of both arms in which so many events happen. Divide them by the
    /// present requests per second for the time.
    pub requests: u64,
    /// Events that suffice in nine of ten rollouts; `None` where the figures
    /// are not exact.
    pub events_p90: Option<u64>,
}

/// What to expect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultOutlook {
    /// The canary's rate as a multiple of the champion's.
    pub ratio: f64,
    /// Until it is shown to be worse; `None` is "never": the ratio is too near
    /// to the margin or within it.
    pub worse: Option<Reach>,
}

/// What to expect of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageOutlook {
    /// The stage.
    pub stage: StageBudget,
    /// The margin that the canary has to stay below.
    pub margin: Margin,
    /// Until a fault is shown, for each of [`FAULTS`].
    pub faults: Vec<FaultOutlook>,
    /// Until an equal canary is shown not to be worse; `None` is "never".
    pub not_worse: Option<Reach>,
    /// Requests of both arms until an equal canary is shown to be below the
    /// objective; `None` without one, or where the champion is not below it.
    pub objective_requests: Option<u64>,
    /// Whether an equal canary passes within the stage's time, more likely than
    /// not.
    pub reachable: bool,
    /// The smallest margin with which it would; `None` where not even 100
    /// would do, or where time is not limited.
    pub tightest: Option<Margin>,
}

/// The outlook of each stage, for a guard's rule and the champion's event rate.
///
/// Pure and deterministic; some ten milliseconds per stage.
#[must_use]
pub fn outlook(rule: &Rule, champion: Rate, stages: &[StageBudget]) -> Vec<StageOutlook> {
    stages.iter().map(|stage| stage_outlook(rule, champion, *stage)).collect()
}

fn stage_outlook(rule: &Rule, champion: Rate, stage: StageBudget) -> StageOutlook {
    let margin = rule.not_worse_at(stage.share);
    let worse = Bet { bound: rule.worse_than.get(), upward: true };
    let reach = |bet: Bet, ratio: f64, ln_threshold: f64| {
        let (events, events_p90) = events_to_show(bet, stage.share, ratio, ln_threshold)?;
        let requests = events as f64 / events_per_request(champion, stage.share, ratio);
        Some(Reach { events, requests: requests.ceil() as u64, events_p90 })
    };
    let enough = rule.beta.ln_threshold();
    let not_worse = reach(Bet { bound: margin.get(), upward: false }, 1.0, enough);
    let objective_requests =
        rule.objective.and_then(|objective| to_objective(objective, champion, stage.share, enough));
    let within = |requests: Option<u64>| {
        requests.is_some_and(|needed| stage.requests_max.is_none_or(|max| needed <= max))
    };
    StageOutlook {
        stage,
        margin,
        faults: FAULTS
            .map(|ratio| FaultOutlook {
                ratio,
                worse: reach(worse, ratio, rule.alpha.ln_threshold()),
            })
            .into(),
        reachable: within(not_worse.map(|reach| reach.requests)) || within(objective_requests),
        not_worse,
        objective_requests,
        tightest: stage.requests_max.and_then(|requests| {
            let events = requests as f64 * events_per_request(champion, stage.share, 1.0);
            tightest(stage.share, events as u64, enough)
        }),
    }
}

/// Events of both arms together, per request of both. No rate exceeds 1.
fn events_per_request(champion: Rate, share: Exposure, ratio: f64) -> f64 {
    let (champion, share) = (champion.get(), share.fraction());
    champion * (1.0 - share) + (champion * ratio).min(1.0) * share
}

/// The median, and what suffices nine times in ten.
fn events_to_show(
    bet: Bet,
    share: Exposure,
    ratio: f64,
    ln_threshold: f64,
) -> Option<(u64, Option<u64>)> {
    let share = share.fraction();
    let expected = events_until(bet, &[], share, ratio, ln_threshold)?;
    if expected > EXACT_MAX {
        return Some((expected, None));
    }
    let mut passage = Passage::new(bet, share, ratio, ln_threshold);
    match passage.events_until(0.5, EXACT_MAX) {
        Some(median) => Some((median, passage.events_until(0.9, EXACT_MAX))),
        None => Some((expected, None)),
    }
}

/// The smallest margin that an equal canary passes within so many events.
fn tightest(share: Exposure, events: u64, ln_threshold: f64) -> Option<Margin> {
    let passes = |margin: f64| {
        let bet = Bet { bound: margin, upward: false };
        let mut passage = Passage::new(bet, share.fraction(), 1.0, ln_threshold);
        passage.events_until(0.5, events.min(EXACT_MAX)).is_some()
    };
    let (mut low, mut high) = (0.0, 100.0_f64.ln());
    if !passes(f64::exp(high)) {
        return None;
    }
    // To half a percent, which is close enough.
    for _ in 0..10 {
        let middle = f64::midpoint(low, high);
        if passes(middle.exp()) { high = middle } else { low = middle }
    }
    // Rounding must not lift the end of the range out of it.
    Margin::new(high.exp().min(100.0)).ok()
}

/// Requests of both arms until a canary with the champion's rate is shown to be
/// below the objective, from expected counts.
fn to_objective(
    objective: Rate,
    champion: Rate,
    share: Exposure,
    ln_threshold: f64,
) -> Option<u64> {
    let shown = |requests: u64| {
        let events = (requests as f64 * champion.get()).floor() as u64;
        RequestCounts { requests, events }.ln_e(objective) >= ln_threshold
    };
    // Whole events make small steps down on the way up; the end is near enough.
    let mut high = 1_u64;
    while !shown(high) {
        high *= 2;
        if high > REQUESTS_MAX {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if shown(middle) { high = middle } else { low = middle }
    }
    Some((high as f64 / share.fraction()).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::terms::Level;
    use super::super::terms::tests::percent;
    use super::*;
    use crate::types::Share;

    fn rule() -> Rule {
        Rule {
            worse_than: Margin::ONE,
            not_worse_than: None,
            objective: None,
            alpha: Level::WORSE,
            beta: Level::NOT_WORSE,
        }
    }

    fn one(rule: &Rule, rate: f64, share: f64, requests_max: Option<u64>) -> StageOutlook {
        let stage = StageBudget { share: percent(share), requests_max };
        outlook(rule, Rate::new(rate).unwrap(), &[stage]).remove(0)
    }

    #[test]
    fn figures_of_the_default_margins() {
        for (share, events) in [(1.0, 44), (5.0, 28), (25.0, 62), (50.0, 189)] {
            let reach = one(&rule(), 0.01, share, None).not_worse.unwrap();
            let off = reach.events as f64 / f64::from(events);
            assert!((1.0 / 1.3..1.3).contains(&off), "{share} %: {reach:?}, not {events}");
            assert_eq!(reach.requests, reach.events * 100);
        }
        for (share, faults) in [(5.0, [240, 85, 32]), (50.0, [81, 36, 20])] {
            let stage = one(&rule(), 0.01, share, None);
            for (fault, events) in stage.faults[1..].iter().zip(faults) {
                let off = fault.worse.unwrap().events as f64 / f64::from(events);
                assert!((1.0 / 1.3..1.3).contains(&off), "{share} %: {fault:?}, not {events}");
            }
        }
        // The reason why margins shrink with exposure.
        let tight = Rule { not_worse_than: Some(Margin::new(1.5).unwrap()), ..rule() };
        let events = one(&tight, 0.01, 1.0, None).not_worse.unwrap().events;
        assert!((2_600..4_300).contains(&events), "{events}");
    }

    #[test]
    fn a_stage_without_the_time_for_a_verdict_is_known_before() {
        let short = one(&rule(), 0.001, 50.0, Some(20_000));
        assert!(!short.reachable, "{short:?}");
        let tightest = short.tightest.unwrap();
        assert!(tightest.get() > 2.0, "{tightest:?}");
        let affordable = Rule { not_worse_than: Some(tightest), ..rule() };
        assert!(one(&affordable, 0.001, 50.0, Some(20_000)).reachable);
        let hopeless = one(&rule(), 0.001, 1.0, Some(1_000));
        assert!(!hopeless.reachable && hopeless.tightest.is_none());
        let objective = Rule { objective: Some(Rate::new(0.01).unwrap()), ..rule() };
        let rare = one(&objective, 1e-6, 1.0, Some(100_000));
        assert!(rare.reachable, "{rare:?}");
        assert!(rare.objective_requests.unwrap() < 40_000);
        assert_eq!(one(&objective, 0.01, 1.0, None).objective_requests, None);
    }

    #[test]
    fn a_fault_within_the_margin_is_never_shown() {
        let latency = Rule { worse_than: Margin::new(1.6).unwrap(), ..rule() };
        let stage = one(&latency, 0.01, 50.0, None);
        assert_eq!(stage.faults[0].worse, None);
        assert!(stage.faults[3].worse.unwrap().events_p90.is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_stage_has_an_outlook(points in 1_u16..10_000, rate in 1e-9..0.999, requests: u64) {
            let share = Exposure::new(Share::from_basis_points(points).unwrap()).unwrap();
            let stage = StageBudget { share, requests_max: Some(requests >> 20) };
            let outlook = outlook(&rule(), Rate::new(rate).unwrap(), &[stage]);
            prop_assert_eq!(outlook[0].faults.len(), FAULTS.len());
        }
    }
}
