//! Whole distributions of two arms: has the score shifted, has latency's bulk?
//!
//! The time-uniform Dvoretzky-Kiefer-Wolfowitz band of Howard & Ramdas,
//! "Sequential estimation of quantiles with applications to A/B testing and
//! best-arm identification", Bernoulli 28(3), 2022, theorem 2:
//!
//! ```text
//! r(n, α) = 0.85·√((ln(1 + ln n) + 0.8·ln(1612/α)) / n)
//! ```
//!
//! Two arms differ once their distribution functions are further apart than
//! the sum of both radii at α/2. It holds on fixed histogram bounds alone, so
//! counts suffice, and replicas merge by addition. It is good for shifts of
//! the bulk and useless for a p99: count slow requests as events for that.

use serde::{Deserialize, Serialize};

use super::terms::{Exposure, Level};
use super::verdict::Verdict;
use crate::error::Error;

/// How far the distribution function of `n` observations may be off, at any
/// time, with probability 1 − `alpha`; at most 1, as it is for none.
#[must_use]
pub fn radius(n: u64, alpha: Level) -> f64 {
    if n == 0 {
        return 1.0;
    }
    let n = n as f64;
    let ln_term = 0.8 * (1_612.0_f64.ln() + alpha.ln_threshold());
    (0.85 * ((n.ln().ln_1p() + ln_term) / n).sqrt()).min(1.0)
}

/// How far apart two distributions are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// The largest distance between the distribution functions, 0 to 1.
    pub gap: f64,
    /// The bin at whose upper bound it is.
    pub bin: usize,
    /// What it has to exceed.
    pub radius: f64,
    /// Whether it does: the distributions differ.
    pub differ: bool,
}

/// Compares two histograms of the same bins.
///
/// The bins must have been fixed before the first count. Histograms of
/// different lengths are an invalid argument.
pub fn distance(a: &[u64], b: &[u64], alpha: Level) -> Result<Distance, Error> {
    if a.len() != b.len() {
        let message = format!("histograms of {} and {} bins: expected the same", a.len(), b.len());
        return Err(Error::invalid(message));
    }
    let [n_a, n_b] = [a, b].map(|bins| bins.iter().fold(0_u64, |n, c| n.saturating_add(*c)));
    let half = alpha.split(2);
    let mut found =
        Distance { gap: 0.0, bin: 0, radius: radius(n_a, half) + radius(n_b, half), differ: false };
    if n_a > 0 && n_b > 0 {
        let (mut below_a, mut below_b) = (0_u64, 0_u64);
        for (bin, (count_a, count_b)) in a.iter().zip(b).enumerate() {
            below_a = below_a.saturating_add(*count_a);
            below_b = below_b.saturating_add(*count_b);
            let gap = (below_a as f64 / n_a as f64 - below_b as f64 / n_b as f64).abs();
            if gap > found.gap {
                (found.gap, found.bin) = (gap, bin);
            }
        }
    }
    found.differ = found.gap > found.radius;
    Ok(found)
}

/// How far the canary's distribution may be from the champion's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftRule {
    /// The largest distance of the distribution functions that is no harm, 0 to 1.
    pub limit: f64,
    /// The probability that a distance within the limit is called worse.
    pub alpha: Level,
    /// The probability that one beyond it is called not worse.
    pub beta: Level,
}

/// Answers of both arms in one bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u64, u64)", into = "(u16, u64, u64)")]
pub struct Bin {
    /// Which bin.
    pub bin: u16,
    /// The champion's.
    pub champion: u64,
    /// The canary's.
    pub canary: u64,
}

impl From<(u16, u64, u64)> for Bin {
    fn from((bin, champion, canary): (u16, u64, u64)) -> Self {
        Self { bin, champion, canary }
    }
}

impl From<Bin> for (u16, u64, u64) {
    fn from(Bin { bin, champion, canary }: Bin) -> Self {
        (bin, champion, canary)
    }
}

/// What was counted of both arms at one share. Each share has its own: over
/// several, the arms would weigh the hours of the day differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShiftFacts {
    /// The canary's share; `None` before the first canary.
    pub share: Option<Exposure>,
    /// The bins that are not empty, ascending.
    pub bins: Vec<Bin>,
}

impl ShiftFacts {
    /// Nothing yet, at a share.
    #[must_use]
    pub const fn at(share: Exposure) -> Self {
        Self { share: Some(share), bins: Vec::new() }
    }

    /// Counts two histograms of the same bins. The shorter one counts as followed by
    /// empty bins.
    pub fn add(&mut self, champion: &[u64], canary: &[u64]) {
        let at = |counts: &[u64], bin: usize| counts.get(bin).copied().unwrap_or(0);
        for bin in 0..champion.len().max(canary.len()) {
            let (more, other) = (at(champion, bin), at(canary, bin));
            let Some(bin) = u16::try_from(bin).ok().filter(|_| more > 0 || other > 0) else {
                continue;
            };
            match self.bins.binary_search_by_key(&bin, |known| known.bin) {
                Ok(place) => {
                    let known = &mut self.bins[place];
                    known.champion = known.champion.saturating_add(more);
                    known.canary = known.canary.saturating_add(other);
                }
                Err(place) => self.bins.insert(place, Bin { bin, champion: more, canary: other }),
            }
        }
    }
}

