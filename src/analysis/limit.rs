//! Is a rate above a limit, or below it? For events that have no second arm to
//! be compared with: a shadow's disagreements, requests over an absolute time.
//!
//! Against "the rate is at most q" and "the rate is at least q" there is one bet
//! each, the mean over 16 alternatives r of
//!
//! ```text
//! E = (r/q)^b · ((1−r)/(1−q))^(n−b)
//! ```
//!
//! for n requests of which b had the event. The odds of r are those of q times
//! (or divided by) 1.1 to 10. It is fair or worse against every process whose
//! chance of an event stays on the hypothesis' side of q at each request, so it
//! may be looked at any time ([`super::Evidence`] says more of that).

use serde::{Deserialize, Serialize};

use super::evidence::p_value;
use super::objective::RequestCounts;
use super::terms::{Level, Rate};
use super::verdict::Verdict;

/// Multiples of the limit's odds that are betted on.
const ALTERNATIVES: usize = 16;
const NEAREST: f64 = 1.1;
const FARTHEST: f64 = 10.0;
/// Halvings that bring an interval's end to nine digits.
const HALVINGS: usize = 40;

/// What a guard with a limit calls worse, and what not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// The limit of the event's rate.
    pub limit: Rate,
    /// The probability that a rate within the limit is called worse.
    pub alpha: Level,
    /// The probability that a rate beyond it is called not worse.
    pub beta: Level,
}

/// What was counted and seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFacts {
    /// Requests and events so far.
    pub present: RequestCounts,
    /// Those at the look with the most evidence for a rate above the limit.
    pub above_at: RequestCounts,
    /// Those at the look with the most evidence for one below it.
    pub below_at: RequestCounts,
    /// Requests that could not be looked at; nothing is inferred from it.
    pub dropped: u64,
}

/// What a guard with a limit says, and everything that it says it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitJudgement {
    /// Worse is a rate above the limit, not worse one below it.
    pub verdict: Verdict,
    /// Events per request; `None` without a request.
    pub rate: Option<f64>,
    /// The interval of the rate at the rule's levels, for the present counts.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// The largest ln E at any look for a rate above the limit.
    pub above_ln_e: f64,
    /// The largest ln E at any look for a rate below the limit.
    pub below_ln_e: f64,
    /// The always-valid p-value of "within the limit".
    pub p_value: f64,
    /// How many more requests it would take at the present rate to show it to be
    /// below the limit, by expected counts; `None` is "never", 0 "shown".
    pub requests_more: Option<u64>,
    /// By what it was judged.
    pub rule: LimitRule,
    /// From what.
    pub facts: LimitFacts,
}

/// The judgement that a rule makes of the facts. Pure: a recorded judgement can
/// be made again.
#[must_use]
pub fn judge_limit(rule: LimitRule, facts: LimitFacts) -> LimitJudgement {
    let limit = rule.limit.get();
    let above_ln_e = ln_e(facts.above_at, limit, true).max(0.0);
    let below_ln_e = ln_e(facts.below_at, limit, false).max(0.0);
    let below = below_ln_e >= rule.beta.ln_threshold();
    let counts = facts.present;
    LimitJudgement {
        verdict: Verdict::of(above_ln_e >= rule.alpha.ln_threshold(), below),
        rate: (counts.requests > 0).then(|| rate(counts)),
        lower: end(counts, true, rule.alpha),
        upper: end(counts, false, rule.beta),
        above_ln_e,
        below_ln_e,
        p_value: p_value(above_ln_e),
        requests_more: if below { Some(0) } else { requests_more(counts, rule) },
        rule,
        facts,
    }
}

fn rate(counts: RequestCounts) -> f64 {
    counts.events.min(counts.requests) as f64 / counts.requests.max(1) as f64
}

/// The natural logarithm of the e-value against "the rate is at most `limit`"
/// (`upward`), or "at least". 0 without a request.
fn ln_e(counts: RequestCounts, limit: f64, upward: bool) -> f64 {
    let events = counts.events.min(counts.requests) as f64;
    let others = counts.requests as f64 - events;
    ln_e_of(events, others, limit, upward)
}

