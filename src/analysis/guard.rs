//! A guard: one kind of event that a rollout is judged by.
//!
//! [`Guard`] counts and looks; [`Judgement`] is what it says, with all that is
//! needed to say it again: [`judge`] is a pure function of the rule and the
//! facts, and a judgement holds both.

use serde::{Deserialize, Serialize};

use super::counts::{StageCounts, Tally};
use super::effect::Effect;
use super::evidence::{Bet, Evidence, Hypothesis, p_value};
use super::forecast::{events_until, present_ratio};
use super::objective::RequestCounts;
use super::terms::{Exposure, Level, Margin, Rate};
use super::verdict::Verdict;

/// What a guard calls worse, and what not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Worse is a rate above this multiple of the champion's: 1 for errors and
    /// wrong outputs, [`Margin::LATENCY`] for slow requests.
    pub worse_than: Margin,
    /// Not worse is one below this multiple; `None` takes
    /// [`Margin::by_exposure`], so that it shrinks as the share grows.
    pub not_worse_than: Option<Margin>,
    /// An absolute event rate that is good enough, whatever the champion's.
    pub objective: Option<Rate>,
    /// The probability, over the whole rollout, that a canary within
    /// `worse_than` is called worse. It is the rollout's level
    /// [split](Level::split) over its guards.
    pub alpha: Level,
    /// The probability, for each margin, that a canary beyond it is called not
    /// worse. It is each guard's own: a rollout goes up only if all pass.
    pub beta: Level,
}

impl Rule {
    /// The margin that the canary has to stay below at a share.
    #[must_use]
    pub fn not_worse_at(&self, share: Exposure) -> Margin {
        self.not_worse_than.unwrap_or_else(|| Margin::by_exposure(share))
    }
}

/// What was counted and seen: everything that a judgement depends on besides
/// its rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Events by stage and arm, the present stage last.
    pub stages: Vec<StageCounts>,
    /// The events at the look with the most evidence for "worse".
    pub worse_at: Vec<StageCounts>,
    /// Those at the look with the most evidence for "not worse" than the
    /// present stage's margin.
    pub not_worse_at: Vec<StageCounts>,
    /// The canary's requests, for the objective.
    pub requests: RequestCounts,
    /// Those at the look with the most evidence for the objective.
    pub objective_at: RequestCounts,
    /// Events that could not be counted (a full set of keys, a late label);
    /// nothing is inferred from it, it stands beside what is.
    pub dropped: u64,
}

/// Evidence for one of the two verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The ratio that it is about.
    pub margin: Margin,
    /// The natural logarithm of the e-value of the present counts.
    pub ln_e: f64,
    /// The largest one at any look, which decides; at least 0.
    pub best_ln_e: f64,
    /// What it has to reach.
    pub ln_threshold: f64,
    /// The always-valid p-value.
    pub p_value: f64,
    /// How many more events (both arms together) it would take at the present
    /// share and ratio, by a cautious estimate; `None` is "never", and 0 "shown".
    pub events_more: Option<u64>,
}

impl Finding {
    fn new(
        hypothesis: Hypothesis,
        present: &[StageCounts],
        best_at: &[StageCounts],
        level: Level,
    ) -> Self {
        let (Hypothesis::AtMost(margin) | Hypothesis::AtLeast(margin)) = hypothesis;
        let best_ln_e = hypothesis.ln_e(best_at);
        let ln_threshold = level.ln_threshold();
        let share = present.last().map(|stage| stage.share.fraction());
        let events_more = if best_ln_e >= ln_threshold {
            Some(0)
        } else {
            share.and_then(|share| {
                let ratio = present_ratio(present);
                events_until(Bet::of(hypothesis), present, share, ratio, ln_threshold)
            })
        };
        let ln_e = hypothesis.ln_e(present);
        let p_value = p_value(best_ln_e);
        Self { margin, ln_e, best_ln_e, ln_threshold, p_value, events_more }
    }

    /// Whether it is enough.
    #[must_use]
    pub fn shown(&self) -> bool {
        self.best_ln_e >= self.ln_threshold
    }
}

/// What a guard says, and everything that it says it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Worse wins over not worse where both are shown, as they are of a ratio
    /// between the two margins.
    pub verdict: Verdict,
    /// Evidence that the canary is worse.
    pub worse: Finding,
    /// Evidence that it is not.
    pub not_worse: Finding,
    /// The largest ln E at any look for "the rate is below the objective", which
    /// has to reach the threshold of `not_worse`.
    pub objective_ln_e: Option<f64>,
    /// The ratio of the rates, with its interval at the rule's levels.
    pub effect: Effect,
    /// By what it was judged.
    pub rule: Rule,
    /// From what.
    pub facts: Facts,
}

/// The judgement that a rule makes of the facts.
///
/// Pure: the rule and the facts of a recorded judgement give the same one
/// again. Without a single stage nothing is known.
#[must_use]
pub fn judge(rule: Rule, facts: Facts) -> Judgement {
    let present = &facts.stages;
    let at_most = Hypothesis::AtMost(rule.worse_than);
    let at_least = Hypothesis::AtLeast(match present.last() {
        Some(stage) => rule.not_worse_at(stage.share),
        None => rule.not_worse_than.unwrap_or(rule.worse_than),
    });
    let worse = Finding::new(at_most, present, &facts.worse_at, rule.alpha);
    let not_worse = Finding::new(at_least, present, &facts.not_worse_at, rule.beta);
    let objective_ln_e = rule.objective.map(|q| facts.objective_at.ln_e(q));
    let passed = objective_ln_e.is_some_and(|ln_e| ln_e >= not_worse.ln_threshold);
    Judgement {
        verdict: Verdict::of(worse.shown(), not_worse.shown() || passed),
        worse,
        not_worse,
        objective_ln_e,
        effect: Effect::new(present, &facts.worse_at, rule.alpha, &facts.not_worse_at, rule.beta),
        rule,
        facts,
    }
}

