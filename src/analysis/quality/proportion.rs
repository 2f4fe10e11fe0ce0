//! A proportion with an interval that is made from two counts alone and may be read at
//! any time.
//!
//! Robbins' mixture: of `S` successes and `F` failures with a constant probability p,
//!
//! ```text
//! E(p) = B(½ + S, ½ + F) / B(½, ½) / (p^S·(1 − p)^F)
//! ```
//!
//! is a nonnegative martingale that begins at 1, whatever the order in which they come; so
//! by Ville's inequality it reaches 1/α ever with a probability of at most α, and all p with
//! `E(p) < 1/α` are a confidence sequence (Robbins, "Statistical methods related to the
//! law of the iterated logarithm", 1970; Beta(½, ½) is Krichevsky and Trofimov's mixture).
//!
//! The empirical-Bernstein sequence of [`Mean`](super::super::Mean) weighs each observation
//! by what was known before it: it depends on the order, and two of them cannot be put
//! together. This one needs sums alone, so that days, segments and replicas add up to
//! what one counter of all would have said; in exchange it is for proportions only.
//!
//! Both are about a probability that stays what it is. Where it changes, as when a model
//! ages, the interval of a long time holds for none of its values: look at each day's.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::gamma::ln_gamma;
use super::super::terms::Level;

/// A proportion, with an interval that may be looked at any time.
///
/// At one level, the interval of this one proportion holds at every look with a
/// probability of 1 − level or more, if successes have a constant probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Proportion {
    /// Rows that have it.
    pub count: u64,
    /// Rows that it is a proportion of, at least 1.
    pub of: u64,
    /// `count / of`, 0 to 1.
    pub value: f64,
    /// The interval's lower end, at least 0.
    pub lower: f64,
    /// The interval's upper end, at most 1.
    pub upper: f64,
}

impl Proportion {
    /// `None` of no rows. More successes than rows count as all of them.
    #[must_use]
    pub fn new(count: u64, of: u64, level: Level) -> Option<Self> {
        let count = count.min(of);
        let counts = Split::new(count, of);
        let rejected = |p: f64| counts.rejects(p, level);
        let value = counts.share();
        (of > 0).then(|| Self {
            count,
            of,
            value,
            lower: if count == 0 { 0.0 } else { end(0.0, value, rejected) },
            upper: if count == of { 1.0 } else { end(1.0, value, rejected) },
        })
    }
}

/// The interval's end between a value that is rejected and one that is not, rounded
/// outward.
fn end(mut outside: f64, mut inside: f64, rejected: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..100 {
        let middle = f64::midpoint(outside, inside);
        if middle == outside || middle == inside {
            break;
        }
        *(if rejected(middle) { &mut outside } else { &mut inside }) = middle;
    }
    outside
}

/// Successes and failures.
#[derive(Clone, Copy)]
struct Split {
    successes: f64,
    failures: f64,
    /// `ln E` at the proportion itself, at most 0.
    least: f64,
}

impl Split {
    fn new(count: u64, of: u64) -> Self {
        let (successes, failures) = (count as f64, of.saturating_sub(count) as f64);
        // ln B(S + ½, F + ½) and n times the entropy have S·ln S + F·ln F − n·ln n in
        // common, beside which what is left would be lost to rounding.
        let constant = 0.5 * std::f64::consts::TAU.ln() - std::f64::consts::PI.ln();
        let least = constant + at_half(successes) + at_half(failures) - at_one(of as f64);
        Self { successes, failures, least }
    }

    fn share(self) -> f64 {
        self.successes / (self.successes + self.failures)
    }

    /// Whether `E(p)` has reached 1/α, for p from 0 to 1.
    fn rejects(self, p: f64, level: Level) -> bool {
        let above = self.share() - p;
        let term = |count: f64, change: f64| if count > 0.0 { count * change.ln_1p() } else { 0.0 };
        let divergence = term(self.successes, above / p) + term(self.failures, -above / (1.0 - p));
        self.least + divergence >= level.ln_threshold()
    }
}

/// Below this many, Stirling's series is not good to the last digit.
const SERIES_MIN: f64 = 64.0;

/// `x·ln x − x + ½·ln 2π`, the common part.
fn stirling(x: f64) -> f64 {
    let power = if x > 0.0 { x * x.ln() } else { 0.0 };
    power - x + 0.5 * std::f64::consts::TAU.ln()
}