fn ln_e_of(events: f64, others: f64, limit: f64, upward: bool) -> f64 {
    let odds = limit / (1.0 - limit);
    let term = |k: usize| {
        let position = k as f64 / (ALTERNATIVES - 1) as f64;
        let multiple = NEAREST * (FARTHEST / NEAREST).powf(position);
        let odds = if upward { odds * multiple } else { odds / multiple };
        // r = odds/(1+odds), 1−r = 1/(1+odds): nothing cancels near 0 and 1.
        let other = -odds.ln_1p() - (-limit).ln_1p();
        events * (odds.ln() - odds.ln_1p() - limit.ln()) + others * other
    };
    let terms: [f64; ALTERNATIVES] = std::array::from_fn(term);
    let max = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| (term - max).exp()).sum();
    max + (sum / ALTERNATIVES as f64).ln()
}

/// An end of the interval: the rate nearest to the present one that is rejected.
fn end(counts: RequestCounts, lower: bool, level: Level) -> f64 {
    let far = if lower { 0.0 } else { 1.0 };
    let rejected = |limit: f64| ln_e(counts, limit, lower) >= level.ln_threshold();
    let (mut out, mut within) = (far, rate(counts));
    if counts.requests == 0 {
        return far;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(out, within);
        // Neither end can be asked for itself.
        if middle > 0.0 && middle < 1.0 && rejected(middle) {
            out = middle
        } else {
            within = middle
        }
    }
    out
}

/// Requests until the present rate is shown to be below the limit.
fn requests_more(counts: RequestCounts, rule: LimitRule) -> Option<u64> {
    let rate = if counts.requests == 0 { 0.0 } else { rate(counts) };
    requests_until(counts, rate, rule.limit, false, rule.beta)
}

/// What to expect of a guard that has seen nothing: requests until a rate is shown to
/// be above the limit, or below it, by expected counts; `None` is "never".
#[must_use]
pub fn limit_outlook(rule: LimitRule, rate: Rate, above: bool) -> Option<u64> {
    let level = if above { rule.alpha } else { rule.beta };
    requests_until(RequestCounts::default(), rate.get(), rule.limit, above, level)
}