/// What is said of a shift, and everything that it is said by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftJudgement {
    /// Worse is a distance above the limit, not worse one below it.
    pub verdict: Verdict,
    /// Answers of the champion.
    #[serde(default)]
    pub champion: u64,
    /// Answers of the canary.
    #[serde(default)]
    pub canary: u64,
    /// The distance of their distribution functions, 0 to 1.
    #[serde(default)]
    pub gap: f64,
    /// The distance is at least this, at the level for "worse".
    pub lower: f64,
    /// It is at most this, at the level for "not worse".
    pub upper: f64,
    /// By what it was judged.
    pub rule: ShiftRule,
    /// From what.
    pub facts: ShiftFacts,
}

/// The judgement that a rule makes of the facts. The bands hold at any time, so
/// the present counts decide, with no look remembered.
#[must_use]
pub fn judge_shift(rule: ShiftRule, facts: ShiftFacts) -> ShiftJudgement {
    let (a, b): (Vec<_>, Vec<_>) = facts.bins.iter().map(|bin| (bin.champion, bin.canary)).unzip();
    let [champion, canary] =
        [&a, &b].map(|counts| counts.iter().fold(0_u64, |n, count| n.saturating_add(*count)));
    let gap = distance(&a, &b, rule.alpha).map_or(0.0, |distance| distance.gap);
    let band = |level: Level| {
        let half = level.split(2);
        radius(champion, half) + radius(canary, half)
    };
    let lower = (gap - band(rule.alpha)).max(0.0);
    let upper = (gap + band(rule.beta)).min(1.0);
    let seen = champion > 0 && canary > 0;
    let verdict = Verdict::of(seen && lower > rule.limit, seen && upper < rule.limit);
    ShiftJudgement { verdict, champion, canary, gap, lower, upper, rule, facts }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_radius_is_that_of_the_paper() {
        // By hand: ln(1612/.05) = 10.38109…, ln(1 + ln 1000) = 2.06769…
        let expected =
            0.85 * f64::sqrt((f64::ln(1.0 + f64::ln(1e3)) + 0.8 * f64::ln(1612.0 / 0.05)) / 1e3);
        let got = radius(1_000, Level::NOT_WORSE);
        assert!((got - expected).abs() < 1e-12 && (got - 0.0865).abs() < 1e-3, "{got}");
        assert_eq!(radius(0, Level::NOT_WORSE), 1.0);
        assert_eq!(radius(1, Level::NOT_WORSE), 1.0);
    }

    #[test]
    fn a_shift_of_the_bulk_shows_and_no_shift_does_not() {
        let (champion, canary) = ([47_500, 47_500], [2_250, 2_750]);
        let shifted = distance(&champion, &canary, Level::NOT_WORSE).unwrap();
        assert!((shifted.gap - 0.05).abs() < 1e-12 && shifted.bin == 0);
        assert!(shifted.differ, "{shifted:?}");
        let same = distance(&champion, &[2_500, 2_500], Level::NOT_WORSE).unwrap();
        assert!(!same.differ && same.gap == 0.0);
        assert!(!distance(&[5, 0], &[0, 5], Level::NOT_WORSE).unwrap().differ, "too few");
        assert!(distance(&[1], &[1, 2], Level::NOT_WORSE).is_err());
        assert!(!distance(&[], &[], Level::NOT_WORSE).unwrap().differ);
    }

    proptest! {
        #[test]
        fn any_counts_have_a_distance(
            a in proptest::collection::vec(any::<u64>(), 3), b in proptest::collection::vec(any::<u64>(), 3),
        ) {
            let found = distance(&a, &b, Level::NOT_WORSE).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.gap) && found.radius.is_finite());
            prop_assert!(found.bin < 3);
        }
    }

    #[test]
    fn a_shift_is_judged_against_a_limit() {
        let rule = ShiftRule { limit: 0.1, alpha: Level::WORSE, beta: Level::NOT_WORSE };
        let judged = |a: &[u64], b: &[u64]| {
            let mut facts = ShiftFacts::default();
            facts.add(a, b);
            judge_shift(rule, facts)
        };
        let verdict = |a: &[u64], b: &[u64]| judged(a, b).verdict;
        assert_eq!(verdict(&[], &[]), Verdict::NotEnough);
        assert_eq!(verdict(&[5, 5], &[5, 5]), Verdict::NotEnough);
        assert_eq!(verdict(&[50_000, 50_000], &[5_000, 5_000]), Verdict::NotWorse);
        assert_eq!(verdict(&[50_000, 50_000], &[8_000, 2_000]), Verdict::Worse);
        assert_eq!(verdict(&[50_000, 50_000], &[6_000, 4_000]), Verdict::NotEnough);
        let said = judged(&[3, 1], &[1]);
        assert_eq!((said.champion, said.canary, said.gap), (4, 1, 0.25));
    }

    #[test]
    fn bins_add_up_whichever_come_first() {
        let mut facts = ShiftFacts::default();
        facts.add(&[0, 0, 5], &[0, 1]);
        facts.add(&[2], &[0, 0, 3]);
        let bins: Vec<(u16, u64, u64)> = facts.bins.iter().map(|bin| (*bin).into()).collect();
        assert_eq!(bins, [(0, 2, 0), (1, 0, 1), (2, 5, 3)]);
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(text, r#"{"share":null,"bins":[[0,2,0],[1,0,1],[2,5,3]]}"#);
        assert_eq!(serde_json::from_str::<ShiftFacts>(&text).unwrap(), facts);
    }
}