/// `ln Γ(x + ½)` less [`stirling`].
fn at_half(x: f64) -> f64 {
    if x < SERIES_MIN {
        return ln_gamma(x + 0.5) - stirling(x);
    }
    let square = 1.0 / (x * x);
    (-1.0 / 24.0 + square * (7.0 / 2_880.0 - square * 31.0 / 40_320.0)) / x
}

/// `ln Γ(x + 1)` less [`stirling`].
fn at_one(x: f64) -> f64 {
    if x < SERIES_MIN {
        return ln_gamma(x + 1.0) - stirling(x);
    }
    let square = 1.0 / (x * x);
    0.5 * x.ln() + (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1_260.0)) / x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Random;
    use super::*;

    fn interval(count: u64, of: u64, level: f64) -> (f64, f64) {
        let found = Proportion::new(count, of, Level::new(level).unwrap()).unwrap();
        (found.lower, found.upper)
    }

    // tests/quality/known.py
    #[test]
    fn known_answers() {
        let cases = [
            (0, 1, 0.05, 0.0, 0.975),
            (1, 1, 0.05, 0.025, 1.0),
            (3, 10, 0.05, 0.03251513978805886, 0.7475871099149966),
            (0, 100, 0.01, 0.0, 0.07208366096980987),
            (63, 127, 0.05, 0.35046150878968, 0.6421189214145793),
            (64, 64, 0.05, 0.9155106239847233, 1.0),
            (950, 1000, 0.05, 0.9207604181891446, 0.9712800827403757),
            (50, 100000, 0.001, 0.00022128002428662325, 0.0009494389017823917),
            (999000, 1000000, 0.05, 0.9988509213993072, 0.9991356029571283),
            (333333333333, 1000000000000, 0.05, 0.3333305816072948, 0.3333360850662772),
            (7, 1000000000000000, 1e-12, 4.082866295799846e-18, 6.805275773645713e-14),
        ];
        for (count, of, level, lower, upper) in cases {
            let got = interval(count, of, level);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
            assert!(near(got.0, lower) && near(got.1, upper), "{count}/{of} {level}: {got:?}");
        }
    }

    #[test]
    fn nothing_has_no_proportion() {
        assert_eq!(Proportion::new(0, 0, Level::NOT_WORSE), None);
        assert_eq!(Proportion::new(9, 0, Level::NOT_WORSE), None);
        let more = Proportion::new(9, 3, Level::NOT_WORSE).unwrap();
        assert_eq!((more.count, more.value, more.upper), (3, 1.0, 1.0));
    }

    /// Looks after every row, and says in how many of the runs the truth was ever outside.
    fn misses(p: f64, level: Level, runs: u64, rows: u64) -> u64 {
        let mut random = Random(p.to_bits());
        let mut missed = 0;
        for _ in 0..runs {
            let (mut count, mut ever) = (0, false);
            for of in 1..=rows {
                count += u64::from(random.unit() < p);
                ever |= Split::new(count, of).rejects(p, level);
                if of % 250 == 0 {
                    let found = Proportion::new(count, of, level).unwrap();
                    let inside = (found.lower..=found.upper).contains(&p);
                    assert_eq!(inside, !Split::new(count, of).rejects(p, level), "{found:?} {p}");
                }
            }
            missed += u64::from(ever);
        }
        missed
    }

    #[test]
    fn the_interval_holds_at_every_look() {
        let level = Level::new(0.1).unwrap();
        for p in [0.02, 0.3, 0.5, 0.9, 0.999] {
            let missed = misses(p, level, 500, 1_000);
            assert!(missed <= 50, "{p}: {missed} of 500");
        }
    }

    proptest! {
        #[test]
        fn any_counts_have_an_interval(
            count in prop_oneof![0..50_u64, any::<u64>()],
            more in prop_oneof![0..50_u64, any::<u64>()],
            level in prop_oneof![Just(1e-12), Just(0.5), Just(0.05)],
        ) {
            let level = Level::new(level).unwrap();
            if let Some(found) = Proportion::new(count, count.saturating_add(more), level) {
                prop_assert!(0.0 <= found.lower && found.lower <= found.value, "{found:?}");
                prop_assert!(found.value <= found.upper && found.upper <= 1.0, "{found:?}");
            }
        }
    }
}