/// Counts and looks, from the beginning of a rollout to its end.
#[derive(Clone, Debug)]
pub struct Guard {
    rule: Rule,
    tally: Tally,
    worse: Evidence,
    not_worse: Evidence,
    requests: RequestCounts,
    objective_at: RequestCounts,
    objective_ln_e: f64,
    dropped: u64,
}

impl Guard {
    /// A guard at the beginning of the first stage that has a canary.
    #[must_use]
    pub fn new(rule: Rule, share: Exposure) -> Self {
        let tally = Tally::new(share);
        let at_least = Hypothesis::AtLeast(rule.not_worse_at(share));
        Self {
            worse: Evidence::new(Hypothesis::AtMost(rule.worse_than), tally.stages()),
            not_worse: Evidence::new(at_least, tally.stages()),
            rule,
            tally,
            requests: RequestCounts::default(),
            objective_at: RequestCounts::default(),
            objective_ln_e: 0.0,
            dropped: 0,
        }
    }

    /// A guard that goes on from what was recorded; in a rollout that had no
    /// canary yet, from `share` on.
    #[must_use]
    pub fn resume(rule: Rule, facts: Facts, share: Exposure) -> Self {
        let Some(present) = facts.stages.last().map(|stage| stage.share) else {
            return Self::new(rule, share);
        };
        let tally = Tally::of(facts.stages);
        let at_least = Hypothesis::AtLeast(rule.not_worse_at(present));
        let objective_ln_e = rule.objective.map_or(0.0, |q| facts.objective_at.ln_e(q).max(0.0));
        let resume = |hypothesis, at| Evidence::resume(hypothesis, tally.stages(), at);
        Self {
            worse: resume(Hypothesis::AtMost(rule.worse_than), facts.worse_at),
            not_worse: resume(at_least, facts.not_worse_at),
            rule,
            tally,
            requests: facts.requests,
            objective_at: facts.objective_at,
            objective_ln_e,
            dropped: facts.dropped,
        }
    }

    /// The canary's present share.
    #[must_use]
    pub fn share(&self) -> Option<Exposure> {
        self.tally.stages().last().map(|stage| stage.share)
    }

    /// From now on the canary has this share. What was shown against an earlier
    /// stage's margin does not pass for this one's; the counts go on.
    pub fn begin(&mut self, share: Exposure) {
        self.tally.begin(share);
        self.worse.begin(self.tally.stages());
        let at_least = Hypothesis::AtLeast(self.rule.not_worse_at(share));
        if at_least == self.not_worse.hypothesis() {
            self.not_worse.begin(self.tally.stages());
        } else {
            self.not_worse = Evidence::new(at_least, self.tally.stages());
        }
    }

    /// Counts events of both arms, and looks.
    ///
    /// With a routing key, the caller counts each key once per rollout.
    pub fn add(&mut self, champion: u64, canary: u64) {
        self.tally.add(champion, canary);
        // An event of the champion never speaks for "worse", and one of the
        // canary never against it: no need to look.
        if canary > 0 {
            self.worse.look(self.tally.stages());
        }
        if champion > 0 {
            self.not_worse.look(self.tally.stages());
        }
    }

    /// Takes counts in place of those so far, and looks: of events that are known only
    /// later, and may be of a former stage.
    pub fn replace(&mut self, stages: &[StageCounts]) {
        self.tally.replace(stages);
        self.worse.begin(self.tally.stages());
        self.not_worse.begin(self.tally.stages());
    }

    /// Counts requests of the canary for the objective, all events among them
    /// (of one key, too), and looks. Without an objective it is not needed.
    pub fn add_requests(&mut self, requests: u64, events: u64) {
        self.requests.add(requests, events);
        let Some(objective) = self.rule.objective else { return };
        let ln_e = self.requests.ln_e(objective);
        if ln_e > self.objective_ln_e {
            self.objective_ln_e = ln_e;
            self.objective_at = self.requests;
        }
    }

    /// So many events could not be counted so far.
    pub const fn set_dropped(&mut self, events: u64) {
        self.dropped = events;
    }

    /// The verdict alone: cheap enough for each event.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let enough = self.rule.beta.ln_threshold();
        Verdict::of(
            self.worse.best_ln_e() >= self.rule.alpha.ln_threshold(),
            self.not_worse.best_ln_e() >= enough || self.objective_ln_e >= enough,
        )
    }

    /// The verdict with its reasons.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        judge(
            self.rule,
            Facts {
                stages: self.tally.stages().to_vec(),
                worse_at: self.worse.best_at().to_vec(),
                not_worse_at: self.not_worse.best_at().to_vec(),
                requests: self.requests,
                objective_at: self.objective_at,
                dropped: self.dropped,
            },
        )
    }
}

#[cfg(test)]
mod tests;