fn requests_until(
    counts: RequestCounts,
    rate: f64,
    limit: Rate,
    above: bool,
    level: Level,
) -> Option<u64> {
    let shown = |more: u64| {
        let (events, all) = (counts.events as f64, counts.requests as f64);
        let (events, all) = (events + more as f64 * rate, all + more as f64);
        ln_e_of(events, (all - events).max(0.0), limit.get(), above) >= level.ln_threshold()
    };
    let mut high = 1_u64;
    while !shown(high) {
        high = high.checked_mul(2).filter(|high| *high < 1 << 50)?;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if shown(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// Counts and looks.
#[derive(Clone, Debug)]
pub struct LimitGuard {
    rule: LimitRule,
    facts: LimitFacts,
    above_ln_e: f64,
    below_ln_e: f64,
}

impl LimitGuard {
    /// A guard that has seen nothing.
    #[must_use]
    pub fn new(rule: LimitRule) -> Self {
        Self::resume(rule, LimitFacts::default())
    }

    /// A guard that goes on from what was recorded.
    #[must_use]
    pub fn resume(rule: LimitRule, facts: LimitFacts) -> Self {
        let limit = rule.limit.get();
        let above_ln_e = ln_e(facts.above_at, limit, true).max(0.0);
        let below_ln_e = ln_e(facts.below_at, limit, false).max(0.0);
        Self { rule, facts, above_ln_e, below_ln_e }
    }

    /// Counts requests, the events among them, and looks.
    pub fn add(&mut self, requests: u64, events: u64) {
        self.facts.present.add(requests, events);
        let (present, limit) = (self.facts.present, self.rule.limit.get());
        let (above, below) = (ln_e(present, limit, true), ln_e(present, limit, false));
        if above > self.above_ln_e {
            (self.above_ln_e, self.facts.above_at) = (above, present);
        }
        if below > self.below_ln_e {
            (self.below_ln_e, self.facts.below_at) = (below, present);
        }
    }

    /// So many requests could not be looked at.
    pub const fn add_dropped(&mut self, requests: u64) {
        self.facts.dropped = self.facts.dropped.saturating_add(requests);
    }

    /// The verdict with its reasons.
    #[must_use]
    pub fn judgement(&self) -> LimitJudgement {
        judge_limit(self.rule, self.facts.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(limit: f64) -> LimitRule {
        LimitRule { limit: Rate::new(limit).unwrap(), alpha: Level::WORSE, beta: Level::NOT_WORSE }
    }

    fn verdict(limit: f64, requests: u64, events: u64) -> Verdict {
        let mut guard = LimitGuard::new(rule(limit));
        guard.add(requests, events);
        guard.judgement().verdict
    }

    #[test]
    fn an_outlook_is_what_the_guard_then_needs() {
        let rule = LimitRule {
            limit: Rate::new(0.2).unwrap(),
            alpha: Level::WORSE,
            beta: Level::NOT_WORSE,
        };
        let rate = |rate| Rate::new(rate).unwrap();
        let below = limit_outlook(rule, rate(0.1), false).unwrap();
        let mut guard = LimitGuard::new(rule);
        guard.add(below, below / 10);
        assert_eq!(guard.judgement().verdict, Verdict::NotWorse, "{below}");
        let above = limit_outlook(rule, rate(0.6), true).unwrap();
        let mut guard = LimitGuard::new(rule);
        guard.add(above, (above * 6).div_ceil(10));
        assert_eq!(guard.judgement().verdict, Verdict::Worse, "{above}");
        assert_eq!(limit_outlook(rule, rate(0.2), true), None);
        assert_eq!(limit_outlook(rule, rate(0.3), false), None);
    }

    #[test]
    fn a_rate_on_either_side_is_told_apart() {
        assert_eq!(verdict(0.1, 1_000, 50), Verdict::NotWorse);
        assert_eq!(verdict(0.1, 1_000, 200), Verdict::Worse);
        assert_eq!(verdict(0.1, 1_000, 100), Verdict::NotEnough);
        assert_eq!(verdict(0.1, 10, 0), Verdict::NotEnough);
        assert_eq!(verdict(0.1, 0, 0), Verdict::NotEnough);
        // More events than requests count as that many.
        assert_eq!(verdict(0.5, 100, u64::MAX), Verdict::Worse);
    }

    #[test]
    fn the_bet_is_what_the_formula_says() {
        // By hand: n = 20, b = 5, q = 0.1, against "at most", two of its terms.
        let term = |multiple: f64| {
            let odds = 0.1 / 0.9 * multiple;
            let r = odds / (1.0 + odds);
            (r / 0.1_f64).powi(5) * ((1.0 - r) / 0.9_f64).powi(15)
        };
        let mean: f64 =
            (0..16).map(|k| term(1.1 * (10.0 / 1.1_f64).powf(f64::from(k) / 15.0))).sum::<f64>()
                / 16.0;
        let got = ln_e(RequestCounts { requests: 20, events: 5 }, 0.1, true);
        assert!((got - mean.ln()).abs() < 1e-9, "{got} {}", mean.ln());
    }

    #[test]
    fn its_interval_says_what_the_verdict_says() {
        let mut guard = LimitGuard::new(rule(0.1));
        guard.add(1_000, 50);
        let found = guard.judgement();
        assert!(found.lower < 0.05 && found.upper > 0.05 && found.upper < 0.1, "{found:?}");
        assert_eq!(found.requests_more, Some(0));
        let nothing = LimitGuard::new(rule(0.1)).judgement();
        assert_eq!((nothing.lower, nothing.upper, nothing.rate), (0.0, 1.0, None));
        let needed = nothing.requests_more.unwrap();
        assert_eq!(verdict(0.1, needed, 0), Verdict::NotWorse);
        assert_eq!(verdict(0.1, needed - 1, 0), Verdict::NotEnough);
    }

    #[test]
    fn what_was_recorded_goes_on_and_judges_the_same() {
        let mut guard = LimitGuard::new(rule(0.05));
        for (requests, events) in [(100, 1), (50, 20), (1_000, 10)] {
            guard.add(requests, events);
            let judged = guard.judgement();
            let text = serde_json::to_string(&judged).unwrap();
            let read: LimitJudgement = serde_json::from_str(&text).unwrap();
            assert_eq!(judge_limit(read.rule, read.facts.clone()), judged);
            assert_eq!(LimitGuard::resume(read.rule, read.facts).judgement(), judged);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_counts_have_a_judgement(limit in 1e-9..0.999, requests: u64, events: u64) {
            let mut guard = LimitGuard::new(rule(limit));
            guard.add(requests, events);
            let found = guard.judgement();
            prop_assert!(found.above_ln_e.is_finite() && found.below_ln_e.is_finite());
            prop_assert!((0.0..=1.0).contains(&found.lower) && found.lower <= found.upper);
        }
    }
}
